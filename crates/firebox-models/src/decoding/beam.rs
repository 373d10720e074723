//! Search for the best sequence of tokens.

use burn::config::Config;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::decoding::finite::{check_logits, floats};
use crate::error::{Error, ErrorKind, check};
use crate::text::decoder::Decoding;

/// Settings of a beam search, which [`Seq2Seq::beam`](crate::text::Seq2Seq::beam) makes.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_models::decoding::Beam;
/// use firebox_models::text::Seq2SeqConfig;
///
/// let device = Device::default();
/// let model = Seq2SeqConfig::new(9, 7, 4, 6).init(&device)?;
/// let tokens = Tensor::<2, Int>::from_data([[3, 4, 5], [6, 0, 0]], &device);
/// let lengths = Tensor::<1, Int>::from_data([3, 1], &device);
/// let found = model.beam((tokens, lengths), &Beam::new(8).with_width(3).with_length_penalty(0.6))?;
/// let best = &found[0][0];
/// assert!(best.tokens.len() <= 8 && best.log_probability <= 0.0);
/// assert!(found[0].iter().all(|other| other.score <= best.score));
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Config, Debug)]
pub struct Beam {
    /// The most tokens that a sequence may have, its end token included; at least 1.
    pub max_length: usize,
    /// Sequences that are followed at the same time; at least 1.
    #[config(default = 5)]
    pub width: usize,
    /// The preference for longer sequences; at least 0, which prefers none.
    ///
    /// It is α in ((5 + length)/6)^α, by which the log-probability is divided (Wu et al. 2016).
    #[config(default = 0.0)]
    pub length_penalty: f64,
}

/// A sequence that a search has found; [`Beam`] shows some.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Without begin and end token.
    pub tokens: Vec<usize>,
    /// True if its end token was found; else it was cut at the greatest length.
    pub ended: bool,
    /// ln p of its tokens, the end token included.
    pub log_probability: f64,
    /// The log-probability divided by the length penalty, which hypotheses are ordered by.
    pub score: f64,
    /// For each token, and for the end token, the attention's weights over the source, `[time]`.
    pub attention: Vec<Vec<f32>>,
}

impl Beam {
    pub(crate) fn check(&self) -> Result<(), Error> {
        check(self.max_length > 0, "Beam.max_length", "at least 1", self.max_length)?;
        check(self.width > 0, "Beam.width", "at least 1", self.width)?;
        let penalty = self.length_penalty;
        check(penalty >= 0.0 && penalty.is_finite(), "Beam.length_penalty", "a number of at least 0", penalty)
    }

    fn score(&self, log_probability: f64, length: usize) -> f64 {
        log_probability / ((5.0 + length as f64) / 6.0).powf(self.length_penalty)
    }
}

/// A token of a sequence that was followed, and the one before it.
struct Node {
    before: Option<usize>,
    token: usize,
    attention: Vec<f32>,
}

/// A sequence that goes on.
#[derive(Clone, Copy)]
struct Live {
    /// Its last token; `None` at the beginning.
    node: Option<usize>,
    /// Its row in the decoder's batch.
    row: usize,
    log_probability: f64,
}

/// One sentence of the batch.
struct Sentence {
    live: Vec<Live>,
    /// The best so far, the best first.
    found: Vec<Hypothesis>,
}

