//! The metrics beside burn-train's, and their values over uneven batches.

use burn::data::dataloader::Progress;
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use burn_train::metric::{
    AccuracyInput, AccuracyMetric, AurocMetric, CerInput, CharErrorRate, ClassReduction, ConfusionStatsInput,
    FBetaScoreMetric, Metric, MetricMetadata, Numeric, PerplexityInput, PerplexityMetric, PrecisionMetric,
    RecallMetric, TopKAccuracyInput, TopKAccuracyMetric,
};
use firebox::kernels::cross_entropy;
use firebox::train::metrics::{
    Auroc, Average, Confusion, ErrorRate, Metrics, Quantity, Score, accuracy, token_accuracy, top_k,
};

const SAMPLES: usize = 97;
const CLASSES: usize = 4;

/// Logits without ties, of which burn-train takes any, and classes that they rather guess.
struct Data {
    logits: Vec<f32>,
    classes: Vec<i64>,
}

impl Data {
    fn new() -> Self {
        let classes: Vec<_> = (0..SAMPLES).map(|sample| (sample * sample / 3 % CLASSES) as i64).collect();
        let logit = |place: usize| {
            let own = classes[place / CLASSES] == (place % CLASSES) as i64;
            (place as f32 * 1.7).sin() * 2.0 + if own { 1.0 } else { 0.0 }
        };
        Data { logits: (0..SAMPLES * CLASSES).map(logit).collect(), classes }
    }

    fn tensors(&self, from: usize, to: usize) -> (Tensor<2>, Tensor<1, Int>) {
        let device = Device::default();
        let logits = self.logits[from * CLASSES..to * CLASSES].to_vec();
        let logits = Tensor::from_data(TensorData::new(logits, [to - from, CLASSES]), &device);
        let classes = TensorData::new(self.classes[from..to].to_vec(), [to - from]);
        (logits, Tensor::from_data(classes, &device))
    }

    fn metrics(&self, from: usize, to: usize) -> Metrics {
        let (logits, classes) = self.tensors(from, to);
        let loss = cross_entropy(logits.clone(), classes.clone()).into_scalar::<f32>();
        let guesses = logits.clone().argmax(1).try_into_vec_as::<i64>().unwrap();
        let mut confusion = Confusion::new(CLASSES);
        for (&class, guess) in self.classes[from..to].iter().zip(guesses) {
            confusion.count(class as usize, guess as usize).unwrap();
        }
        let score = |score, average| Quantity::ClassScore(confusion.score(score, average).unwrap());
        let scores: Vec<_> =
            self.logits[from * CLASSES..to * CLASSES].chunks(CLASSES).map(|row| row[0]).collect();
        let positive: Vec<_> = self.classes[from..to].iter().map(|&class| class == 0).collect();
        Metrics::of(to - from)
            .with("accuracy", accuracy(&logits, &classes).unwrap())
            .with("top_2", top_k(&logits, &classes, 2).unwrap())
            .with("perplexity", Quantity::perplexity(f64::from(loss), to - from))
            .with("precision", score(Score::Precision, Average::Macro))
            .with("recall", score(Score::Recall, Average::Macro))
            .with("f1", score(Score::F1, Average::Macro))
            .with("micro_f1", score(Score::F1, Average::Micro))
            .with("auroc", Quantity::Auroc(Auroc::of(&scores, &positive).unwrap()))
    }
}

fn metadata() -> MetricMetadata {
    let progress = Progress { items_processed: 1, items_total: 1, unit: None };
    MetricMetadata { progress, iteration: None, lr: None }
}

/// What burn-train says of one batch.
fn burns<M: Metric + Numeric>(mut metric: M, input: &M::Input) -> f64 {
    metric.update(input, &metadata()).unwrap();
    metric.compute().unwrap();
    metric.final_value().current()
}

fn assert_close(name: &str, got: Option<f64>, expected: f64) {
    let got = got.unwrap();
    assert!((got - expected).abs() < 1e-6 * expected.abs(), "{name}: {got}, expected {expected}");
}

