//! A network namespace: made, and removed with every process in it.
//!
//! Not what is in it (`net`). Called by `net`. Invariant: a namespace whose name does not begin with [`PREFIX`] is
//! never touched.

use std::path::Path;

use anyhow::Context as _;

use crate::tool::{self, ip};

/// All names begin so; the id of the process that made it follows.
pub(super) const PREFIX: &str = "lab-";

/// A namespace of ours; dropped, it is gone.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    pub(super) fn add(name: String) -> anyhow::Result<Self> {
        ip(&format!("netns add {name}")).context(
            "this machine does not give network namespaces; a container needs to be privileged",
        )?;
        Ok(Self { name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    #[expect(clippy::print_stderr, reason = "the only place where it can be said")]
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("the namespace {} stays: {error:#}", self.name);
        }
    }
}

/// Removes the namespaces of tests that were killed: their owner is gone.
pub(super) fn remove_leftovers() -> anyhow::Result<()> {
    // A name may be followed by `(id: N)`.
    let list = ip("netns list")?;
    let names = list.lines().filter_map(|line| line.split(' ').next());
    for name in names.filter(|name| owner(name).is_some_and(is_gone)) {
        remove(name)?;
    }
    Ok(())
}

/// The process that made this namespace, if it is a laboratory's.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn is_gone(process: u32) -> bool {
    !Path::new("/proc").join(process.to_string()).exists()
}

/// Kills what still runs in it: a namespace without a name lives on as long as a process does.
fn remove(name: &str) -> anyhow::Result<()> {
    let list = ip(&format!("netns pids {name}"))?;
    let ids: Vec<i64> = list.lines().filter_map(|line| line.parse().ok()).collect();
    if !ids.is_empty() {
        // One of them may have ended by itself meanwhile.
        let _ = tool::signal("KILL", &ids);
    }
    ip(&format!("netns delete {name}")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_stands_in_the_name_and_other_namespaces_have_none() {
        assert_eq!(owner("lab-42-0-origin"), Some(42));
        assert_eq!(owner("lab-x-0-origin"), None);
        assert_eq!(owner("vpn-42"), None);
    }

    #[test]
    fn a_process_is_gone_when_the_kernel_does_not_list_it() {
        // No process has this id: kernels stop at 2^22, proc_sys_kernel(5).
        assert!(is_gone(1 << 23));
        assert!(!is_gone(std::process::id()));
    }
}
