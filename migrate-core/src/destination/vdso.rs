//! The vDSO of the new process: this kernel's, at the place where the original had the same one, or behind the original's
//! ([`crate::vdso`]).

use std::ops::Range;

use migrate_linux::libc;
use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::remote::{self, Batch};

use super::Making;
use crate::error::{Doing, Error, Result};
use crate::image::Offer;
use crate::image::layout::{Backing, Layout, Vma, find_hole};
use crate::phases::LOWEST;
use crate::proc::maps::{Mapping, Name, read_maps};
use crate::vdso::{Vdso, digest};

const ARCH_MAP_VDSO_64: i32 = 0x2003;

/// What this host's kernel maps into every process.
pub struct KernelVdso {
    pub code: Vec<u8>,
    pub digest: [u8; 32],
    /// Bytes of code and data together.
    size: u64,
}

impl KernelVdso {
    /// As this process has it.
    pub fn of_this_host() -> Result<KernelVdso> {
        let me = std::process::id() as i32;
        let maps = read_maps(me).doing(|| "read the own mappings".into())?;
        let size = |name: Name| maps.iter().filter(|m| m.name == name).map(|m| m.len()).sum::<u64>();
        let vdso = maps.iter().find(|m| m.name == Name::Vdso);
        let vdso = vdso.ok_or_else(|| Error::Refused(vec!["this host's kernel gives no vDSO".into()]))?;
        let memory = ProcessMemory::open(me).doing(|| "open the own memory".into())?;
        let mut code = vec![0; vdso.len() as usize];
        memory.read(vdso.start, &mut code).doing(|| "read the vDSO".into())?;
        let (vvar, vvar_vclock) = (size(Name::Vvar), size(Name::VvarVclock));
        let digest = digest(&code, vvar, vvar_vclock);
        Ok(KernelVdso { size: vdso.len() + vvar + vvar_vclock, code, digest })
    }
}

/// Whether the kernel makes it.
pub fn is_kernels_own(vma: &Vma) -> bool {
    matches!(vma.backing, Backing::Vdso | Backing::Vvar | Backing::VvarVclock)
}

/// The original's vDSO where the kernel's is another.
#[derive(Debug)]
pub struct OldVdso {
    start: u64,
    /// Its bytes, each function a jump to the kernel's.
    code: Vec<u8>,
    /// Where the kernel's is.
    kernels: Range<u64>,
}

impl OldVdso {
    /// Whether a mapping would be where the kernel's is.
    pub fn is_in_the_way_of(&self, vma: &Vma) -> bool {
        vma.start < self.kernels.end && self.kernels.start < vma.end
    }

    /// A `syscall` instruction in it.
    pub fn gadget(&self) -> Result<u64> {
        let found = remote::find_gadget(self.start, &self.code);
        found.ok_or_else(|| Error::Invalid("the vDSO has no system call instruction".into()))
    }
}

impl Making {
    /// Maps this kernel's vDSO. Some: it is another than the original's, which [`Making::place_old_vdso`] puts before it.
    pub fn map_vdso(&mut self, layout: &Layout, offer: &Offer) -> Result<Option<OldVdso>> {
        let (Some(first), Some(theirs)) = (layout.vmas.iter().find(|v| is_kernels_own(v)), &offer.vdso) else {
            return Ok(None);
        };
        let ours = KernelVdso::of_this_host()?;
        if ours.digest == theirs.digest {
            self.have_it_mapped(first.start)?;
            return match self.special_mappings()? == wanted(layout) {
                true => Ok(None),
                false => Err(Error::Refused(vec![
                    "this kernel puts the vDSO elsewhere than the program has it; that cannot move yet".into(),
                ])),
            };
        }
        // Beyond the old one, where the kernel itself puts nothing else.
        let executor = self.shell.executor.range();
        let mut taken: Vec<(u64, u64)> = layout.vmas.iter().map(|v| (v.start, v.end)).collect();
        taken.extend([(theirs.start, theirs.end()), (executor.start, executor.end)]);
        taken.sort_unstable();
        let hole = |lowest| find_hole(taken.iter().copied(), lowest, ours.size);
        let place = hole(theirs.end()).or_else(|| hole(LOWEST));
        let place = place.ok_or_else(|| Error::Invalid("the address space is full".into()))?;
        self.have_it_mapped(place)?;
        let kernels = place..place + ours.size;
        let special = self.special_mappings()?;
        let code = special.iter().find(|(name, ..)| *name == Name::Vdso);
        let inside = special.iter().all(|(_, start, end)| kernels.start <= *start && *end <= kernels.end);
        let (Some((_, address, _)), true) = (code, inside) else {
            return Err(Error::Refused(vec!["this kernel does not put its vDSO where it is asked to".into()]));
        };
        let code = theirs.put_before(&ours.code, *address);
        let code = code.map_err(|why| Error::Refused(vec![format!("the kernels' vDSOs differ, and {why}")]))?;
        self.reserve_old_place(layout, theirs)?;
        Ok(Some(OldVdso { start: theirs.start, code, kernels }))
    }

    fn have_it_mapped(&mut self, at: u64) -> Result<()> {
        let mut batch = Batch::new();
        batch.must(libc::SYS_arch_prctl, [ARCH_MAP_VDSO_64.into(), at.into()]);
        self.shell.run(&batch)?;
        Ok(())
    }

    fn special_mappings(&self) -> Result<Vec<(Name, u64, u64)>> {
        let pid = self.shell.pid;
        let maps = read_maps(pid).doing(|| format!("read the mappings of new process {pid}"))?;
        let special = |m: &Mapping| matches!(m.name, Name::Vdso | Name::Vvar | Name::VvarVclock);
        Ok(maps.into_iter().filter(special).map(|m| (m.name, m.start, m.end)).collect())
    }

    /// Where the kernel had mapped the old one there is plain memory from now on. Code that was interrupted in it by a signal, and
    /// returns to it, reads there that the clock cannot be read, and asks the kernel (VDSO_CLOCKMODE_NONE is 0).
    fn reserve_old_place(&mut self, layout: &Layout, old: &Vdso) -> Result<()> {
        let known = layout.vmas.iter().any(|v| v.backing == Backing::Vdso && v.start == old.start);
        if !known {
            return Ok(()); // it has moved like that before: it is plain memory already
        }
        let mut batch = Batch::new();
        for vma in layout.vmas.iter().filter(|v| is_kernels_own(v)) {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
            let protection = u64::from(vma.protection);
            batch.must(
                libc::SYS_mmap,
                [vma.start.into(), vma.len().into(), protection.into(), flags.into(), (-1).into(), 0.into()],
            );
        }
        self.shell.run(&batch)?;
        Ok(())
    }

    /// Writes the old one, when all other memory is in place.
    pub fn place_old_vdso(&self) -> Result<()> {
        let Some(old) = &self.old_vdso else { return Ok(()) };
        self.shell.memory.write(old.start, &old.code).doing(|| "put the old vDSO before the kernel's".into())
    }
}

fn wanted(layout: &Layout) -> Vec<(Name, u64, u64)> {
    let name = |vma: &Vma| match vma.backing {
        Backing::Vdso => Some(Name::Vdso),
        Backing::Vvar => Some(Name::Vvar),
        Backing::VvarVclock => Some(Name::VvarVclock),
        _ => None,
    };
    layout.vmas.iter().filter_map(|v| Some((name(v)?, v.start, v.end))).collect()
}
