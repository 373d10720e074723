//! From one sequence to another.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::decoding::beam::{Beam, Hypothesis, search};
use crate::error::{Error, OfPart, check, check_product, fitting, input_error};
use crate::layers::embedding::check_fields;
use crate::layers::recurrent::layer::check_sizes;
use crate::shape::{check_lengths, check_shape};
use crate::text::decoder::{Decoder, DecoderConfig};
use crate::text::encoder::{Encoder, EncoderConfig};

/// Settings of [`Seq2Seq`].
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::text::Seq2SeqConfig;
///
/// let config = Seq2SeqConfig::new(30, 42, 16, 32).with_num_layers(2).with_dropout(0.1);
/// assert!(config.init(&Device::default()).is_ok());
/// // Padding, begin and end are tokens 0, 1 and 2, unless they are said to be others.
/// assert_eq!((config.padding_idx, config.begin, config.end), (0, 1, 2));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seq2SeqConfig {
    /// The number of tokens of the source; at least 1.
    #[serde(alias = "source_tokens")]
    pub source_vocab_size: usize,
    /// The number of tokens of the target, the three below among them; at least 3.
    #[serde(alias = "tokens")]
    pub vocab_size: usize,
    /// Features of a token's vector; at least 1.
    #[serde(alias = "embedding")]
    pub embedding_dim: usize,
    /// Features of the encoder's outputs and of the decoder's state; at least 1.
    ///
    /// If `bidirectional` they are even.
    #[serde(alias = "hidden")]
    pub hidden_size: usize,
    /// Layers of both LSTMs; at least 1.
    pub num_layers: usize,
    /// The share of features dropped in training: see [`EncoderConfig`] and [`DecoderConfig`]; from 0, below
    /// 1.
    pub dropout: f64,
    /// True if the source is also read backwards.
    pub bidirectional: bool,
    /// The token that fills short sequences up, of source and target.
    #[serde(alias = "padding")]
    pub padding_idx: usize,
    /// The token that each target begins with.
    pub begin: usize,
    /// The token that each target ends with.
    pub end: usize,
}

config! {
    Seq2SeqConfig {
        source_vocab_size: usize, vocab_size: usize, embedding_dim: usize, hidden_size: usize
        ;
        num_layers: usize = 1, with_num_layers;
        dropout: f64 = 0.0, with_dropout;
        bidirectional: bool = true, with_bidirectional;
        padding_idx: usize = 0, with_padding_idx;
        begin: usize = 1, with_begin;
        end: usize = 2, with_end;
    }
}

/// An [`Encoder`] and a [`Decoder`] with additive attention.
///
/// (Sutskever, Vinyals, Le 2014; Bahdanau, Cho, Bengio 2015.)
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_models::text::Seq2SeqConfig;
///
/// let device = Device::default();
/// let model = Seq2SeqConfig::new(9, 7, 4, 6).init(&device)?;
/// let tokens = Tensor::<2, Int>::from_data([[3, 4, 5], [6, 0, 0]], &device);
/// let source = (tokens, Tensor::<1, Int>::from_data([3, 1], &device));
/// // With the begin and end tokens 1 and 2, and filled up with 0.
/// let target = Tensor::<2, Int>::from_data([[1, 3, 4, 2], [1, 5, 2, 0]], &device);
/// assert_eq!(model.forward(source.clone(), target, 1.0).dims(), [2, 3, 7]);
/// assert_eq!(model.greedy(source, 5)?.len(), 2);
/// # Ok::<(), firebox_models::Error>(())
/// ```
///
/// State: `encoder.…` and `decoder.…` as in these.
#[derive(Module, Debug)]
pub struct Seq2Seq {
    /// The reading half.
    pub encoder: Encoder,
    /// The writing half.
    pub decoder: Decoder,
    begin: usize,
    end: usize,
}

