//! Tasks that are there: classification, regression, language modeling, translation, and GANs.
//!
//! Each takes a [`Learner`](crate::learner::Learner), on which clipping, moving averages and learning rates
//! of parts are set. A task of one's own implements [`Task`](crate::task::Task) in the same way.

mod adversarial;
mod batch;
mod class_metric;
mod classification;
mod decode;
mod language_modeling;
mod regression;
mod teacher_forcing;
mod translation;

pub use adversarial::{Adversarial, AdversarialLoss, Judge};
pub use class_metric::ClassMetric;
pub use classification::Classification;
pub use decode::{Decode, Translated};
pub use language_modeling::LanguageModeling;
pub use regression::Regression;
pub use teacher_forcing::TeacherForcing;
pub use translation::Translation;
