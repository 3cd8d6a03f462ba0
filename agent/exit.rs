//! Exit codes after sysexits.h, carried by errors.
//!
//! A function that knows what kind of failure it met says so with [`OrExit::or_exit`]; `main` alone turns it into the
//! process's exit code. An error without a kind ends as [`Exit::Software`].

use std::fmt;

use anyhow::Error;

/// What kind of failure ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// An argument is wrong (64).
    Usage = 64,
    /// The input data is wrong (65).
    Data = 65,
    /// An input file is missing or cannot be read (66).
    NoInput = 66,
    /// A camera, broker or library cannot be reached (69).
    Unavailable = 69,
    /// A fault of inspectd's own (70).
    Software = 70,
    /// An output file cannot be made (73).
    CannotCreate = 73,
    /// The configuration is wrong (78).
    Config = 78,
}

#[derive(Debug)]
struct Failure {
    exit: Exit,
    source: Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.source)
    }
}

impl std::error::Error for Failure {}

/// Attaches an exit code to an error.
pub trait OrExit<T> {
    /// # Errors
    /// The same error, which will end the process with `exit`. A kind given before stays.
    fn or_exit(self, exit: Exit) -> Result<T, Error>;
}

impl<T, E: Into<Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Error> {
        self.map_err(|e| {
            let source = e.into();
            match code(&source) {
                Some(_) => source,
                None => Failure { exit, source }.into(),
            }
        })
    }
}

/// The kind that an error carries, if any.
#[must_use]
pub fn code(error: &Error) -> Option<Exit> {
    error.downcast_ref::<Failure>().map(|f| f.exit)
}

/// Ends the process at once, without what a usual end does first. A forward pass may still be under way in a thread that nobody can end
/// (the stop waits a second for it, and some hang): it would meet the destructors of ONNX Runtime's globals, which `exit` runs beside it,
/// and crash, or they would wait for each other. What should last is on the disk by then.
#[allow(unsafe_code)]
pub fn leave(code: u8) -> ! {
    // SAFETY: it takes a number, touches nothing of ours, and does not come back.
    unsafe { libc::_exit(i32::from(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn the_first_kind_stays() {
        let inner: Result<(), _> = Err(anyhow!("no such camera")).or_exit(Exit::Unavailable);
        let outer = inner.context("line 3").or_exit(Exit::Config).unwrap_err();
        assert_eq!(code(&outer), Some(Exit::Unavailable));
        assert_eq!(format!("{outer:#}"), "line 3: no such camera");
    }
}
