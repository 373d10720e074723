//! How processes wait for each other: words in shared memory, and what is made of them.

pub(in crate::sync) mod condition;
pub(in crate::sync) mod futex;
pub(in crate::sync) mod members;
pub(crate) mod mending;
pub(in crate::sync) mod monitor;
pub(in crate::sync) mod mutex;
pub(in crate::sync) mod rounds;
pub(in crate::sync) mod signal;
