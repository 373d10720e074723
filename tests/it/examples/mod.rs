//! Examples as tests run them.

#[path = "../../common/program.rs"]
mod program;

mod arguments;
mod earlier_runs;
mod forecast;
mod gan;
mod kills;
mod pronounce;
mod recipe;
mod solar;
mod text;
mod training;
mod worker_kind;

use program::{course, example, last_state, losses, records, training};
