//! How much memory this process can have.
//!
//! Two know: the system, and the control groups that the process is in, as those of a container, which may
//! leave it less. Memory files count in both. What the system keeps of files, to be read again, is free as
//! far as anybody needs it.

use std::path::{Path, PathBuf};

/// Where control groups are, as a rule.
const GROUPS: &str = "/sys/fs/cgroup";

/// Reads a file of text; `None` if it isn't there.
type Read<'r> = &'r dyn Fn(&Path) -> Option<String>;

/// How many bytes this process can have, and who says so.
///
/// `None` where nobody says anything.
pub(in crate::sync) fn left() -> Option<(u64, &'static str)> {
    left_by(&|path| std::fs::read_to_string(path).ok())
}

fn left_by(read: Read<'_>) -> Option<(u64, &'static str)> {
    let table = read(Path::new("/proc/meminfo"));
    let swap = table.as_deref().and_then(|table| kibibytes(table, "SwapFree:")).unwrap_or(0);
    let system = table.as_deref().and_then(|table| Some(kibibytes(table, "MemAvailable:")? + swap));
    let groups = read(Path::new("/proc/self/cgroup")).and_then(|groups| of_groups(&groups, swap, read));
    let system = system.map(|left| (left, "the system"));
    let groups = groups.map(|left| (left, "the control group of this process"));
    system.into_iter().chain(groups).min_by_key(|&(left, _)| left)
}

/// A number of `/proc/meminfo`, in bytes.
fn kibibytes(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

/// The least that is left in any of the groups, of which each is limited by those above it.
fn of_groups(groups: &str, swap: u64, read: Read<'_>) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (top, names) = match controllers {
            "" if number == "0" => (PathBuf::from(GROUPS), &SECOND),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                (Path::new(GROUPS).join("memory"), &FIRST)
            }
            _ => continue,
        };
        // In a container the path may be the host's, of which only the top is seen in here.
        let own = Path::new(path).components().filter(|part| matches!(part, std::path::Component::Normal(_)));
        let own = top.join(own.collect::<PathBuf>());
        let groups = own.ancestors().take_while(|group| group.starts_with(&top));
        for left in groups.filter_map(|group| of_group(group, names, swap, read)) {
            least = Some(least.map_or(left, |least| least.min(left)));
        }
    }
    least
}

