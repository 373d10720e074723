//! Visitors and mappers of a Burn module that are told each tensor's path.
//!
//! A path is the names on the way to a tensor with dots between them, as PyTorch's `named_parameters` has
//! them: `conv1.bn.weight`. Burn's own visitors are told when they enter and leave a module, and have to keep
//! account of it themselves.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor};

/// A visitor that is told each tensor's path.
///
/// What a visitor has no method for is passed over.
///
/// ```
/// use burn::module::Param;
/// use burn::nn::conv::Conv2dConfig;
/// use burn::tensor::{Device, Tensor};
/// use firebox_weights::paths::{self, PathVisitor};
///
/// struct Elements(Vec<(String, usize)>);
///
/// impl PathVisitor for Elements {
///     fn visit_float<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
///         self.0.push((path.to_owned(), param.lazy_shape().num_elements()));
///     }
/// }
///
/// let conv = Conv2dConfig::new([3, 8], [3, 3]).init(&Device::default());
/// let mut elements = Elements(Vec::new());
/// paths::visit(&conv, &mut elements);
/// assert_eq!(elements.0, [("weight".to_owned(), 216), ("bias".to_owned(), 8)]);
/// ```
pub trait PathVisitor {
    /// Looks at a tensor of floats.
    fn visit_float<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let _ = (path, param);
    }

    /// Looks at a tensor of integers.
    fn visit_int<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D, Int>>) {
        let _ = (path, param);
    }

    /// Looks at a tensor of bools.
    fn visit_bool<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D, Bool>>) {
        let _ = (path, param);
    }
}

/// A mapper that is told each tensor's path.
///
/// What a mapper has no method for stays as it is.
///
/// ```
/// use burn::module::Param;
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use firebox_weights::paths::{self, PathMapper};
///
/// struct FreezeBiases;
///
/// impl PathMapper for FreezeBiases {
///     fn map_float<const D: usize>(&mut self, path: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
///         if path.ends_with("bias") { param.set_require_grad(false) } else { param }
///     }
/// }
///
/// let linear = LinearConfig::new(2, 3).init(&Device::default().autodiff());
/// let linear = paths::map(linear, &mut FreezeBiases);
/// assert!(linear.weight.is_require_grad() && !linear.bias.unwrap().is_require_grad());
/// ```
pub trait PathMapper {
    /// Replaces a tensor of floats.
    fn map_float<const D: usize>(&mut self, path: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let _ = path;
        param
    }

    /// Replaces a tensor of integers.
    fn map_int<const D: usize>(&mut self, path: &str, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        let _ = path;
        param
    }

    /// Replaces a tensor of bools.
    fn map_bool<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        let _ = path;
        param
    }
}

/// Shows `visitor` all tensors of a module, in the module's order.
pub fn visit<M: Module, V: PathVisitor>(module: &M, visitor: &mut V) {
    module.visit(&mut WithPath { path: Path::default(), inner: visitor });
}

/// The module with what `mapper` makes of its tensors, in the module's order.
pub fn map<M: Module, F: PathMapper>(module: M, mapper: &mut F) -> M {
    module.map(&mut WithPath { path: Path::default(), inner: mapper })
}

/// The way to where a visitor is.
#[derive(Default)]
struct Path {
    text: String,
    /// The text's length before each of its names.
    lengths: Vec<usize>,
}

impl Path {
    fn enter(&mut self, name: &str) {
        self.lengths.push(self.text.len());
        if self.lengths.len() > 1 {
            self.text.push('.');
        }
        self.text.push_str(name);
    }

    fn exit(&mut self) {
        self.text.truncate(self.lengths.pop().unwrap_or(0));
    }
}

struct WithPath<'i, I> {
    path: Path,
    inner: &'i mut I,
}

impl<V: PathVisitor> ModuleVisitor for WithPath<'_, V> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.inner.visit_float(&self.path.text, param);
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.inner.visit_int(&self.path.text, param);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.inner.visit_bool(&self.path.text, param);
    }
}

impl<F: PathMapper> ModuleMapper for WithPath<'_, F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.inner.map_float(&self.path.text, param)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        self.inner.map_int(&self.path.text, param)
    }

    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        self.inner.map_bool(&self.path.text, param)
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn a_path_is_its_names_with_dots_between() {
        let mut path = Path::default();
        path.enter("");
        path.enter("a");
        assert_eq!(path.text, ".a", "a name may be empty");
        path.exit();
        path.exit();
        path.enter("conv1");
        path.enter("bn");
        assert_eq!(path.text, "conv1.bn");
        path.exit();
        path.enter("weight");
        assert_eq!(path.text, "conv1.weight");
    }
}
