//! The kinds of recurrent cells.

use serde::{Deserialize, Serialize};

/// The kinds of recurrent cells, each with PyTorch's formula; [`Recurrent`](crate::layers::Recurrent) takes
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// h' = tanh(W·x + U·h) (Elman 1990).
    Tanh,
    /// h' = max(0, W·x + U·h).
    Relu,
    /// Long short-term memory (Hochreiter, Schmidhuber 1997), with the gates i, f, g, o.
    Lstm,
    /// Gated recurrent unit (Cho et al. 2014), with the gates r, z, n; the reset gate acts on U·h, as cuDNN
    /// has it.
    Gru,
}

impl From<Cell> for firebox_kernels::recurrent::Cell {
    fn from(cell: Cell) -> Self {
        match cell {
            Cell::Tanh => Self::Tanh,
            Cell::Relu => Self::Relu,
            Cell::Lstm => Self::Lstm,
            Cell::Gru => Self::Gru,
        }
    }
}
