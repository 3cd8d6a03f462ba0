//! A network between the daemon and the broker that the test can cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub struct Proxy {
    pub port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(Mutex::new(Vec::new()));
        let shared: Arc<Mutex<Vec<TcpStream>>> = Arc::clone(&open);
        std::thread::spawn(move || {
            for inside in listener.incoming().map_while(Result::ok) {
                let Ok(outside) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let copies = [(&inside, &outside), (&outside, &inside)]
                    .map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap()));
                for (mut from, mut to) in copies {
                    std::thread::spawn(move || {
                        let mut buffer = vec![0; 1 << 14];
                        while let Ok(n @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..n]).is_err() {
                                break;
                            }
                        }
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
                shared.lock().unwrap().extend([inside, outside]);
            }
        });
        Self { port, open }
    }

    /// Ends what is open, wherever it is; gives whether anything was.
    pub fn cut(&self) -> bool {
        let open = std::mem::take(&mut *self.open.lock().unwrap());
        open.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        !open.is_empty()
    }
}
