//! The run: its judge, its training, and the test of what came of it.

use std::process::ExitCode;

use burn::module::Module;
use burn::tensor::Tensor;
use firebox::data::BoxError;
use firebox::data::collate::Stacked;
use firebox::data::tensors::IntoTensors;
use firebox::models::gan::Logits;
use firebox::prelude::*;
use firebox::train::event::Event;
use firebox::train::tasks::Adversarial;
use firebox_cli::{LoggerArgs, Settings};

use crate::batches::Drawn;
use crate::images::Data;
use crate::judge::ByFeatures;
use crate::pictures::Grids;
use crate::tested::Tested;
use crate::{Recipe, judge_run, pictures, report};

/// Trains two networks on images of `K` dimensions, in batches of `R`, and measures what came of it.
pub(crate) fn fit<G, D, const K: usize, const R: usize>(
    settings: &Settings<'_, Recipe>,
    loggers: &LoggerArgs,
    recipe: &Recipe,
    dims: [usize; K],
    task: Adversarial<G, D, R>,
) -> Result<ExitCode, BoxError>
where
    G: Module + Forward<Tensor<2>, Output = Tensor<R>> + 'static,
    D: Module + Logits<Tensor<R>>,
    Stacked<f32, K>: IntoTensors<Tensors = Tensor<R>>,
{
    let device = recipe.common.backend.device()?;
    let data = Data::open(recipe)?;
    let loader = |images| recipe.common.threads.loader(Drawn::<K> { images, dims: dims.to_vec() });
    let train = loader(data.train.shuffled())?.on_device(&device.clone().autodiff())?;
    let valid = loader(data.valid.clone())?.on_device(&device)?;
    let given = judge_run::given(settings, recipe, &device)?;

    // Everything that can be wrong with the input was found by now: only then a folder is made or cleared.
    let config = recipe.common.train.config().with_seed(recipe.common.seed());
    let (run, trainer) = settings.begin_with(recipe, config, loggers, &device, report::live)?;
    let stopped = |signal| Ok(firebox_cli::stopped(signal, &run, loggers, &firebox_cli::cargo_flags()));
    let interrupt = trainer.interrupt_handle();
    let judge = match judge_run::ready(&run, settings.resumes(), given, recipe, &data, interrupt)? {
        Ok(judge) => judge,
        Err(signal) => return stopped(signal),
    };
    let mut task = task.with_judge(ByFeatures(judge.clone()));
    let grids = Grids::new(&run, recipe, task.averaged_generator(), &device);
    // A run that was killed while its judge learned has no checkpoint of its own yet.
    let begun = settings.resumes() && !run.checkpoints().is_empty();
    let trainer = trainer.resume(begun).schedule(recipe.lr);
    let mut trainer = trainer.callback(move |event: &Event<'_>| grids.write::<D, R>(event));
    let outcome = trainer.fit(&mut task, &train, &valid)?;
    if let Some(signal) = outcome.interrupted() {
        return stopped(signal);
    }
    let tested = Tested::of(&run, recipe, &data, &judge, &mut trainer, &mut task)?;
    pictures::write(&run, recipe, &device, |noise| task.samples(noise))?;
    report::write(&run, recipe, &outcome, &tested)?;
    Ok(ExitCode::SUCCESS)
}
