//! Aravis's fake GigE Vision camera as a child, on the loopback interface.
//!
//! GigE Vision knows one port only, so a machine has room for one such camera; tests, also those of other processes, wait
//! for each other by the lock of a file.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::eventually;

pub struct FakeCamera {
    serial: String,
    more: Vec<String>,
    child: Option<Child>,
    _alone: File,
}

/// While it is held, no other test has such a camera.
pub fn alone() -> File {
    let path = std::env::temp_dir().join("inspectd-fake-gigevision.lock");
    let alone = File::options().create(true).truncate(false).write(true).open(path).unwrap();
    alone.lock().unwrap();
    alone
}

impl FakeCamera {
    pub fn start(serial: &str) -> Self {
        Self::start_with(serial, &[])
    }

    /// With more arguments.
    pub fn start_with(serial: &str, more: &[&str]) -> Self {
        let alone = alone();
        let more = more.iter().map(ToString::to_string).collect();
        let mut camera = Self { serial: serial.to_owned(), more, child: None, _alone: alone };
        camera.up();
        camera
    }

    /// By which it is found.
    pub fn id(&self) -> String {
        format!("Aravis-Fake-{}", self.serial)
    }

    /// Starts it (again); gives when it was there.
    pub fn up(&mut self) -> Instant {
        let child = Command::new("arv-fake-gv-camera-0.8")
            .args(["-i", "lo", "-s", &self.serial])
            .args(&self.more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("aravis-tools is installed by `make test`"));
        let port = "0100007F:0F74"; // 127.0.0.1:3956 as the kernel writes it
        eventually(10, "the fake camera listens", || {
            std::fs::read_to_string("/proc/net/udp").unwrap_or_default().contains(port).then_some(())
        });
        std::thread::sleep(Duration::from_millis(20));
        Instant::now()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for FakeCamera {
    fn drop(&mut self) {
        self.kill();
    }
}
