//! Policies for samples that cannot be made.

mod on_error;
mod retry;
mod sample_failure;

pub use on_error::{FailureBudget, OnError};
pub use retry::Retry;
pub(super) use retry::{Tried, TryError, tries};
pub use sample_failure::{Action, SampleFailure};
