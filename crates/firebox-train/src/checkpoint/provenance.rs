//! Which program on which machine made a checkpoint.

use std::fs::{self, File};
use std::io;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The program and the machine that the bits of a run depend on.
///
/// A run that goes on elsewhere may differ in the last
/// bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Provenance {
    firebox: String,
    burn: String,
    /// The SHA-256 of the program, or [`UNKNOWN`].
    build: String,
    /// The CPU's name.
    cpu: String,
    /// The vector instructions that the kernels use.
    instructions: String,
    /// The kernels of firebox are on.
    kernels: bool,
}

impl Provenance {
    /// This program here.
    pub(crate) fn here() -> Self {
        Provenance {
            firebox: env!("CARGO_PKG_VERSION").to_owned(),
            burn: BURN.to_owned(),
            build: build().to_owned(),
            cpu: cpu(),
            instructions: format!("{:?}", firebox_kernels::machine::instructions()),
            kernels: firebox_kernels::enabled(),
        }
    }

    /// In what another one differs, in words; nothing if it doesn't. A program that is not known is not known
    /// to be the same.
    pub(crate) fn differences(&self, other: &Provenance) -> Vec<String> {
        let build = |origin: &Provenance| origin.build.chars().take(12).collect::<String>();
        let kernels = |origin: &Provenance| if origin.kernels { "on" } else { "off" }.to_owned();
        [
            ("firebox", self.firebox.clone(), other.firebox.clone()),
            ("Burn", self.burn.clone(), other.burn.clone()),
            ("build", build(self), build(other)),
            ("CPU", self.cpu.clone(), other.cpu.clone()),
            ("instructions", self.instructions.clone(), other.instructions.clone()),
            ("kernels", kernels(self), kernels(other)),
        ]
        .into_iter()
        .filter(|(_, own, other)| own != other || own == UNKNOWN)
        .map(|(what, own, other)| format!("{what} {own}, now {other}"))
        .collect()
    }
}

/// The version that the workspace pins. Burn has no constant of its own for it; a test compares it with
/// `Cargo.lock`.
const BURN: &str = "0.22.1";

const UNKNOWN: &str = "unknown";

/// The program that runs, whatever has been put in its file's place since it began: elsewhere than on Linux,
/// where the kernel knows, that is the file of its name.
fn program() -> io::Result<File> {
    match cfg!(target_os = "linux") {
        true => File::open("/proc/self/exe"),
        false => File::open(std::env::current_exe()?),
    }
}

/// The program's hash, computed once.
fn build() -> &'static str {
    static BUILD: OnceLock<String> = OnceLock::new();
    BUILD.get_or_init(|| {
        let hash = || -> io::Result<String> {
            let mut hasher = Sha256::new();
            io::copy(&mut program()?, &mut hasher)?;
            Ok(hex(&hasher.finalize()))
        };
        hash().unwrap_or_else(|_| UNKNOWN.to_owned())
    })
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or(std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_program_differs_from_itself() {
        let here = Provenance::here();
        assert_eq!(here.differences(&here), Vec::<String>::new());
        let unknown = Provenance { build: UNKNOWN.to_owned(), ..here.clone() };
        assert_eq!(unknown.differences(&unknown), ["build unknown, now unknown"]);
        assert_eq!(unknown.differences(&here), [format!("build unknown, now {}", &here.build[..12])]);
    }
}
