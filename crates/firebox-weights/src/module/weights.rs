//! Weights of a module from and to files.

use std::path::Path;

use burn::module::Module;

use crate::error::Error;
use crate::state_dict::StateDict;

/// Loading and saving for every module.
///
/// [`StateDict`] has the steps in between, for weights under other names. The file's names, shapes and layout
/// must be the module's. Those of firebox's blocks are PyTorch's, and so are those of Burn's convolutions;
/// but Burn's own `Linear` keeps its weight transposed, its normalizations call theirs `gamma` and `beta`,
/// and its recurrent layers keep gates apart: a module with these has no counterpart in PyTorch.
///
/// ```
/// use burn::nn::conv::Conv2dConfig;
/// use burn::tensor::Device;
/// use firebox_weights::Weights;
///
/// # let folder = std::env::temp_dir().join(format!("firebox-weights-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("conv.safetensors");
/// let conv = Conv2dConfig::new([3, 8], [3, 3]).init(&Device::default());
/// conv.save_safetensors(&path)?;
/// let conv = conv.load_safetensors(&path)?;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Weights: Module {
    /// The module with the weights of a PyTorch file, which must be exactly its own.
    ///
    /// # Errors
    /// Those of [`StateDict::read_pytorch`] and [`StateDict::apply`], with the file's path.
    fn load_pytorch(self, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        StateDict::read_pytorch(path)?.apply(self).map_err(|error| error.at_path(path))
    }

    /// The module with the weights of a safetensors file, which must be exactly its own.
    ///
    /// # Errors
    /// Those of [`StateDict::read`] and [`StateDict::apply`], with the file's path.
    fn load_safetensors(self, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        StateDict::read(path)?.apply(self).map_err(|error| error.at_path(path))
    }

    /// Writes the module's weights as a safetensors file.
    ///
    /// # Errors
    /// Those of [`StateDict::write`].
    fn save_safetensors(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        StateDict::of(self).write(path)
    }
}

impl<M: Module> Weights for M {}
