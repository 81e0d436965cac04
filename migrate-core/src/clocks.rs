//! CLOCK_MONOTONIC and CLOCK_BOOTTIME of a process: they tell how long its host has been up, and must not jump when it moves. So where
//! the hosts' clocks differ the new process gets a time namespace with offsets that make its clocks go on (time_namespaces(7)).
//!
//! An offset is what a time namespace adds to the clocks of the initial one, also in a namespace inside another. It can be set only
//! before the first process is in the namespace, so before anything is copied. The destination reads its clocks and sends them;
//! what that takes on the way makes the new clocks fast by as much: they never step back.

use std::io;
use std::time::Duration;

use bincode::{Decode, Encode};
use nix::time::{ClockId, clock_gettime};

use crate::error::{Doing, Error, Result};
use crate::proc::is_gone;

const SECOND: i64 = 1_000_000_000;

/// Clocks that differ by less than this are the same, nanoseconds: measuring is not more exact.
const SAME: i64 = 1_000_000;

/// What a time namespace adds to the clocks of the initial one, nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Offsets {
    /// To CLOCK_MONOTONIC and its coarse and raw kin.
    pub monotonic: i64,
    /// To CLOCK_BOOTTIME.
    pub boottime: i64,
}

/// A host's clocks at one moment, as the initial time namespace has them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HostClocks {
    /// Its kernel, as long as it runs.
    pub boot_id: String,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub monotonic: i64,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub boottime: i64,
    /// Those of the agent's own time namespace.
    pub offsets: Offsets,
}

impl Offsets {
    /// Those of the time namespace that a process lives in; none without such namespaces (CONFIG_TIME_NS).
    pub fn of(pid: i32) -> Result<Offsets> {
        let path = format!("/proc/{pid}/timens_offsets");
        match std::fs::read_to_string(&path) {
            Ok(text) => parse(&text).ok_or_else(|| Error::Invalid(format!("{path} cannot be understood: {text:?}"))),
            Err(e) if e.kind() == io::ErrorKind::NotFound || is_gone(&e) => Ok(Offsets::default()),
            Err(e) => Err(Error::io(format!("read {path}"), e)),
        }
    }

    /// As /proc/PID/timens_offsets takes them.
    pub fn text(&self) -> String {
        let line = |name, ns: i64| format!("{name} {} {}\n", ns.div_euclid(SECOND), ns.rem_euclid(SECOND));
        line("monotonic", self.monotonic) + &line("boottime", self.boottime)
    }

    fn near(&self, other: &Offsets) -> bool {
        let near = |a: i64, b: i64| a.saturating_sub(b).saturating_abs() < SAME;
        near(self.monotonic, other.monotonic) && near(self.boottime, other.boottime)
    }
}

/// The name of each clock, seconds and nanoseconds; names for numbers came with Linux 5.8.
fn parse(text: &str) -> Option<Offsets> {
    let mut offsets = Offsets::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (name, seconds, rest) =
            (words.next()?, words.next()?.parse::<i64>().ok()?, words.next()?.parse::<i64>().ok()?);
        let ns = seconds.checked_mul(SECOND)?.checked_add(rest)?;
        match name {
            "monotonic" | "1" => offsets.monotonic = ns,
            "boottime" | "7" => offsets.boottime = ns,
            _ => return None,
        }
    }
    Some(offsets)
}

impl HostClocks {
    /// This host's, now.
    pub fn now() -> Result<HostClocks> {
        let offsets = Offsets::of(std::process::id() as i32)?;
        let read = |clock: ClockId, offset: i64| -> Result<i64> {
            let time = clock_gettime(clock).map_err(io::Error::from).doing(|| "read the clock".into())?;
            Ok((time.tv_sec().saturating_mul(SECOND).saturating_add(time.tv_nsec())).saturating_sub(offset))
        };
        Ok(HostClocks {
            boot_id: crate::phases::boot_id(),
            monotonic: read(ClockId::CLOCK_MONOTONIC, offsets.monotonic)?,
            boottime: read(ClockId::CLOCK_BOOTTIME, offsets.boottime)?,
            offsets,
        })
    }

    /// CLOCK_BOOTTIME of this host, nanoseconds, now that more time has passed.
    pub fn boot_time(&self) -> Result<i64> {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(io::Error::from).doing(|| "read the clock".into())?;
        let ns = time.tv_sec().saturating_mul(SECOND).saturating_add(time.tv_nsec());
        Ok(ns.saturating_sub(self.offsets.boottime))
    }