#[test]
fn the_values_of_a_batch_are_burn_trains() {
    let data = Data::new();
    let (logits, classes) = data.tensors(0, SAMPLES);
    let metrics = data.metrics(0, SAMPLES);
    let one_hot: Tensor<2, Bool> = classes.clone().one_hot::<2>(CLASSES).bool();
    let stats = ConfusionStatsInput::new(softmax(logits.clone(), 1), one_hot);
    let positive: Tensor<2, Bool> = classes.clone().equal_elem(0).reshape([SAMPLES, 1]);
    let scores = ConfusionStatsInput::new(logits.clone().narrow(1, 0, 1), positive);
    let (of_logits, of_classes) = (|| logits.clone(), || classes.clone());
    let per_cent = [
        ("accuracy", burns(AccuracyMetric::new(), &AccuracyInput::new(of_logits(), of_classes()))),
        ("top_2", burns(TopKAccuracyMetric::new(2), &TopKAccuracyInput::new(of_logits(), of_classes()))),
        ("precision", burns(PrecisionMetric::multiclass(1, ClassReduction::Macro), &stats)),
        ("recall", burns(RecallMetric::multiclass(1, ClassReduction::Macro), &stats)),
        ("f1", burns(FBetaScoreMetric::multiclass(1.0, 1, ClassReduction::Macro), &stats)),
        ("micro_f1", burns(FBetaScoreMetric::multiclass(1.0, 1, ClassReduction::Micro), &stats)),
        ("auroc", burns(AurocMetric::binary(), &scores)),
    ];
    for (name, expected) in per_cent {
        assert_close(name, metrics.value(name), expected / 100.0);
    }
    let perplexity = burns(PerplexityMetric::new(), &PerplexityInput::new(of_logits(), of_classes()));
    assert_close("perplexity", metrics.value("perplexity"), perplexity);
}

#[test]
fn rates_of_padded_tokens_are_burn_trains() {
    let device = Device::default();
    let references = [[1_i64, 2, 3, 4, 0], [5, 6, 0, 0, 0], [7, 8, 9, 1, 2]];
    let predictions = [[1_i64, 3, 4, 0, 0], [5, 5, 6, 0, 0], [7, 8, 9, 1, 2]];
    let mut rate = ErrorRate::default();
    for (reference, prediction) in references.iter().zip(&predictions) {
        let text = |row: &[i64]| row.iter().copied().filter(|&token| token != 0).collect::<Vec<_>>();
        rate.count(&text(reference), &text(prediction));
    }
    let references = Tensor::<2, Int>::from_data(references, &device);
    let predictions = Tensor::<2, Int>::from_data(predictions, &device);
    let input = CerInput::new(predictions.clone(), references.clone());
    assert_close("error rate", rate.value(), burns(CharErrorRate::new().with_pad_token(0), &input) / 100.0);
    // Logits that say these predictions.
    let logits: Tensor<3> = predictions.one_hot::<3>(10).float();
    let input = AccuracyInput::new(logits.clone().reshape([15, 10]), references.clone().reshape([15]));
    let expected = burns(AccuracyMetric::new().with_pad_token(0), &input) / 100.0;
    assert_close("token accuracy", token_accuracy(&logits, &references, Some(0)).unwrap().value(), expected);
}

#[test]
fn uneven_batches_give_the_values_over_all_data() {
    let data = Data::new();
    let whole = data.metrics(0, SAMPLES);
    let cuts = [0, 1, 40, 43, SAMPLES];
    let mut all = Metrics::default();
    let mut means = Metrics::default();
    for cut in cuts.windows(2) {
        let batch = data.metrics(cut[0], cut[1]);
        all.add(&batch).unwrap();
        let values = batch.values().fold(Metrics::of(1), |means, (name, value)| means.with_mean(name, value));
        means.add(&values).unwrap();
    }
    for (name, value) in whole.values() {
        assert_close(name, all.value(name), value);
        let mean = means.value(name).unwrap();
        assert!((mean - value).abs() > 1e-3, "{name}: the mean over batches shows nothing, {mean}");
    }
    assert_eq!(all.samples(), SAMPLES);
}
