//! Models of sequences: texts as tokens, and series of numbers.
//!
//! Sequences of different lengths share a batch, padded at their end. All but [`LanguageModel`] take the
//! lengths, attention takes a mask of the places that hold something
//! ([`sequence_mask`](crate::layers::sequence_mask)), and a sequence gets the same outputs as it would alone.

pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod language_model;
pub(crate) mod seq2seq;
pub(crate) mod sequence_classifier;
pub(crate) mod sequence_regressor;

pub use decoder::{Decoder, DecoderConfig, Decoding};
pub use encoder::{Encoded, Encoder, EncoderConfig};
pub use language_model::{LanguageModel, LanguageModelConfig};
pub use seq2seq::{Seq2Seq, Seq2SeqConfig};
pub use sequence_classifier::{SequenceClassifier, SequenceClassifierConfig};
pub use sequence_regressor::{SequenceRegressor, SequenceRegressorConfig};
