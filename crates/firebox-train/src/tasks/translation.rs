//! Translation: from one sequence to another.

use burn::tensor::{Device, Int, Tensor, TensorData};
use firebox_data::tensors::SequenceBatch;
use firebox_kernels::cross_entropy;
use firebox_models::decoding::{Beam, Hypothesis};
use firebox_models::text::Seq2Seq;

use crate::error::{Error, ErrorKind, check};
use crate::learner::Learner;
use crate::metrics::{Metrics, accuracy};
use crate::readout::{integers, to_scalar};
use crate::task::{Goal, StepContext, Task, TaskState};
use crate::tasks::batch::lengths_of;
use crate::tasks::decode::{Decode, Translated};
use crate::tasks::teacher_forcing::TeacherForcing;

/// Trains a [`Seq2Seq`] by the mean cross-entropy of the targets' tokens, padding left out.
///
/// A batch has sources, and as many targets: each a begin token, tokens, an end token.
///
/// Metrics: `loss`, over tokens, and `token_accuracy`, the share of tokens that were the likeliest when the
/// decoder knew what comes before them. Evaluations that [decode](Self::with_decoding) also have the rates of
/// wrong tokens and of wrong sequences. An evaluation's loss is without label smoothing, so that it is
/// comparable.
///
/// A batch with a token that the model doesn't know, or with a length that is none is refused with
/// [`ErrorKind::Task`], in training and in evaluations; for that tokens and lengths are read from the device,
/// together, once a batch. Of a batch without samples [nothing is learned](Learner::learn_nothing), and
/// nothing measured.
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::text::Seq2SeqConfig;
/// use firebox_train::optimizer::AdamConfig;
/// use firebox_train::tasks::{Decode, Translation};
/// use firebox_train::{Learner, Task};
///
/// // 30 letters become 40 phonemes, by vectors of 8 numbers and states of 16.
/// let model = Seq2SeqConfig::new(30, 40, 8, 16).init(&Device::default().autodiff())?;
/// let learner = Learner::new(model, AdamConfig::new().init()?).with_clip_norm(1.0)?;
/// let task = Translation::new(learner).with_label_smoothing(0.1)?.with_decoding(Decode::greedy(20));
/// assert_eq!(Task::monitor(&task).0, "token_error_rate");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Translation {
    learner: Learner<Seq2Seq>,
    teacher_forcing: TeacherForcing,
    label_smoothing: f64,
    decode: Option<Decode>,
}

impl Translation {
    /// A task that trains a learner's model, which must be on an autodiff device.
    ///
    /// The decoder always reads the true tokens, nothing is smoothed, and evaluations don't decode.
    pub fn new(learner: Learner<Seq2Seq>) -> Self {
        Translation { learner, teacher_forcing: TeacherForcing::ALWAYS, label_smoothing: 0.0, decode: None }
    }

    /// Sets how often the decoder reads the true token in training.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] for a number out of its range.
    pub fn with_teacher_forcing(mut self, teacher_forcing: TeacherForcing) -> Result<Self, Error> {
        teacher_forcing.check()?;
        self.teacher_forcing = teacher_forcing;
        Ok(self)
    }

    /// Smooths the targets by this share of the uniform distribution.
    ///
    /// It is `label_smoothing` of `torch.nn.CrossEntropyLoss` (Szegedy et al. 2016).
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] unless it is from 0 to 1.
    pub fn with_label_smoothing(mut self, share: f64) -> Result<Self, Error> {
        check((0.0..=1.0).contains(&share), "label smoothing", "a number from 0 to 1", share)?;
        self.label_smoothing = share;
        Ok(self)
    }

    /// Has evaluations decode, too, and count what is wrong. The rate of wrong tokens then decides which
    /// checkpoint is the best, else the loss.
    pub fn with_decoding(mut self, decode: Decode) -> Self {
        self.decode = Some(decode);
        self
    }

    /// The model as it is now.
    pub fn model(&self) -> &Seq2Seq {
        self.learner.model()
    }

    /// The best targets that a beam search finds for each source, the best first.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] for a setting of the search that is out of its range, [`ErrorKind::Task`]
    /// for sources that don't fit, [`ErrorKind::NotFinite`] if the model gives NaN: it names
    /// sentence and step.
    pub fn translate(&self, sources: SequenceBatch, beam: &Beam) -> Result<Vec<Vec<Hypothesis>>, Error> {
        search(&self.learner.averaged(), sources, beam)
    }

    /// An evaluator that decodes, and collects what it found.
    ///
    /// It decodes in its own way, and collects in the order of the samples.
    pub fn translator<'a>(
        &'a self,
        decode: &'a Decode,
        into: &'a mut Vec<Translated>,
    ) -> impl FnMut((SequenceBatch, SequenceBatch)) -> Result<Metrics, Error> + 'a {
        let model = self.learner.averaged();
        move |(sources, targets)| {
            let (metrics, translated) = judge(&model, sources, targets, decode)?;
            into.extend(translated);
            Ok(metrics)
        }
    }
}

