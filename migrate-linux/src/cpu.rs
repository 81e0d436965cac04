//! What a program may use of a CPU: CPUID and XCR0.
//!
//! A program looks once and keeps using what it has found, so it can only move to a CPU that has all of it.
//! What the operating system has not enabled counts as not there.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

/// The features of one CPU as raw words: they travel, and are compared by [`CpuFeatures::missing_in`].
///
/// All values are taken as they come, also from a peer: a word that is not there counts as 0, one too many
/// is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuFeatures {
    /// Registers of CPUID, in this order: leaf 1 ecx, edx; leaf 7.0 ebx, ecx, edx; leaf 7.1 eax, edx;
    /// leaf 0xD.1 eax; leaf 0x8000_0001 ecx, edx.
    pub words: Vec<u32>,
    /// The state components that the operating system has enabled, a bit each: XCR0.
    pub xcr0: u64,
    /// The bytes of an XSAVE area with all of them, in the standard format: CPUID leaf 0xD.0 ebx.
    pub xsave_size: u32,
    /// Where each of them lies in that area, but for the first two, which lie in the same place everywhere.
    pub components: Vec<StateComponent>,
}

/// A state component in an XSAVE area of the standard format. CPUs of different makers have them at different places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateComponent {
    /// Its bit in XCR0.
    pub bit: u32,
    /// Bytes from the beginning of the area.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// Bytes of an XSAVE area that are the same on every CPU: the legacy region and the header.
const XSAVE_FIXED: usize = 576;
/// Where the header says which components are there.
const XSTATE_BV: std::ops::Range<usize> = 512..520;

// Places in `words`.
const L1_ECX: usize = 0;
const L1_EDX: usize = 1;
const L7_EBX: usize = 2;
const L7_ECX: usize = 3;
const L7_EDX: usize = 4;
const L71_EAX: usize = 5;
const L71_EDX: usize = 6;
const LD1_EAX: usize = 7;
const LX_ECX: usize = 8;
const LX_EDX: usize = 9;
const WORDS: usize = 10;

const OSXSAVE: u32 = 27; // in L1_ECX
const OSPKE: u32 = 4; // in L7_ECX

// State components of XCR0 that a feature needs.
const NONE: u64 = 0;
const AVX: u64 = 0b110;
const AVX512: u64 = 0b1110_0110;
const AMX: u64 = 0b11 << 17;
const APX: u64 = 1 << 19;

