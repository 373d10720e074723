//! Language modelling: the next token of a text that is read window by window.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use firebox_data::formats::text::Vocabulary;
use firebox_data::tensors::SequenceBatch;
use firebox_kernels::cross_entropy;
use firebox_models::layers::RecurrentState;
use firebox_models::text::LanguageModel;
use firebox_weights::{RawTensor, StateDict};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::learner::Learner;
use crate::metrics::{Metrics, Quantity};
use crate::readout::to_scalar;
use crate::task::{Goal, StepContext, Task, TaskState};
use crate::tasks::batch::{is_empty, lengths_of};

/// Trains a [`LanguageModel`] to predict each next token.
///
/// The loss is the mean cross-entropy; gradients go back through a window (truncated back-propagation through
/// time).
///
/// A batch is a window of each of some stretches of text, as [`Windows`](firebox_data::dataset::Windows) give
/// them: tokens `[rows, time + 1]` of which each but the last is read, and each but the first predicted. The
/// state after a batch is carried into the next one, without gradients. It begins with zeros at the beginning
/// of an epoch, and so does that of an evaluation, which carries its own. In a checkpoint the carried state
/// is a part of its own, so that a resumed epoch goes on in the middle of its text.
///
/// Metrics, over tokens, which are also what `samples` counts: `loss` in nats, `bits_per_character`, which is
/// the loss in bits and means what it says if tokens are characters, and `perplexity`.
///
/// A batch with a token that the model doesn't know, without rows, or with rows of unequal length is refused
/// with [`ErrorKind::Task`], in training and in evaluations; for that tokens and lengths are read from the
/// device, together, once a batch.
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::text::LanguageModelConfig;
/// use firebox_train::Learner;
/// use firebox_train::optimizer::AdamConfig;
/// use firebox_train::tasks::LanguageModeling;
///
/// let model = LanguageModelConfig::new(50, 16, 32).init(&Device::default().autodiff())?;
/// let learner = Learner::new(model, AdamConfig::new().init()?).with_clip_norm(1.0)?;
/// let task = LanguageModeling::new(learner);
/// assert_eq!(task.model().embedding.weight.dims(), [50, 16]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct LanguageModeling {
    learner: Learner<LanguageModel>,
    vocabulary: Option<Vocabulary>,
    carried: Option<Carried>,
}

/// The state after a batch.
struct Carried {
    /// On the training device, without gradients.
    state: RecurrentState,
    at: Place,
}

/// The step that the carried state comes from. What follows it is of the same epoch and step, or of the next
/// step; any other step begins anew.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Place {
    epoch: u64,
    step: usize,
}

impl LanguageModeling {
    /// A task that trains a learner's model, which must be on an autodiff device.
    pub fn new(learner: Learner<LanguageModel>) -> Self {
        LanguageModeling { learner, vocabulary: None, carried: None }
    }

    /// Saves the vocabulary in checkpoints, and takes no checkpoint of another one.
    pub fn with_vocabulary(mut self, vocabulary: Vocabulary) -> Self {
        self.vocabulary = Some(vocabulary);
        self
    }

    /// The model as it is now.
    pub fn model(&self) -> &LanguageModel {
        self.learner.model()
    }

    /// The model that evaluations judge, on a device without autodiff.
    pub fn averaged(&self) -> LanguageModel {
        self.learner.averaged()
    }

    /// The vocabulary of a saved state.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if the state has none.
    pub fn vocabulary_of(state: &TaskState) -> Result<Vocabulary, Error> {
        state.value(VOCABULARY)
    }

    /// The state to begin a step with.
    fn carry(&mut self, context: &StepContext) -> Option<RecurrentState> {
        let Carried { state, at } = self.carried.take()?;
        let next = at.step.checked_add(1) == Some(context.step);
        let follows = at.epoch == context.epoch && (next || at.step == context.step);
        follows.then_some(state)
    }
}

impl Task for LanguageModeling {
    type Batch = SequenceBatch<Int>;

    fn train_step(&mut self, batch: Self::Batch, context: &StepContext) -> Result<Metrics, Error> {
        let before = self.carry(context);
        let at = Place { epoch: context.epoch, step: context.step };
        if is_empty(&batch.values.dims()) {
            // Nothing was read, so that the next batch goes on where the last one ended.
            self.carried = before.map(|state| Carried { state, at });
            return self.learner.learn_nothing(context).map(|()| Metrics::default());
        }
        let (loss, state, tokens) = read(self.learner.model(), batch, before.clone())?;
        let metrics = judge(loss.clone().detach(), tokens)?;
        let learned = self.learner.learn(loss, tokens as f64, context);
        // A state that is NaN would spoil all that follow: after a batch that is left out the older
        // one stands.
        let state = match &learned {
            Ok(()) => Some(state),
            Err(_) => before,
        };
        self.carried = state.map(|state| Carried { state: detached(state), at });
        learned.map(|()| metrics)
    }

    fn gradient_norm(&self) -> Option<f64> {
        self.learner.gradient_norm()
    }

    fn device(&self) -> Option<Device> {
        self.learner.device()
    }

