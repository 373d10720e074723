#!/usr/bin/env python3
"""Rules of the house that no compiler checks: prints each violation and exits with 1 if there is one.

`.ci/house.py` looks at all crates and the facade, `.ci/house.py data firebox` at some. Rules, per crate:

* no doc comment begins with "What" or "Whether";
* no comment is wider than 110 columns, rows of tables aside;
* at most 15 names are exported at the root, beside modules;
* a folder of sources, tests or examples has at most 15 entries;
* no files use each other in a circle, by paths from the crate's root or a parent;
* what `.ci/documented.txt` lists has an example that asserts.
"""

import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
WIDTH = 110
MOST = 15
# A pool dispatches, and a dispatch that finds no thread free runs in the pool: argued in the file.
CIRCLES = [{"firebox-workers": {"pool/mod.rs", "stream/dispatch.rs", "stream/imap.rs"}}]
# What is no source: data of tests, and snapshots.
NO_SOURCES = {"fixtures"}

violations = []


def violation(path, line, text):
    where = path.relative_to(REPOSITORY)
    violations.append(f"{where}:{line}: {text}" if line else f"{where}: {text}")


def sources(crate, *folders):
    for folder in folders:
        if (crate / folder).is_dir():
            yield from sorted((crate / folder).rglob("*.rs"))


def check_comments(crate):
    for path in sources(crate, "src", "tests", "benches", "examples"):
        before = None
        for number, line in enumerate(path.read_text().split("\n"), 1):
            text = line.strip()
            # A row of a table is one line.
            row = re.match(r"//[/!]? ?\|", text)
            if text.startswith("//") and len(line) > WIDTH and not row:
                violation(path, number, f"a comment of {len(line)} columns, at most {WIDTH}")
            doc = re.match(r"//[/!](?!/) ?(.*)", text)
            marker = text[:3] if doc else None
            if doc and marker != before and re.match(r"(What|Whether)\b", doc[1]):
                violation(path, number, f"a doc comment that begins with {doc[1].split()[0]!r}")
            before = marker


def without_comments(text):
    """The code without comments; lines stay where they are."""
    return re.sub(r"//[^\n]*", "", text)


def without_tests(text):
    """The code without inline modules of tests; lines stay where they are."""
    found = re.search(r"^#\[cfg\((all\()?test\b[^\n]*\n(#\[[^\n]*\n)*(pub(\([a-z]+\))? )?mod \w+ \{", text, re.M)
    return text[: found.start()] if found else text


