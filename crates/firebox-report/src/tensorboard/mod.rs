//! The course of a run for TensorBoard.

mod event_file;
mod histogram;
mod message;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firebox_weights::{DType, RawTensor};

use self::event_file::{EventFile, now};
use self::histogram::Histogram;
use self::message::Value;
use crate::error::{BoxError, Error, ErrorKind};
use firebox_train::RunDir;
use firebox_train::event::{Callback, Event, Record, RecordKind};
use firebox_train::task::TaskState;

/// Writes event files into a run's folder, for TensorBoard.
///
/// `tensorboard --logdir runs` shows them, also while the run goes on.
///
/// * **Scalars**: every number of every [`Record`], by what was measured and of which data: `loss/train` for
///   each step, `loss/train-epoch`, `loss/valid`, `lr/train`. What is not a finite number is written as that.
/// * **Histograms**: the weights, whenever a checkpoint is saved, by their path in it: `model/conv1.weight`.
///   States of optimizers are left out. Gradients don't leave a task's step; a task can write them itself.
/// * **Images**, and whatever else: a clone of it writes into the same file, from another callback, from a
///   task, or after the run.
///
/// ```
/// use burn::tensor::Device;
/// use firebox_report::TensorBoard;
/// use firebox_train::{RunDir, Trainer};
///
/// # let folder = tempfile::tempdir()?;
/// let run = RunDir::create(folder.path().join("run"))?;
/// let board = TensorBoard::new(&run);
/// let trainer = Trainer::new(&run, &Device::default()).callback(board.clone());
/// // Beside what the trainer tells it:
/// board.scalar("temperature", 0.7)?;
/// board.image("square", image::RgbImage::from_pixel(28, 28, image::Rgb([200, 0, 0])))?;
/// assert_eq!(std::fs::read_dir(run.tensorboard())?.count(), 1);
/// # let _ = trainer;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A run that goes on gets another file. It begins with the word that what was written for later steps than
/// the checkpoint's is void (`SessionLog.START`), so that TensorBoard shows no step twice. What was written
/// after the checkpoint at its own step, such as a test after the run, is not void. Files are not synced: a
/// kill loses nothing of them, a loss of power may.
#[derive(Clone, Debug)]
pub struct TensorBoard(Arc<Mutex<Board>>);

#[derive(Debug)]
struct Board {
    folder: PathBuf,
    histograms: bool,
    /// Steps done: what is written is of this step.
    step: usize,
    /// `None` before something is written.
    file: Option<EventFile>,
}

impl TensorBoard {
    /// Event files in [`RunDir::tensorboard`].
    pub fn new(run: &RunDir) -> Self {
        let board = Board { folder: run.tensorboard(), histograms: true, step: 0, file: None };
        TensorBoard(Arc::new(Mutex::new(board)))
    }

    /// Writes weights at checkpoints, as it does by default, or not.
    ///
    /// It takes the training thread two
    /// readings of them.
    pub fn histograms(self, histograms: bool) -> Self {
        self.board().histograms = histograms;
        self
    }

    /// Writes a number at the step that the run has reached.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be written.
    pub fn scalar(&self, tag: &str, value: f64) -> Result<(), Error> {
        self.board().write([(tag.to_owned(), Value::Scalar(value as f32))])
    }

    /// Writes a picture, as PNG, at the step that the run has reached.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be written, [`ErrorKind::RunDir`] if it cannot be a PNG file.
    #[cfg(feature = "charts")]
    pub fn image(&self, tag: &str, image: impl Into<image::DynamicImage>) -> Result<(), Error> {
        let image = image.into();
        let mut png = std::io::Cursor::new(Vec::new());
        image
            .write_to(&mut png, image::ImageFormat::Png)
            .map_err(|error| Error::new(ErrorKind::RunDir, format!("picture {tag}")).caused_by(error))?;
        let value = Value::Image {
            width: image.width(),
            height: image.height(),
            colors: image.color().channel_count(),
            png: png.get_ref(),
        };
        self.board().write([(tag.to_owned(), value)])
    }

    /// Writes how values are distributed, by thirty buckets of one width.
    ///
    /// They are of the step that the run has reached. Values that are not finite are left out; if none is,
    /// nothing is written.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be written.
    pub fn histogram(&self, tag: &str, values: &[f32]) -> Result<(), Error> {
        match Histogram::of(values.iter().copied().map(f64::from)) {
            Some(histogram) => self.board().write([(tag.to_owned(), Value::Histogram(&histogram))]),
            None => Ok(()),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Nothing is left half done where a panic could be.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Callback for TensorBoard {
    fn on_event(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        let mut board = self.board();
        match event {
            Event::Started { done, .. } => board.start(*done)?,
            Event::StepEnds { state } => board.step = state.step,
            Event::Recorded(record) => board.record(record)?,
            Event::Saving { task, .. } if board.histograms => board.weights(task)?,
            _ => {}
        }
        Ok(())
    }
}

impl Board {
    /// A new file, which makes later steps than `done` of those before it void.
    fn start(&mut self, done: usize) -> Result<(), Error> {
        self.step = done;
        self.file = None;
        self.file()?.write(&message::restart(now(), done + 1))
    }

    fn record(&mut self, record: &Record) -> Result<(), Error> {
        self.step = record.step;
        let of = match record.kind {
            RecordKind::Step | RecordKind::Eval => record.split.clone(),
            RecordKind::Epoch => format!("{}-epoch", record.split),
        };
        let own = [
            ("epoch", Some(record.epoch as f64)),
            ("seconds", Some(record.seconds)),
            ("lr", record.lr),
            ("gradient_norm", record.gradient_norm),
            ("samples_per_s", Some(record.samples_per_s)),
            ("data_wait_s", Some(record.data_wait_s)),
        ];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let numbers = record.metrics.values().chain(own);
        self.write(numbers.map(|(name, value)| (format!("{name}/{of}"), Value::Scalar(value as f32))))
    }

    fn weights(&mut self, task: &TaskState) -> Result<(), Error> {
        let mut histograms = Vec::new();
        // Not so much as asked for: it may be made later, by another thread.
        for part in task.names().filter(|part| !part.ends_with(".optimizer")) {
            let tensors = task.get(part)?.iter();
            histograms.extend(
                tensors.filter_map(|(path, data)| Some((format!("{part}/{path}"), distribution(data)?))),
            );
        }
        self.write(histograms.iter().map(|(tag, histogram)| (tag.clone(), Value::Histogram(histogram))))
    }

    fn write<'v>(&mut self, values: impl IntoIterator<Item = (String, Value<'v>)>) -> Result<(), Error> {
        let event = message::summary(now(), self.step, values);
        self.file()?.write(&event)
    }

    fn file(&mut self) -> Result<&mut EventFile, Error> {
        match &mut self.file {
            Some(file) => Ok(file),
            file => Ok(file.insert(EventFile::create(&self.folder)?)),
        }
    }
}

/// `None` for tensors of something else than floats, and those without a finite one.
fn distribution(data: &RawTensor) -> Option<Histogram> {
    match data.dtype() {
        DType::F32 => Histogram::of(data.to_vec::<f32>().ok()?.into_iter().map(f64::from)),
        dtype if dtype.is_float() => Histogram::of(data.to_f64_vec().into_iter()),
        _ => None,
    }
}
