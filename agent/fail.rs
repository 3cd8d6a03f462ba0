//! Points at which a test ends the process as a power cut would: `INSPECTD_FAIL_AT=NAME[:N]`, at its N-th time; or at which a stage stands
//! still for ever: `INSPECTD_FAIL_AT=stall.NAME[:N]`.
//!
//! Only the name is compared, once a point and process; a gateway has no such variable.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static AT: OnceLock<Option<(String, u64)>> = OnceLock::new();
static TIMES: AtomicU64 = AtomicU64::new(0);

/// Ends the process here, if this is the point.
pub fn point(name: &str) {
    if is_at(|wanted| wanted == name) {
        std::process::abort();
    }
}

/// Stands still here, if this is the point.
pub fn stall(name: &str) {
    if is_at(|wanted| wanted.strip_prefix("stall.") == Some(name)) {
        loop {
            std::thread::park();
        }
    }
}

fn is_at(is_wanted: impl Fn(&str) -> bool) -> bool {
    let at = AT.get_or_init(|| {
        let text = std::env::var("INSPECTD_FAIL_AT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), times.parse().unwrap_or(1)))
    });
    at.as_ref().is_some_and(|(wanted, times)| is_wanted(wanted) && TIMES.fetch_add(1, Ordering::Relaxed) + 1 == *times)
}
