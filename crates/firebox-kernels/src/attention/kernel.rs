//! Additive attention on slices, and its gradients.
//!
//! Between its two maps attention has little to multiply and much to read: `[batch, time, hidden]` on both
//! sides. So both passes go over each sequence once, whole, while it is in the cache, and nothing of that
//! size is kept: the backward pass takes the tangents again, which costs less than to write them down and to
//! read them.

use crate::algebra::math::{exp, tanh};
use crate::algebra::scratch::with_scratch;
use crate::attention::masked::LOW;
use crate::machine::memory::Recycled;
use crate::machine::simd::vectorised;
use crate::machine::tasks::share;
use crate::operation::fused::{Array, Computed, Fused, Pass};

/// Into how many chunks a batch is cut, if it is that large.
const CHUNKS: usize = 16;

/// Sums side by side of which a sum over features is made: vectors of every instruction set, several of them,
/// so that none waits for the one before.
const LANES: usize = 64;

/// The operation on `mapped`, `query`, v, what the encoder gave and, perhaps, a bias. Its output
/// `[batch, features + time]` has the context and then the weights.
#[derive(Clone, Debug)]
pub(crate) struct AdditiveAttention {
    pub(crate) batch: usize,
    pub(crate) time: usize,
    /// Features of `mapped` and the query.
    pub(crate) hidden: usize,
    /// Features of what the encoder gave.
    pub(crate) features: usize,
    /// `[batch, time]`; all places if there is none.
    pub(crate) mask: Option<Vec<bool>>,
}

impl<const N: usize> Fused<N> for AdditiveAttention {
    type SavedForBackward = ();
    const KEEPS_OUTPUT: bool = true;

    fn forward(&self, inputs: [&[f32]; N], _: bool) -> Computed<()> {
        let sequences = Sequences::new(self, &inputs);
        let packed = self.features + self.time;
        let mut output = vec![0.0; self.batch * packed];
        share(output.chunks_exact_mut(packed).enumerate(), self.operations(), |(row, output)| {
            let (context, weights) = output.split_at_mut(self.features);
            vectorised(
                #[inline(always)]
                || sequences.get(row).attend(context, weights),
            );
        });
        Computed { output: Array::new(output, [self.batch, packed]), beside: vec![], saved: () }
    }

