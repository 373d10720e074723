//! The numbers that stand for letters and phonemes.

use std::collections::HashMap;
use std::iter;
use std::sync::Arc;

use firebox::data::formats::cmudict::{LETTERS, Phoneme, Word};

/// The tokens that come before the letters, and before the phonemes.
pub(crate) const PADDING: i64 = 0;
const BEGIN: i64 = 1;
const END: i64 = 2;

/// All pronunciations of words, by their letters.
pub(crate) type References = Arc<HashMap<Vec<usize>, Vec<Vec<usize>>>>;

/// The numbers that stand for letters and phonemes.
pub(crate) struct Vocabulary {
    phonemes: Vec<Phoneme>,
    stress: bool,
}

/// A spelling and one way to pronounce it.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) letters: Vec<i64>,
    /// Between the tokens for begin and end.
    pub(crate) phonemes: Vec<i64>,
}

impl Sample {
    /// All of them in one row of numbers, each of the two parts behind its length.
    pub(crate) fn write(samples: &[Sample]) -> Vec<i64> {
        let parts = samples.iter().flat_map(|sample| [&sample.letters, &sample.phonemes]);
        parts.flat_map(|part| iter::once(part.len() as i64).chain(part.iter().copied())).collect()
    }

    /// Those that were written.
    pub(crate) fn read(mut numbers: &[i64]) -> Vec<Sample> {
        let mut part = || {
            let (&length, rest) = numbers.split_first()?;
            let (part, rest) = rest.split_at_checked(length as usize)?;
            numbers = rest;
            Some(part.to_vec())
        };
        iter::from_fn(|| Some(Sample { letters: part()?, phonemes: part()? })).collect()
    }
}

impl Vocabulary {
    pub(crate) fn new(stress: bool) -> Self {
        Vocabulary { phonemes: Phoneme::all(stress), stress }
    }

    /// The numbers of tokens for letters and for phonemes.
    pub(crate) fn tokens(&self) -> [usize; 2] {
        [1 + LETTERS.len(), 1 + END as usize + self.phonemes.len()]
    }

    pub(crate) fn letters(&self, spelling: &str) -> Vec<i64> {
        // The dictionary has no other letters.
        spelling.chars().filter_map(|letter| LETTERS.find(letter)).map(|place| 1 + place as i64).collect()
    }

    fn pronunciation(&self, phonemes: &[Phoneme]) -> Vec<i64> {
        let phonemes =
            phonemes.iter().map(|phoneme| if self.stress { *phoneme } else { phoneme.unstressed() });
        let place = |phoneme| self.phonemes.iter().position(|&other| other == phoneme);
        phonemes.filter_map(place).map(|place| 1 + END + place as i64).collect()
    }

    pub(crate) fn spelling(&self, letters: &[usize]) -> Vec<String> {
        letters.iter().map(|&letter| LETTERS[letter - 1..letter].to_owned()).collect()
    }

    /// Phonemes in words; a token of padding, begin or end, which a network may come upon too, is a dash.
    pub(crate) fn spoken(&self, tokens: &[usize]) -> Vec<String> {
        let place = |token: usize| token.checked_sub(1 + END as usize);
        tokens
            .iter()
            .map(|&token| place(token).map_or("–".to_owned(), |place| self.phonemes[place].to_string()))
            .collect()
    }

    /// The different pronunciations of a word; without stress marks they may be fewer.
    fn pronunciations(&self, word: &Word) -> Vec<Vec<i64>> {
        let mut all: Vec<Vec<i64>> = Vec::with_capacity(word.pronunciations.len());
        for pronunciation in &word.pronunciations {
            let tokens = self.pronunciation(pronunciation);
            if !all.contains(&tokens) {
                all.push(tokens);
            }
        }
        all
    }

    /// Up to so many pronunciations of each word.
    pub(crate) fn samples(&self, words: &[Word], most: usize) -> Vec<Sample> {
        let of = |word: &Word| {
            let letters = self.letters(&word.spelling);
            let framed = |tokens: Vec<i64>| [&[BEGIN], &tokens[..], &[END]].concat();
            let pronunciations = self.pronunciations(word).into_iter().take(most);
            let samples =
                pronunciations.map(|tokens| Sample { letters: letters.clone(), phonemes: framed(tokens) });
            samples.collect::<Vec<_>>()
        };
        words.iter().flat_map(of).collect()
    }

    /// All pronunciations of words, by their letters.
    pub(crate) fn references<'a>(&self, words: impl Iterator<Item = &'a Word>) -> References {
        let plain = |tokens: Vec<i64>| tokens.into_iter().map(|token| token as usize).collect::<Vec<_>>();
        let of = |word: &Word| {
            let pronunciations = self.pronunciations(word).into_iter().map(plain).collect();
            (plain(self.letters(&word.spelling)), pronunciations)
        };
        Arc::new(words.map(of).collect())
    }
}
