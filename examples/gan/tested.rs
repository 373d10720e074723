//! The test of a finished run: how far its samples are from the test images.

use burn::module::Module;
use burn::tensor::Tensor;
use firebox::data::BoxError;
use firebox::models::gan::Logits;
use firebox::models::vision::Cnn;
use firebox::prelude::*;
use firebox::train::tasks::Adversarial;

use crate::Recipe;
use crate::batches::Labelled;
use crate::images::{Data, Images};
use crate::judge::as_images;
use crate::pictures::normal;
use crate::score::{Score, distance_of_real};

/// The distances of samples from the test images.
pub(crate) struct Tested {
    /// By the weights of the best checkpoint.
    pub(crate) best: Score,
    /// The distance by the last weights, as one has them who doesn't choose by what the judge says of the
    /// validation.
    pub(crate) last: f64,
    /// The distance of the real images of the validation: what a perfect generator would reach.
    pub(crate) of_real: f64,
    /// The seconds of the evaluations.
    pub(crate) seconds: f64,
}

impl Tested {
    /// Evaluates the last checkpoint and the best, which the task then has.
    pub(crate) fn of<G, D, const R: usize>(
        run: &RunDir,
        recipe: &Recipe,
        data: &Data,
        judge: &Cnn,
        trainer: &mut Trainer,
        task: &mut Adversarial<G, D, R>,
    ) -> Result<Self, BoxError>
    where
        G: Module + Forward<Tensor<2>, Output = Tensor<R>>,
        D: Module + Logits<Tensor<R>>,
    {
        let device = recipe.common.backend.device()?;
        let loader = |images: &Images| -> Result<_, BoxError> {
            let labelled = Labelled { images: images.clone(), for_judge: false };
            Ok(recipe.common.threads.loader(labelled)?.on_device(&device)?)
        };
        let tests = loader(&data.test)?;
        let mut judged = |which: &str, split: &str| -> Result<(Score, f64), BoxError> {
            let (_, state) = run.checkpoints().load(which)?;
            task.load(&state)?;
            let mut score = Score::new(judge.clone());
            let record = trainer.evaluate(&tests, split, |real| {
                let noise = normal([real.0.dims()[0], recipe.latent], &device);
                score.add(real, as_images(task.samples(noise)))
            })?;
            Ok((score, record.seconds))
        };
        let (last, seconds_of_last) = judged("last", "test, last")?;
        let (best, seconds_of_best) = judged("best", "test")?;
        Ok(Tested {
            best,
            last: last.value("frechet_distance"),
            of_real: distance_of_real(judge, &loader(&data.valid)?, &tests)?,
            seconds: seconds_of_last + seconds_of_best,
        })
    }
}