    fn backward(&self, pass: Pass<'_, (), N>) -> [Option<Vec<f32>>; N] {
        let Pass { inputs, output, gradient, wanted, .. } = pass;
        let sequences = Sequences::new(self, &inputs);
        let (time, hidden, features) = (self.time, self.hidden, self.features);
        let chunk = self.batch.div_ceil(CHUNKS);
        let count = self.batch.div_ceil(chunk);
        let [wants_mapped, wants_query, wants_v, wants_encoder] = [0, 1, 2, 3].map(|input| wanted[input]);
        let place = |wanted: bool, length: usize| Recycled::new(if wanted { length } else { 0 });
        let mut mapped = place(wants_mapped, self.batch * time * hidden);
        let mut query = place(wants_query, self.batch * hidden);
        let mut encoder = place(wants_encoder, self.batch * time * features);
        // Of each chunk: v's gradient and the bias's.
        let mut sums = Recycled::new(count * (hidden + 1));
        let mut mapped_rows = mapped.chunks_mut(chunk * time * hidden);
        let mut query_rows = query.chunks_mut(chunk * hidden);
        let mut encoder_rows = encoder.chunks_mut(chunk * time * features);
        let tasks = sums.chunks_exact_mut(hidden + 1).enumerate().map(|(number, sums)| {
            let places = [&mut mapped_rows, &mut query_rows, &mut encoder_rows].map(Iterator::next);
            (number, sums, places)
        });
        share(tasks, 3 * self.operations(), |(number, sums, places)| {
            let [mut mapped, mut query, mut encoder] = places;
            let (v, bias) = sums.split_at_mut(hidden);
            v.fill(0.0);
            bias.fill(0.0);
            let first = number * chunk;
            for (at, row) in (first..self.batch.min(first + chunk)).enumerate() {
                let packed = features + time;
                let (_, weights) = output[row * packed..][..packed].split_at(features);
                let (context, outer) = gradient[row * packed..][..packed].split_at(features);
                with_scratch(|mut pieces, _| {
                    let [scores, spare, asked] = [time, hidden, hidden].map(|size| pieces.take(size));
                    let sequence = sequences.get(row);
                    let query = part(&mut query, at, hidden).unwrap_or(asked);
                    let mut encoder = part(&mut encoder, at, time * features);
                    let mut mapped = part(&mut mapped, at, time * hidden);
                    vectorised(
                        #[inline(always)]
                        || {
                            sequence.score_gradients(scores, weights, context, outer);
                            bias[0] += scores.iter().sum::<f32>();
                            if let Some(encoder) = &mut encoder {
                                for (to, weight) in encoder.chunks_exact_mut(features).zip(weights) {
                                    to.iter_mut().zip(context).for_each(|(to, x)| *to = weight * x);
                                }
                            }
                            query.fill(0.0);
                            for (place, &score) in scores.iter().enumerate() {
                                let to = match &mut mapped {
                                    Some(mapped) => &mut mapped[place * hidden..][..hidden],
                                    None => &mut spare[..],
                                };
                                sequence.tangents(place, score, to, query, v);
                            }
                        },
                    );
                });
            }
        });
        let column = |range: std::ops::Range<usize>| {
            let mut whole = vec![0.0; range.len()];
            for sums in sums.chunks_exact(hidden + 1) {
                whole.iter_mut().zip(&sums[range.clone()]).for_each(|(to, x)| *to += x);
            }
            whole
        };
        let mut gradients = [const { None }; N];
        gradients[0] = wants_mapped.then(|| mapped.into_values());
        gradients[1] = wants_query.then(|| query.into_values());
        gradients[2] = wants_v.then(|| column(0..hidden));
        gradients[3] = wants_encoder.then(|| encoder.into_values());
        if let Some(place) = gradients.get_mut(4) {
            *place = wanted[4].then(|| column(hidden..hidden + 1));
        }
        gradients
    }
}

impl AdditiveAttention {
    /// About how many operations the forward pass has; a tangent has thirty.
    fn operations(&self) -> usize {
        self.batch * self.time * (30 * self.hidden + 2 * self.features)
    }
}

fn part<'a>(values: &'a mut Option<&mut [f32]>, at: usize, length: usize) -> Option<&'a mut [f32]> {
    values.as_mut().map(|values| &mut values[at * length..][..length])
}

/// The inputs.
struct Sequences<'a> {
    operation: &'a AdditiveAttention,
    mapped: &'a [f32],
    query: &'a [f32],
    v: &'a [f32],
    encoder: &'a [f32],
    bias: f32,
}

/// The inputs of one sequence.
pub(crate) struct Sequence<'a> {
    /// `[time, hidden]`
    pub(crate) mapped: &'a [f32],
    pub(crate) query: &'a [f32],
    pub(crate) v: &'a [f32],
    /// `[time, features]`
    pub(crate) encoder: &'a [f32],
    pub(crate) bias: f32,
    pub(crate) mask: Option<&'a [bool]>,
    pub(crate) hidden: usize,
    pub(crate) features: usize,
}

impl<'a> Sequences<'a> {
    fn new<const N: usize>(operation: &'a AdditiveAttention, inputs: &[&'a [f32]; N]) -> Self {
        Sequences {
            operation,
            mapped: inputs[0],
            query: inputs[1],
            v: inputs[2],
            encoder: inputs[3],
            bias: inputs.get(4).map_or(0.0, |bias| bias[0]),
        }
    }

    fn get(&self, row: usize) -> Sequence<'a> {
        let AdditiveAttention { time, hidden, features, ref mask, .. } = *self.operation;
        Sequence {
            mapped: &self.mapped[row * time * hidden..][..time * hidden],
            query: &self.query[row * hidden..][..hidden],
            v: self.v,
            encoder: &self.encoder[row * time * features..][..time * features],
            bias: self.bias,
            mask: mask.as_ref().map(|mask| &mask[row * time..][..time]),
            hidden,
            features,
        }
    }
}

