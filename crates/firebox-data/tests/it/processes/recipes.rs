//! Recipes for the tests: one for each layout, with the same samples.

use std::thread::sleep;
use std::time::{Duration, Instant};

use firebox_data::collate::{Ragged, StackWhole};
use firebox_data::elements::Elements;
use firebox_data::loader::{FailureBudget, Indexed, LoaderBuilder};
use firebox_data::{BoxError, Error, Loader, OnError, Pad, Recipe, SampleRng, Scalar, Stack};
use serde::{Deserialize, Serialize};

/// The policy for bad samples.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Policy {
    Fail,
    Skip,
    Replace,
}

/// How a sample goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Fault {
    Error,
    Panic,
    Abort,
    Exit,
    Hang,
    /// More memory than it may have.
    Memory,
}

/// Settings of a loader of numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) samples: u32,
    pub(crate) batch_size: usize,
    pub(crate) threads: Option<usize>,
    pub(crate) rank: Option<(usize, usize)>,
    pub(crate) policy: Policy,
    /// The samples that go wrong, and how.
    pub(crate) faults: Vec<(u32, Fault)>,
    pub(crate) timeout: Option<Duration>,
    /// The cost of a sample.
    pub(crate) cost: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            samples: 50,
            batch_size: 8,
            threads: None,
            rank: None,
            policy: Policy::Fail,
            faults: Vec::new(),
            timeout: None,
            cost: Duration::ZERO,
        }
    }
}

/// A sample: its number, and what was drawn for it.
pub(crate) type Sample = (u32, u64);

fn compute(cost: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < cost {
        std::hint::spin_loop();
    }
}

impl Plan {
    /// A loader without its layout. Samples are shuffled and augmented; the data set is a vector.
    pub(crate) fn builder(&self) -> LoaderBuilder<Indexed<Vec<u32>>> {
        let numbers: Vec<u32> = (0..self.samples).collect();
        let at_most = FailureBudget::Count(10);
        let on_error = match self.policy {
            Policy::Fail => OnError::Fail,
            Policy::Skip => OnError::Skip { at_most },
            Policy::Replace => OnError::Replace { at_most },
        };
        let mut builder =
            Loader::builder(numbers).shuffle(true).seed(17).batch_size(self.batch_size).on_error(on_error);
        if let Some(threads) = self.threads {
            builder = builder.workers(threads);
        }
        if let Some((rank, world)) = self.rank {
            builder = builder.rank(rank, world);
        }
        if let Some(limit) = self.timeout {
            builder = builder.timeout(limit);
        }
        builder
    }

    /// Draws something for a sample, unless it is one that goes wrong.
    pub(crate) fn draw(&self, number: u32, rng: &mut SampleRng) -> Result<Sample, BoxError> {
        compute(self.cost);
        let drawn = rng.below(1000);
        match self.faults.iter().find(|(faulty, _)| *faulty == number).map(|(_, fault)| *fault) {
            None => Ok((number, drawn)),
            Some(Fault::Error) => Err("a bad sample".into()),
            Some(Fault::Panic) => panic!("a sample that panics"),
            Some(Fault::Abort) => std::process::abort(),
            Some(Fault::Exit) => std::process::exit(3),
            Some(Fault::Hang) => loop {
                sleep(Duration::from_secs(1));
            },
            Some(Fault::Memory) => Ok((vec![1u8; 1 << 30].iter().map(|&one| u32::from(one)).sum(), drawn)),
        }
    }
}

macro_rules! recipes {
    ($($(#[$doc:meta])* $name:ident($layout:ty) = $make:expr, $write:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub(crate) struct $name(pub(crate) Plan);

        impl From<Plan> for $name {
            fn from(plan: Plan) -> Self {
                $name(plan)
            }
        }

        impl Recipe for $name {
            type Layout = $layout;

            fn loader(&self) -> Result<Loader<$layout>, Error> {
                let plan = self.0.clone();
                self.0.builder().map(move |number, rng| plan.draw(number, rng)).build($make, $write)
            }
        }
    )+};
}

fn row(slot: &mut [f32], (number, drawn): Sample) {
    slot.iter_mut().enumerate().for_each(|(place, to)| *to = (number as usize * place) as f32 + drawn as f32);
}

fn words((number, drawn): Sample) -> Vec<i64> {
    (0..number % 7).map(|place| i64::from(place) + drawn as i64).collect()
}

/// Joins the texts of a batch.
pub(crate) type Join = Ragged<String, String, fn(Vec<String>) -> Result<String, BoxError>>;

recipes! {
    Stacks(Stack<f32, 2>) = Stack::new([2, 30]), |sample, _: &mut SampleRng, slot: &mut [f32]| {
        row(slot, sample);
        Ok(())
    };
    Wholes(StackWhole<u16, 1>) = StackWhole::new([3]), |(number, drawn), _, mut slot| {
        slot.fill([number as u16, drawn as u16, 7])
    };
    Scalars(Scalar<u64>) = Scalar::new(), |(number, drawn), _, slot| {
        *slot = 1000 * u64::from(number) + drawn;
        Ok(())
    };
    Pads(Pad<i64>) = Pad::with(-1), |sample, _, slot| {
        slot.extend(words(sample));
        Ok(())
    };
    Joins(Join) = Ragged::new(|texts: Vec<String>| Ok(texts.join("|"))), |(number, drawn), _, slot| {
        *slot = Some(format!("{number}:{drawn}"));
        Ok(())
    };
    /// Of bools, which are no numbers whose every bit pattern is one, beside some that are.
    Tuples((Stack<f32, 2>, Scalar<i64>, Pad<i64>, Stack<bool, 1>)) =
        (Stack::new([2, 30]), Scalar::new(), Pad::with(0), Stack::new([2])),
        |sample: Sample, _, (pixels, label, sequence, flags): (&mut [f32], &mut i64, &mut Vec<i64>, &mut [bool])| {
            row(pixels, sample);
            *label = i64::from(sample.0);
            sequence.extend(words(sample));
            flags.fill(sample.1.is_multiple_of(2));
            Ok(())
        };
}

/// The address of elements, as long as a batch has them.
pub(crate) fn place<T>(elements: &Elements<T>) -> usize {
    elements.as_ptr() as usize
}
