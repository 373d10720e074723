//! firebox's loader beside the crate dataloader-rs: 10,000 pictures of 3×32×32 into candle tensors.
//!
//!     cargo run --release              # nine starts with each allocator setting, some minutes
//!     cargo run --release -- 3         # three
//!
//! Each start is a process of its own, in which epochs of all contestants take turns. It prints a table for
//! `benches/README.md`; `benches/peers/README.md` says what is equal.

mod measure;
mod ours;
mod peer;
mod samples;

use std::process::Command;

use measure::{Measured, Result, measure, median};
use samples::{Borrowed, Made};

const WORKERS: [usize; 3] = [0, 1, 2];

/// The allocator's settings: as they come, and as dataloader-rs' own benchmarks set them, for its best.
const ALLOCATORS: [(&str, Option<&str>); 2] = [
    ("default", None),
    ("pinned", Some("glibc.malloc.trim_threshold=67108864:glibc.malloc.mmap_threshold=33554432")),
];

/// The kinds of samples, by name.
const SAMPLES: [&str; 2] = ["made", "borrowed"];

/// One start: a line for each kind of samples and each number of workers.
fn start() -> Result<()> {
    for workers in WORKERS {
        println!("{}", measure::<Made>(workers)?.line());
    }
    for workers in WORKERS {
        println!("{}", measure::<Borrowed>(workers)?.line());
    }
    Ok(())
}

/// Has a process of its own make a start.
fn begin(tunables: Option<&str>) -> Result<Vec<Measured>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("start").env_remove("GLIBC_TUNABLES");
    if let Some(tunables) = tunables {
        command.env("GLIBC_TUNABLES", tunables);
    }
    let output = command.output()?;
    let lines: Option<Vec<_>> = String::from_utf8(output.stdout)?.lines().map(Measured::parse).collect();
    match lines {
        Some(lines) if output.status.success() && lines.len() == SAMPLES.len() * WORKERS.len() => Ok(lines),
        _ => Err(format!("a start failed: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// The results of the starts, in the columns of the table: medians, and from where to where they go.
fn row(starts: &[Measured]) -> String {
    let of = |figure: fn(&Measured) -> f64| -> Vec<f64> { starts.iter().map(figure).collect() };
    let range = |figure: fn(&Measured) -> f64, digits: usize| {
        let all = of(figure);
        let least = all.iter().copied().fold(f64::MAX, f64::min);
        let most = all.iter().copied().fold(0.0, f64::max);
        format!("{:.digits$} ({least:.digits$} to {most:.digits$})", median(all))
    };
    format!(
        "{} | {} | {} | {} | {} | {:.2}, {:.2} | {}",
        range(|one| one.rates[0], 0),
        range(|one| one.rates[1], 0),
        range(|one| one.rates[2], 0),
        range(|one| one.ratios[0], 2),
        range(|one| one.ratios[1], 2),
        median(of(|one| one.first[0])),
        median(of(|one| one.first[1])),
        median(of(|one| one.depth)),
    )
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(1).collect()
}

fn main() -> Result<()> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("start") {
        return start();
    }
    let starts: usize = argument.map_or(Ok(9), |starts| starts.parse())?;
    println!("load of the machine before: {}", load());
    let columns = [
        "samples",
        "allocator",
        "workers",
        "firebox, memory lent",
        "firebox, memory given away",
        "dataloader-rs",
        "lent / peer's",
        "given away / peer's",
        "first batch, ms: firebox, peer",
        "the peer's depth",
    ];
    println!("| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for (allocator, tunables) in ALLOCATORS {
        let measured: Vec<_> = (0..starts).map(|_| begin(tunables)).collect::<Result<_>>()?;
        let rows = SAMPLES.iter().flat_map(|samples| WORKERS.map(|workers| (samples, workers)));
        for (place, (samples, workers)) in rows.enumerate() {
            let starts: Vec<Measured> = measured.iter().map(|start| start[place]).collect();
            println!("| {samples} | {allocator} | {workers} | {} |", row(&starts));
        }
    }
    println!("load of the machine after: {}", load());
    Ok(())
}
