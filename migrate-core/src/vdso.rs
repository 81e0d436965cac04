//! The vDSO where the hosts' kernels have different ones.
//!
//! A program looks up the vDSO's functions once and keeps their addresses. So its old vDSO stays where it is, as plain memory, and
//! each function of it begins with a jump to the new kernel's, which lies elsewhere; where that has none, it makes the system call.
//! What is left of the old code reads a clock that has stopped: so no thread may be in the middle of it when the process moves
//! (the source sees to that).
//!
//! A process that has moved like that has its old vDSO where it was told at its start (AT_SYSINFO_EHDR) and the kernel's elsewhere.
//! Moved on, it is again the old one that gets new jumps: there are never more than two.

use std::ops::Range;

use bincode::{Decode, Encode};
use migrate_linux::process_memory::ProcessMemory;
use object::Endianness;
use object::elf::{FileHeader64, SHN_UNDEF, SHT_DYNSYM, STT_FUNC};
use object::read::elf::{FileHeader, Sym};

use crate::error::{Doing, Result};
use crate::image::layout::{Backing, Layout};
use crate::proc::auxv::read_auxv;
use crate::proc::process::Process;

/// The most bytes that one can have: those that there are have two pages.
const MOST: u64 = 1 << 16;

/// A process's vDSO, as it is offered to the destination.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Vdso {
    /// What its kernel maps into every process; see [`digest`].
    pub digest: [u8; 32],
    /// Where the program has the one that it knows.
    pub start: u64,
    /// The bytes of that; none when there is none at that place.
    pub code: Vec<u8>,
}

/// A digest of what the kernel maps into every process: the vDSO's code and the sizes around it.
pub fn digest(code: &[u8], vvar: u64, vvar_vclock: u64) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    hash.update(code).update(&vvar.to_le_bytes()).update(&vvar_vclock.to_le_bytes());
    *hash.finalize().as_bytes()
}

impl Vdso {
    /// That of a process; None: it has none.
    pub fn of(process: Process, layout: &Layout) -> Result<Option<Vdso>> {
        const AT_SYSINFO_EHDR: u64 = 33;
        let Some(kernels) = layout.vmas.iter().find(|v| v.backing == Backing::Vdso) else { return Ok(None) };
        let memory = ProcessMemory::open(process.alive).doing(|| format!("open the memory of {process}"))?;
        let read = |start: u64, end: u64| {
            let mut code = vec![0; end.saturating_sub(start).min(MOST) as usize];
            memory.read(start, &mut code).doing(|| "read the vDSO".into()).map(|()| code)
        };
        let all = read(kernels.start, kernels.end)?;
        let around = |backing| layout.vmas.iter().filter(|v| v.backing == backing).map(|v| v.len()).sum::<u64>();
        let digest = digest(&all, around(Backing::Vvar), around(Backing::VvarVclock));
        let told = read_auxv(process.alive).doing(|| format!("read the auxiliary vector of {process}"))?;
        let start = told.into_iter().find(|(key, _)| *key == AT_SYSINFO_EHDR).map_or(0, |(_, value)| value);
        let known = layout.vmas.iter().find(|v| v.start <= start && start < v.end);
        let code = match known {
            Some(vma) if matches!(vma.backing, Backing::Vdso | Backing::Anonymous) => read(start, vma.end)?,
            _ => Vec::new(),
        };
        let code = if functions(&code).is_some() { code } else { Vec::new() };
        Ok(Some(Vdso { digest, start, code }))
    }

    /// Address after its last byte.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.code.len() as u64)
    }

    /// Where its code is, and that of the kernel's, which may be the same.
    pub fn places(&self, layout: &Layout) -> Vec<Range<u64>> {
        let kernels = layout.vmas.iter().filter(|v| v.backing == Backing::Vdso).map(|v| v.start..v.end);
        kernels.chain(std::iter::once(self.start..self.end())).collect()
    }

    /// Its bytes with each function replaced by a jump to `kernels`, the one of this host's kernel that will lie at `address`.
    ///
    /// # Errors
    /// Why that cannot be: reads on from "the kernels' vDSOs differ, and".
    pub fn put_before(&self, kernels: &[u8], address: u64) -> std::result::Result<Vec<u8>, String> {
        let theirs = functions(&self.code).ok_or("the program's own is not where it was at its start")?;
        let ours = functions(kernels).ok_or("this host's cannot be read")?;
        let mut code = self.code.clone();
        for (at, (offset, name)) in theirs.iter().enumerate() {
            let stub = match ours.iter().find(|(_, ours)| ours == name) {
                Some((target, _)) => jump(address.wrapping_add(*target)),
                None => match instead(name) {
                    Some(stub) => stub,
                    None if name == "sgx_enter_enclave" => continue,
                    None => return Err(format!("this host's has no {name}, which the program may be using")),
                },
            };
            // One that is known by two names.
            let next = theirs[at + 1..].iter().map(|(next, _)| *next).find(|next| next != offset);
            let end = next.unwrap_or(code.len() as u64).min(offset + 64);
            let place = code.get_mut(*offset as usize..end as usize).and_then(|place| place.get_mut(..stub.len()));
            place.ok_or_else(|| format!("there is no room for a jump in {name}"))?.copy_from_slice(&stub);
        }
        Ok(code)
    }
}

