//! `FIREBOX_KERNELS`, which is read once by a process.

use std::process::{Command, Output};

/// Runs this program's other test with a value of the variable.
fn child(value: Option<&str>) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "switch::child_says_whether_kernels_are_on", "--ignored", "--nocapture"]);
    command.env_remove("FIREBOX_KERNELS");
    command.envs(value.map(|value| ("FIREBOX_KERNELS", value)));
    command.output().unwrap()
}

#[test]
#[ignore = "run by the other one"]
fn child_says_whether_kernels_are_on() {
    println!("kernels: {}", firebox_kernels::enabled());
}

#[test]
fn the_environment_turns_kernels_off() {
    for (value, expected) in
        [(None, "true"), (Some("on"), "true"), (Some(""), "true"), (Some("off"), "false")]
    {
        let output = child(value);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("kernels: {expected}")), "{value:?}: {text}");
    }
    let output = child(Some("OFF"));
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("FIREBOX_KERNELS: expected on or off, got \"OFF\""), "{text}");
}
