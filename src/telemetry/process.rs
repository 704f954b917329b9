//! What the kernel says of this process: CPU time, memory, files. Linux only; elsewhere nothing is known.

use std::fs;

/// What is known of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// User and system time so far.
    pub cpu_seconds: Option<f64>,
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// The most that was ever resident.
    pub resident_peak_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_files: Option<usize>,
}

/// Ticks of `/proc/self/stat` per second: fixed by the kernel's interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Asks the kernel.
pub fn look() -> Process {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    Process {
        cpu_seconds: cpu_seconds(&stat),
        resident_bytes: status_bytes(&status, "VmRSS:"),
        resident_peak_bytes: status_bytes(&status, "VmHWM:"),
        open_files: fs::read_dir("/proc/self/fd").ok().map(Iterator::count),
    }
}

/// Fields 14 and 15; the second field, the name in parentheses, may hold blanks itself.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_whatever_the_process_is_called() {
        let stat = "7 (long) shore 1) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345 1 2";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(status_bytes("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n", "VmRSS:"), Some(1_048_576));
        assert_eq!((cpu_seconds(""), status_bytes("", "VmRSS:")), (None, None));
    }
}
