//! Waiting for what another process does.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Looks every few milliseconds until `look` finds something; None after `limit`.
pub fn wait_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        sleep(Duration::from_millis(3));
    }
}

/// Waits for a file and reads it. None when it does not come within `limit`.
pub fn wait_for_file(path: &Path, limit: Duration) -> Option<String> {
    wait_for(limit, || std::fs::read_to_string(path).ok())
}