impl Task for Translation {
    type Batch = (SequenceBatch, SequenceBatch);

    fn train_step(
        &mut self,
        (sources, targets): Self::Batch,
        context: &StepContext,
    ) -> Result<Metrics, Error> {
        let forced = self.teacher_forcing.at(context.step);
        let Some(tokens) = Tokens::of(self.model(), sources, targets, forced)? else {
            return self.learner.learn_nothing(context).map(|()| Metrics::default());
        };
        let loss = tokens.loss(self.label_smoothing);
        let metrics = tokens.metrics(loss.clone().detach())?;
        self.learner.learn(loss, tokens.count() as f64, context)?;
        Ok(metrics)
    }

    fn gradient_norm(&self) -> Option<f64> {
        self.learner.gradient_norm()
    }

    fn device(&self) -> Option<Device> {
        self.learner.device()
    }

    fn evaluator(&self) -> impl FnMut(Self::Batch) -> Result<Metrics, Error> {
        let model = self.learner.averaged();
        let decode = self.decode.clone();
        move |(sources, targets)| match &decode {
            Some(decode) => Ok(judge(&model, sources, targets, decode)?.0),
            None => {
                let tokens = Tokens::of(&model, sources, targets, 1.0)?;
                tokens.map_or(Ok(Metrics::default()), |tokens| tokens.metrics(tokens.loss(0.0)))
            }
        }
    }

    fn monitor(&self) -> (&'static str, Goal) {
        (self.decode.as_ref().map_or("loss", Decode::token_rate), Goal::Minimize)
    }

    fn state(&self) -> Result<TaskState, Error> {
        let mut state = TaskState::default();
        self.learner.save("model", &mut state)?;
        Ok(state)
    }

    fn load(&mut self, state: &TaskState) -> Result<(), Error> {
        self.learner.load("model", state)
    }
}

/// A model's logits for the tokens of a batch's targets that are no padding, one after the other.
struct Tokens {
    samples: usize,
    /// `[tokens, vocabulary]`
    logits: Tensor<2>,
    /// `[tokens]`
    targets: Tensor<1, Int>,
}

impl Tokens {
    /// `None` of a batch without samples.
    fn of(
        model: &Seq2Seq,
        sources: SequenceBatch,
        targets: SequenceBatch,
        teacher_forcing: f64,
    ) -> Result<Option<Self>, Error> {
        let ([samples, longest], [others, _]) = (targets.values.dims(), sources.values.dims());
        if samples != others {
            let text = format!("translation: expected a target for each of {others} sources, got {samples}");
            return Err(Error::new(ErrorKind::Task, text));
        }
        if samples == 0 {
            return Ok(None);
        }
        let ([source_tokens, _], [tokens, _]) =
            (model.encoder.embedding.weight.dims(), model.decoder.embedding.weight.dims());
        let [_, lengths] = lengths_of([("source", &sources, source_tokens), ("target", &targets, tokens)])?;
        // The first place of each target is its begin token, which nothing is said about.
        if let Some(sample) = lengths.iter().position(|&length| length < 2) {
            let text = format!(
                "target {sample} of the batch: expected a begin token and an end token, got {} tokens",
                lengths[sample]
            );
            return Err(Error::new(ErrorKind::Task, text));
        }
        let steps = longest - 1;
        let places = lengths.iter().enumerate();
        let places: Vec<i64> = places
            .flat_map(|(row, &length)| (row * steps..).take(length - 1))
            .map(|place| place as i64)
            .collect();
        let count = places.len();
        let device = targets.values.device();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &device);
        let next = targets.values.clone().narrow(1, 1, steps).reshape([samples * steps]);
        let logits = model.forward(sources, targets.values, teacher_forcing);
        let [.., vocabulary] = logits.dims();
        Ok(Some(Tokens {
            samples,
            logits: logits.reshape([samples * steps, vocabulary]).select(0, places.clone()),
            targets: next.select(0, places),
        }))
    }

    fn count(&self) -> usize {
        self.targets.dims()[0]
    }

    fn loss(&self, smoothing: f64) -> Tensor<1> {
        let loss = cross_entropy(self.logits.clone(), self.targets.clone());
        if smoothing == 0.0 {
            return loss;
        }
        // Of a share ε of the uniform distribution: −Σ pᵢ·(zᵢ − log Σ eᶻ) = log Σ eᶻ − z_target + ε·(z_target
        // − mean z).
        let own = self.logits.clone().gather(1, self.targets.clone().unsqueeze_dim(1));
        loss + (own - self.logits.clone().mean_dim(1)).mean() * smoothing
    }

    fn metrics(&self, loss: Tensor<1>) -> Result<Metrics, Error> {
        let loss = to_scalar(&loss)?;
        let metrics = Metrics::of(self.samples).with_weighted_mean("loss", loss, self.count() as f64);
        Ok(metrics.with("token_accuracy", accuracy(&self.logits.clone().detach(), &self.targets)?))
    }
}

