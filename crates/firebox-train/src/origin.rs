//! Which program on which machine made a checkpoint.

use std::fs::{self, File};
use std::io;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the bits of a run depend on besides its settings. A run that goes on elsewhere may differ in the last bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    firebox: String,
    burn: String,
    /// The SHA-256 of the program.
    build: String,
    /// The CPU's name.
    cpu: String,
    /// The vector instructions that the kernels use.
    instructions: String,
    /// Whether the kernels of firebox are on.
    kernels: bool,
}

impl Origin {
    /// This program here.
    pub(crate) fn here() -> Self {
        Origin {
            firebox: env!("CARGO_PKG_VERSION").to_owned(),
            burn: BURN.to_owned(),
            build: build().to_owned(),
            cpu: cpu(),
            instructions: format!("{:?}", firebox_kernels::instructions()),
            kernels: firebox_kernels::enabled(),
        }
    }

    /// In what another one differs, in words; nothing if it doesn't.
    pub(crate) fn differences(&self, other: &Origin) -> Vec<String> {
        let build = |origin: &Origin| origin.build.chars().take(12).collect::<String>();
        let kernels = |origin: &Origin| if origin.kernels { "on" } else { "off" }.to_owned();
        [
            ("firebox", self.firebox.clone(), other.firebox.clone()),
            ("Burn", self.burn.clone(), other.burn.clone()),
            ("build", build(self), build(other)),
            ("CPU", self.cpu.clone(), other.cpu.clone()),
            ("instructions", self.instructions.clone(), other.instructions.clone()),
            ("kernels", kernels(self), kernels(other)),
        ]
        .into_iter()
        .filter(|(_, own, other)| own != other)
        .map(|(what, own, other)| format!("{what} {own}, now {other}"))
        .collect()
    }
}

/// The version that the workspace pins.
const BURN: &str = "0.22.1";

/// The program's hash, computed once.
fn build() -> &'static str {
    static BUILD: OnceLock<String> = OnceLock::new();
    BUILD.get_or_init(|| {
        let hash = || -> io::Result<String> {
            let mut hasher = Sha256::new();
            io::copy(&mut File::open(std::env::current_exe()?)?, &mut hasher)?;
            Ok(hex(&hasher.finalize()))
        };
        hash().unwrap_or_else(|_| "unknown".to_owned())
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
