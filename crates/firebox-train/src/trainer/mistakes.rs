//! Mistakes that the compiler finds, each beside the same program without it.

/// A program as a newcomer writes it: `kind` says what becomes of it.
macro_rules! program {
    ($name:ident: $kind:literal, $picture:literal, $class:literal, $before:literal, $device:literal) => {
        #[doc = concat!("```", $kind)]
        /// use burn::tensor::{Device, Tensor};
        /// use firebox_data::{Loader, Scalar, Stack};
        /// use firebox_models::vision::{Cnn, CnnConfig};
        /// use firebox_train::{BoxError, Learner, RunDir, Trainer};
        /// use firebox_train::optimizer::AdamConfig;
        /// use firebox_train::tasks::Classification;
        ///
        /// fn main() -> Result<(), BoxError> {
        ///     let device = Device::default();
        ///     let data = || Loader::builder((0..200_usize).collect::<Vec<_>>()).batch_size(32);
        #[doc = concat!("let layout = || (", $picture, ", ", $class, ");")]
        #[doc = $before]
        ///     let train = data().build(layout(), move |number, _, (picture, class)| {
        ///         picture.fill(number as f32);
        ///         *class = count(number % 10) as _;
        ///         Ok(())
        ///     })?;
        ///     let valid = data().build(layout(), |_, _, _| Ok(()))?.on_device(&device)?;
        #[doc = concat!("let train = train", $device, ";")]
        ///     let model = CnnConfig::new(10).with_channels(1).init(&device.clone().autodiff())?;
        ///     let mut task = Classification::<Cnn, Tensor<4>>::new(Learner::new(model, AdamConfig::new().init()?));
        ///     Trainer::new(&RunDir::create("run")?, &device).fit(&mut task, &train, &valid)?;
        ///     Ok(())
        /// }
        /// ```
        struct $name;
    };
}

program!(NoMistake:
    "no_run", "Stack::<f32, 3>::new([1, 28, 28])", "Scalar::<i64>::new()",
    "let count = |class: usize| class;", ".on_device(&device.clone().autodiff())?");
program!(PicturesOfAnotherRank:
    "compile_fail,E0271", "Stack::<f32, 2>::new([28, 28])", "Scalar::<i64>::new()",
    "let count = |class: usize| class;", ".on_device(&device.clone().autodiff())?");
program!(ClassesAsFloats:
    "compile_fail,E0271", "Stack::<f32, 3>::new([1, 28, 28])", "Scalar::<f32>::new()",
    "let count = |class: usize| class;", ".on_device(&device.clone().autodiff())?");
program!(NoDevice:
    "compile_fail,E0271", "Stack::<f32, 3>::new([1, 28, 28])", "Scalar::<i64>::new()",
    "let count = |class: usize| class;", "");
program!(CellInATransform:
    "compile_fail,E0277", "Stack::<f32, 3>::new([1, 28, 28])", "Scalar::<i64>::new()",
    "let seen = std::cell::Cell::new(0); let count = move |class: usize| { seen.set(seen.get() + 1); class };",
    ".on_device(&device.clone().autodiff())?");
