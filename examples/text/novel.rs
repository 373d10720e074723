//! The text in three parts, each read in windows side by side.

use firebox::data::dataset::{Described, Windows};
use firebox::data::formats::text::{Vocabulary, read_text};
use firebox::data::{self, BoxError, Dataset, Pad};
use firebox::prelude::*;
use firebox::workers::sync::SealedArray;
use serde::{Deserialize, Serialize};

use crate::Recipe;

/// The text that is read unless another is asked for.
pub(crate) const PRIDE_AND_PREJUDICE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/pride-and-prejudice/pride-and-prejudice.txt.gz");

/// The stretches and the window of evaluations.
///
/// They read fewer and longer ones: at the beginning of each the model knows nothing of what came before.
const JUDGED: [usize; 2] = [16, 256];

/// A text in three parts, as the numbers of its characters.
///
/// The last tenth is for testing, seen once, at the end; the twentieth before it decides which checkpoint is
/// the best.
pub(crate) struct Novel {
    /// The characters of the whole text: which there are is no secret, what follows them is.
    pub(crate) vocabulary: Vocabulary,
    pub(crate) train: Stretches,
    pub(crate) valid: Stretches,
    pub(crate) test: Stretches,
    /// A beginning for the model to go on from, which it doesn't learn.
    pub(crate) prompt: Vec<usize>,
}

impl Novel {
    pub(crate) fn read(recipe: &Recipe) -> Result<Self, BoxError> {
        let text = read_text(&recipe.data)?;
        let vocabulary = Vocabulary::of(&text);
        let text = vocabulary.encode(&text)?;
        let (text, test) = text.split_at(text.len() - text.len() / 10);
        let (train, valid) = text.split_at(text.len() - text.len() / 18);
        let part = |name: &str, text: &[usize], limit: Option<usize>, [rows, window]: [usize; 2]| {
            let limit = limit.unwrap_or(usize::MAX);
            let tokens: Vec<i64> = text.iter().take(limit).map(|&token| token as i64).collect();
            Windows::new(&tokens[..], rows, window)
                .map_err(|error| format!("{}, the {name} part: {error}", recipe.data.display()))?;
            let tokens = SealedArray::from_slice(&tokens)?;
            let threads = recipe.common.threads.in_recipe();
            Ok::<_, BoxError>(Stretches { tokens, rows, window, seed: recipe.common.seed(), threads })
        };
        Ok(Novel {
            train: part("training", train, recipe.limit_train, [recipe.batch_size, recipe.window])?,
            valid: part("validation", valid, recipe.limit_test, JUDGED)?,
            test: part("test", test, recipe.limit_test, JUDGED)?,
            prompt: valid[..valid.len().min(32)].to_vec(),
            vocabulary,
        })
    }
}

/// The loader of a part of the text as data, so that worker processes can make it, too.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stretches {
    tokens: SealedArray<i64>,
    rows: usize,
    window: usize,
    seed: u64,
    threads: Option<usize>,
}

impl data::Recipe for Stretches {
    type Layout = Pad<i64>;

    fn loader(&self) -> Result<Loader<Pad<i64>>, data::Error> {
        let windows = Windows::new(&self.tokens[..], self.rows, self.window)?;
        let batches = windows.batches().clone();
        // Another text of the same length is another text.
        let text = windows.fingerprint().with_words(windows.tokens().iter().map(|&token| token as u64));
        let builder = Loader::builder(Described::new(windows, text)).batch_sampler(batches);
        // All windows of a batch are of one length: nothing is padded.
        let layout = Pad::with(0);
        builder.seed(self.seed).workers(self.threads).build(layout, |window: Vec<i64>, _, slot| {
            slot.extend(window);
            Ok(())
        })
    }
}
