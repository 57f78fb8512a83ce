//! The memory of this process, and the limit of its control group. Reads the files of the kernel, and knows no metric.

use std::fs;
use std::path::{Path, PathBuf};

/// The resident memory of this process in bytes, if the kernel reports it.
pub(super) fn resident() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The limit of the control group in bytes, if there is one.
pub(super) fn limit() -> Option<i64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    files(&groups).iter().find_map(|file| fs::read_to_string(file).ok()).and_then(|text| parse_limit(&text))
}

/// The files that may have the limit, the most specific first. In a container, the control group of the container is
/// mounted at the top, whatever its path.
fn files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (top, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        files.push(Path::new(top).join(path.trim_start_matches('/')).join(name));
        files.push(Path::new(top).join(name));
    }
    files
}

/// Version 2 writes `max` without a limit, and version 1 writes a number that no machine has.
fn parse_limit(text: &str) -> Option<i64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_some_memory() {
        assert!(resident().unwrap() > 1 << 20);
    }

    #[test]
    fn both_versions_of_control_groups_have_a_limit() {
        let names = |groups| files(groups).iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            names("0::/system.slice/board.service\n"),
            ["/sys/fs/cgroup/system.slice/board.service/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        assert_eq!(
            names("5:cpu,cpuacct:/a\n4:memory:/b\n"),
            ["/sys/fs/cgroup/memory/b/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        for (text, limit) in [("268435456\n", Some(268_435_456)), ("max\n", None), ("9223372036854771712\n", None)] {
            assert_eq!(parse_limit(text), limit, "{text}");
        }
    }
}
