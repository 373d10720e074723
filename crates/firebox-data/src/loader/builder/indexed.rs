//! Settings of data with random access.

use crate::dataset::Dataset;
use crate::loader::builder::LoaderBuilder;
use crate::loader::source::Indexed;
use crate::sampler::{BatchSampler, Sampler};

impl<D: Dataset, T> LoaderBuilder<Indexed<D>, T> {
    /// Sets whether each epoch has its own random order, fixed by the [`seed`](Self::seed). Default: no.
    ///
    /// ```
    /// use firebox_data::{Loader, Scalar};
    ///
    /// let loader = Loader::builder((0..100).collect::<Vec<_>>())
    ///     .shuffle(true)
    ///     .seed(7)
    ///     .batch_size(100)
    ///     .build(Scalar::new(), |number, _, slot| Ok(*slot = number))?;
    /// let epoch = |epoch| Ok::<_, firebox_data::Error>(loader.epoch(epoch).next().unwrap()?.into_vec());
    /// assert_ne!(epoch(0)?, epoch(1)?);
    /// assert_eq!(epoch(0)?, epoch(0)?);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.data.shuffle = shuffle;
        self
    }

    /// An order of your own, instead of [`shuffle`](Self::shuffle).
    ///
    /// ```
    /// use firebox_data::sampler::Weighted;
    /// use firebox_data::{Loader, Scalar};
    ///
    /// // The rare third item comes as often as the other two together.
    /// let order = Weighted::new(&[1.0, 1.0, 2.0], 1000, 42)?;
    /// let loader = Loader::builder(vec![0, 1, 2])
    ///     .sampler(order)
    ///     .batch_size(1000)
    ///     .build(Scalar::new(), |class, _, slot| Ok(*slot = class))?;
    /// let classes = loader.epoch(0).next().unwrap()?;
    /// let rare = classes.iter().filter(|class| **class == 2).count();
    /// assert!((400..600).contains(&rare));
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn sampler(mut self, sampler: impl Sampler + 'static) -> Self {
        self.data.sampler = Some(Box::new(sampler));
        self
    }

    /// Batches of your own, with their order, instead of [`batch_size`](Self::batch_size) and a sampler.
    ///
    /// ```
    /// use firebox_data::sampler::{Bucketed, Shuffled};
    /// use firebox_data::{Loader, Pad};
    ///
    /// let words = vec!["a", "deep", "b", "learning"];
    /// let lengths: Vec<u32> = words.iter().map(|word| word.len() as u32).collect();
    /// let batches = Bucketed::by_length(Shuffled::new(words.len(), 42), lengths, 2, 42)?;
    /// let loader = Loader::builder(words)
    ///     .batch_sampler(batches)
    ///     .build(Pad::with(b' '), |word, _, letters| Ok(letters.extend(word.bytes())))?;
    /// for batch in loader.epoch(0) {
    ///     // Short words are with short ones: nothing is padded from 1 to 8.
    ///     assert!([1, 8].contains(&batch?.longest));
    /// }
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    pub fn batch_sampler(mut self, batches: impl BatchSampler + 'static) -> Self {
        self.data.batches = Some(Box::new(batches));
        self
    }
}
