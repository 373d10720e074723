//! Which backend computes: those of this build, on the devices of this machine.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::error::{Error, ErrorKind};

/// A backend by name. Which ones a build has is decided by the cargo features of the same names.
///
/// ```
/// use firebox_train::Backend;
///
/// // As a command line has it.
/// let backend: Backend = "flex".parse()?;
/// assert!(Backend::available().any(|other| other == backend));
/// let device = backend.device()?;
/// # let _ = device;
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// Pure Rust on the CPU; the default.
    Flex,
    /// `ndarray` on the CPU.
    NdArray,
    /// Vulkan, Metal, DX12 or WebGPU through wgpu.
    Wgpu,
    /// NVIDIA's CUDA.
    Cuda,
}

impl Backend {
    const ALL: [Backend; 4] = [Backend::Flex, Backend::NdArray, Backend::Wgpu, Backend::Cuda];

    /// The backends of this build.
    pub fn available() -> impl Iterator<Item = Backend> {
        Self::ALL.into_iter().filter(|backend| match backend {
            Backend::Flex => cfg!(feature = "flex"),
            Backend::NdArray => cfg!(feature = "ndarray"),
            Backend::Wgpu => cfg!(feature = "wgpu"),
            Backend::Cuda => cfg!(feature = "cuda"),
        })
    }

    /// The backend's name, as [`FromStr`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Flex => "flex",
            Backend::NdArray => "ndarray",
            Backend::Wgpu => "wgpu",
            Backend::Cuda => "cuda",
        }
    }

    /// The backend's first device, without autodiff.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] if this build lacks the backend, or this machine a device for it. The
    /// devices are counted before one is opened: opening one that isn't there would panic.
    pub fn device(self) -> Result<Device, Error> {
        match self {
            #[cfg(feature = "flex")]
            Backend::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated, reason = "upstream prefers flex; users name ndarray all the same")]
            Backend::NdArray => Ok(Device::ndarray()),
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => {
                self.first(burn::tensor::DeviceType::Wgpu)?;
                Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice))
            }
            #[cfg(feature = "cuda")]
            Backend::Cuda => self.first(burn::tensor::DeviceType::Cuda),
            #[allow(unreachable_patterns, reason = "a build with all features has all backends")]
            _ => {
                let text = format!("this build has no backend {self}: it has {}", names(Self::available()));
                Err(Error::new(ErrorKind::Backend, text))
            }
        }
    }

    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    fn first(self, kind: burn::tensor::DeviceType) -> Result<Device, Error> {
        // A missing driver library is a panic in some backends: here it is one more way to have no device.
        let devices = std::panic::catch_unwind(|| Device::enumerate(kind).into_vec()).unwrap_or_default();
        devices.into_iter().next().ok_or_else(|| {
            let others = Self::available().filter(|other| matches!(other, Backend::Flex | Backend::NdArray));
            let text =
                format!("backend {self}: this machine has no device for it; without one: {}", names(others));
            Error::new(ErrorKind::Backend, text)
        })
    }
}

fn names(backends: impl Iterator<Item = Backend>) -> String {
    match backends.map(Backend::name).collect::<Vec<_>>() {
        names if names.is_empty() => "none".to_owned(),
        names => names.join(", "),
    }
}

impl FromStr for Backend {
    type Err = Error;

    /// Any backend's name, also of one that this build lacks: [`device`](Backend::device) tells.
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|backend| backend.name() == name).ok_or_else(|| {
            let text = format!("no backend {name}: this build has {}", names(Self::available()));
            Error::new(ErrorKind::Backend, text)
        })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
