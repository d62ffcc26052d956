//! What is measured on, in one line, and what processes take of it.

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::system::uname;
use std::path::Path;
use std::time::Duration;

/// Processors, memory, kernel, the folder's file system, and how much the machine has to do.
pub(super) fn describe(folder: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo").and_then(|text| field(&text, "MemTotal:")).unwrap_or(0);
    let model = read("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let kernel = uname();
    let load = read("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    format!(
        "{cores} cores ({}), {} GiB, {} {}, {}; load before: {load}",
        model.as_deref().unwrap_or("unknown"),
        memory >> 20,
        kernel.sysname().to_string_lossy(),
        kernel.release().to_string_lossy(),
        file_system(folder).as_deref().unwrap_or("unknown file system"),
    )
}

/// The type of the file system that a folder is on: of the mount point that is most of its path.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = read("/proc/self/mounts")?;
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    let holding = mounts.lines().filter_map(mount).filter(|(point, _)| folder.starts_with(point));
    holding.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind)
}

/// Memory that a process holds, in bytes.
pub(super) fn resident(pid: u32) -> Option<u64> {
    let statm = read(&format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

/// Time on a processor that a process has had, in user and in system mode (proc(5)).
pub(super) fn processor_time(pid: u32) -> Option<Duration> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The command's name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_has_had_time() {
        let me = std::process::id();
        assert!(resident(me).unwrap() > 100_000);
        let before = processor_time(me).unwrap();
        while processor_time(me).unwrap() == before {
            std::hint::black_box((0..100_000u64).sum::<u64>());
        }
    }

    #[test]
    fn a_folder_is_on_a_file_system() {
        assert_eq!(file_system(Path::new("/proc")).as_deref(), Some("proc"));
    }
}
