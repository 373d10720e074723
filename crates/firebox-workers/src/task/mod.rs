//! One task: the value, the work that runs it, and the duty to answer it.

pub(crate) mod answer;
pub(crate) mod call;
pub(crate) mod job;
pub(crate) mod work;

pub use answer::{Answer, Answered, Answers};
pub use call::{Call, Once};
pub use job::Job;
pub use work::{Work, Worker};
