//! Training steps of the five models that `benches/step.rs` times: the same bits with any number of threads, and again.

use burn::module::Module;
use burn::nn::loss::BinaryCrossEntropyLossConfig;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use firebox::kernels::{cross_entropy, fallbacks};
use firebox::models::gan::{DiscriminatorConfig, GeneratorConfig};
use firebox::models::layers::{AttentionBlockConfig, LstmBlockConfig, RnnBlockConfig};
use firebox::models::vision::CnnConfig;
use firebox::models::{Error, Forward, init};
use firebox::train::Learner;
use firebox::train::optimizer::AdamConfig;
use firebox::weights::StateDict;

const STEPS: usize = 3;

fn learner<M: Module>(model: impl FnOnce(&Device) -> Result<M, Error>) -> Learner<M> {
    let model = init(7, &Device::flex().autodiff(), model).unwrap();
    Learner::new(model, AdamConfig::new().init().unwrap())
}

fn normal<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex().autodiff())
}

/// The weights of models after some steps.
fn weights<M: Module>(models: &[&M]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for model in models {
        for (name, data) in StateDict::of(*model).iter() {
            bytes.extend(name.bytes());
            bytes.extend_from_slice(data.as_bytes());
        }
    }
    bytes
}

/// Runs steps on one, two and three threads, and once more on two.
fn same_bits(steps: impl Fn() -> Vec<u8> + Sync) {
    let before = fallbacks();
    let results = [1, 2, 3, 2].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            Device::flex().seed(11);
            steps()
        })
    });
    assert!(results.iter().all(|result| *result == results[0]), "bits depend on threads");
    assert!(!results[0].is_empty());
    assert_eq!(fallbacks(), before, "kernels take these steps");
}

#[test]
fn steps_have_the_same_bits_on_any_number_of_threads() {
    // One after the other: Burn's generator is the process's.
    same_bits(|| {
        let mut learner = learner(|device| CnnConfig::new(10).init(device));
        let images = normal([33, 3, 28, 28]);
        let classes: Vec<i64> = (0..33).map(|sample| sample % 10).collect();
        let classes = Tensor::<1, Int>::from_data(TensorData::new(classes, [33]), &images.device());
        for _ in 0..STEPS {
            let loss = cross_entropy(learner.model().forward(images.clone()), classes.clone());
            learner.step(loss, 1e-3);
        }
        weights(&[learner.model()])
    });
    same_bits(|| {
        let mut learner = learner(|device| LstmBlockConfig::new(24, 48).init(device));
        let input = normal([33, 9, 24]);
        for _ in 0..STEPS {
            let (outputs, state) = learner.model().forward(input.clone(), None, None);
            learner.step(outputs.square().mean() + state.cell.mean(), 1e-3);
        }
        weights(&[learner.model()])
    });
    same_bits(|| {
        let mut learner = learner(|device| RnnBlockConfig::new(24, 48).init(device));
        let input = normal([33, 9, 24]);
        for _ in 0..STEPS {
            let (outputs, _) = learner.model().forward(input.clone(), None, None);
            learner.step(outputs.square().mean(), 1e-3);
        }
        weights(&[learner.model()])
    });
    same_bits(|| {
        let mut generator = learner(|device| GeneratorConfig::new(100, 784).init(device));
        let mut discriminator = learner(|device| DiscriminatorConfig::new(784).init(device));
        let (noise, real) = (normal([33, 100]), normal([33, 784]).tanh());
        let ones = Tensor::<2, Int>::ones([33, 1], &real.device());
        let loss = BinaryCrossEntropyLossConfig::new().with_logits(true).init(&real.device());
        for _ in 0..STEPS {
            let fake = generator.model().forward(noise.clone());
            let judge = discriminator.model();
            let of_real = loss.forward(judge.logits(real.clone()), ones.clone());
            let of_fake = loss.forward(judge.logits(fake.clone().detach()), ones.zeros_like());
            discriminator.step(of_real + of_fake, 2e-4);
            generator.step(loss.forward(discriminator.model().logits(fake), ones.clone()), 2e-4);
        }
        [weights(&[generator.model()]), weights(&[discriminator.model()])].concat()
    });
    same_bits(|| {
        let mut learner = learner(|device| AttentionBlockConfig::new(48).init(device));
        let (encoder, decoder) = (normal([33, 9, 48]), normal([33, 1, 48]));
        for _ in 0..STEPS {
            let (context, _) = learner.model().forward(encoder.clone(), decoder.clone(), None);
            learner.step(context.square().mean(), 1e-3);
        }
        weights(&[learner.model()])
    });
}
