//! The address map, as /proc/PID/smaps shows it (proc_pid_smaps(5)), in a form that can be compared.

use serde::{Deserialize, Serialize};

/// Mappings that look like one: whether the kernel has merged neighbours depends on the order in which they were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    /// The first address.
    pub start: u64,
    /// The first address behind it.
    pub end: u64,
    /// As in `rw-p`.
    pub permissions: String,
    /// The place in the file; 0 where there is none.
    pub offset: u64,
    /// The file's inode; 0 where there is none.
    pub inode: u64,
    /// The path or `[heap]` and the like; empty for anonymous memory.
    pub name: String,
    /// The two-letter flags of VmFlags, in order.
    pub flags: Vec<String>,
}

impl Area {
    fn goes_on_in(&self, next: &Area) -> bool {
        let of_file = self.inode != 0;
        let in_place = !of_file || self.offset + (self.end - self.start) == next.offset;
        self.end == next.start
            && in_place
            && (&self.permissions, self.inode, &self.name, &self.flags)
                == (&next.permissions, next.inode, &next.name, &next.flags)
    }
}

/// Parses the text of smaps and joins neighbours that are alike.
pub fn parse(text: &str) -> Vec<Area> {
    let mut areas: Vec<Area> = Vec::new();
    let mut current: Option<Area> = None;
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let Some(mut area) = current.take() else { continue };
            // sd: written since the bits were cleared, which tracking does.
            // ac: counted as committed memory, from the moment on that it can be written; where it cannot, only its past shows.
            // gu: a guard may have been put into it, or into what has been joined to it since (newer kernels).
            let past = |flag: &str| ["sd", "gu"].contains(&flag) || flag == "ac" && !area.permissions.contains('w');
            area.flags = flags.split_whitespace().filter(|flag| !past(flag)).map(String::from).collect();
            match areas.last_mut() {
                Some(last) if last.goes_on_in(&area) => last.end = area.end,
                _ => areas.push(area),
            }
        } else if let Some(area) = parse_first_line(line) {
            current = Some(area);
        }
    }
    areas
}

/// `5581-5582 r--p 00000000 fe:01 1234      /bin/true`; None for the other lines.
fn parse_first_line(line: &str) -> Option<Area> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let mut words = rest.splitn(5, ' ');
    let mut word = || words.next();
    let hexadecimal = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (hexadecimal(start)?, hexadecimal(end)?);
    let (permissions, offset, _device, inode) = (word()?, hexadecimal(word()?)?, word()?, word()?.parse().ok()?);
    let mut name = word().unwrap_or_default().trim_start().to_string();
    let mut inode: u64 = inode;
    // Without a name it is a file of the kernel's own, or becomes one; its number says nothing, and where it was neither.
    if let Some(unnamed) = name.strip_suffix(" (deleted)") {
        inode = u64::MAX;
        if unnamed != "/dev/zero" {
            let last = unnamed.rsplit('/').next().unwrap_or_default();
            name = format!("/memfd:{} (deleted)", last.strip_prefix("memfd:").unwrap_or(last));
        }
    }
    if name.starts_with("/dev/shm/") {
        inode = u64::MAX;
    }
    let offset = if inode == 0 { 0 } else { offset };
    Some(Area { start, end, permissions: permissions.into(), offset, inode, name, flags: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
1000-2000 rw-p 00000000 00:00 0 
Rss:                   4 kB
VmFlags: rd wr mr mw me ac sd
2000-3000 rw-p 00000000 00:00 0 
VmFlags: rd wr mr mw me gu ac
3000-4000 r--p 00001000 fe:01 77                         /a b
VmFlags: rd mr mw me
4000-5000 r--p 00002000 fe:01 77                         /a b
VmFlags: rd mr mw me
5000-6000 r--p 00002000 fe:01 77                         /a b
VmFlags: rd mr mw me
6000-7000 rw-s 00000000 00:01 5                          /dev/zero (deleted)
VmFlags: rd wr sh mr mw me ms
";

    #[test]
    fn neighbours_that_are_alike_are_one() {
        let areas = parse(TEXT);
        let shown: Vec<_> = areas.iter().map(|a| (a.start, a.end, a.offset, a.inode, a.name.as_str())).collect();
        let expected = [
            (0x1000, 0x3000, 0, 0, ""),
            (0x3000, 0x5000, 0x1000, 77, "/a b"),
            (0x5000, 0x6000, 0x2000, 77, "/a b"),
            (0x6000, 0x7000, 0, u64::MAX, "/dev/zero (deleted)"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(areas[0].flags, ["rd", "wr", "mr", "mw", "me", "ac"]);
    }
}