    fn evaluator(&self) -> impl FnMut(Self::Batch) -> Result<Metrics, Error> {
        let model = self.learner.averaged();
        let mut carried: Option<RecurrentState> = None;
        move |batch| {
            if is_empty(&batch.values.dims()) {
                return Ok(Metrics::default());
            }
            let before = carried.take();
            let (loss, state, tokens) = read(&model, batch, before.clone())?;
            let metrics = judge(loss, tokens)?;
            // As in training: after a batch that is left out the older one stands.
            let finite = metrics.value("loss").is_some_and(f64::is_finite);
            carried = if finite { Some(state) } else { before };
            Ok(metrics)
        }
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("loss", Goal::Minimize)
    }

    fn state(&self) -> Result<TaskState, Error> {
        let mut state = TaskState::default();
        self.learner.save("model", &mut state)?;
        if let Some(vocabulary) = &self.vocabulary {
            state.insert_value(VOCABULARY, vocabulary)?;
        }
        state.insert_value(CARRIED, &self.carried.as_ref().map(|carried| carried.at))?;
        if let Some(Carried { state: RecurrentState { hidden, cell }, .. }) = &self.carried {
            let mut part = StateDict::default();
            part.insert("hidden", hidden.clone().into_data());
            if let Some(cell) = cell {
                part.insert("cell", cell.clone().into_data());
            }
            state.insert(CARRIED, part);
        }
        Ok(state)
    }

    fn load(&mut self, state: &TaskState) -> Result<(), Error> {
        if let Some(own) = &self.vocabulary {
            let saved = Self::vocabulary_of(state)?;
            if saved != *own {
                let text = |vocabulary: &Vocabulary| {
                    format!("{} characters {:?}", vocabulary.len(), String::from(vocabulary.clone()))
                };
                let text = format!("vocabulary: expected {}, got {}", text(own), text(&saved));
                return Err(Error::new(ErrorKind::Checkpoint, text));
            }
        }
        let carried = match state.value::<Option<Place>>(CARRIED)? {
            None => None,
            Some(at) => Some(Carried { state: restored(self.learner.model(), state.get(CARRIED)?)?, at }),
        };
        self.learner.load("model", state)?;
        self.carried = carried;
        Ok(())
    }
}

const VOCABULARY: &str = "vocabulary";
const CARRIED: &str = "carried";

/// Reads a batch from a state: the mean loss of its predictions, the state after it, and how many
/// predictions there are.
fn read(
    model: &LanguageModel,
    batch: SequenceBatch<Int>,
    state: Option<RecurrentState>,
) -> Result<(Tensor<1>, RecurrentState, usize), Error> {
    let wrong = |text: String| Err(Error::new(ErrorKind::Task, text));
    let [rows, longest] = batch.values.dims();
    let [vocabulary, _] = model.embedding.weight.dims();
    let [lengths] = lengths_of([("window", &batch, vocabulary)])?;
    if let Some(row) = lengths.iter().position(|&length| length != longest || length < 2) {
        let expected = longest.max(2);
        return wrong(format!(
            "row {row} of a window: expected {expected} tokens, as many as in each row and at least 2, got {}",
            lengths[row]
        ));
    }
    if let Some(state) = &state {
        let [_, carried, _] = state.hidden.dims();
        if carried != rows {
            return wrong(format!(
                "a window: expected {carried} rows, as in the batch before, whose state is carried, got {rows}"
            ));
        }
    }
    let time = longest - 1;
    let targets = batch.values.clone().narrow(1, 1, time);
    let (logits, state) = model.forward(batch.values.narrow(1, 0, time), state);
    let [_, _, tokens] = logits.dims();
    let loss = cross_entropy(logits.reshape([rows * time, tokens]), targets.reshape([rows * time]));
    Ok((loss, state, rows * time))
}

fn judge(loss: Tensor<1>, tokens: usize) -> Result<Metrics, Error> {
    let loss = to_scalar(&loss)?;
    Ok(Metrics::of(tokens)
        .with_mean("loss", loss)
        .with_mean("bits_per_character", loss / std::f64::consts::LN_2)
        .with("perplexity", Quantity::perplexity(loss, tokens)))
}

fn detached(state: RecurrentState) -> RecurrentState {
    RecurrentState { hidden: state.hidden.detach(), cell: state.cell.map(Tensor::detach) }
}

/// A saved state for a model.
fn restored(model: &LanguageModel, saved: &StateDict) -> Result<RecurrentState, Error> {
    let device = model.devices().into_iter().next().unwrap_or_default();
    let wrong = |text: String| Error::new(ErrorKind::Checkpoint, format!("{CARRIED}: {text}"));
    let tensor = |name: &str, data: &RawTensor| {
        // Any number of rows.
        let rows = data.shape().get(1).copied().unwrap_or(0);
        let expected = model.rnn.state_dims(rows);
        match data.shape() == expected {
            true => Ok(Tensor::<3>::from_data(data, &device)),
            false => Err(wrong(format!("{name}: expected shape {expected:?}, got {:?}", data.shape()))),
        }
    };
    let hidden = saved.get("hidden").ok_or_else(|| wrong("missing hidden".to_owned()))?;
    let hidden = tensor("hidden", hidden)?;
    let cell = saved.get("cell").map(|cell| tensor("cell", cell)).transpose()?;
    Ok(RecurrentState { hidden, cell })
}
