//! The layers of a module that normalize by their batch.

use burn::module::{Flag, Module, ModuleVisitor, Param};

/// The paths of a module's layers that would normalize by their batch in training.
///
/// They are [`BatchNorm2d`](crate::layers::BatchNorm2d) and Burn's `BatchNorm`, and only those that are not
/// frozen, in the module's order. A module that is one itself has the path "". A batch of one sample may have
/// a single value per channel, which has no variance: who trains a model with such layers leaves a last batch
/// of one out.
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::layers::{LinearConfig, batch_norms};
/// use firebox_models::vision::CnnConfig;
///
/// let device = Device::default();
/// assert_eq!(batch_norms(&CnnConfig::new(10).init(&device)?), ["conv1.bn", "conv2.bn"]);
/// assert!(batch_norms(&LinearConfig::new(3, 4).init(&device)?).is_empty());
/// # Ok::<(), firebox_models::Error>(())
/// ```
pub fn batch_norms<M: Module>(module: &M) -> Vec<String> {
    let mut search = Search::default();
    module.visit(&mut search);
    search.found
}

#[derive(Default)]
struct Search {
    path: Vec<String>,
    /// The types of the modules on the way.
    containers: Vec<String>,
    found: Vec<String>,
}

impl ModuleVisitor for Search {
    fn visit_flag(&mut self, flag: &Param<Flag>) {
        let normalises = self.containers.last().is_some_and(|container| {
            let name = container.strip_prefix("Struct:").unwrap_or(container);
            name == "BatchNorm2d" || name == "BatchNorm"
        });
        // The flag's own name is the last of the path.
        if let ([path @ .., _], true) = (&self.path[..], normalises && flag.is_enabled()) {
            self.found.push(path.join("."));
        }
    }

    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
        self.containers.pop();
    }
}