/// The functions of a vDSO in memory: offset and name without prefix, ascending. None: it is none.
fn functions(code: &[u8]) -> Option<Vec<(u64, String)>> {
    let header = FileHeader64::<Endianness>::parse(code).ok()?;
    let endian = header.endian().ok()?;
    let symbols = header.sections(endian, code).ok()?.symbols(endian, code, SHT_DYNSYM).ok()?;
    let mut all = Vec::new();
    for symbol in symbols.iter().filter(|s| s.st_type() == STT_FUNC && s.st_shndx(endian) != SHN_UNDEF) {
        let name = symbols.symbol_name(endian, symbol).ok().and_then(|name| std::str::from_utf8(name).ok())?;
        let name = name.strip_prefix("__vdso_").unwrap_or(name);
        all.push((symbol.st_value(endian), name.to_owned()));
    }
    all.sort_unstable();
    all.dedup();
    (!all.is_empty()).then_some(all)
}

/// `jmp *0(%rip)` and the address: changes no register.
fn jump(to: u64) -> Vec<u8> {
    let mut stub = vec![0xff, 0x25, 0, 0, 0, 0];
    stub.extend(to.to_le_bytes());
    stub
}

/// The system call that the function stands for, with the same arguments.
fn instead(name: &str) -> Option<Vec<u8>> {
    let number: u32 = match name {
        "gettimeofday" => 96,
        "time" => 201,
        "clock_gettime" => 228,
        "clock_getres" => 229,
        "getcpu" => 309,
        "getrandom" => 318,
        _ => return None,
    };
    let mut stub = Vec::new();
    if name == "getrandom" {
        // Asked for the size of its state (opaque_len, r8, is -1), it says that there is no such thing: ENOSYS.
        stub.extend([0x49, 0x83, 0xf8, 0xff, 0x75, 8]); // cmp $-1, %r8; jne
        stub.extend([0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, 0xc3]); // mov $-38, %rax; ret
    }
    stub.push(0xb8); // mov $number, %eax
    stub.extend(number.to_le_bytes());
    stub.extend([0x0f, 0x05, 0xc3]); // syscall; ret
    Some(stub)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::maps::{Name, read_maps};

    fn own() -> Vec<u8> {
        let pid = std::process::id() as i32;
        let maps = read_maps(pid).expect("maps");
        let vdso = maps.iter().find(|m| m.name == Name::Vdso).expect("a vDSO");
        let mut code = vec![0; vdso.len() as usize];
        ProcessMemory::open(pid).expect("memory").read(vdso.start, &mut code).expect("read");
        code
    }

    #[test]
    fn its_functions_are_known() {
        let all = functions(&own()).expect("functions");
        for name in ["clock_gettime", "gettimeofday", "time", "getcpu"] {
            assert_eq!(all.iter().filter(|(_, n)| n == name).count(), 1, "{name}");
        }
        // Those that are there can all be done without.
        assert!(all.iter().all(|(_, name)| instead(name).is_some() || name == "sgx_enter_enclave"), "{all:?}");
    }

    #[test]
    fn every_function_becomes_a_jump() {
        let code = own();
        let vdso = Vdso { digest: [0; 32], start: 0x7000_0000, code: code.clone() };
        let patched = vdso.put_before(&code, 0x5000_0000).expect("jumps");
        assert_eq!(patched.len(), code.len());
        for (offset, name) in functions(&code).expect("functions") {
            let at = offset as usize;
            let place = patched.get(at..at + 14).expect("a place");
            assert_eq!(place, jump(0x5000_0000 + offset), "{name}");
        }
        // It is still one, and can be put before yet another.
        let again = Vdso { code: patched, ..vdso };
        assert!(again.put_before(&code, 0x6000_0000).is_ok());
    }

    #[test]
    fn what_is_no_vdso_is_refused() {
        let (own, none) = (own(), vec![0; 8192]);
        let why = Vdso { digest: [0; 32], start: 0, code: none }.put_before(&own, 0).expect_err("refused");
        assert!(why.contains("not where it was"), "{why}");
        for cut in [0, 1, 63, 64, 500, own.len() - 1] {
            let _ = functions(&own[..cut]);
        }
    }
}
