//! What the server's process costs, from the system's own books.

use std::path::PathBuf;

/// Processor time and memory of a process.
pub struct Process(PathBuf);

impl Process {
    pub fn new(pid: u32) -> Process {
        Process(PathBuf::from(format!("/proc/{pid}")))
    }

    /// Processor seconds used so far, of all its threads, in the kernel too; `None` when it cannot be read.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(self.0.join("stat")).ok()?;
        // The name may hold blanks and parentheses: fields are counted from its end.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Resident bytes that are its own, without the pages of files.
    pub fn memory_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(self.0.join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_has_figures() {
        let own = Process::new(std::process::id());
        assert!(own.cpu_seconds().is_some());
        assert!(own.memory_bytes().unwrap() > 4096);
        assert!(Process::new(u32::MAX).cpu_seconds().is_none());
    }
}
