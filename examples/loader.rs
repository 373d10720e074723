//! The loader with a data set, a transform and a loop of one's own: words of a text, as padded batches of
//! letters of which some are masked at random.
//!
//!     cargo run --release --example loader -- README.md

#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use firebox::data::collate::Padded;
use firebox::data::formats::text::read_text;
use firebox::data::sampler::{Bucketed, Shuffled};
use firebox::data::{BoxError, Dataset, Loader, Pad, SampleRng};

/// The words of a text.
struct Words(Vec<String>);

impl Dataset for Words {
    type Item = String;

    fn get(&self, index: usize) -> Result<String, BoxError> {
        Ok(self.0[index].clone())
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// A word as numbers; one letter of seven becomes 1, and 0 is padding. The random numbers are the word's own:
/// the masks are the same with any number of workers.
fn masked(word: String, rng: &mut SampleRng, letters: &mut Vec<i64>) -> Result<(), BoxError> {
    letters.extend(word.chars().map(|letter| if rng.below(7) == 0 { 1 } else { letter as i64 }));
    Ok(())
}

fn main() -> Result<(), BoxError> {
    let path = std::env::args().nth(1).unwrap_or("README.md".to_owned());
    let text = read_text(&path)?;
    let words = Words(text.split_whitespace().map(str::to_owned).collect());

    // Batches of words of similar length, at most 256 letters each with their padding.
    let lengths: Vec<u32> = words.0.iter().map(|word| word.chars().count() as u32).collect();
    let batches = Bucketed::by_tokens(Shuffled::new(words.len(), 42), lengths, 256, 42)?;
    let loader =
        Loader::builder(words).batch_sampler(batches).seed(42).workers(2).build(Pad::with(0), masked)?;

    // From 0, or from a state that was saved: then the rest of its epoch comes first.
    for mut stream in loader.epochs(0, ..2)? {
        let (mut letters, mut padded) = (0, 0);
        for batch in stream.by_ref() {
            let batch: Padded<i64> = batch?;
            letters += batch.lengths.iter().sum::<usize>();
            padded += batch.values.len();
        }
        println!("{letters} letters, {padded} with padding; {}", stream.report());
        println!("  this position can be saved: {:?}", stream.state());
    }
    Ok(())
}
