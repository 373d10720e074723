//! The step of a recurrent layer.

use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid, tanh};

/// The kinds of recurrent cells, each with PyTorch's formula.
///
/// ```
/// use firebox_kernels::recurrent::Cell;
///
/// assert_eq!([Cell::Tanh, Cell::Gru, Cell::Lstm].map(Cell::gates), [1, 3, 4]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// h' = tanh(W·x + U·h).
    Tanh,
    /// h' = max(0, W·x + U·h).
    Relu,
    /// Long short-term memory, with the gates i, f, g, o.
    Lstm,
    /// Gated recurrent unit, with the gates r, z, n; the reset gate acts on U·h.
    Gru,
}

/// The state of a cell, `[batch, hidden]` each.
///
/// The page of [`recurrent`](crate::recurrent()) has an example.
#[derive(Clone, Debug)]
pub struct CellState {
    /// h, which is also the output.
    pub hidden: Tensor<2>,
    /// c, which only [`Cell::Lstm`] has; zeros if it isn't given.
    pub cell: Option<Tensor<2>>,
}

impl Cell {
    /// The number of gates: the rows of its weights by the size of the state.
    pub fn gates(self) -> usize {
        match self {
            Cell::Tanh | Cell::Relu => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }

    /// One step, from what input and state give the gates: `[batch, gates·hidden]` each.
    pub(crate) fn step(self, input: Tensor<2>, hidden: Tensor<2>, state: CellState) -> CellState {
        match self {
            Cell::Tanh => CellState { hidden: tanh(input + hidden), cell: None },
            Cell::Relu => CellState { hidden: relu(input + hidden), cell: None },
            Cell::Gru => {
                let [[input_r, input_z, input_n], [hidden_r, hidden_z, hidden_n]] =
                    [input, hidden].map(|gates| parts::<3>(&gates));
                let reset = sigmoid(input_r + hidden_r);
                let update = sigmoid(input_z + hidden_z);
                let new = tanh(input_n + reset * hidden_n);
                // (1 − z)·n + z·h
                CellState { hidden: new.clone() + update * (state.hidden - new), cell: None }
            }
            Cell::Lstm => {
                let [input_gate, forget, candidate, output] = parts::<4>(&(input + hidden));
                let new = sigmoid(input_gate) * tanh(candidate);
                let cell = match state.cell {
                    Some(cell) => sigmoid(forget) * cell + new,
                    None => new,
                };
                CellState { hidden: sigmoid(output) * tanh(cell.clone()), cell: Some(cell) }
            }
        }
    }
}

/// Cuts `[batch, N·hidden]` into its gates.
fn parts<const N: usize>(gates: &Tensor<2>) -> [Tensor<2>; N] {
    let [_, width] = gates.dims();
    let hidden = width / N;
    std::array::from_fn(|gate| gates.clone().narrow(1, gate * hidden, hidden))
}