/// A feature that programs can use: its word, bit, the state that it needs, and its name as
/// /proc/cpuinfo spells it.
type Feature = (usize, u32, u64, &'static str);

/// Without what programs cannot use or do not see in CPUID (virtualisation, power, machine checks,
/// mitigations).
#[rustfmt::skip]
const FEATURES: &[Feature] = &[
    (L1_EDX, 0, NONE, "fpu"), (L1_EDX, 4, NONE, "tsc"), (L1_EDX, 8, NONE, "cx8"), (L1_EDX, 11, NONE, "sep"),
    (L1_EDX, 15, NONE, "cmov"), (L1_EDX, 19, NONE, "clflush"), (L1_EDX, 23, NONE, "mmx"),
    (L1_EDX, 24, NONE, "fxsr"), (L1_EDX, 25, NONE, "sse"), (L1_EDX, 26, NONE, "sse2"),

    (L1_ECX, 0, NONE, "sse3"), (L1_ECX, 1, NONE, "pclmulqdq"), (L1_ECX, 9, NONE, "ssse3"),
    (L1_ECX, 12, AVX, "fma"), (L1_ECX, 13, NONE, "cx16"), (L1_ECX, 19, NONE, "sse4_1"),
    (L1_ECX, 20, NONE, "sse4_2"), (L1_ECX, 22, NONE, "movbe"), (L1_ECX, 23, NONE, "popcnt"),
    (L1_ECX, 25, NONE, "aes"), (L1_ECX, 27, NONE, "osxsave"), (L1_ECX, 28, AVX, "avx"),
    (L1_ECX, 29, AVX, "f16c"), (L1_ECX, 30, NONE, "rdrand"),

    (L7_EBX, 0, NONE, "fsgsbase"), (L7_EBX, 3, NONE, "bmi1"), (L7_EBX, 4, NONE, "hle"), (L7_EBX, 5, AVX, "avx2"),
    (L7_EBX, 8, NONE, "bmi2"), (L7_EBX, 9, NONE, "erms"), (L7_EBX, 11, NONE, "rtm"),
    (L7_EBX, 16, AVX512, "avx512f"), (L7_EBX, 17, AVX512, "avx512dq"), (L7_EBX, 18, NONE, "rdseed"),
    (L7_EBX, 19, NONE, "adx"), (L7_EBX, 21, AVX512, "avx512ifma"), (L7_EBX, 23, NONE, "clflushopt"),
    (L7_EBX, 24, NONE, "clwb"), (L7_EBX, 26, AVX512, "avx512pf"), (L7_EBX, 27, AVX512, "avx512er"),
    (L7_EBX, 28, AVX512, "avx512cd"), (L7_EBX, 29, NONE, "sha_ni"), (L7_EBX, 30, AVX512, "avx512bw"),
    (L7_EBX, 31, AVX512, "avx512vl"),

    (L7_ECX, 0, NONE, "prefetchwt1"), (L7_ECX, 1, AVX512, "avx512vbmi"), (L7_ECX, 4, NONE, "ospke"),
    (L7_ECX, 5, NONE, "waitpkg"), (L7_ECX, 6, AVX512, "avx512_vbmi2"), (L7_ECX, 8, NONE, "gfni"),
    (L7_ECX, 9, AVX, "vaes"), (L7_ECX, 10, AVX, "vpclmulqdq"), (L7_ECX, 11, AVX512, "avx512_vnni"),
    (L7_ECX, 12, AVX512, "avx512_bitalg"), (L7_ECX, 14, AVX512, "avx512_vpopcntdq"), (L7_ECX, 22, NONE, "rdpid"),
    (L7_ECX, 25, NONE, "cldemote"), (L7_ECX, 27, NONE, "movdiri"), (L7_ECX, 28, NONE, "movdir64b"),

    (L7_EDX, 2, AVX512, "avx512_4vnniw"), (L7_EDX, 3, AVX512, "avx512_4fmaps"), (L7_EDX, 4, NONE, "fsrm"),
    (L7_EDX, 5, NONE, "uintr"), (L7_EDX, 8, AVX512, "avx512_vp2intersect"), (L7_EDX, 14, NONE, "serialize"),
    (L7_EDX, 16, NONE, "tsxldtrk"), (L7_EDX, 22, AMX, "amx_bf16"), (L7_EDX, 23, AVX512, "avx512_fp16"),
    (L7_EDX, 24, AMX, "amx_tile"), (L7_EDX, 25, AMX, "amx_int8"),

    (L71_EAX, 0, AVX, "sha512"), (L71_EAX, 1, AVX, "sm3"), (L71_EAX, 2, AVX, "sm4"), (L71_EAX, 4, AVX, "avx_vnni"),
    (L71_EAX, 5, AVX512, "avx512_bf16"), (L71_EAX, 7, NONE, "cmpccxadd"), (L71_EAX, 21, AMX, "amx_fp16"),
    (L71_EAX, 23, AVX, "avx_ifma"),

    (L71_EDX, 4, AVX, "avx_vnni_int8"), (L71_EDX, 5, AVX, "avx_ne_convert"), (L71_EDX, 8, AMX, "amx_complex"),
    (L71_EDX, 10, AVX, "avx_vnni_int16"), (L71_EDX, 14, NONE, "prefetchiti"), (L71_EDX, 19, AVX512, "avx10"),
    (L71_EDX, 21, APX, "apx_f"),

    (LD1_EAX, 0, NONE, "xsaveopt"), (LD1_EAX, 1, NONE, "xsavec"), (LD1_EAX, 2, NONE, "xgetbv1"),

    (LX_ECX, 0, NONE, "lahf_lm"), (LX_ECX, 5, NONE, "abm"), (LX_ECX, 6, NONE, "sse4a"),
    (LX_ECX, 7, NONE, "misalignsse"), (LX_ECX, 8, NONE, "3dnowprefetch"), (LX_ECX, 11, AVX, "xop"),
    (LX_ECX, 16, AVX, "fma4"), (LX_ECX, 21, NONE, "tbm"), (LX_ECX, 29, NONE, "mwaitx"),

    (LX_EDX, 11, NONE, "syscall"), (LX_EDX, 22, NONE, "mmxext"), (LX_EDX, 27, NONE, "rdtscp"),
    (LX_EDX, 29, NONE, "lm"), (LX_EDX, 30, NONE, "3dnowext"), (LX_EDX, 31, NONE, "3dnow"),
];

/// Names of the components of XCR0. A thread's XSAVE area can only be restored where each that it uses is
/// enabled.
const COMPONENTS: &[(u32, &str)] = &[
    (0, "x87 state"),
    (1, "SSE state"),
    (2, "AVX state"),
    (3, "MPX bounds registers"),
    (4, "MPX bounds configuration"),
    (5, "AVX-512 mask registers"),
    (6, "AVX-512 upper halves"),
    (7, "AVX-512 registers 16 to 31"),
    (9, "protection keys register"),
    (17, "AMX tile configuration"),
    (18, "AMX tile data"),
    (19, "APX registers"),
];

impl CpuFeatures {
    /// Those of the CPU that this runs on; all CPUs of a host are taken to be alike.
    pub fn of_this_cpu() -> CpuFeatures {
        let mut words = vec![0; WORDS];
        let highest = __cpuid(0).eax;
        let leaf1 = __cpuid(1);
        words[L1_ECX] = leaf1.ecx;
        words[L1_EDX] = leaf1.edx;
        if highest >= 7 {
            let leaf = __cpuid_count(7, 0);
            words[L7_EBX] = leaf.ebx;
            words[L7_ECX] = leaf.ecx;
            words[L7_EDX] = leaf.edx;
            if leaf.eax >= 1 {
                let leaf = __cpuid_count(7, 1);
                words[L71_EAX] = leaf.eax;
                words[L71_EDX] = leaf.edx;
            }
        }
        let mut xcr0 = 0;
        let mut xsave_size = 0;
        let mut components = Vec::new();
        if leaf1.ecx >> OSXSAVE & 1 == 1 {
            // SAFETY: OSXSAVE says that the instruction is there and enabled; register 0 always exists.
            xcr0 = unsafe { read_xcr0() };
            if highest >= 0xd {
                xsave_size = __cpuid_count(0xd, 0).ebx;
                words[LD1_EAX] = __cpuid_count(0xd, 1).eax;
                components = (2..63).filter(|bit| xcr0 >> bit & 1 == 1).map(component).collect();
            }
        }
        if __cpuid(0x8000_0000).eax >= 0x8000_0001 {
            let leaf = __cpuid(0x8000_0001);
            words[LX_ECX] = leaf.ecx;
            words[LX_EDX] = leaf.edx;
        }
        CpuFeatures { words, xcr0, xsave_size, components }
    }

    /// Whether an XSAVE area of that CPU is one of this CPU too.
    pub fn has_areas_of(&self, other: &CpuFeatures) -> bool {
        (self.xcr0, self.xsave_size, &self.components) == (other.xcr0, other.xsave_size, &other.components)
    }

    /// An XSAVE area of `other` as this CPU has it. What this CPU has no place for is left out.
    pub fn fit_area(&self, area: &[u8], other: &CpuFeatures) -> Vec<u8> {
        let mut fitted = vec![0; (self.xsave_size as usize).max(XSAVE_FIXED)];
        let fixed = area.len().min(XSAVE_FIXED);
        fitted[..fixed].copy_from_slice(&area[..fixed]);
        let present = area.get(XSTATE_BV).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes);
        let mut kept = present & self.xcr0 & 0b11;
        for mine in &self.components {
            let theirs = other.components.iter().find(|c| c.bit == mine.bit && c.size == mine.size);
            let bytes = |c: &StateComponent| c.offset as usize..(c.offset as usize).saturating_add(c.size as usize);
            let Some(content) = theirs.and_then(|c| area.get(bytes(c))) else { continue };
            if present >> mine.bit.min(63) & 1 == 1
                && let Some(place) = fitted.get_mut(bytes(mine))
            {
                place.copy_from_slice(content);
                kept |= 1 << mine.bit;
            }
        }
        fitted[XSTATE_BV].copy_from_slice(&kept.to_le_bytes());
        fitted
    }

    /// The names of the features that programs can use, as /proc/cpuinfo spells them.
    pub fn names(&self) -> Vec<&'static str> {
        let features = FEATURES.iter();
        let had = features.filter(|feature| self.has(feature));
        had.map(|feature| feature.3).collect()
    }

    /// What this CPU has and `other` has not: features as in [`CpuFeatures::names`], then the state components
    /// of XCR0 in words. Empty when a program from here can go on there.
    pub fn missing_in(&self, other: &CpuFeatures) -> Vec<&'static str> {
        let features =
            FEATURES.iter().filter(|feature| self.has(feature) && !other.has(feature)).map(|feature| feature.3);
        let components =
            COMPONENTS.iter().filter(|(bit, _)| self.xcr0 & !other.xcr0 & 1 << bit != 0).map(|(_, name)| *name);
        let mut missing: Vec<_> = features.chain(components).collect();
        let named = COMPONENTS.iter().fold(0, |mask, (bit, _)| mask | 1 << bit);
        if self.xcr0 & !other.xcr0 & !named != 0 {
            missing.push("a state component without a name here");
        }
        missing
    }

    fn has(&self, &(word, bit, state, _): &Feature) -> bool {
        let set = |word: usize, bit: u32| self.words.get(word).is_some_and(|word| word >> bit & 1 == 1);
        let enabled = match (word, state) {
            // Protection keys and the XSAVE family have their own "enabled by the system" bits.
            (LD1_EAX, _) => set(L1_ECX, OSXSAVE),
            (_, state) => self.xcr0 & state == state,
        };
        set(word, bit) && enabled
    }

    /// Whether programs can use protection keys: pkey_alloc(2).
    pub fn has_protection_keys(&self) -> bool {
        self.words.get(L7_ECX).is_some_and(|word| word >> OSPKE & 1 == 1)
    }
}

