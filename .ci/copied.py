#!/usr/bin/env python3
"""Compiles examples as a user would who copies them: `.ci/copied.py training solar`.

Each becomes `src/main.rs` of a new crate outside the repository, beside a copy of its folder, with the `[dependencies]` that
stand at its head, and is checked. The crates of firebox, which no registry has yet, are patched to their paths; the lock
file is this workspace's.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def manifest(example, text):
    """The new crate's `Cargo.toml`."""
    block = re.search(r"^//! ```toml\n((?://!.*\n)+?)//! ```", text, re.M)
    if not block:
        sys.exit(f"examples/{example}.rs: expected its [dependencies] at its head")
    dependencies = re.sub(r"^//! ?", "", block[1], flags=re.M)
    patches = [("firebox", REPOSITORY)]
    patches += [(folder.name, folder) for folder in sorted((REPOSITORY / "crates").iterdir())]
    patches = "\n".join(f"{name} = {{ path = '{path}' }}" for name, path in patches)
    package = f'[package]\nname = "{example}"\nversion = "0.1.0"\nedition = "2024"\n'
    return "\n".join([package, dependencies, "[patch.crates-io]", patches, ""])


def compile_copy(example, folder):
    text = (REPOSITORY / "examples" / f"{example}.rs").read_text()
    (folder / "src").mkdir(parents=True)
    (folder / "src/main.rs").write_text(text)
    (folder / "Cargo.toml").write_text(manifest(example, text))
    for name in ("Cargo.lock", "rust-toolchain.toml"):
        shutil.copy(REPOSITORY / name, folder / name)
    rooms = REPOSITORY / "examples" / example
    if rooms.is_dir():
        shutil.copytree(rooms, folder / "src" / example)
    subprocess.run(["cargo", "check", "--quiet", "--offline"], cwd=folder, check=True)


def main():
    with tempfile.TemporaryDirectory() as place:
        for example in sys.argv[1:] or sys.exit(__doc__):
            compile_copy(example, Path(place) / example)
            print(f"{example}: compiles in a crate of its own")


if __name__ == "__main__":
    main()
