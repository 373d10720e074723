//! Parameters that stand in several places of a module.

use std::any::Any;
use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Bool, Int, Tensor, TensorData};

use super::paths::{self, PathVisitor};

/// The places of a module that hold one parameter: tied weights.
///
/// A clone of a [`Param`] is the same parameter, with the same identifier, as in PyTorch a tensor that is
/// assigned to two modules is the same tensor: `model.fc.weight = model.embedding.weight.clone()` ties them.
/// But Burn's optimizers, mappers and moves between devices treat each place alone, and leave the others
/// behind. [`retie`](Self::retie) puts them together again; a `Learner` of `firebox-train` does that by
/// itself.
///
/// A module that stands in two places has its parameters tied. Its buffers, such as running means, are each
/// place's own. So is a clone that is frozen where another place is trained, such as the teacher that a model
/// is compared with: one tensor is either trained or not. (On a device without autodiff nothing is.)
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use firebox_weights::{StateDict, Ties};
///
/// #[derive(Module, Debug)]
/// struct Autoencoder {
///     encode: Linear,
///     decode: Linear,
/// }
///
/// let layer = || LinearConfig::new(16, 16).init(&Device::default());
/// let mut model = Autoencoder { encode: layer(), decode: layer() };
/// model.decode.weight = model.encode.weight.clone();
/// let ties = Ties::of(&model);
/// assert_eq!(ties.groups().collect::<Vec<_>>(), [["encode.weight", "decode.weight"]]);
///
/// // A file needs only one of the names, and what it has for both must be equal.
/// let weights = StateDict::of(&model);
/// let model = ties.retie(weights.apply(model)?);
/// assert_eq!(ties.num_params(&model), model.num_params() - 16 * 16);
/// # Ok::<(), firebox_weights::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Ties {
    /// In the order of their first places.
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    id: ParamId,
    /// At least two, in the module's order.
    paths: Vec<String>,
    /// Elements of a float parameter; of others, which [`Module::num_params`] doesn't count, 0.
    elements: usize,
}

impl Ties {
    /// The parameters of `module` that stand in several places; nothing is read from the device.
    pub fn of<M: Module>(module: &M) -> Self {
        let groups = Collect::of(module).into_iter().filter(|group| group.paths.len() > 1);
        Ties { groups: groups.collect() }
    }

    /// The module with an identifier for each parameter that differs, and its ties.
    ///
    /// Two places with one identifier and different numbers are no longer one parameter, such as a layer that
    /// was cloned and then changed, or of which one is frozen and the other trained. The later one gets an
    /// identifier of its own, so that each is trained by its own gradient, or not at all. Nothing is looked
    /// at on a device without autodiff. If an identifier stands in several places, their numbers are read
    /// from the device.
    pub fn settled<M: Module>(module: M) -> (M, Self) {
        let mut places: HashMap<ParamId, usize> = HashMap::new();
        for group in Collect::of(&module) {
            *places.entry(group.id).or_default() += group.paths.len();
        }
        let shared = places.into_iter().filter(|(_, places)| *places > 1);
        let mut settle = Settle { known: shared.map(|(id, _)| (id, Vec::new())).collect() };
        if settle.known.is_empty() {
            return (module, Ties::default());
        }
        let module = module.map(&mut settle);
        let ties = Self::of(&module);
        (ties.retie(module), ties)
    }

    /// True if each parameter stands in one place only.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The paths of each parameter that stands in several places, in the module's order.
    pub fn groups(&self) -> impl Iterator<Item = &[String]> {
        self.groups.iter().map(|group| group.paths.as_slice())
    }

    /// The module with the first place's tensor in all places of each tie.
    ///
    /// It is the same bit for bit, and one node of the graph of gradients.
    /// Only float parameters that are trained are touched: the others don't move. To be called after whatever
    /// treats the places one by one: a step of an optimizer, a move to another device, [`Module::train`].
    pub fn retie<M: Module>(&self, module: M) -> M {
        if self.is_empty() {
            return module;
        }
        module.map(&mut Retie { firsts: self.groups.iter().map(|group| (group.id, None)).collect() })
    }

    /// [`Module::num_params`] with tied parameters counted once, as PyTorch's `parameters()` has it.
    pub fn num_params<M: Module>(&self, module: &M) -> usize {
        let again: usize = self.groups.iter().map(|group| (group.paths.len() - 1) * group.elements).sum();
        module.num_params().saturating_sub(again)
    }
}

#[derive(Default)]
struct Collect {
    groups: Vec<Group>,
    /// The group of an identifier, apart for places that are frozen.
    place: HashMap<(ParamId, bool), usize>,
}

impl Collect {
    /// Each parameter of a module, also one that stands in one place.
    fn of<M: Module>(module: &M) -> Vec<Group> {
        let mut collect = Collect::default();
        paths::visit(module, &mut collect);
        collect.groups
    }

    fn add(&mut self, path: &str, id: ParamId, frozen: bool, elements: usize) {
        let path = path.to_owned();
        let place = *self.place.entry((id, frozen)).or_insert(self.groups.len());
        match self.groups.get_mut(place) {
            Some(group) => group.paths.push(path),
            None => self.groups.push(Group { id, paths: vec![path], elements }),
        }
    }
}

impl PathVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        self.add(path, param.id, is_frozen(param), param.lazy_shape().num_elements());
    }

    fn visit_int<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D, Int>>) {
        self.add(path, param.id, false, 0);
    }

    fn visit_bool<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D, Bool>>) {
        self.add(path, param.id, false, 0);
    }
}

/// True if an optimizer would move a parameter.
///
/// One that was never used has one value for all its clones, which nobody need make.
fn is_trained<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    param.is_initialized() && param.is_require_grad()
}

/// True if no optimizer would move a parameter that could be trained where it is.
fn is_frozen<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    param.is_initialized() && param.device().is_autodiff() && !param.is_tracked()
}

struct Settle {
    known: HashMap<ParamId, Vec<Known>>,
}

/// The numbers that a place of an identifier had.
struct Known {
    data: TensorData,
    frozen: bool,
    /// The identifier that is to be.
    id: ParamId,
}

impl ModuleMapper for Settle {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let frozen = is_frozen(&param);
        let known = self.known.get_mut(&param.id).filter(|_| frozen || is_trained(&param));
        let Some(known) = known else { return param };
        let (id, tensor, mapper) = param.consume();
        let data = tensor.to_data();
        // By bytes: NaN in two places is the same, too.
        let id = match known.iter().find(|other| other.frozen == frozen && other.data == data) {
            Some(known) => known.id,
            None => {
                let id = if known.is_empty() { id } else { ParamId::new() };
                known.push(Known { data, frozen, id });
                id
            }
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

struct Retie {
    /// The first place of each, a `Param<Tensor<D>>`, once it was met.
    firsts: HashMap<ParamId, Option<Box<dyn Any>>>,
}

impl ModuleMapper for Retie {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(first) = self.firsts.get_mut(&param.id) else { return param };
        match first {
            Some(first) if !is_frozen(&param) => first.downcast_ref().cloned().unwrap_or(param),
            Some(_) => param,
            None => {
                if is_trained(&param) {
                    *first = Some(Box::new(param.clone()));
                }
                param
            }
        }
    }
}
