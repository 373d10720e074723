//! Models that firebox has trained for a step and saved are loaded by PyTorch, strictly, and compute the same there. The
//! other side is `benches/peers/roundtrip.py`; without Python with PyTorch the test is skipped, and says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use firebox::models::gan::{DcganConfig, DiscriminatorConfig, GeneratorConfig};
use firebox::models::layers::{
    AttentionBlockConfig, AttentionMask, GruBlockConfig, LstmBlockConfig, MultiHeadAttentionConfig,
    RnnBlockConfig,
};
use firebox::models::text::{LanguageModelConfig, Seq2SeqConfig, SequenceClassifierConfig};
use firebox::models::vision::CnnConfig;
use firebox::models::{Forward, init};
use firebox::weights::{StateDict, Weights};

/// A Python that has PyTorch and safetensors: the benches' own, or the system's.
fn python() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/.venv/bin/python");
    let has_torch = |python: &PathBuf| {
        let mut command = Command::new(python);
        command
            .args(["-c", "import torch, safetensors.torch"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    [own, PathBuf::from("python3")].into_iter().find(has_torch)
}

struct Inputs(StateDict);

impl Inputs {
    fn float<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Tensor<D> {
        let tensor = Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::default());
        self.0.insert(format!("in.{name}"), tensor.to_data());
        tensor
    }

    fn int<const D: usize>(&mut self, name: &str, values: &[i64], shape: [usize; D]) -> Tensor<D, Int> {
        let data = TensorData::new(values.to_vec(), shape);
        self.0.insert(format!("in.{name}"), data.clone());
        Tensor::from_data(data, &Device::default())
    }

    fn tokens(&mut self) -> Tensor<2, Int> {
        self.int("tokens", &[3, 9, 4, 10, 1, 7, 0, 0, 0, 0, 2, 5, 6, 0, 0], [3, 5])
    }

    fn lengths(&mut self) -> Tensor<1, Int> {
        self.int("lengths", &[5, 2, 3], [3])
    }
}

/// Writes a model's weights, and what it makes of inputs.
fn save<M: Module, const D: usize>(
    folder: &Path,
    name: &str,
    model: &M,
    run: impl Fn(&M, &mut Inputs) -> Tensor<D>,
) {
    model.save_safetensors(folder.join(format!("{name}.safetensors"))).unwrap();
    let mut inputs = Inputs(StateDict::default());
    let output = run(model, &mut inputs);
    inputs.0.insert("out.y", output.into_data());
    inputs.0.write(folder.join(format!("{name}.io.safetensors"))).unwrap();
}

#[test]
fn pytorch_loads_what_firebox_saves() {
    let Some(python) = python() else {
        eprintln!("skipped: no Python with torch and safetensors here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let device = Device::default();

    // Running statistics that are no longer those of the beginning.
    let cnn = init(1, &device.clone().autodiff(), |d| CnnConfig::new(10).with_channels(1).init(d)).unwrap();
    cnn.forward(Tensor::random([4, 1, 28, 28], Distribution::Normal(1.0, 2.0), &device.clone().autodiff()));
    save(folder, "cnn", &cnn.valid(), |m, t| m.forward(t.float("x", [2, 1, 28, 28])));

    let rnn = RnnBlockConfig::new(5, 7).with_num_layers(2).with_bidirectional(true).init(&device).unwrap();
    save(folder, "rnn", &rnn, |m, t| m.forward(t.float("x", [3, 5, 5]), Some(t.lengths()), None).0);
    let lstm = LstmBlockConfig::new(5, 7).with_num_layers(2).with_bidirectional(true).init(&device).unwrap();
    save(folder, "lstm", &lstm, |m, t| m.forward(t.float("x", [3, 5, 5]), Some(t.lengths()), None).0);
    let gru = GruBlockConfig::new(5, 7).with_num_layers(2).with_bidirectional(true).init(&device).unwrap();
    save(folder, "gru", &gru, |m, t| m.forward(t.float("x", [3, 5, 5]), Some(t.lengths()), None).0);

    let attention = AttentionBlockConfig::new(8).init(&device).unwrap();
    save(folder, "attention", &attention, |m, t| {
        m.forward(t.float("encoder", [2, 6, 8]), t.float("decoder", [2, 1, 8]), None).0
    });
    let heads = MultiHeadAttentionConfig::new(12, 3).init(&device).unwrap();
    save(folder, "multi_head", &heads, |m, t| {
        let x = t.float("x", [2, 6, 12]);
        m.forward(x.clone(), x.clone(), x, AttentionMask::default()).0
    });

    let seq2seq = Seq2SeqConfig::new(11, 9, 5, 8).with_num_layers(2).init(&device).unwrap();
    save(folder, "seq2seq", &seq2seq, |m, t| {
        let target = t.int("target", &[1, 3, 4, 2, 1, 8, 2, 0, 1, 5, 6, 7], [3, 4]);
        m.forward((t.tokens(), t.lengths()), target, 1.0)
    });
    let language =
        LanguageModelConfig::new(11, 5, 6).with_cell(firebox::models::layers::Cell::Gru).with_num_layers(2);
    save(folder, "language_model", &language.init(&device).unwrap(), |m, t| m.forward(t.tokens(), None).0);
    let classifier = SequenceClassifierConfig::new(3, 11, 5, 6).init(&device).unwrap();
    save(folder, "classifier", &classifier, |m, t| m.forward((t.tokens(), t.lengths())));

    let generator = GeneratorConfig::new(16, 36).init(&device).unwrap();
    save(folder, "generator", &generator, |m, t| m.forward(t.float("z", [5, 16])));
    let discriminator = DiscriminatorConfig::new(36).init(&device).unwrap();
    save(folder, "discriminator", &discriminator, |m, t| m.forward(t.float("x", [5, 36])));
    let dcgan = DcganConfig::new().with_latent(5).with_channels(2).with_size(8).with_features(4);
    let generator = dcgan.init_generator(&device).unwrap();
    save(folder, "dcgan_generator", &generator, |m, t| m.forward(t.float("z", [3, 5])));
    let discriminator = dcgan.init_discriminator(&device).unwrap();
    save(folder, "dcgan_discriminator", &discriminator, |m, t| m.logits(t.float("x", [3, 2, 8, 8])));

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/roundtrip.py");
    let output = Command::new(python).arg(script).arg(folder).output().unwrap();
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // And back: PyTorch has saved each model again, by torch.save.
    let mut models = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pt") {
            let saved = StateDict::read(path.with_extension("safetensors")).unwrap();
            assert_eq!(StateDict::read_pytorch(&path).unwrap(), saved, "{}", path.display());
            models += 1;
        }
    }
    assert_eq!(models, 13);
    let back = CnnConfig::new(10)
        .with_channels(1)
        .init(&device)
        .unwrap()
        .load_pytorch(folder.join("cnn.pt"))
        .unwrap();
    assert_eq!(StateDict::of(&back), StateDict::of(&cnn.valid()));
}