def leaves(tree, prefix=()):
    """The paths of a `use`, with the name that each has here: `a::{b, c as d}` is a::b as b and a::c as d."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(tree):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(tree[start:at])
            start = at + 1
    parts.append(tree[start:])
    for part in (part.strip() for part in parts):
        if not part:
            continue
        head, brace, rest = part.partition("{")
        path = prefix + tuple(name for name in head.split("::") if name.strip())
        if brace:
            yield from leaves(rest.rsplit("}", 1)[0], tuple(name.strip() for name in path))
            continue
        last, _, alias = path[-1].partition(" as ")
        path = tuple(name.strip() for name in path[:-1]) + (last.strip(),)
        if path[-1] == "self":
            path = path[:-1]
        yield path, (alias.strip() or path[-1])


USE = re.compile(r"^([ \t]*)(pub(?:\([^)]*\))? )?use ([^;]+);", re.M)


def uses(text):
    """All `use`s of a file: whether it is one for others, its path, the name here, the line."""
    for found in USE.finditer(text):
        line = text.count("\n", 0, found.start(3)) + 1
        for path, name in leaves(found[3]):
            yield found[2], path, name, line


def check_root(crate):
    path = crate / "src/lib.rs"
    if not path.is_file():
        return
    text = without_tests(without_comments(path.read_text()))
    hidden = re.compile(r"#\[doc\(hidden\)\]\s*(#\[[^\]]*\]\s*)*(pub [^;{]*(;|\{))")
    text = hidden.sub(lambda found: re.sub(r"[^\n]", " ", found[0]) if found[3] == ";" else found[0], text)
    modules = set(re.findall(r"^pub mod (\w+)", text, re.M))
    names = {}
    for found in re.finditer(r"^pub use ([^;]+);", text, re.M):
        line = text.count("\n", 0, found.start()) + 1
        for path_, name in leaves(found[1]):
            # A module, or a crate as one.
            if name[:1].islower() and (name in modules or is_module(crate, path_) or len(path_) == 1):
                continue
            names.setdefault(name, line)
    for found in re.finditer(r"^pub (?:struct|enum|trait|fn|type|const) (\w+)", text, re.M):
        names.setdefault(found[1], text.count("\n", 0, found.start()) + 1)
    if len(names) > MOST:
        line = sorted(names.values())[MOST]
        violation(path, line, f"{len(names)} names at the root beside modules, at most {MOST}")


def is_module(crate, path):
    if path[0] == "crate":
        path = path[1:]
    base = crate / "src" / Path(*path) if path else crate / "src"
    return base.with_suffix(".rs").is_file() or (base / "mod.rs").is_file()


def check_folders(crate):
    for top in ("src", "tests", "examples"):
        folders = [crate / top, *(path for path in (crate / top).rglob("*") if path.is_dir())]
        for folder in folders:
            if not folder.is_dir() or NO_SOURCES & set(folder.relative_to(crate).parts):
                continue
            entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
            if len(entries) > MOST:
                violation(folder, None, f"{len(entries)} entries in a folder, at most {MOST}")


def module_of(source, path):
    parts = list(path.relative_to(source).with_suffix("").parts)
    if parts[-1] in ("mod", "lib"):
        parts.pop()
    return tuple(parts)


def edges(crate):
    """Which file uses which: file -> {file: line}."""
    source = crate / "src"
    texts = {path: without_tests(without_comments(path.read_text())) for path in sources(crate, "src")}
    files = {module_of(source, path): path for path in texts}
    given_on = {}
    for module, path in files.items():
        given_on[module] = {
            name: path_ for visible, path_, name, _ in uses(texts[path]) if visible and name != "*"
        }

    def absolute(module, path):
        if path[0] == "crate":
            return path[1:]
        if path[0] == "self":
            return module + path[1:]
        if path[0] == "super":
            while path and path[0] == "super":
                module, path = module[:-1], path[1:]
            return module + path
        # Of a child, or of another crate.
        return module + path if module + path[:1] in files else None

    def resolve(path, depth=0):
        """The file in which a path's last name stands."""
        for length in range(len(path), -1, -1):
            module = path[:length]
            if module not in files:
                continue
            rest = path[length:]
            onward = given_on[module].get(rest[0]) if rest else None
            goal = absolute(module, onward) if onward and depth < 20 else None
            if goal is not None and goal != path:
                return resolve(goal + rest[1:], depth + 1)
            return files[module]
        return None

    graph = {}
    for module, path in files.items():
        graph[path] = {}
        for visible, used, name, line in uses(texts[path]):
            if used[0] not in ("crate", "super") or used[-1] == "*":
                continue
            goal = resolve(absolute(module, used))
            # What a file gives on is no use of it.
            if goal not in (None, path) and not visible:
                graph[path].setdefault(goal, line)
    return source, graph


def circles(graph):
    """The strongly connected parts of more than one file."""
    index, low, stack, on, parts = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        for goal in graph[node]:
            if goal not in index:
                visit(goal)
                low[node] = min(low[node], low[goal])
            elif goal in on:
                low[node] = min(low[node], index[goal])
        if low[node] == index[node]:
            part = set()
            while True:
                last = stack.pop()
                on.discard(last)
                part.add(last)
                if last == node:
                    break
            if len(part) > 1:
                parts.append(part)

    sys.setrecursionlimit(10_000)
    for node in graph:
        if node not in index:
            visit(node)
    return parts


def check_circles(crate):
    source, graph = edges(crate)
    for part in circles(graph):
        names = {str(path.relative_to(source)) for path in part}
        if any(names <= allowed.get(crate.name, set()) for allowed in CIRCLES):
            continue
        for path in sorted(part):
            for goal, line in graph[path].items():
                if goal in part:
                    violation(path, line, f"uses {goal.relative_to(source)}, in a circle of {len(part)} files")


