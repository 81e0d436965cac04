//! Options of sockets: how each is read and set again, and the filter. Which there are is in [`super::tables`].
//!
//! Of each socket the values travel that differ from those of a fresh one of its sort on the same host: what the program has not
//! touched is at the destination what it is for a fresh socket there.
//!
//! They are set in two steps. [`SocketOptions::restore`] comes before the socket is bound or filled, because some decide whether it
//! can be bound (`SO_REUSEADDR`, `SO_BINDTODEVICE`); [`SocketOptions::restore_last`] when its queues are filled, because some would
//! keep them from being filled (buffer sizes, the filter), or are about what is in them (`SO_PEEK_OFF`).
//!
//! Not to be had: `SO_BUSY_POLL_BUDGET` and programs that choose within a reuseport group, which the kernel does not tell; the ID of
//! the next transmission under `SOF_TIMESTAMPING_OPT_ID`, which begins anew; `SO_COOKIE`, which names the socket within its host.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::sockopt::{self, Filter, FilterStep};

use super::tables::tables_of;
use super::{SocketView, fresh, interface_index, interface_name};
use crate::error::{Doing, Error, Result};

/// An option that sockets of some sort have.
#[derive(Debug)]
pub struct SocketOption {
    level: i32,
    name: i32,
    text: &'static str,
    form: Form,
    last: bool,
    /// Level and name.
    changed_by: &'static [(i32, i32)],
}

/// How an option is set to what reading it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// To the same bytes.
    Same,
    /// To half of it.
    Half {
        /// The option that sets it beyond the host's limit.
        beyond_limit: i32,
    },
    /// It is an interface's index, for which its name travels.
    Interface {
        /// The index is big-endian.
        network_order: bool,
    },
    /// `struct linger`, whose time is taken only while it is on.
    Linger,
}

impl SocketOption {
    /// One that is set to what reading it gives.
    pub const fn new(level: i32, name: i32, text: &'static str) -> SocketOption {
        SocketOption { level, name, text, form: Form::Same, last: false, changed_by: &[] }
    }

    /// One that is set in another way.
    pub const fn in_form(self, form: Form) -> SocketOption {
        SocketOption { form, ..self }
    }

    /// Set when the queues are filled.
    pub const fn last(self) -> SocketOption {
        SocketOption { last: true, ..self }
    }

    /// Such as are changed when one of these, further up in the tables, is set: then it travels in any case.
    pub const fn changed_by(self, changed_by: &'static [(i32, i32)]) -> SocketOption {
        SocketOption { changed_by, ..self }
    }

    fn is(&self, level: i32, name: i32) -> bool {
        (self.level, self.name) == (level, name)
    }
}

/// Nothing can be taken out again afterwards.
const LOCK_FILTER: (i32, i32) = (libc::SOL_SOCKET, libc::SO_LOCK_FILTER);

fn options_of(sort: SocketView) -> impl Iterator<Item = &'static SocketOption> {
    tables_of(sort).into_iter().flatten()
}

/// The longest value of an option, in bytes.
const VALUE_LIMIT: usize = 2048;

/// One option that was set.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Value {
    level: i32,
    name: i32,
    bytes: Vec<u8>,
}

/// What travels: the options that are not as those of a fresh socket, and the filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct SocketOptions {
    values: Vec<Value>,
    filter: Vec<FilterStep>,
    /// The filter cannot be changed any more.
    locked: bool,
}

/// What the options of fresh sockets are on this host, by their sort.
#[derive(Debug, Default)]
pub struct FreshOptions(Mutex<HashMap<SocketView, FreshValues>>);

/// In the tables' order. None: this kernel does not know it.
type FreshValues = Arc<[Option<Vec<u8>>]>;

impl FreshOptions {
    fn of(&self, sort: SocketView) -> Result<FreshValues> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(values) = known.get(&sort) {
            return Ok(values.clone());
        }
        let socket = fresh(sort)?;
        let mut room = [0; VALUE_LIMIT];
        let values = options_of(sort).map(|option| Ok(read(&socket, option, &mut room)?.map(<[u8]>::to_vec)));
        let values: FreshValues = values.collect::<Result<_>>()?;
        known.insert(sort, values.clone());
        Ok(values)
    }
}

/// None: the socket has no such option, or the kernel does not know it.
fn read<'r>(socket: &OwnedFd, option: &SocketOption, room: &'r mut [u8]) -> Result<Option<&'r [u8]>> {
    match sockopt::get(socket, option.level, option.name, room) {
        Ok(length) => Ok(room.get(..length)),
        Err(e) => match e.raw_os_error() {
            Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOTCONN) => Ok(None),
            _ => Err(Error::io(format!("read {} of a socket", option.text), e)),
        },
    }
}