fn component(bit: u32) -> StateComponent {
    let leaf = __cpuid_count(0xd, bit);
    StateComponent { bit, offset: leaf.ebx, size: leaf.eax }
}

/// XCR0.
///
/// # Safety
/// CPUID must report OSXSAVE.
#[target_feature(enable = "xsave")]
unsafe fn read_xcr0() -> u64 {
    // SAFETY: the caller vouches for the instruction.
    unsafe { _xgetbv(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_cpuinfo() {
        let own = CpuFeatures::of_this_cpu();
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let flags: Vec<&str> =
            text.lines().find_map(|line| line.strip_prefix("flags")).unwrap().split_whitespace().collect();
        // What the kernel has no name for, or calls otherwise, or clears for itself alone (errata of AMD's: rdrand, rdseed, xsaves).
        let unnamed = [
            "rdrand",
            "rdseed",
            "xsaves",
            "sse3",
            "osxsave",
            "prefetchwt1",
            "uintr",
            "prefetchiti",
            "avx10",
            "apx_f",
            "3dnowprefetch",
            "avx_ne_convert",
            "avx_vnni_int8",
            "avx_vnni_int16",
            "cmpccxadd",
            "sha512",
            "sm3",
            "sm4",
        ];
        for name in own.names() {
            if !unnamed.contains(&name) {
                assert!(flags.contains(&name), "{name} is not in /proc/cpuinfo");
            }
        }
        for (.., name) in FEATURES {
            if flags.contains(name) && !own.names().contains(name) {
                panic!("{name} is in /proc/cpuinfo alone");
            }
        }
        assert!(own.names().contains(&"sse2"));
        assert_eq!(own.names().contains(&"avx512f"), std::is_x86_feature_detected!("avx512f"));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = FEATURES.iter().map(|feature| feature.3).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        let mut bits: Vec<_> = FEATURES.iter().map(|feature| (feature.0, feature.1)).collect();
        bits.sort_unstable();
        assert!(bits.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let own = CpuFeatures::of_this_cpu();
        assert!(own.missing_in(&own).is_empty());
        let mut lesser = own.clone();
        lesser.words[L1_EDX] &= !(1 << 26);
        assert_eq!(own.missing_in(&lesser), ["sse2"]);
        assert!(lesser.missing_in(&own).is_empty());
        // What the system has not enabled is not there, whatever CPUID says.
        let full = CpuFeatures { words: vec![u32::MAX; WORDS], xcr0: u64::MAX, ..Default::default() };
        let disabled = CpuFeatures { xcr0: 3, ..full.clone() };
        let missing = full.missing_in(&disabled);
        for name in ["avx", "avx512f", "amx_tile", "AVX state", "AMX tile data"] {
            assert!(missing.contains(&name), "{name}");
        }
        assert!(!missing.contains(&"sse2"));
    }

    #[test]
    fn an_area_fits_another_cpu() {
        let cpu = |components: &[(u32, u32, u32)], xsave_size| CpuFeatures {
            xcr0: components.iter().fold(3, |bits, (bit, ..)| bits | 1 << bit),
            xsave_size,
            components: components.iter().map(|&(bit, offset, size)| StateComponent { bit, offset, size }).collect(),
            ..Default::default()
        };
        let small = cpu(&[(2, 576, 256)], 832);
        let large = cpu(&[(2, 576, 256), (5, 1088, 64), (9, 1152, 8)], 1160);
        let other = cpu(&[(2, 576, 256), (5, 832, 64)], 896);
        let mut area = vec![0; 1160];
        area[0] = 7;
        area[512] = 0b10_0111;
        area[600] = 8;
        area[1090] = 9;
        assert_eq!(large.fit_area(&area, &large), area);
        let fitted = other.fit_area(&area, &large);
        assert_eq!((fitted.len(), fitted[0], fitted[512], fitted[600], fitted[834]), (896, 7, 0b10_0111, 8, 9));
        let fitted = small.fit_area(&area, &large);
        assert_eq!((fitted.len(), fitted[512], fitted[600]), (832, 0b111, 8));
        // To one that has more, and back.
        assert_eq!(small.fit_area(&large.fit_area(&fitted, &small), &large), fitted);
        assert!(small.has_areas_of(&small) && !small.has_areas_of(&large));
        // Whatever a peer says.
        let odd = cpu(&[(2, u32::MAX, u32::MAX), (63, 0, 8)], 0);
        for area in [&[][..], &area[..100], &area] {
            let _ = (odd.fit_area(area, &large), large.fit_area(area, &odd));
        }
    }

    #[test]
    fn any_values_do() {
        let own = CpuFeatures::of_this_cpu();
        for count in [0, 1, WORDS, 1000] {
            for word in [0, u32::MAX] {
                let odd = CpuFeatures { words: vec![word; count], xcr0: u64::MAX, ..Default::default() };
                let _ = (odd.names(), odd.has_protection_keys());
                let _ = (odd.missing_in(&own), own.missing_in(&odd));
            }
        }
        assert!(!own.missing_in(&CpuFeatures::default()).is_empty());
    }
}
