#!/usr/bin/env python3
"""The public surface of the crates, as rustdoc shows it: prints how it differs from `.ci/api/`, and exits with 1 if it does.

`cargo doc --workspace --no-deps --features ndarray,wgpu,tui` comes first. `.ci/api.py FOLDER` compares the pages in FOLDER
(a target folder's `doc/`), `.ci/api.py FOLDER --write` writes the new surface. A change of these files is a change that
users see: it stands in the changelog.
"""

import difflib
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SURFACE = REPOSITORY / ".ci/api"
# Every type has these, or has them not, by its parts: a difference in them is one that users see.
AUTO_TRAITS = re.compile(r" (Send|Sync) for ")
VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}


class Page(HTMLParser):
    """The declarations on a page: of its item, then of its members and of the traits that it implements."""

    def __init__(self):
        super().__init__()
        self.declarations = []
        self.section = None
        self.open = []
        self.text = None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        classes = (attributes.get("class") or "").split()
        identity = attributes.get("id") or ""
        if identity.endswith("implementations-list") or identity in ("implementors-list", "foreign-impls"):
            self.section = identity
        if tag in VOID:
            return
        self.open.append(tag)
        item = tag == "pre" and "item-decl" in classes
        member = tag in ("h3", "h4") and "code-header" in classes and self.is_own()
        given_on = tag == "dt" and identity.startswith("reexport")
        if self.text is None and (item or member or given_on):
            self.text, self.depth = [], len(self.open)

    def is_own(self):
        return self.section in (None, "implementations-list", "trait-implementations-list", "synthetic-implementations-list")

    def counts(self, text):
        if self.section == "synthetic-implementations-list":
            return AUTO_TRAITS.search(text)
        # The trait says which methods it has.
        return self.section != "trait-implementations-list" or not re.match(r"(unsafe |const )*fn ", text)

    def handle_endtag(self, tag):
        if self.text is not None and len(self.open) == self.depth:
            text = re.sub(r"\s+", " ", "".join(self.text)).strip()
            if self.counts(text):
                self.declarations.append(text)
            self.text = None
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data):
        if self.text is not None:
            self.text.append(data)


def surface(folder):
    """The lines of a crate: a path, and what is declared there."""
    lines = set()
    for path in sorted(folder.rglob("*.html")):
        kind, _, name = path.stem.partition(".")
        if path.name == "all.html" or (kind != "index" and not name) or name.endswith("!"):
            continue
        page = Page()
        page.feed(path.read_text())
        place = "::".join([*path.parent.relative_to(folder.parent).parts, *([name] if name else [])])
        lines.update(f"{place}: {declaration}" for declaration in page.declarations)
    return sorted(lines)


def crates():
    packages = [REPOSITORY, *sorted((REPOSITORY / "crates").iterdir())]
    for package in packages:
        yield re.search(r'^name = "(.*)"', (package / "Cargo.toml").read_text(), re.M)[1]


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--write"]
    if len(arguments) != 1:
        sys.exit(__doc__)
    same = True
    for crate in crates():
        folder = Path(arguments[0]) / crate.replace("-", "_")
        if not folder.is_dir():
            sys.exit(f"{folder}: missing; `cargo doc` makes it")
        kept = SURFACE / f"{crate}.txt"
        after = surface(folder)
        if "--write" in sys.argv:
            kept.parent.mkdir(exist_ok=True)
            kept.write_text("".join(f"{line}\n" for line in after))
            continue
        before = kept.read_text().splitlines() if kept.is_file() else []
        names = [str(kept.relative_to(REPOSITORY)), "the documentation"]
        for line in difflib.unified_diff(before, after, *names, lineterm="", n=0):
            print(line)
            same = False
    if not same:
        sys.exit("the public surface has changed: if it is meant to, `.ci/api.py FOLDER --write`, and a line in the changelog")


if __name__ == "__main__":
    main()
