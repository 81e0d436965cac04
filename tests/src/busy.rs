//! A processor that others keep busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Three threads that keep the first processor busy that this process may use, until this is dropped.
#[derive(Debug)]
pub struct Busy {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    /// Begins.
    pub fn begin() -> Busy {
        let this_thread = Pid::from_raw(0);
        let allowed = sched_getaffinity(this_thread).expect("this thread's processors");
        let first = (0..CpuSet::count()).find(|&cpu| allowed.is_set(cpu).unwrap_or(false)).expect("a processor");
        let mut only = CpuSet::new();
        only.set(first).expect("a set of one processor");
        let end = Arc::new(AtomicBool::new(false));
        let work = || {
            let end = end.clone();
            std::thread::spawn(move || {
                sched_setaffinity(this_thread, &only).expect("to run on one processor");
                while !end.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..3).map(|_| work()).collect();
        Busy { end, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What it has said is seen; a test that has failed already must not fail twice.
            let _ = thread.join();
        }
    }
}