/// The names of a group's files.
struct Names {
    limit: &'static str,
    used: &'static str,
    /// The used bytes that are given back to whoever needs memory.
    reclaimable: [&'static str; 3],
    /// The limit of what goes to the disk, and what has gone there.
    swap: Option<[&'static str; 2]>,
}

const SECOND: Names = Names {
    limit: "memory.max",
    used: "memory.current",
    reclaimable: ["active_file", "inactive_file", "slab_reclaimable"],
    swap: Some(["memory.swap.max", "memory.swap.current"]),
};

/// Of the first version. What may go to the disk has no limit of its own there, and is left out.
const FIRST: Names = Names {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: ["total_active_file", "total_inactive_file", "total_slab_reclaimable"],
    swap: None,
};

/// The bytes left in one group; `None` if it has no limit.
fn of_group(group: &Path, names: &Names, swap: u64, read: Read<'_>) -> Option<u64> {
    let number = |name: &str| read(&group.join(name))?.trim().parse::<u64>().ok();
    // Without a limit it is `max`, which is no number.
    let limit = number(names.limit)?;
    let used = number(names.used)?;
    let table = read(&group.join("memory.stat")).unwrap_or_default();
    let of = |name: &str| -> u64 {
        let mut lines = table.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(key, _)| *key == name).and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
    };
    let reclaimable = names.reclaimable.iter().fold(0_u64, |sum, name| sum.saturating_add(of(name)));
    let swap = names.swap.map_or(0, |[limit, used]| match number(limit) {
        Some(limit) => limit.saturating_sub(number(used).unwrap_or(0)).min(swap),
        None => swap,
    });
    let left = limit.saturating_sub(used.saturating_sub(reclaimable));
    Some(left.saturating_add(swap))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MEMINFO: &str =
        "MemTotal:  4000 kB\nMemFree:  100 kB\nMemAvailable:   2000 kB\nSwapTotal: 9 kB\nSwapFree:    8 kB\n";

    fn left_of(files: &[(&str, &str)]) -> Option<(u64, &'static str)> {
        let files: BTreeMap<PathBuf, &str> =
            files.iter().map(|&(path, text)| (PathBuf::from(path), text)).collect();
        left_by(&|path| files.get(path).map(|&text| text.to_owned()))
    }

    #[test]
    fn the_system_says_what_it_has() {
        assert_eq!(left_of(&[]), None);
        assert_eq!(left_of(&[("/proc/meminfo", MEMINFO)]), Some((2008 << 10, "the system")));
        assert_eq!(left_of(&[("/proc/meminfo", "MemAvailable: many kB\n")]), None);
        assert_eq!(left_of(&[("/proc/meminfo", "MemAvailable: 7\n")]), None);
    }

    #[test]
    fn a_group_of_the_second_version_leaves_its_limit_but_what_is_used() {
        let of = |more: &[(&str, &str)]| {
            let mut files = vec![("/proc/meminfo", MEMINFO), ("/proc/self/cgroup", "0::/a/b\n")];
            files.extend(more);
            left_of(&files)
        };
        let group = "the control group of this process";
        let own = [
            ("/sys/fs/cgroup/a/b/memory.max", "1000000\n"),
            ("/sys/fs/cgroup/a/b/memory.current", "900000\n"),
            ("/sys/fs/cgroup/a/b/memory.swap.max", "0\n"),
        ];
        assert_eq!(of(&own), Some((100_000, group)));
        let table = "anon 1\nfile 700000\nshmem 400000\ninactive_file 200000\nactive_file 100000\n\
                     slab_reclaimable 5000\nslab 6000\n";
        let with_files = [&own[..], &[("/sys/fs/cgroup/a/b/memory.stat", table)]].concat();
        assert_eq!(
            of(&with_files),
            Some((405_000, group)),
            "what is kept of files is free, memory files aren't"
        );
        // A group above it has less.
        let above = [
            &with_files[..],
            &[
                ("/sys/fs/cgroup/a/memory.max", "50000"),
                ("/sys/fs/cgroup/a/memory.current", "49000"),
                ("/sys/fs/cgroup/a/memory.swap.max", "300"),
                ("/sys/fs/cgroup/a/memory.swap.current", "100"),
            ],
        ]
        .concat();
        assert_eq!(of(&above), Some((1_200, group)));
        // Without a limit, a group says nothing; what may go to the disk is what the system has for it.
        let unlimited = [
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/b/memory.current", "900000\n"),
            ("/sys/fs/cgroup/memory.max", "20000\n"),
            ("/sys/fs/cgroup/memory.current", "19000\n"),
            ("/sys/fs/cgroup/memory.swap.max", "max\n"),
        ];
        assert_eq!(of(&unlimited), Some((1_000 + (8 << 10), group)));
        // One that has used more than it may leaves nothing.
        let beyond = [("/sys/fs/cgroup/memory.max", "10"), ("/sys/fs/cgroup/memory.current", "11"), own[2]];
        assert_eq!(of(&beyond).map(|(left, _)| left), Some(8 << 10));
        // The system may have less than the group.
        let roomy = [
            ("/sys/fs/cgroup/a/b/memory.max", "18446744073709551615"),
            ("/sys/fs/cgroup/a/b/memory.current", "0"),
        ];
        assert_eq!(of(&roomy), Some((2008 << 10, "the system")));
    }

    #[test]
    fn a_group_of_the_first_version_leaves_its_limit_but_what_is_used() {
        let groups = "12:cpu,cpuacct:/a\n11:memory:/docker/x\n1:name=systemd:/\n0::/\n";
        let of = |at: &str| {
            let path = |name: &str| format!("/sys/fs/cgroup/memory{at}/{name}");
            left_of(&[
                ("/proc/meminfo", MEMINFO),
                ("/proc/self/cgroup", groups),
                (&path("memory.limit_in_bytes"), "1000000"),
                (&path("memory.usage_in_bytes"), "999000"),
                (&path("memory.stat"), "total_inactive_file 500\ninactive_file 7\ntotal_active_file 20\n"),
            ])
        };
        // Where the host has it, and where a container sees it.
        for at in ["/docker/x", ""] {
            assert_eq!(of(at), Some((1_520, "the control group of this process")), "{at:?}");
        }
        assert_eq!(of("/docker/y"), Some((2008 << 10, "the system")), "which is somebody else's");
    }

    #[test]
    fn what_is_no_list_of_groups_says_nothing() {
        for groups in ["", "\n\n", "0", "0:", "a:b:c:d\n", "0::", "0::../../etc\n"] {
            let files = [("/proc/meminfo", MEMINFO), ("/proc/self/cgroup", groups)];
            assert_eq!(left_of(&files), Some((2008 << 10, "the system")), "{groups:?}");
        }
    }

    #[test]
    fn this_machine_says_something() {
        let (left, who) = left().unwrap();
        assert!(left > 0, "{who} has nothing left");
    }
}
