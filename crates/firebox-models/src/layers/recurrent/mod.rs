//! Recurrent layers.

pub(crate) mod cell;
mod direction;
pub(crate) mod gru_block;
pub(crate) mod layer;
pub(crate) mod lstm_block;
mod module;
pub(crate) mod rnn_block;