impl SocketOptions {
    /// Reads them.
    ///
    /// # Errors
    /// `Refused`, without the descriptor's number, when it has a filter that cannot move.
    pub fn capture(socket: &OwnedFd, sort: SocketView, fresh: &FreshOptions) -> Result<SocketOptions> {
        let fresh = fresh.of(sort)?;
        let mut values: Vec<Value> = Vec::new();
        let mut room = [0; VALUE_LIMIT];
        for (option, fresh) in options_of(sort).zip(fresh.iter()) {
            let Some(fresh) = fresh else { continue };
            let Some(now) = read(socket, option, &mut room)? else { continue };
            let changed = || values.iter().any(|value| option.changed_by.contains(&(value.level, value.name)));
            if now != fresh.as_slice() || changed() {
                let bytes = match option.form {
                    Form::Interface { network_order } => name_of_index(now, network_order)?,
                    _ => now.to_vec(),
                };
                values.push(Value { level: option.level, name: option.name, bytes });
            }
        }
        let filter = match sockopt::filter(socket).doing(|| "read the filter of a socket".into())? {
            Filter::None => Vec::new(),
            Filter::Classic(steps) => steps,
            Filter::Extended => return Err(Error::Refused(vec![EXTENDED_FILTER.into()])),
        };
        let (level, name) = LOCK_FILTER;
        let locked = sockopt::get_int(socket, level, name).doing(|| "read SO_LOCK_FILTER of a socket".into())? != 0;
        Ok(SocketOptions { values, filter, locked })
    }

    /// Whether a peer's options are such as this sort of socket has.
    pub fn check(&self, sort: SocketView) -> Result<()> {
        let known = |value: &Value| options_of(sort).any(|option| option.is(value.level, value.name));
        match self.values.iter().find(|value| !known(value) || value.bytes.len() > VALUE_LIMIT) {
            None => Ok(()),
            Some(Value { level, name, bytes }) => {
                Err(Error::Invalid(format!("{} bytes of a socket's option {level}/{name}", bytes.len())))
            }
        }
    }

    /// Sets what must be set before the socket is bound or filled.
    pub fn restore(&self, socket: &OwnedFd, sort: SocketView) -> Result<()> {
        self.check(sort)?;
        self.set(socket, sort, false)
    }

    /// Sets the rest, the filter too.
    pub fn restore_last(&self, socket: &OwnedFd, sort: SocketView) -> Result<()> {
        self.restore_last_but_filter(socket, sort)?;
        self.restore_filter(socket)
    }

    /// Sets the rest, for one that is to have another filter for a while.
    pub fn restore_last_but_filter(&self, socket: &OwnedFd, sort: SocketView) -> Result<()> {
        self.set(socket, sort, true)
    }

    /// Gives it the filter.
    pub fn restore_filter(&self, socket: &OwnedFd) -> Result<()> {
        if !self.filter.is_empty() {
            sockopt::attach_filter(socket, &self.filter)
                .doing(|| format!("give a socket its filter of {} steps", self.filter.len()))?;
        }
        if self.locked {
            let (level, name) = LOCK_FILTER;
            sockopt::set_int(socket, level, name, 1).doing(|| "lock the filter of a socket".into())?;
        }
        Ok(())
    }

    fn set(&self, socket: &OwnedFd, sort: SocketView, last: bool) -> Result<()> {
        for option in options_of(sort).filter(|option| option.last == last) {
            let value = self.values.iter().find(|value| option.is(value.level, value.name));
            if let Some(value) = value {
                let set = write(socket, option, &value.bytes);
                set.doing(|| format!("set {} of a socket to {}", option.text, shown(&value.bytes)))?;
            }
        }
        Ok(())
    }

    /// Whether it has a filter.
    pub fn has_filter(&self) -> bool {
        !self.filter.is_empty()
    }

    /// What reading this option gave, if the program has set it.
    pub fn bytes_of(&self, level: i32, name: i32) -> Option<&[u8]> {
        self.values.iter().find(|value| (value.level, value.name) == (level, name)).map(|value| value.bytes.as_slice())
    }

    /// The same of one that is a number.
    pub fn number_of(&self, level: i32, name: i32) -> Option<i32> {
        self.bytes_of(level, name)?.try_into().ok().map(i32::from_ne_bytes)
    }
}

/// Why a socket with an eBPF filter stays.
pub const EXTENDED_FILTER: &str = "its filter is an eBPF program (SO_ATTACH_BPF), which the kernel does not give out; let the program detach it, or use a classic filter";

