//! What travels beside a message (cmsg(3)).

use std::mem::size_of;

/// Adds a control message: `struct cmsghdr`, the data, and what aligns the next one.
pub(crate) fn push(control: &mut Vec<u8>, level: i32, kind: i32, data: &[u8]) {
    let length = size_of::<libc::cmsghdr>() + data.len();
    control.extend(length.to_ne_bytes());
    control.extend(level.to_ne_bytes());
    control.extend(kind.to_ne_bytes());
    control.extend(data);
    control.resize(control.len().next_multiple_of(8), 0);
}
