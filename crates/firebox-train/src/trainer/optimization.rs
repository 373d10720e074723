//! The warning of a build without optimization.

use std::sync::atomic::{AtomicBool, Ordering};

/// The warning before a run, once a process, of a build that takes 40 to 50 times as long for a
/// step.
///
/// The level is that of `firebox-kernels`, which is a dependency of the program, as all that computes is.
pub(super) fn warning() -> Option<String> {
    static SAID: AtomicBool = AtomicBool::new(false);
    let text = text(firebox_kernels::OPT_LEVEL)?;
    (!SAID.swap(true, Ordering::Relaxed)).then_some(text)
}

fn text(level: &str) -> Option<String> {
    (level == "0").then(|| {
        "the program's dependencies are built without optimization, so that a step takes 40 to 50 times as long: build \
         with --release, or put these two lines into Cargo.toml: [profile.dev.package.\"*\"] and opt-level = 3"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_build_without_optimization_is_warned_of() {
        assert!(text("0").is_some_and(|text| text.contains("[profile.dev.package.\"*\"] and opt-level = 3")));
        assert!(["1", "2", "3", "s", "z"].iter().all(|level| text(level).is_none()));
        // This workspace optimizes what computes in all its profiles.
        assert_eq!(warning(), None);
    }
}