fn write(socket: &OwnedFd, option: &SocketOption, value: &[u8]) -> io::Result<()> {
    let (level, name) = (option.level, option.name);
    match option.form {
        Form::Same => sockopt::set(socket, level, name, value),
        Form::Half { beyond_limit } => {
            let whole = value.try_into().map(i32::from_ne_bytes).map_err(|_| io::ErrorKind::InvalidData)?;
            match sockopt::set_int(socket, level, beyond_limit, whole / 2) {
                Err(e) if e.raw_os_error() == Some(libc::EPERM) => {}
                set => return set,
            }
            sockopt::set_int(socket, level, name, whole / 2)?;
            match sockopt::get_int(socket, level, name)? {
                now if now == whole => Ok(()),
                now => Err(io::Error::other(format!("{now} is what net.core.rmem_max and wmem_max here allow"))),
            }
        }
        Form::Interface { network_order } => {
            let index = if value.is_empty() { 0 } else { interface_index(&String::from_utf8_lossy(value))? };
            let bytes = if network_order { index.to_be_bytes() } else { index.to_ne_bytes() };
            sockopt::set(socket, level, name, &bytes)
        }
        Form::Linger => {
            if let [0, 0, 0, 0, time @ ..] = value {
                sockopt::set(socket, level, name, &[&1i32.to_ne_bytes(), time].concat())?;
            }
            sockopt::set(socket, level, name, value)
        }
    }
}

/// Empty: none.
fn name_of_index(value: &[u8], network_order: bool) -> Result<Vec<u8>> {
    let value = value.try_into().map_err(|_| Error::Invalid("an interface's index that is no number".into()))?;
    match if network_order { u32::from_be_bytes(value) } else { u32::from_ne_bytes(value) } {
        0 => Ok(Vec::new()),
        index => Ok(interface_name(index)?.into_bytes()),
    }
}

