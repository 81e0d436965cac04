//! Where code, data, break, stack, arguments and environment are, the auxiliary vector, and the executable link
//! (PR_SET_MM_MAP of prctl(2)). /proc shows them, brk(2) uses them; nothing need be mapped there.

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::Batch;

use crate::resources::Row;

/// What of it moves.
pub const ROW: Row =
    ("memory map", "break, places of code, data, stack, arguments and environment, auxiliary vector, executable");

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MemoryMap {
    /// start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end, env_start, env_end: the
    /// order of `struct prctl_mm_map`.
    pub addresses: [u64; 11],
    /// The auxiliary vector, raw.
    pub auxv: Vec<u8>,
    /// The executable's path.
    pub executable: Vec<u8>,
}

const PR_SET_MM: i32 = 35;
const PR_SET_MM_MAP: i32 = 14;
/// The kernel's AT_VECTOR_SIZE in bytes; a longer one is refused with EINVAL.
const AUXV_LIMIT: usize = 512;

/// Adds the call. `executable`: the descriptor that it has in the new process; None leaves the link as it is. It may change only
/// once no mapping of the old executable is left (EBUSY).
pub fn restore(image: &MemoryMap, executable: Option<i32>, batch: &mut Batch) {
    let auxv = &image.auxv[..image.auxv.len().min(AUXV_LIMIT)];
    let auxv_size = auxv.len() as u32;
    let auxv = batch.bytes(auxv);
    let mut map = Vec::with_capacity(104);
    for address in image.addresses {
        map.extend_from_slice(&address.to_le_bytes());
    }
    map.extend_from_slice(&[0; 8]);
    map.extend_from_slice(&auxv_size.to_le_bytes());
    map.extend_from_slice(&executable.unwrap_or(-1).to_le_bytes());
    let map_buffer = batch.bytes(&map);
    batch.point(map_buffer, AUXV_POINTER, auxv);
    batch
        .must(libc::SYS_prctl, [PR_SET_MM.into(), PR_SET_MM_MAP.into(), map_buffer.into(), map.len().into(), 0.into()]);
}

/// Offset of the auxiliary vector's address in `struct prctl_mm_map`.
const AUXV_POINTER: usize = 88;
