//! CPUs that do not go to sleep.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

/// No CPU of this host goes to sleep when it has nothing to do, until this is dropped: to wake one takes tens to hundreds of
/// microseconds, in a virtual machine up to a millisecond, at every turn of a conversation between two processes. Meanwhile they burn
/// power: for moments in which a program stands still. Where the kernel does not take such requests nothing changes.
///
/// Source: Documentation/power/pm_qos_interface.rst, `/dev/cpu_dma_latency`; a request lasts as long as its descriptor.
#[derive(Debug)]
pub struct Awake {
    _request: Option<File>,
}

impl Awake {
    /// From now on.
    pub fn begin() -> Awake {
        Awake { _request: request().ok() }
    }
}

fn request() -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).open("/dev/cpu_dma_latency")?;
    // After how many microseconds it must be awake, a number of 32 bits as it is in memory.
    file.write_all(&0_i32.to_ne_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// What holds at present, of all requests; a file that is only read makes none.
    fn allowed() -> io::Result<i32> {
        let mut now = [0; 4];
        File::open("/dev/cpu_dma_latency")?.read_exact(&mut now)?;
        Ok(i32::from_ne_bytes(now))
    }

    #[test]
    fn a_request_lasts_until_it_is_dropped() {
        match allowed() {
            Ok(before) if before != 0 => {
                let awake = Awake::begin();
                assert_eq!(allowed().expect("it was there"), 0);
                drop(awake);
                assert_eq!(allowed().expect("it was there"), before);
            }
            Ok(_) => println!("SKIPPED a_request_lasts_until_it_is_dropped: somebody else keeps the CPUs awake"),
            Err(why) => println!("SKIPPED a_request_lasts_until_it_is_dropped: /dev/cpu_dma_latency: {why}"),
        }
    }
}
