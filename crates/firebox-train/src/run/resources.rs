//! The resources that a run took from the machine.

/// The most memory that this process has held at once, in bytes.
///
/// It is physical memory; `None` where the system doesn't tell (elsewhere than on Linux).
///
/// ```
/// if let Some(bytes) = firebox_train::run::peak_rss_bytes() {
///     assert!(bytes > 1 << 20);
/// }
/// ```
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
