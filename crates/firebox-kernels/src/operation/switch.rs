//! The switch that turns kernels on and off.

#[cfg(feature = "flex")]
use burn::tensor::{DType, Device};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static FALLBACKS: AtomicUsize = AtomicUsize::new(0);

fn switch() -> &'static AtomicBool {
    static SWITCH: OnceLock<AtomicBool> = OnceLock::new();
    SWITCH.get_or_init(|| {
        let wish = std::env::var("FIREBOX_KERNELS").unwrap_or_default();
        let on = match wish.as_str() {
            "" | "on" => true,
            "off" => false,
            _ => panic!("FIREBOX_KERNELS: expected on or off, got {wish:?}"),
        };
        AtomicBool::new(on)
    })
}

/// Tells if operations use the kernels of this crate where they can.
///
/// They do unless `FIREBOX_KERNELS=off` is in the environment or they were turned off.
///
/// # Panics
/// If `FIREBOX_KERNELS` is neither `on` nor `off`.
pub fn enabled() -> bool {
    switch().load(Ordering::Relaxed)
}

/// Turns the kernels on or off, for all threads.
pub fn set_enabled(enabled: bool) {
    switch().store(enabled, Ordering::Relaxed);
}

/// The operations on flex that went to plain Burn operations so far although kernels are enabled.
///
/// The reason is the number type, or a shape that no kernel takes.
pub fn fallbacks() -> usize {
    FALLBACKS.load(Ordering::Relaxed)
}

#[cfg(feature = "flex")]
pub(crate) fn count_fallback() {
    FALLBACKS.fetch_add(1, Ordering::Relaxed);
}

/// Tells if a kernel runs on these tensors.
///
/// It does if kernels are enabled, the tensors are on flex and have `f32`, and the kernel `takes` them. If it
/// is only the last two that fail, that is a fallback.
#[cfg(feature = "flex")]
pub(crate) fn eligible(tensors: &[(Device, DType)], takes: impl FnOnce() -> bool) -> bool {
    if !enabled() || !tensors.iter().all(|(device, _)| device.clone().without_autodiff() == Device::flex()) {
        return false;
    }
    let eligible = tensors.iter().all(|(_, dtype)| *dtype == DType::F32) && takes();
    if !eligible {
        count_fallback();
    }
    eligible
}