/// A number where it is one, and a name.
fn shown(value: &[u8]) -> String {
    match value.try_into().map(i32::from_ne_bytes) {
        Ok(number) => number.to_string(),
        Err(_) => format!("\"{}\"", value.strip_suffix(b"\0").unwrap_or(value).escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: SocketView = SocketView { domain: libc::AF_INET, kind: libc::SOCK_DGRAM, protocol: libc::IPPROTO_UDP };
    const UNIX: SocketView = SocketView { domain: libc::AF_UNIX, kind: libc::SOCK_STREAM, protocol: 0 };

    /// A new one with the options of `socket`, which it returns too.
    fn moved(socket: &OwnedFd, sort: SocketView) -> (OwnedFd, SocketOptions) {
        let options = SocketOptions::capture(socket, sort, &FreshOptions::default()).unwrap();
        let new = fresh(sort).unwrap();
        options.restore(&new, sort).unwrap();
        options.restore_last(&new, sort).unwrap();
        (new, options)
    }

    #[test]
    fn of_an_untouched_socket_nothing_travels() {
        for sort in [UDP, UNIX] {
            assert_eq!(moved(&fresh(sort).unwrap(), sort).1, SocketOptions::default());
        }
    }

    #[test]
    fn what_is_set_is_set_again() {
        let numbers: [(i32, i32); 19] = [
            (libc::SO_REUSEADDR, 1),
            (libc::SO_REUSEPORT, 1),
            (libc::SO_DONTROUTE, 1),
            (libc::SO_BROADCAST, 1),
            (libc::SO_KEEPALIVE, 1),
            (libc::SO_OOBINLINE, 1),
            (libc::SO_NO_CHECK, 1),
            (libc::SO_RCVLOWAT, 77),
            (libc::SO_TIMESTAMP, 1),
            (libc::SO_PRIORITY, 5),
            (libc::SO_RXQ_OVFL, 1),
            (libc::SO_WIFI_STATUS, 1),
            (libc::SO_NOFCS, 1),
            (libc::SO_SELECT_ERR_QUEUE, 1),
            (libc::SO_INCOMING_CPU, 1),
            (libc::SO_ZEROCOPY, 1),
            (libc::SO_PEEK_OFF, 3),
            (libc::SO_LOCK_FILTER, 1),
            (75, 1),
        ];
        let bytes = |words: &[i64]| words.concat_bytes();
        let longer = [
            (libc::SO_RCVTIMEO, bytes(&[7, 500_000])),
            (libc::SO_SNDTIMEO, bytes(&[0, 20_000])),
            (libc::SO_LINGER, bytes(&[(9 << 32) | 1])),
            (libc::SO_BINDTODEVICE, b"lo\0".to_vec()),
            (libc::SO_MAX_PACING_RATE, bytes(&[123_456])),
            // CLOCK_MONOTONIC, SOF_TXTIME_REPORT_ERRORS
            (libc::SO_TXTIME, bytes(&[1 | (2 << 32)])),
            // SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE
            (libc::SO_TIMESTAMPING, bytes(&[0x12])),
        ];
        let socket = fresh(UDP).unwrap();
        let set = numbers.map(|(name, value)| (name, value.to_ne_bytes().to_vec())).into_iter().chain(longer);
        for (name, value) in set.clone() {
            sockopt::set(&socket, libc::SOL_SOCKET, name, &value).unwrap_or_else(|e| panic!("option {name}: {e}"));
        }
        let (new, _) = moved(&socket, UDP);
        for (name, value) in set {
            let mut room = [0; 64];
            let length = sockopt::get(&new, libc::SOL_SOCKET, name, &mut room).unwrap();
            assert_eq!(room[..length], value, "option {name}");
        }
    }

    /// Words one after another, as they are in memory.
    trait ConcatBytes {
        fn concat_bytes(&self) -> Vec<u8>;
    }

    impl ConcatBytes for [i64] {
        fn concat_bytes(&self) -> Vec<u8> {
            self.iter().flat_map(|word| word.to_ne_bytes()).collect()
        }
    }

    #[test]
    fn buffers_are_as_large_and_as_fixed() {
        let number = |socket: &OwnedFd, name| sockopt::get_int(socket, libc::SOL_SOCKET, name).unwrap();
        let set = |socket: &OwnedFd, name, value| sockopt::set_int(socket, libc::SOL_SOCKET, name, value).unwrap();
        let all = |socket: &OwnedFd| [libc::SO_SNDBUF, libc::SO_RCVBUF, 72].map(|name| number(socket, name));
        let socket = fresh(UNIX).unwrap();
        set(&socket, libc::SO_SNDBUF, 5000);
        assert_eq!(all(&moved(&socket, UNIX).0), all(&socket));
        // Set, and let go of again; the other held where it was.
        let defaults = all(&socket);
        set(&socket, 72, 2);
        assert_eq!((defaults[0], all(&socket)), (10_000, [10_000, defaults[1], 2]));
        assert_eq!(all(&moved(&socket, UNIX).0), all(&socket));
    }

    #[test]
    fn the_time_of_a_linger_that_is_off_stays() {
        let socket = fresh(UNIX).unwrap();
        for on in [1, 0] {
            sockopt::set(&socket, libc::SOL_SOCKET, libc::SO_LINGER, &[on, 0, 0, 0, 8, 0, 0, 0]).unwrap();
        }
        let mut value = [1; 8];
        sockopt::get(&moved(&socket, UNIX).0, libc::SOL_SOCKET, libc::SO_LINGER, &mut value).unwrap();
        assert_eq!(value, [0, 0, 0, 0, 8, 0, 0, 0]);
    }

    #[test]
    fn a_filter_is_there_and_locked() {
        // BPF_RET|BPF_K: four bytes at most of each.
        let steps = vec![[6, 0, 0, 0, 4, 0, 0, 0]];
        let socket = fresh(UDP).unwrap();
        sockopt::attach_filter(&socket, &steps).unwrap();
        sockopt::set_int(&socket, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 1).unwrap();
        let new = moved(&socket, UDP).0;
        assert_eq!(sockopt::filter(&new).unwrap(), Filter::Classic(steps.clone()));
        assert_eq!(sockopt::attach_filter(&new, &steps).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn a_peers_options_are_checked() {
        let value = |level, name, length| SocketOptions {
            values: vec![Value { level, name, bytes: vec![0; length] }],
            ..SocketOptions::default()
        };
        assert!(value(libc::SOL_SOCKET, libc::SO_MARK, 4).check(UDP).is_ok());
        // Not one of the table; one of another sort; far too long.
        for wrong in
            [(libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 4), (libc::SOL_NETLINK, 1, 4), (1, libc::SO_MARK, 1 << 20)]
        {
            let options = value(wrong.0, wrong.1, wrong.2);
            assert!(options.check(UDP).is_err() && options.restore(&fresh(UDP).unwrap(), UDP).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_cannot_be_set_is_named_with_its_value() {
        let bytes = b"no-such0\0".to_vec();
        let values = vec![Value { level: libc::SOL_SOCKET, name: libc::SO_BINDTODEVICE, bytes }];
        let options = SocketOptions { values, ..SocketOptions::default() };
        let why = options.restore(&fresh(UDP).unwrap(), UDP).unwrap_err().to_string();
        assert!(why.contains("SO_BINDTODEVICE of a socket to \"no-such0\": No such device"), "{why}");
    }
}
