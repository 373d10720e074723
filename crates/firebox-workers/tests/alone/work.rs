//! Tasks that take their time, and workers that end themselves.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A folder that is removed at its end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("firebox-alone-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A step of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) number: u64,
    pub(crate) time: Duration,
    /// Where a worker finds that it is to end.
    pub(crate) folder: PathBuf,
}

/// A stream of random numbers.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }
}

/// The result of a step: as many numbers as make it worth to look at.
pub(crate) fn result_of(number: u64) -> Vec<u64> {
    let mut random = Random(number);
    (0..number % 97).map(|_| random.next()).collect()
}

/// Where a worker says that it is not to be killed just now.
pub(crate) fn spared(folder: &Path, pid: u32) -> PathBuf {
    folder.join(format!("spared-{pid}"))
}

/// A step in a worker, which ends itself if somebody has asked for it.
///
/// A step with which two workers have died is not to be hit a third time: of hundreds that are killed at
/// random, three would have the same step now and then, which would be given up, and rightly so.
pub(crate) fn step(step: Step) -> Vec<u64> {
    let own = step.folder.join(std::process::id().to_string());
    let begins = step.folder.join(format!("step-{}", step.number));
    let is_spared = {
        let mut begins = fs::File::options().create(true).append(true).open(&begins).unwrap();
        begins.write_all(b"x").unwrap();
        begins.metadata().unwrap().len() > 2
    };
    let spared = spared(&step.folder, std::process::id());
    if is_spared {
        fs::write(&spared, "").unwrap();
    }
    let begun = Instant::now();
    loop {
        match fs::read_to_string(&own).as_deref() {
            Ok("exit") if !is_spared => std::process::exit(0),
            Ok("memory") if !is_spared => drop(std::hint::black_box(vec![1_u8; 1 << 30])),
            _ => {}
        }
        if begun.elapsed() >= step.time {
            break;
        }
        std::thread::sleep(Duration::from_millis(1).min(step.time));
    }
    fs::remove_file(begins).unwrap();
    if is_spared {
        fs::remove_file(spared).unwrap();
    }
    result_of(step.number)
}

/// Steps of at most ten milliseconds.
pub(crate) fn steps(count: u64, folder: &Path) -> Vec<Step> {
    let time = |number| Duration::from_micros(Random(number).next() % 10_000);
    (0..count).map(|number| Step { number, time: time(number), folder: folder.to_owned() }).collect()
}
