//! What this machine allows a node to keep in memory.
//!
//! Not a measurement of what is free now: that changes, and a cache that was promised is not taken back. Called once by
//! the start of the datapath. Invariant: whatever the system says, or does not say, a node has [`CACHE_MIN`] to
//! [`CACHE_MAX`] for its caches, and as much again for its subscribers (`fanout`).

use std::path::Path;

/// The least room for caches, and what is taken where the system tells nothing: eight groups of 8 MB.
pub(crate) const CACHE_MIN: usize = 64 << 20;
/// The most that is taken without being told to.
pub(crate) const CACHE_MAX: usize = 1 << 30;
/// Caches have one part in this many of the machine's memory.
const CACHE_PART: u64 = 16;
/// One flow has at most this part of the caches, if that is more than [`FLOW_CACHE_MIN`].
const FLOW_PART: usize = 4;
/// What one flow has at least.
const FLOW_CACHE_MIN: usize = 16 << 20;

/// Room for the caches of all flows, and of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheBytes {
    pub(crate) of_all: usize,
    pub(crate) of_one: usize,
}

impl CacheBytes {
    /// So much for all flows.
    pub(crate) fn of(of_all: usize) -> Self {
        let of_one = (of_all / FLOW_PART).max(FLOW_CACHE_MIN).min(of_all);
        Self { of_all, of_one }
    }

    /// So much for all flows, or what this machine allows.
    pub(crate) fn of_or_here(of_all: Option<usize>) -> Self {
        let here = || Self::within(memory(Path::new("/")));
        of_all.map_or_else(here, Self::of)
    }

    fn within(memory: Option<u64>) -> Self {
        let part = memory.map(|bytes| usize::try_from(bytes / CACHE_PART).unwrap_or(usize::MAX));
        Self::of(part.unwrap_or(CACHE_MIN).clamp(CACHE_MIN, CACHE_MAX))
    }
}

/// The memory that this machine has, or that the control group of this process may use if that is less.
fn memory(root: &Path) -> Option<u64> {
    let read = |file: &str| std::fs::read_to_string(root.join(file)).ok();
    let machine = read("proc/meminfo").as_deref().and_then(total_of);
    // Version 2 of control groups and version 1; a container sees its own at the root.
    let limits = [
        "sys/fs/cgroup/memory.max",
        "sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let limit = limits
        .into_iter()
        .find_map(|file| read(file)?.trim().parse().ok());
    [machine, limit].into_iter().flatten().min()
}

/// `MemTotal` of /proc/meminfo, which is in KiB (proc_meminfo(5)).
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn caches_have_a_part_of_the_memory_within_limits() {
        let of_all = |memory| CacheBytes::within(memory).of_all;

        assert_eq!(of_all(Some(8 * GIB)), 512 << 20);
        assert_eq!(of_all(Some(GIB / 4)), CACHE_MIN);
        assert_eq!(of_all(Some(512 * GIB)), CACHE_MAX);
        assert_eq!(of_all(None), CACHE_MIN);
    }

    #[test]
    fn one_flow_has_a_part_of_that_and_never_more_than_all() {
        assert_eq!(CacheBytes::of(512 << 20).of_one, 128 << 20);
        assert_eq!(CacheBytes::of(CACHE_MIN).of_one, FLOW_CACHE_MIN);
        assert_eq!(CacheBytes::of(1_000).of_one, 1_000);
    }

    #[test]
    fn a_control_group_that_may_use_less_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(memory(root.path()), None);

        write(
            "proc/meminfo",
            "MemTotal:        8388608 kB\nMemFree: 1 kB\n",
        );
        write("sys/fs/cgroup/memory.max", "max\n");
        assert_eq!(memory(root.path()), Some(8 * GIB));

        write("sys/fs/cgroup/memory.max", "1073741824\n");
        assert_eq!(memory(root.path()), Some(GIB));
    }
}
