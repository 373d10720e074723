//! On which devices a run's model and data are.
//!
//! In Burn the device of the input decides whether BatchNorm learns and dropout drops: data on the wrong one
//! are trained on, or judged, in silence and wrongly.

use burn::tensor::Device;
use firebox_data::batches::Batches;

use crate::error::{Error, ErrorKind};
use crate::task::Task;

/// Fails unless model and training data are on autodiff devices, and the data on the trainer's, as far as
/// they tell.
///
/// A model's tensors may call the device by another name than whoever made them on it: which one it is, is
/// not compared.
pub(super) fn training(task: &impl Task, train: &impl Batches, trainer: &Device) -> Result<(), Error> {
    if let Some(device) = train.device() {
        if !device.is_autodiff() {
            return refused(
                "training loader",
                "expected an autodiff device, got a plain one, where BatchNorm and dropout don't train: \
                 on_device(&device.autodiff())",
            );
        }
        same("training loader", device, trainer)?;
    }
    match task.device() {
        Some(device) if !device.is_autodiff() => refused(
            "model",
            "expected an autodiff device, got a plain one, where there are no gradients: make all of it on \
             device.autodiff()",
        ),
        _ => Ok(()),
    }
}

/// Fails unless data that are not learned from are on the trainer's device, without autodiff, as far as they
/// tell.
pub(super) fn plain(data: &impl Batches, trainer: &Device, split: &str) -> Result<(), Error> {
    let Some(device) = data.device() else { return Ok(()) };
    let name = format!("{} loader", if split == "valid" { "validation" } else { split });
    if device.is_autodiff() {
        return refused(
            &name,
            "expected a plain device, got an autodiff one, where BatchNorm and dropout train and each batch \
             is slower: on_device(&device)",
        );
    }
    same(&name, device, trainer)
}

fn same(name: &str, device: &Device, trainer: &Device) -> Result<(), Error> {
    // Whether they are autodiff devices is not a part of their equality.
    match device == trainer {
        true => Ok(()),
        false => {
            let (device, trainer) = (device.clone().inner(), trainer.clone().inner());
            refused(name, &format!("expected the trainer's device, {trainer:?}, got {device:?}"))
        }
    }
}

fn refused(name: &str, text: &str) -> Result<(), Error> {
    Err(Error::new(ErrorKind::Config, format!("the {name}: {text}")))
}