impl Seq2SeqConfig {
    /// The model with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<Seq2Seq, Error> {
        let Self { source_vocab_size: source_tokens, vocab_size: tokens, .. } = *self;
        let Self { embedding_dim: embedding, hidden_size: hidden, num_layers, dropout, .. } = *self;
        let Self { bidirectional, padding_idx: padding, begin, end, .. } = *self;
        const NAME: &str = "Seq2SeqConfig";
        check(
            source_tokens > padding,
            "Seq2SeqConfig.source_vocab_size",
            format_args!("above {padding}"),
            source_tokens,
        )?;
        check(tokens >= 3, "Seq2SeqConfig.vocab_size", "at least 3", tokens)?;
        check_fields("Seq2SeqConfig", tokens, embedding, padding)?;
        let other = format!("below {tokens} and not the padding {padding}");
        check(begin < tokens && begin != padding, "Seq2SeqConfig.begin", &other, begin)?;
        let other = format!("below {tokens}, not the padding {padding} and not the begin {begin}");
        check(end < tokens && end != padding && end != begin, "Seq2SeqConfig.end", &other, end)?;
        check_product(NAME, 1, &[("source_vocab_size", source_tokens), ("embedding_dim", embedding)])?;
        check_product(NAME, 2, &[("vocab_size", tokens), ("hidden_size", hidden)])?;
        check_sizes(NAME, ("embedding_dim", embedding), hidden, num_layers)?;
        let encoder = EncoderConfig {
            vocab_size: source_tokens,
            embedding_dim: embedding,
            hidden_size: hidden,
            num_layers,
            dropout,
            bidirectional,
            padding_idx: padding,
        };
        let decoder = DecoderConfig {
            vocab_size: tokens,
            embedding_dim: embedding,
            hidden_size: hidden,
            num_layers,
            dropout,
            padding_idx: padding,
        };
        let ours = |made| move |error: Error| error.in_config(made, "Seq2SeqConfig");
        Ok(Seq2Seq {
            encoder: encoder.init(device).map_err(ours("EncoderConfig"))?,
            decoder: decoder.init(device).map_err(ours("DecoderConfig"))?,
            begin,
            end,
        })
    }
}

impl Seq2Seq {
    /// Logits for training: place t is about the target's place t + 1.
    ///
    /// Source tokens `[batch, time]` with their lengths `[batch]`, or what stands for both, and target
    /// `[batch, target time]`, which begins with its begin token, to `[batch, target time − 1, tokens]`.
    ///
    /// At each step the decoder reads the target's token with the probability `teacher_forcing`, for each row
    /// by itself, else the one that it held for the most likely (Bengio et al. 2015). The draws come from the
    /// device's generator.
    ///
    /// # Panics
    /// If shapes don't fit, the target has fewer than two places, or `teacher_forcing` is not from 0 to 1.
    pub fn forward(
        &self,
        source: impl Into<(Tensor<2, Int>, Tensor<1, Int>)>,
        target: Tensor<2, Int>,
        teacher_forcing: f64,
    ) -> Tensor<3> {
        assert!(
            (0.0..=1.0).contains(&teacher_forcing),
            "Seq2Seq: expected a teacher forcing from 0 to 1, got {teacher_forcing}"
        );
        let source = source.into();
        fitting(self.check_shapes(&source, &target));
        let [batch, time] = target.dims();
        let mut decoding = self.decoder.begin(self.encoder.forward(source));
        if teacher_forcing == 1.0 {
            // What is read doesn't depend on what is written.
            return decoding.steps(target.narrow(1, 0, time - 1));
        }
        let place = |place| target.clone().narrow(1, place, 1).squeeze_dim::<1>(1);
        let mut token = place(0);
        let mut logits: Vec<Tensor<2>> = Vec::with_capacity(time - 1);
        for step in 1..time {
            let (next, _) = decoding.step(token);
            token = place(step);
            if step + 1 < time {
                let own = next.clone().detach().argmax(1).squeeze_dim::<1>(1);
                let drawn = Tensor::<1>::random([batch], Distribution::Uniform(0.0, 1.0), &next.device());
                token = own.mask_where(drawn.lower_elem(teacher_forcing), token);
            }
            logits.push(next);
        }
        Tensor::stack(logits, 1)
    }

