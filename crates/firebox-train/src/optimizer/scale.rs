//! The factor of a step's gradients, on its way from the learner to the optimizer.
//!
//! Burn's `ModuleOptimizer` hands over a gradient, and nothing else. An optimizer of this crate looks for the
//! factor here, and applies it within its own pass over the parameter. Others don't: the learner hears how
//! many parameters' steps took the factor, and multiplies the gradients itself where not all did.

use std::cell::Cell;

#[derive(Clone, Copy)]
struct Scale {
    factor: f64,
    /// Steps of parameters that took it.
    taken: usize,
}

const NONE: Scale = Scale { factor: 1.0, taken: 0 };

thread_local! {
    static SCALE: Cell<Scale> = const { Cell::new(NONE) };
}

/// Puts a scale back, also after a panic.
struct Outer(Scale);

impl Drop for Outer {
    fn drop(&mut self) {
        SCALE.set(self.0);
    }
}

/// Runs an optimizer on this thread with its gradients multiplied by `factor`; and how many parameters' steps
/// did that.
pub(crate) fn with_factor<R>(factor: f64, optimizer: impl FnOnce() -> R) -> (R, usize) {
    let _outer = Outer(SCALE.replace(Scale { factor, taken: 0 }));
    let result = optimizer();
    (result, SCALE.get().taken)
}

/// Runs a parameter's step, which applies the factor that it gets.
///
/// While it waits for other threads, this one may do somebody else's work, whose steps know nothing of the
/// factor.
pub(super) fn take<R>(step: impl FnOnce(f64) -> R) -> R {
    let Scale { factor, taken } = SCALE.replace(NONE);
    let _outer = Outer(Scale { factor, taken: taken + 1 });
    step(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_its_own_optimizers_alone() {
        let ((), taken) = with_factor(0.5, || {
            take(|factor| {
                assert_eq!(factor, 0.5);
                take(|factor| assert_eq!(factor, 1.0, "work of somebody else"));
            });
            let ((), inner) = with_factor(0.25, || take(|factor| assert_eq!(factor, 0.25)));
            assert_eq!(inner, 1);
            take(|factor| assert_eq!(factor, 0.5));
        });
        assert_eq!(taken, 2);
        let panicked = std::panic::catch_unwind(|| with_factor(0.5, || take(|_| panic!("a step"))));
        assert!(panicked.is_err());
        take(|factor| assert_eq!(factor, 1.0));
    }
}