    /// Whether these are the clocks of the same kernel.
    pub fn same_kernel(&self, other: &HostClocks) -> bool {
        !self.boot_id.is_empty() && self.boot_id == other.boot_id
    }

    /// The offsets that a process with these ones here needs there, for its clocks to go on.
    fn carry(&self, its: Offsets, there: &HostClocks) -> Offsets {
        if self.same_kernel(there) {
            return its;
        }
        let carry = |here: i64, its: i64, there: i64| here.saturating_add(its).saturating_sub(there);
        Offsets {
            monotonic: carry(self.monotonic, its.monotonic, there.monotonic),
            boottime: carry(self.boottime, its.boottime, there.boottime),
        }
    }

    /// How the clocks of a process with these offsets here differ from those it would have there by itself. None: they are the same.
    pub fn difference(&self, its: Offsets, there: &HostClocks) -> Option<Difference> {
        let needed = self.carry(its, there);
        let jump = there.offsets.monotonic.saturating_sub(needed.monotonic);
        (!needed.near(&there.offsets)).then_some(Difference { needed, jump })
    }
}

/// Waits until CLOCK_MONOTONIC of a process with these offsets shows no less than `reached`. The offsets were chosen before the pages
/// were copied, and no two clocks run at the same speed.
pub fn wait_until_reached(reached: i64, offsets: &Offsets) -> Result<()> {
    const MOST: i64 = SECOND;
    let now = HostClocks::now()?.monotonic.saturating_add(offsets.monotonic);
    if now < reached {
        std::thread::sleep(Duration::from_nanos(reached.saturating_sub(now).clamp(0, MOST) as u64));
    }
    Ok(())
}

/// How clocks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// The offsets that make them go on there.
    pub needed: Offsets,
    /// What CLOCK_MONOTONIC would jump by without, nanoseconds.
    pub jump: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(boot_id: &str, monotonic: i64, offset: i64) -> HostClocks {
        let offsets = Offsets { monotonic: offset, boottime: offset };
        HostClocks { boot_id: boot_id.into(), monotonic, boottime: monotonic + 5, offsets }
    }

    #[test]
    fn offsets_survive_their_text() {
        for monotonic in [0, 1, -1, SECOND, -SECOND - 1, 123_456_789_012_345, -123_456_789_012_345] {
            let offsets = Offsets { monotonic, boottime: -monotonic };
            assert_eq!(parse(&offsets.text()), Some(offsets));
        }
        assert_eq!(
            parse("monotonic           5         7\nboottime            0         0\n").map(|o| o.monotonic),
            Some(5 * SECOND + 7)
        );
        for wrong in ["monotonic", "monotonic 1", "realtime 0 0", "monotonic x 0", "monotonic 99999999999999999 0"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_process_sees_what_it_saw() {
        let (here, there) = (host("a", 100 * SECOND, 0), host("b", 7 * SECOND, 0));
        let difference = here.difference(Offsets::default(), &there).expect("they differ");
        assert_eq!(difference.needed.monotonic, 93 * SECOND);
        assert_eq!(difference.jump, -93 * SECOND);
        // Back again, where it needs no namespace any more.
        assert_eq!(there.difference(difference.needed, &here), None);
    }

    #[test]
    fn the_same_kernel_needs_no_measuring() {
        let (here, later) = (host("a", SECOND, 0), host("a", 9 * SECOND, 0));
        assert_eq!(here.difference(Offsets::default(), &later), None);
        let its = Offsets { monotonic: 5 * SECOND, boottime: 0 };
        assert_eq!(here.difference(its, &later).map(|d| d.needed), Some(its));
        // An agent in a namespace of its own: what it starts is in that one.
        let inside = host("a", SECOND, 3 * SECOND);
        assert_eq!(here.difference(Offsets::default(), &inside).map(|d| d.needed), Some(Offsets::default()));
        assert_eq!(here.difference(inside.offsets, &inside), None);
    }

    #[test]
    fn no_number_of_a_peer_overflows() {
        let (here, there) = (host("a", i64::MAX - 5, 0), host("b", i64::MIN, i64::MIN));
        let _ = here.difference(Offsets { monotonic: i64::MAX, boottime: i64::MIN }, &there);
        let _ = there.difference(Offsets { monotonic: i64::MIN, boottime: i64::MIN }, &here);
    }

    #[test]
    fn this_host_has_clocks() {
        let now = HostClocks::now().expect("clocks");
        assert!(now.boottime >= now.monotonic && now.monotonic > 0);
    }
}