    /// Looks whether the shapes of sources and target fit together, without computing anything.
    ///
    /// Source tokens are `[batch, time]` with their lengths `[batch]`, or what stands for both, the target
    /// `[batch, target time]`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) says what it wants and what came.
    pub fn check_input(
        &self,
        source: impl Into<(Tensor<2, Int>, Tensor<1, Int>)>,
        target: &Tensor<2, Int>,
    ) -> Result<(), Error> {
        self.check_shapes(&source.into(), target)
    }

    fn check_shapes(
        &self,
        (tokens, lengths): &(Tensor<2, Int>, Tensor<1, Int>),
        target: &Tensor<2, Int>,
    ) -> Result<(), Error> {
        check_lengths("Seq2Seq.encoder", tokens, lengths)?;
        let ([batch, _], [_, time]) = (tokens.dims(), target.dims());
        check_shape("Seq2Seq", "a target for each source", &target.dims(), &[batch, time])?;
        let places = "a target with at least 2 places";
        if time > 1 { Ok(()) } else { Err(input_error("Seq2Seq", places, format!("{:?}", target.dims()))) }
    }

    /// Looks whether all tokens of sources and target are in their vocabularies.
    ///
    /// That is [`Embedding::check_tokens`] of both, which reads each once.
    ///
    /// [`Embedding::check_tokens`]: crate::layers::Embedding::check_tokens
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) names the first token that is not, and its place.
    pub fn check_tokens(
        &self,
        source: impl Into<(Tensor<2, Int>, Tensor<1, Int>)>,
        target: &Tensor<2, Int>,
    ) -> Result<(), Error> {
        self.check_source(&source.into().0)?;
        let known = self.decoder.embedding.check_tokens(target);
        known.map_err(|error| error.in_layer("Seq2Seq.decoder.embedding"))
    }

    fn check_source(&self, tokens: &Tensor<2, Int>) -> Result<(), Error> {
        let known = self.encoder.embedding.check_tokens(tokens);
        known.map_err(|error| error.in_layer("Seq2Seq.encoder.embedding"))
    }

    /// A target for each source, with the likeliest token at each step, up to `max_length`.
    ///
    /// Source tokens are `[batch, time]` with their lengths `[batch]`, or what stands for both. In evaluation
    /// mode, whatever the model's device.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if `max_length` is 0; and those of
    /// [`beam`](Self::beam).
    pub fn greedy(
        &self,
        source: impl Into<(Tensor<2, Int>, Tensor<1, Int>)>,
        max_length: usize,
    ) -> Result<Vec<Hypothesis>, Error> {
        let found = self.beam(source, &Beam::new(max_length).with_width(1))?;
        Ok(found.into_iter().filter_map(|found| found.into_iter().next()).collect())
    }

    /// The best targets that a beam search finds for each source, the best first.
    ///
    /// Source tokens are `[batch, time]` with their lengths `[batch]`, or what stands for both; targets are
    /// up to `beam.width` a row. In evaluation mode, whatever the model's device. [`Beam`] has an example.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a setting out of its range;
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) if shapes don't fit or a source's token is not in the
    /// vocabulary; [`ErrorKind::Value`](crate::ErrorKind::Value) if a token's logit is NaN or infinite, as
    /// those of a model are that has diverged: it names the row of the batch and the step. A logit of −∞ is
    /// one of a token that cannot come, unless all are.
    pub fn beam(
        &self,
        source: impl Into<(Tensor<2, Int>, Tensor<1, Int>)>,
        beam: &Beam,
    ) -> Result<Vec<Vec<Hypothesis>>, Error> {
        beam.check()?;
        let (tokens, lengths) = source.into();
        check_lengths("Seq2Seq.encoder", &tokens, &lengths)?;
        self.check_source(&tokens)?;
        let [sentences, _] = tokens.dims();
        let model = self.valid();
        let encoded = model.encoder.forward((tokens.without_autodiff(), lengths.without_autodiff()));
        search(model.decoder.begin(encoded), sentences, self.begin, self.end, beam)
    }
}
