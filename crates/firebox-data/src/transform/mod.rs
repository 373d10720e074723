//! Stages between an item and the slot that it is written into.

pub(crate) mod write;

pub use write::Write;

use std::any::type_name;
use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::BoxError;
use firebox_core::seed::SampleSeed;
use firebox_core::{SampleRng, StageKey};

/// One stage between an item and its slot: it makes something else of the item.
///
/// A closure is one. A type of one's own is one stage for every data set whose items it takes, and for
/// streams:
///
/// ```
/// use firebox_data::{BoxError, Loader, SampleRng, Transform};
/// use firebox_data::collate::Ragged;
/// use firebox_data::formats::Lines;
///
/// /// Leaves letters out, at random.
/// struct LeaveOut {
///     probability: f32,
/// }
///
/// impl Transform<String> for LeaveOut {
///     type Out = String;
///
///     fn apply(&self, text: String, rng: &mut SampleRng) -> Result<String, BoxError> {
///         Ok(text.chars().filter(|_| !rng.chance(self.probability)).collect())
///     }
/// }
///
/// let words = Loader::builder(vec!["fire".to_owned(), "box".to_owned()])
///     .transform(LeaveOut { probability: 0.1 })
///     .build(Ragged::new(Ok), |word, _, slot| Ok(*slot = Some(word)))?;
/// let lines = Loader::stream(Lines::new(["a.txt"]))
///     .transform(LeaveOut { probability: 0.1 })
///     .build(Ragged::new(Ok), |line, _, slot| Ok(*slot = Some(line)))?;
/// # let _: [&Loader<Ragged<String, Vec<String>, _>>; 2] = [&words, &lines];
/// assert_eq!(words.epoch(0).count(), 2);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub trait Transform<In>: Send + Sync + 'static {
    /// The type that it makes of an item.
    type Out;

    /// Makes it. All randomness comes from `rng`, which no other stage draws from.
    ///
    /// # Errors
    /// Whatever stands in the way: it becomes an error of the sample.
    fn apply(&self, item: In, rng: &mut SampleRng) -> Result<Self::Out, BoxError>;

    /// The name that its random numbers follow from, unless [`named`](crate::loader::LoaderBuilder::named)
    /// gives it another.
    ///
    /// As it stands: the type's name without its path, and `map` of a closure.
    fn name(&self) -> Cow<'static, str> {
        short_name(type_name::<Self>()).into()
    }
}

impl<In, Out, F> Transform<In> for F
where
    F: Fn(In, &mut SampleRng) -> Result<Out, BoxError> + Send + Sync + 'static,
{
    type Out = Out;

    fn apply(&self, item: In, rng: &mut SampleRng) -> Result<Out, BoxError> {
        self(item, rng)
    }

    fn name(&self) -> Cow<'static, str> {
        "map".into()
    }
}

/// `Crop` of `vision::Crop<f32>`.
fn short_name(name: &str) -> String {
    let plain = name.split('<').next().unwrap_or(name);
    plain.rsplit("::").next().unwrap_or(plain).to_owned()
}

/// Stages one after the other, as the [builder](crate::loader::LoaderBuilder) puts them together: the empty
/// chain `()`, or a [`Chained stage`](Staged) after another chain.
///
/// Nobody implements it but this crate; it is public because the builder's methods say what an item becomes
/// by it.
pub trait Chain<In>: Send + Sync + 'static + Keyed {
    /// The type that the last stage gives.
    type Out;

    /// Takes an item through all stages. Each has the generator of its key.
    #[doc(hidden)]
    fn run(&self, item: In, seed: SampleSeed) -> Result<Self::Out, StageError>;
}

/// The part of a [`Chain`] that doesn't depend on the items.
pub trait Keyed {
    /// Gives each stage its key, from the last to the first; `counts` has how many there are of each name so
    /// far.
    #[doc(hidden)]
    fn assign(&mut self, counts: &mut HashMap<String, u32>);

    /// Appends the keys, from the first to the last.
    #[doc(hidden)]
    fn keys(&self, keys: &mut Vec<StageKey>);
}

/// The error of a stage of a [`Chain`], with the stage's key.
#[doc(hidden)]
#[derive(Debug)]
pub struct StageError {
    pub(crate) stage: StageKey,
    pub(crate) source: BoxError,
}

impl Keyed for () {
    fn assign(&mut self, _: &mut HashMap<String, u32>) {}

    fn keys(&self, _: &mut Vec<StageKey>) {}
}

impl<In> Chain<In> for () {
    type Out = In;

    #[inline]
    fn run(&self, item: In, _: SampleSeed) -> Result<In, StageError> {
        Ok(item)
    }
}

/// A stage after a chain of others.
#[derive(Debug)]
pub struct Staged<A, T> {
    before: A,
    stage: T,
    name: Cow<'static, str>,
    /// Of the name and the number that [`assign`](Keyed::assign) gave it.
    key: StageKey,
}

impl<A, T> Staged<A, T> {
    pub(crate) fn new(before: A, stage: T, name: Cow<'static, str>) -> Self {
        Staged { before, stage, key: StageKey::new(name.clone(), 0), name }
    }

    /// The same stage by another name.
    pub(crate) fn named(self, name: Cow<'static, str>) -> Self {
        Staged { name, ..self }
    }
}

impl<A: Keyed, T> Keyed for Staged<A, T> {
    fn assign(&mut self, counts: &mut HashMap<String, u32>) {
        let count = counts.entry(self.name.to_string()).or_insert(0);
        self.key = StageKey::new(self.name.clone(), *count);
        *count += 1;
        self.before.assign(counts);
    }

    fn keys(&self, keys: &mut Vec<StageKey>) {
        self.before.keys(keys);
        keys.push(self.key.clone());
    }
}

impl<In, A: Chain<In>, T: Transform<A::Out>> Chain<In> for Staged<A, T> {
    type Out = T::Out;

    #[inline]
    fn run(&self, item: In, seed: SampleSeed) -> Result<T::Out, StageError> {
        let item = self.before.run(item, seed)?;
        let failed = |source| StageError { stage: self.key.clone(), source };
        self.stage.apply(item, &mut seed.stage(&self.key)).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_path() {
        assert_eq!(short_name("firebox::vision::Crop"), "Crop");
        assert_eq!(short_name("firebox::vision::Cast<alloc::string::String, f32>"), "Cast");
        assert_eq!(short_name("Plain"), "Plain");
    }

    #[test]
    fn keys_count_equal_names_from_the_end() {
        let stage = |(): (), _: &mut SampleRng| Ok::<(), BoxError>(());
        let staged = |name: &'static str| (stage, Cow::Borrowed(name));
        let ((a, first), (b, second), (c, third)) = (staged("map"), staged("write"), staged("map"));
        let mut chain = Staged::new(Staged::new(Staged::new((), a, first), b, second), c, third);
        chain.assign(&mut HashMap::from([("write".to_owned(), 1)]));
        let mut keys = Vec::new();
        chain.keys(&mut keys);
        assert_eq!(keys, [StageKey::new("map", 1), StageKey::new("write", 1), StageKey::new("map", 0)]);
        assert!(chain.run((), firebox_core::seed::PositionSeeds::new(0, 0).at(0)).is_ok());
    }
}
