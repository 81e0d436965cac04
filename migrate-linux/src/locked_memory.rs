//! Memory that is locked only as it is touched: mlock2(2) with MLOCK_ONFAULT.

use std::io;
use std::ptr;
use std::sync::OnceLock;

use crate::pagemap::PAGE_SIZE;

const MLOCK_ONFAULT: libc::c_int = 1;

/// Whether this kernel's smaps tell it from memory that is locked as a whole: `lf` among the flags (fs/proc/task_mmu.c,
/// `show_smap_vma_flags`; older kernels, 6.1 among them, do not). Found out once.
pub fn on_fault_is_shown() -> bool {
    static SHOWN: OnceLock<bool> = OnceLock::new();
    *SHOWN.get_or_init(|| is_shown().unwrap_or(false))
}

fn is_shown() -> io::Result<bool> {
    let (length, flags) = (PAGE_SIZE as usize, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses the place, so nothing is replaced.
    let at = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping made above, whose content stays as it is.
    let locked = unsafe { libc::syscall(libc::SYS_mlock2, at, length, MLOCK_ONFAULT) } == 0;
    let smaps = std::fs::read_to_string("/proc/self/smaps");
    // SAFETY: the mapping made above, which nothing refers to.
    unsafe { libc::munmap(at, length) };
    let (smaps, start) = (smaps?, format!("{:x}-", at as u64));
    let of_it = smaps.lines().skip_while(|line| !line.starts_with(&start));
    let flags = of_it.filter_map(|line| line.strip_prefix("VmFlags:")).next().unwrap_or_default();
    Ok(locked && flags.split_whitespace().any(|flag| flag == "lf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_shows_it_shows_the_lock_too() {
        // What it answers is the kernel's matter; that it finds the mapping is not.
        is_shown().unwrap();
        assert_eq!(on_fault_is_shown(), on_fault_is_shown());
    }
}