impl Sequence<'_> {
    #[inline(always)]
    pub(crate) fn named(&self, place: usize) -> bool {
        self.mask.is_none_or(|mask| mask[place])
    }

    /// As [`masked_softmax`](crate::attention::masked_softmax) does, so that NaN and what is infinite do the
    /// same here.
    #[inline(always)]
    pub(crate) fn attend(&self, context: &mut [f32], weights: &mut [f32]) {
        let mut largest = f32::NEG_INFINITY;
        for (place, (score, mapped)) in
            weights.iter_mut().zip(self.mapped.chunks_exact(self.hidden)).enumerate()
        {
            *score = match self.named(place) {
                true => sum([mapped, self.query, self.v], |[x, q, v]| v * tanh(x + q)) + self.bias,
                false => LOW,
            };
            largest = if *score > largest { *score } else { largest };
        }
        let mut whole = 0.0;
        for weight in weights.iter_mut() {
            *weight = exp(*weight - largest);
            whole += *weight;
        }
        context.fill(0.0);
        for (place, (weight, encoder)) in
            weights.iter_mut().zip(self.encoder.chunks_exact(self.features)).enumerate()
        {
            *weight = if self.named(place) { *weight / whole } else { 0.0 };
            let weight = *weight;
            context.iter_mut().zip(encoder).for_each(|(to, x)| *to += weight * x);
        }
    }

    /// The scores' gradients, from those of context and weights.
    #[inline(always)]
    pub(crate) fn score_gradients(
        &self,
        scores: &mut [f32],
        weights: &[f32],
        context: &[f32],
        outer: &[f32],
    ) {
        let mut mean = 0.0;
        for (place, (score, encoder)) in
            scores.iter_mut().zip(self.encoder.chunks_exact(self.features)).enumerate()
        {
            *score = match self.named(place) {
                true => outer[place] + sum([encoder, context], |[x, g]| x * g),
                false => 0.0,
            };
            mean += weights[place] * *score;
        }
        for (place, (score, weight)) in scores.iter_mut().zip(weights).enumerate() {
            *score = if self.named(place) { weight * (*score - mean) } else { 0.0 };
        }
    }

    /// The gradient of one place's map from its score's; it is added to the query's, and v's part to v's.
    #[inline(always)]
    pub(crate) fn tangents(
        &self,
        place: usize,
        score: f32,
        to: &mut [f32],
        query: &mut [f32],
        v: &mut [f32],
    ) {
        let hidden = self.hidden;
        let mapped = &self.mapped[place * hidden..][..hidden];
        let (asks, weights) = (&self.query[..hidden], &self.v[..hidden]);
        let (to, query, v) = (&mut to[..hidden], &mut query[..hidden], &mut v[..hidden]);
        for h in 0..hidden {
            let tangent = tanh(mapped[h] + asks[h]);
            let gradient = score * weights[h] * (1.0 - tangent * tangent);
            to[h] = gradient;
            query[h] += gradient;
            v[h] += score * tangent;
        }
    }
}

/// Σ f(x₁, x₂, …) over slices of the same length.
#[inline(always)]
fn sum<const N: usize>(slices: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f32 {
    let length = slices[0].len();
    let mut lanes = [0f32; LANES];
    let mut at = 0;
    while at + LANES <= length {
        let parts: [&[f32]; N] = std::array::from_fn(|i| &slices[i][at..at + LANES]);
        for lane in 0..LANES {
            lanes[lane] += f(std::array::from_fn(|i| parts[i][lane]));
        }
        at += LANES;
    }
    for at in at..length {
        lanes[at % LANES] += f(std::array::from_fn(|i| slices[i][at]));
    }
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        low.iter_mut().zip(high.iter()).for_each(|(low, high)| *low += high);
        half /= 2;
    }
    lanes[0]
}
