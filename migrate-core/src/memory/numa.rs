//! Policies that say on which nodes of a host memory lies (numa(7)). They stay behind: the nodes are this host's.

use std::collections::BTreeMap;
use std::fs;

/// The nodes of this host, as a list such as `0-1`; `0`: there is but one.
const NODES: &str = "/sys/devices/system/node/online";

/// What a process loses, in words. On a host with one node policies mean nothing, and finding them would take long.
pub fn losses(pid: i32) -> Vec<String> {
    let nodes = fs::read_to_string(NODES).unwrap_or_default();
    if matches!(nodes.trim(), "" | "0") {
        return Vec::new();
    }
    // Not every kernel has it, and then it has no policies.
    let maps = fs::read(format!("/proc/{pid}/numa_maps")).unwrap_or_default();
    loss(&maps).into_iter().collect()
}

/// By the text of /proc/PID/numa_maps: of each mapping the address, the policy, and more.
fn loss(maps: &[u8]) -> Option<String> {
    let mut policies: BTreeMap<&[u8], usize> = BTreeMap::new();
    for line in maps.split(|byte| *byte == b'\n') {
        let policy = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        if !matches!(policy, b"" | b"default" | b"local") {
            *policies.entry(policy).or_default() += 1;
        }
    }
    let (policy, _) = policies.iter().max_by_key(|(_, count)| **count)?;
    let count: usize = policies.values().sum();
    let mappings = if count == 1 { "mapping".into() } else { format!("{count} mappings") };
    let policy = String::from_utf8_lossy(policy);
    Some(format!("the NUMA policy of its {mappings} ({policy}) stays behind; there the kernel chooses the nodes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_policy_is_named() {
        let default = "55f3d0d8e000 default file=/usr/bin/cat mapped=2 N0=2 kernelpagesize_kB=4\n";
        assert_eq!(loss(default.as_bytes()), None);
        let some = format!("{default}7f00 bind:1 anon=3 N1=3\n7f10 interleave:0-1\n7f20 bind:1\n7f30 local heap\n");
        let said = loss(some.as_bytes()).unwrap();
        assert!(said.contains("3 mappings (bind:1)"), "{said}");
        assert_eq!(loss(b"\n \n7f"), None);
    }
}
