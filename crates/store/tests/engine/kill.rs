//! A process that commits is killed at any moment: what it was told to be durable is there.

use super::{check_whole, commit, open, small};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use store::Store;
use store::conformance::partition;
use types::UnixMillis;

const CHILD: &str = "CASTLING_STORE_TEST_FOLDER";
const ROUNDS: u64 = 10;
const MINUTE_MS: i64 = 60_000;

/// Not a test by itself: the process that is killed.
#[test]
fn child_commits_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let store = open(Path::new(&folder), small());
    let keys = [partition(1), partition(2), partition(3)];
    keys.iter().for_each(|key| store.set_retention(*key, 1));
    let last = |key| {
        store
            .log_bounds(key)
            .expect("whole")
            .map_or(0, |bounds| bounds.last_lsn.0)
    };
    let mut next = keys.map(|key| last(key) + 1);
    let mut out = std::io::stdout();
    loop {
        // One, two or three partitions at once.
        let count = 1 + (next[0] % 3) as usize;
        store
            .commit((0..count).map(|at| commit(keys[at], next[at])).collect())
            .expect("committed");
        let acked: String = (0..count)
            .map(|at| format!("acked {at} {}\n", next[at]))
            .collect();
        out.write_all(acked.as_bytes()).expect("the parent listens");
        next[..count].iter_mut().for_each(|lsn| *lsn += 1);
        if next[0] % 64 == 0 {
            store
                .trim(UnixMillis(next[0] as i64 * MINUTE_MS))
                .expect("trimmed");
        }
    }
}

#[test]
fn everything_acknowledged_is_there_after_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let seed = RandomState::new().build_hasher().finish();
    println!("delays come from {seed}");
    let mut acked = [0u64; 3];
    for round in 0..ROUNDS {
        let delay = Duration::from_millis(50 + seed.rotate_left(round as u32 * 7) % 450);
        let before = acked;
        run_and_kill(folder.path(), delay, &mut acked);
        let store = open(folder.path(), small());
        for (at, acked) in acked.iter_mut().enumerate() {
            let last = check_whole(&store, partition(at as u16 + 1));
            assert!(
                last >= *acked,
                "round {round}: {acked} was acknowledged, the log ends at {last}"
            );
            assert!(
                last <= *acked + 1,
                "round {round}: at most the commit under way is there besides"
            );
            *acked = last;
        }
        assert!(
            acked[0] > before[0],
            "round {round}: the child got to commit"
        );
    }
}

/// Runs the child until `delay` after its first acknowledgement and notes everything it acknowledged.
fn run_and_kill(folder: &Path, delay: Duration, acked: &mut [u64; 3]) {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "kill::child_commits_until_it_is_killed",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).split(b'\n');
    let mut note = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        let mut words = line
            .rsplit("acked ")
            .next()
            .filter(|_| line.contains("acked "))
            .into_iter()
            .flat_map(str::split_whitespace);
        let at: Option<usize> = words.next().and_then(|word| word.parse().ok());
        let lsn: Option<u64> = words.next().and_then(|word| word.parse().ok());
        match (at, lsn) {
            (Some(at), Some(lsn)) => {
                acked[at] = lsn;
                true
            }
            _ => false,
        }
    };
    let first = lines
        .by_ref()
        .find(|line| note(line.as_ref().expect("the pipe is readable")));
    assert!(first.is_some(), "the child ended by itself");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(delay);
            child.kill().expect("SIGKILL");
        });
        for line in lines {
            note(&line.expect("the pipe is readable"));
        }
    });
    child.wait().expect("reaped");
}