def items(crate):
    """All items with docs: name, or Type::method -> [(path, line, docs)]."""
    found = {}
    for path in sources(crate, "src"):
        owner, docs = None, []
        for number, line in enumerate(path.read_text().split("\n"), 1):
            text = line.strip()
            if text.startswith("///"):
                docs.append(text[3:].removeprefix(" "))
                continue
            if text.startswith(("#[", "#![")) or (docs and text in (")]", "]")):
                continue
            block = re.match(r"(?:pub(?:\([^)]*\))? )?(?:unsafe )?(impl\b.*|trait \w+.*)", line)
            if block:
                target = re.sub(r"<[^<>]*>", "", re.sub(r"<[^<>]*>", "", re.sub(r"<[^<>]*>", "", block[1])))
                target = target.split(" for ")[-1] if target.startswith("impl") else target
                name = re.match(r"(?:impl|trait)?\s*(?:[\w]+::)*(\w+)", target)
                owner = name[1] if name else None
            elif line.startswith("}"):
                owner = None
            item = re.match(
                r"(?:pub(?:\([^)]*\))? )?(?:const |unsafe |async )*(struct|enum|trait|fn|type|macro_rules!|const) (\w+)",
                text,
            )
            if item:
                inside = owner and line.startswith("    ") and item[1] in ("fn", "const", "type")
                name = f"{owner}::{item[2]}" if inside else item[2]
                found.setdefault(name, []).append((path, number, docs))
            docs = []
    return found


def examples(docs):
    """The examples in a doc comment that are compiled."""
    code, inside, parts = [], False, []
    for line in docs:
        if line.startswith("```"):
            if inside:
                parts.append("\n".join(code))
            inside, code = not inside, []
            # What isn't Rust, or isn't compiled, is no example.
            if inside and re.search(r"text|ignore|console|toml|json", line):
                code = None
        elif inside and code is not None:
            code.append(line)
        if not inside and code is None:
            code = []
        if inside and code is None:
            # Swallow until the end.
            continue
    return [part for part in parts if part]


def check_documented(crates):
    """Each line: `crate item`, or `crate item @ other`, where `other` (an item, or a file's own docs) has the example."""
    path = REPOSITORY / ".ci/documented.txt"
    known = {crate.name: crate for crate in crates}
    cached = {}
    for number, line in enumerate(path.read_text().split("\n"), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        name, _, place = (part.strip() for part in line.partition("@"))
        crate, _, item = name.partition(" ")
        if crate not in known:
            continue
        if crate not in cached:
            cached[crate] = items(known[crate])
        if item not in cached[crate]:
            violation(path, number, f"{crate} has no {item}")
            continue
        if place.endswith(".rs"):
            file = known[crate] / "src" / place
            docs = [text[3:].removeprefix(" ") for text in file.read_text().split("\n") if text.startswith("//!")]
            all_docs = [docs]
        else:
            all_docs = [docs for _, _, docs in cached[crate].get(place or item, [])]
        last = item.rsplit("::", 1)[-1]
        found = [example for docs in all_docs for example in examples(docs)]
        # An item's own example may have it from a method that returns it.
        named = re.compile(rf"\b{last}\b" if place else "")
        if not any("assert" in example and named.search(example) for example in found):
            path_, line_, _ = cached[crate][item][0]
            where = f" at {place}" if place else ""
            violation(path_, line_, f"{item} has no example{where} that asserts")


def main():
    crates = [path.parent for path in sorted((REPOSITORY / "crates").glob("*/Cargo.toml"))]
    crates.append(REPOSITORY)
    wanted = sys.argv[1:]
    if wanted:
        names = {crate.name: crate for crate in crates[:-1]} | {"firebox": REPOSITORY}
        unknown = [name for name in wanted if name not in names and f"firebox-{name}" not in names]
        if unknown:
            sys.exit(f"no such crate: {', '.join(unknown)}")
        crates = [names.get(name) or names[f"firebox-{name}"] for name in wanted]
    for crate in crates:
        check_comments(crate)
        check_root(crate)
        check_folders(crate)
        check_circles(crate)
    if (REPOSITORY / ".ci/documented.txt").exists():
        check_documented(crates)
    for line in violations:
        print(line)
    if violations:
        sys.exit(f"{len(violations)} violations")


if __name__ == "__main__":
    main()