/// The best sequences for each sentence of the decoder's batch.
///
/// Of equals, the one found first comes first: the shorter, of the better beginning, with the smaller token.
/// A token that cannot come, whose logit is −∞, is in none.
pub(crate) fn search(
    mut decoding: Decoding<'_>,
    sentences: usize,
    begin: usize,
    end: usize,
    beam: &Beam,
) -> Result<Vec<Vec<Hypothesis>>, Error> {
    let first =
        |row| Sentence { live: vec![Live { node: None, row, log_probability: 0.0 }], found: Vec::new() };
    let mut all: Vec<Sentence> = (0..sentences).map(first).collect();
    let mut nodes: Vec<Node> = Vec::new();
    for length in 1..=beam.max_length {
        let mut live: Vec<&mut Live> = all.iter_mut().flat_map(|sentence| &mut sentence.live).collect();
        if live.is_empty() {
            break;
        }
        let rows: Vec<usize> = live.iter().map(|live| live.row).collect();
        live.iter_mut().enumerate().for_each(|(row, live)| live.row = row);
        let tokens = live.iter().map(|live| live.node.map_or(begin, |node| nodes[node].token)).collect();
        if length > 1 {
            decoding.select(ints(rows, &decoding.device()));
        }
        let (logits, attention) = decoding.step(ints(tokens, &decoding.device()));
        let (vocabulary, logs) = rows_of(log_softmax(logits.clone(), 1));
        let (time, attention) = rows_of(attention);
        for (number, sentence) in all.iter_mut().enumerate() {
            let mut candidates: Vec<(f64, Live, usize)> =
                Vec::with_capacity(sentence.live.len() * vocabulary);
            for live in &sentence.live {
                let row = &logs[live.row * vocabulary..][..vocabulary];
                // The logarithms of a row are all NaN if one of its logits is, or +∞, or if all are −∞.
                if row.first().is_none_or(|log| log.is_nan()) {
                    let error = check_logits(&floats(logits.narrow(0, live.row, 1))).err();
                    let error = error.unwrap_or_else(|| Error::new(ErrorKind::Value, "log softmax: got NaN"));
                    return Err(error.within(format_args!("sentence {number}, step {}", length - 1)));
                }
                let after = |(token, &log): (usize, &f32)| {
                    (log > f32::NEG_INFINITY).then(|| (live.log_probability + f64::from(log), *live, token))
                };
                candidates.extend(row.iter().enumerate().filter_map(after));
            }
            // Among the best 2·width at least width go on, for each sequence ends once.
            let wanted = beam.width.saturating_mul(2).min(candidates.len());
            let order = |a: &(f64, Live, usize), b: &(f64, Live, usize)| {
                b.0.total_cmp(&a.0).then(a.1.row.cmp(&b.1.row)).then(a.2.cmp(&b.2))
            };
            if wanted < candidates.len() {
                candidates.select_nth_unstable_by(wanted, order);
                candidates.truncate(wanted);
            }
            candidates.sort_by(order);
            sentence.live.clear();
            for (rank, (log_probability, live, token)) in candidates.into_iter().enumerate() {
                if sentence.live.len() == beam.width {
                    break;
                }
                let ends = token == end;
                // An end counts if it is among the best: else a search of width 1 would not be the greedy
                // one.
                if ends && rank >= beam.width {
                    continue;
                }
                let attention = attention[live.row * time..][..time].to_vec();
                nodes.push(Node { before: live.node, token, attention });
                let next = Live { node: Some(nodes.len() - 1), row: live.row, log_probability };
                if ends || length == beam.max_length {
                    sentence.found.push(hypothesis(&nodes, next, ends, beam.score(log_probability, length)));
                } else {
                    sentence.live.push(next);
                }
            }
            sentence.found.sort_by(|a, b| b.score.total_cmp(&a.score));
            sentence.found.truncate(beam.width);
            // The best that could come of what goes on: no token more lowers it, the greatest length divides
            // it.
            let could = sentence.live.first().map(|live| beam.score(live.log_probability, beam.max_length));
            let enough = sentence.found.len() == beam.width;
            if enough && could.is_some_and(|could| sentence.found[beam.width - 1].score >= could) {
                sentence.live.clear();
            }
        }
    }
    Ok(all.into_iter().map(|sentence| sentence.found).collect())
}

fn hypothesis(nodes: &[Node], live: Live, ended: bool, score: f64) -> Hypothesis {
    let chain = std::iter::successors(live.node, |&node| nodes[node].before);
    let (mut tokens, mut attention): (Vec<usize>, Vec<Vec<f32>>) =
        chain.map(|node| (nodes[node].token, nodes[node].attention.clone())).unzip();
    tokens.reverse();
    attention.reverse();
    if ended {
        tokens.pop();
    }
    Hypothesis { tokens, ended, log_probability: live.log_probability, score, attention }
}

fn ints(values: Vec<usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.into_iter().map(|value| value as i64).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

/// The width of a matrix, and its rows one after the other.
fn rows_of(matrix: Tensor<2>) -> (usize, Vec<f32>) {
    let [_, width] = matrix.dims();
    (width, floats(matrix))
}
