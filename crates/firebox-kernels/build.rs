//! Tells the crate how far it is optimized, so that a run of training can warn of a build that isn't.

fn main() {
    let level = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo::rustc-env=FIREBOX_OPT_LEVEL={level}");
    println!("cargo::rerun-if-changed=build.rs");
}
