//! The README's programs and links are what is there.

use std::fs::read_to_string;
use std::path::Path;

#[test]
fn the_readme_shows_the_loaders_example_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = read_to_string(root.join("README.md")).unwrap();
    let example = read_to_string(root.join("examples/loader.rs")).unwrap();
    let code = &example[example.find("use firebox").unwrap()..];
    assert!(readme.contains(&format!("```rust,no_run\n{code}```\n")), "README.md shows another program");
    assert!(example.lines().count() < 60);
}
