//! Processes that must not outlive the tests: signals, what the kernel counts about them, and the reaper.
//!
//! The reaper is a shell that reads process numbers from a pipe and kills them when the pipe closes: it closes
//! whatever way the test process ends, `kill -9` included.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// Sends a signal by name: `TERM`, `KILL`, `STOP`, `CONT`. False when there is no such process.
pub fn signal(pid: u32, name: &str) -> bool {
    Command::new("bash")
        .args(["-c", &format!("kill -{name} {pid}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|it| it.success())
}

/// Has the reaper kill `pid` when this process ends.
pub fn reap(pid: u32) {
    tell_reaper(&format!("+{pid}"));
}

/// Takes back [`reap`]: the process has ended and its number may be given to another.
pub fn spare(pid: u32) {
    tell_reaper(&format!("-{pid}"));
}

fn tell_reaper(line: &str) {
    static REAPER: OnceLock<Mutex<Child>> = OnceLock::new();
    let reaper = REAPER.get_or_init(|| {
        let script = r#"trap '' INT TERM HUP; pids=' '
            while read -r line; do
                case $line in
                    +*) pids="$pids${line#+} " ;;
                    -*) pids="${pids/ ${line#-} / }" ;;
                esac
            done
            for pid in $pids; do kill -KILL "$pid" 2>/dev/null; done"#;
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Mutex::new(shell.spawn().expect("bash starts"))
    });
    let mut reaper = reaper.lock().expect("nobody panics while writing");
    let pipe = reaper.stdin.as_mut().expect("the pipe was asked for");
    writeln!(pipe, "{line}").expect("the reaper lives as long as we do");
}

/// Waits for a process to end; `None` when it has not after `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let deadline = std::time::Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            return Some(status);
        }
        if std::time::Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// CPU time in seconds that a process (and its ended children) has used, by the kernel's count. Linux only.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces: count fields after it. utime stime cutime cstime are 14 to 17.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11..15)?.iter().filter_map(|it| it.parse::<u64>().ok()).sum();
    Some(ticks as f64 / 100.0)
}

/// Peak resident memory of a process in bytes (`VmHWM`). Linux only.
pub fn peak_rss_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
