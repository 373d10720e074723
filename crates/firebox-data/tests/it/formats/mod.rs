//! Files that are read as data, good and bad.

mod cmudict;
mod idx;
mod texts;
mod windows;
