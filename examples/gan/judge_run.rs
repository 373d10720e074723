//! The judge of a run: given, kept from before, or trained in a folder within the run's.

use std::path::Path;
use std::{fs, io};

use burn::tensor::Device;
use firebox::data::BoxError;
use firebox::models::vision::Cnn;
use firebox::prelude::*;
use firebox::train::checkpoint::Checkpoints;
use firebox::train::run::{Interrupt, Signal};
use firebox::weights::Weights;
use firebox_cli::{Settings, say};
use serde_json::json;

use crate::Recipe;
use crate::batches::Labelled;
use crate::images::Data;
use crate::judge::{SEED, WEIGHTS, load, network};

/// The folder of the judge's own training.
const TRAINING: &str = "judge";
/// The highest learning rate and the batch size of that.
const LR: f64 = 3e-3;
const BATCH_SIZE: usize = 64;

/// The judge that is asked for, unless a run that goes on has its own already.
pub(crate) fn given(
    settings: &Settings<'_, Recipe>,
    recipe: &Recipe,
    device: &Device,
) -> Result<Option<Cnn>, BoxError> {
    match &recipe.judge {
        Some(_) if settings.resumes() && settings.existing()?.path().join(WEIGHTS).exists() => Ok(None),
        Some(path) => load(path, device).map(Some),
        None => Ok(None),
    }
}

/// The run's judge, or the signal that stopped its training. The run keeps the judge that it was begun with.
pub(crate) fn ready(
    run: &RunDir,
    resumes: bool,
    given: Option<Cnn>,
    recipe: &Recipe,
    data: &Data,
    interrupt: Interrupt,
) -> Result<Result<Cnn, Signal>, BoxError> {
    let device = recipe.common.backend.device()?;
    let (file, folder) = (run.path().join(WEIGHTS), run.path().join(TRAINING));
    if resumes && file.exists() {
        return Ok(Ok(network(&device)?.load_safetensors(file)?));
    }
    if !resumes {
        // At once: the run may be killed while its judge learns.
        run.write_config(recipe)?;
        // Of a run that is overwritten.
        gone(&file, fs::remove_file(&file))?;
        gone(&folder, fs::remove_dir_all(&folder))?;
    }
    let cnn = match given {
        Some(cnn) => cnn,
        None => match trained(&folder, resumes, recipe, data, interrupt, &device)? {
            Some(signal) => return Ok(Err(signal)),
            None => load(&folder, &device)?,
        },
    };
    cnn.save_safetensors(&file)?;
    Ok(Ok(cnn))
}

/// Fails if something could not be removed, unless it was not there.
fn gone(path: &Path, removed: io::Result<()>) -> Result<(), BoxError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", path.display()).into())
        }
        _ => Ok(()),
    }
}

/// Trains a judge as the example `training` does; a signal may stop it.
fn trained(
    folder: &Path,
    resumes: bool,
    recipe: &Recipe,
    data: &Data,
    interrupt: Interrupt,
    device: &Device,
) -> Result<Option<Signal>, BoxError> {
    let training = device.clone().autodiff();
    let loader = |images| recipe.common.threads.loader(Labelled { images, for_judge: true });
    let images = loader(data.train.shuffled().batched(BATCH_SIZE, SEED))?.on_device(&training)?;
    let valid = loader(data.valid.clone().batched(BATCH_SIZE, SEED))?.on_device(device)?;
    let mut task = Classification::new(Learner::new(network(&training)?, AdamConfig::new().init()?));

    let goes_on = resumes && !Checkpoints::new(folder.join("checkpoints")).is_empty();
    let judge = match goes_on {
        true => RunDir::open(folder)?.resume()?,
        false => RunDir::overwrite(folder)?,
    };
    let epochs = recipe.judge_epochs;
    judge.write_config(&json!({ "epochs": epochs, "batch_size": BATCH_SIZE, "lr": LR, "seed": SEED }))?;
    say(format!("training the judge: {epochs} epoch{}", if epochs == 1 { "" } else { "s" }));
    let trainer = Trainer::new(&judge, device).epochs(epochs).resume(goes_on);
    let schedule = OneCycle::new(LR, trainer.steps(&images)?)?;
    let trainer = trainer.schedule(schedule).interrupt(interrupt);
    let outcome = trainer.callback(Progress::new()).fit(&mut task, &images, &valid)?;
    Ok(outcome.interrupted())
}