fn search(model: &Seq2Seq, sources: SequenceBatch, beam: &Beam) -> Result<Vec<Vec<Hypothesis>>, Error> {
    model.beam(sources, beam).map_err(|error| {
        let kind = match error.kind() {
            firebox_models::ErrorKind::OutOfRange(setting) => {
                return Error::from(ErrorKind::from(setting.clone())).within("decoding");
            }
            firebox_models::ErrorKind::Value => ErrorKind::NotFinite,
            _ => ErrorKind::Task,
        };
        Error::new(kind, "decoding").caused_by(error)
    })
}

/// The translations of a batch, and how good they are.
fn judge(
    model: &Seq2Seq,
    sources: SequenceBatch,
    targets: SequenceBatch,
    decode: &Decode,
) -> Result<(Metrics, Vec<Translated>), Error> {
    let Some(tokens) = Tokens::of(model, sources.clone(), targets.clone(), 1.0)? else {
        return Ok((Metrics::default(), Vec::new()));
    };
    let metrics = tokens.metrics(tokens.loss(0.0))?;
    let sources_read = sequences(&sources)?;
    // Without begin and end token.
    let targets: Vec<Vec<usize>> =
        sequences(&targets)?.into_iter().map(|target| target[1..target.len() - 1].to_vec()).collect();
    let found =
        search(model, sources, decode.search())?.into_iter().filter_map(|found| found.into_iter().next());
    let samples = sources_read.into_iter().zip(targets).zip(found);
    let translated: Vec<_> =
        samples.map(|((source, target), found)| decode.compare(source, target, found)).collect();
    let metrics = decode.add(metrics, &translated)?;
    Ok((metrics, translated))
}

/// The tokens of each sequence, without padding.
fn sequences(batch: &SequenceBatch) -> Result<Vec<Vec<usize>>, Error> {
    let [_, longest] = batch.values.dims();
    let (values, lengths) = (integers(batch.values.clone())?, integers(batch.lengths.clone())?);
    let rows = values.chunks(longest.max(1)).zip(lengths);
    Ok(rows.map(|(row, length)| row[..length].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// `torch.nn.functional.cross_entropy(logits, targets, label_smoothing=share)` of PyTorch 2.15, in 64
    /// bits, with the gradient of the first row.
    const SMOOTHED: [(f64, f64, [f64; 4]); 4] = [
        (0.0, 1.4493469802632937, [0.030846965, 0.006882888, -0.061753494, 0.024023641]),
        (0.1, 1.5223469802632938, [0.025846965, 0.001882888, -0.046753494, 0.019023641]),
        (0.5, 1.8143469802632937, [0.005846965, -0.018117112, 0.013246506, -0.000976359]),
        (1.0, 2.179346980263294, [-0.019153035, -0.043117112, 0.088246506, -0.025976359]),
    ];

    #[test]
    fn smoothed_targets_have_the_loss_and_gradient_of_pytorch() {
        let device = Device::default().autodiff();
        let logits = [
            [0.5f32, -1.0, 2.0, 0.25],
            [1.5, 0.0, -0.75, 3.0],
            [0.1, 0.2, 0.3, 0.4],
            [-2.0, 1.0, 0.5, 0.0],
            [4.0, -4.0, 1.0, 2.0],
        ];
        let targets = Tensor::<1, Int>::from_data(TensorData::from([2i64, 0, 3, 1, 2]), &device);
        for (share, expected, slopes) in SMOOTHED {
            let logits = Tensor::<2>::from_data(TensorData::from(logits), &device).require_grad();
            let tokens = Tokens { samples: 1, logits: logits.clone(), targets: targets.clone() };
            let loss = tokens.loss(share);
            let gradient = crate::readout::floats(logits.grad(&loss.backward()).unwrap()).unwrap();
            let loss = to_scalar(&loss).unwrap();
            assert!((loss - expected).abs() < 1e-6, "{share}: {loss}, expected {expected}");
            for (slope, expected) in gradient.into_iter().map(f64::from).zip(slopes) {
                assert!((slope - expected).abs() < 1e-7, "{share}: {slope}, expected {expected}");
            }
        }
    }
}
