//! The words of the dictionary in three parts, and their way into batches of similar length.

use std::path::PathBuf;

use clap::Args;
use firebox::data::dataset::Described;
use firebox::data::formats::cmudict::{self, Split};
use firebox::data::sampler::{Bucketed, Sampler, Sequential, Shuffled};
use firebox::data::{self, BoxError, Dataset, Pad};
use firebox::prelude::*;
use firebox::workers::sync::SealedArray;
use firebox_cli::parse;
use serde::{Deserialize, Serialize};

use crate::Recipe;
use crate::vocabulary::{PADDING, References, Sample, Vocabulary};

/// The flags for the words.
#[derive(Args, Clone, Serialize, Deserialize)]
pub(crate) struct WordArgs {
    /// Words a step
    #[arg(long, default_value_t = 128, value_parser = parse::at_least_one)]
    batch_size: usize,
    /// Tell stressed vowels from unstressed ones
    #[arg(long)]
    pub(crate) stress: bool,
    /// Use only so many words for training
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    limit_train: Option<usize>,
    /// Use only so many words for validation, and as many for testing
    #[arg(long, value_name = "N", value_parser = parse::at_least_one)]
    limit_test: Option<usize>,
    /// The folder with cmudict.dict, or that packed with gzip
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/cmudict"))]
    pub(crate) data_dir: PathBuf,
}

/// The words to learn from, to choose the best checkpoint by, and to test it with.
///
/// They are split by a hash of their spelling: one of twenty is for validation, another for the test, so that
/// no spelling is on two sides.
pub(crate) struct Data {
    pub(crate) train: Words,
    pub(crate) valid: Words,
    pub(crate) test: Words,
    /// All pronunciations of the last two parts.
    pub(crate) references: References,
}

impl Data {
    pub(crate) fn read(recipe: &Recipe, vocabulary: &Vocabulary) -> Result<Self, BoxError> {
        let args = &recipe.words;
        let mut words = Split::by_spelling(cmudict::read(&args.data_dir)?);
        words.train.truncate(args.limit_train.unwrap_or(usize::MAX));
        words.valid.truncate(args.limit_test.unwrap_or(usize::MAX));
        words.test.truncate(args.limit_test.unwrap_or(usize::MAX));
        let counts = [&words.train, &words.valid, &words.test].map(Vec::len);
        if counts.contains(&0) {
            let [train, valid, test] = counts;
            let counts = format!("{train} to train, {valid} to validate and {test} to test");
            return Err(format!("{}: expected words, got {counts}", args.data_dir.display()).into());
        }
        // Every pronunciation is learned from; where none is, the first one stands for the loss.
        let loader = |samples: Vec<Sample>, shuffle, batch_size| {
            let (seed, threads) = (recipe.common.seed(), recipe.common.threads.in_recipe());
            let tokens = SealedArray::from_slice(&Sample::write(&samples))?;
            Ok::<_, BoxError>(Words { tokens, shuffle, batch_size, seed, threads })
        };
        Ok(Data {
            train: loader(vocabulary.samples(&words.train, usize::MAX), true, args.batch_size)?,
            valid: loader(vocabulary.samples(&words.valid, 1), false, 256)?,
            test: loader(vocabulary.samples(&words.test, 1), false, 256)?,
            references: vocabulary.references(words.valid.iter().chain(&words.test)),
        })
    }
}

/// A loader of words as data, so that worker processes can make it, too.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Words {
    tokens: SealedArray<i64>,
    shuffle: bool,
    batch_size: usize,
    seed: u64,
    threads: Option<usize>,
}

/// Letters and phonemes of words.
type Layout = (Pad<i64>, Pad<i64>);

impl data::Recipe for Words {
    type Layout = Layout;

    fn loader(&self) -> Result<Loader<Layout>, data::Error> {
        let samples = Sample::read(&self.tokens);
        let order: Box<dyn Sampler> = match self.shuffle {
            true => Box::new(Shuffled::new(samples.len(), self.seed)),
            false => Box::new(Sequential::new(samples.len())),
        };
        // Of words with as many letters those with as many phonemes are together.
        let length = |sample: &Sample| (sample.letters.len() << 8 | sample.phonemes.len()) as u32;
        let lengths: Vec<u32> = samples.iter().map(length).collect();
        let batches = Bucketed::by_length(order, lengths, self.batch_size, self.seed)?;
        // Other words are other data, also where there are as many.
        let numbers = samples.iter().flat_map(|sample| sample.letters.iter().chain(&sample.phonemes));
        let words = samples.fingerprint().with_words(numbers.map(|&number| number as u64));
        let builder = Loader::builder(Described::new(samples, words)).batch_sampler(batches).seed(self.seed);
        let layout = (Pad::with(PADDING), Pad::with(PADDING));
        builder.workers(self.threads).build(layout, |sample, _, (letters, phonemes)| {
            letters.extend(&sample.letters);
            phonemes.extend(&sample.phonemes);
            Ok(())
        })
    }
}
