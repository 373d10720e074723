//! Pictures of what a classifier took for what.

use image::GrayImage;

use firebox_train::metrics::Predictions;

use crate::error::BoxError;
use crate::page::html::{Picture, Report};

/// The pictures of each kind on a page.
const MOST: usize = 12;

impl Report {
    /// The first twelve pictures that a classifier took for something else, and the first that it recognized.
    ///
    /// `image` gives a sample's picture by its index, and `names` those of the classes. Below each picture
    /// stands how sure the classifier was.
    ///
    /// ```
    /// use firebox_report::Report;
    /// use firebox_train::metrics::Predictions;
    ///
    /// // Filled by `Classification::predictor`, in the order of the samples.
    /// let predictions = Predictions::default();
    /// let square = |_sample| Ok(image::GrayImage::from_pixel(28, 28, image::Luma([200])));
    /// let report = Report::new("My network").classified(&predictions, &["cat", "dog"], square)?;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("report.html");
    /// report.write(&path)?;
    /// assert!(std::fs::read_to_string(path)?.contains("Taken for something else"));
    /// # Ok::<(), firebox_train::BoxError>(())
    /// ```
    ///
    /// # Errors
    /// The first one of `image`; [`ErrorKind::RunDir`](firebox_train::ErrorKind::RunDir) if a picture cannot
    /// be encoded.
    pub fn classified(
        self,
        predictions: &Predictions,
        names: &[&str],
        image: impl Fn(usize) -> Result<GrayImage, BoxError>,
    ) -> Result<Self, BoxError> {
        let pictures = |right| {
            let samples = predictions.classes.iter().enumerate();
            let guesses = samples.filter_map(|(sample, &class)| {
                let &(guess, probability) = predictions.likeliest(sample).first()?;
                ((guess == class) == right).then_some((sample, class, guess, probability))
            });
            let captioned = guesses.take(MOST).map(|(sample, class, guess, probability)| {
                let name = |class: usize| names.get(class).map_or(class.to_string(), |name| name.to_string());
                let caption = match right {
                    true => name(class),
                    false => format!("{}, taken for {}", name(class), name(guess)),
                };
                let caption = format!("{caption} ({:.0} %)", 100.0 * probability);
                Ok(Picture { image: image(sample)?, caption })
            });
            captioned.collect::<Result<Vec<_>, BoxError>>()
        };
        let (wrong, right) = (pictures(false)?, pictures(true)?);
        Ok(self.gallery("Taken for something else", &wrong)?.gallery("Recognised", &right)?)
    }
}
