//! What a recurrent layer computes at each step.

use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid, tanh};
use serde::{Deserialize, Serialize};

use crate::recurrent::State;

/// The kinds of recurrent cells, each with PyTorch's formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// h' = tanh(W·x + U·h) (Elman 1990).
    Tanh,
    /// h' = max(0, W·x + U·h).
    Relu,
    /// Long short-term memory (Hochreiter, Schmidhuber 1997), with the gates i, f, g, o.
    Lstm,
    /// Gated recurrent unit (Cho et al. 2014), with the gates r, z, n; the reset gate acts on U·h, as cuDNN has it.
    Gru,
}

impl Cell {
    /// How many times the size of the state its weights have.
    pub(crate) fn gates(self) -> usize {
        match self {
            Cell::Tanh | Cell::Relu => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }

    /// One step, from what input and state give the gates: `[batch, gates·hidden]` each.
    pub(crate) fn step(self, input: Tensor<2>, hidden: Tensor<2>, state: State) -> State {
        match self {
            Cell::Tanh => State { hidden: tanh(input + hidden), cell: None },
            Cell::Relu => State { hidden: relu(input + hidden), cell: None },
            Cell::Gru => {
                let [[input_r, input_z, input_n], [hidden_r, hidden_z, hidden_n]] =
                    [input, hidden].map(|gates| parts::<3>(&gates));
                let reset = sigmoid(input_r + hidden_r);
                let update = sigmoid(input_z + hidden_z);
                let new = tanh(input_n + reset * hidden_n);
                // (1 − z)·n + z·h
                State { hidden: new.clone() + update * (state.hidden - new), cell: None }
            }
            Cell::Lstm => {
                let [input_gate, forget, candidate, output] = parts::<4>(&(input + hidden));
                let new = sigmoid(input_gate) * tanh(candidate);
                let cell = match state.cell {
                    Some(cell) => sigmoid(forget) * cell + new,
                    None => new,
                };
                State { hidden: sigmoid(output) * tanh(cell.clone()), cell: Some(cell) }
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
