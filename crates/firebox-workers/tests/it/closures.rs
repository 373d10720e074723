//! The compiler's message about closures that cannot run in another process.
//!
//! That they don't compile, examples in the documentation show; here is looked at the words. The programs are
//! compiled against the library that these tests are linked with.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A compiler, and the library that it can compile programs against.
struct Compiler {
    library: PathBuf,
}

impl Compiler {
    /// The newest library beside this program that a program compiles against, with the compiler that has
    /// made it; `None` where there is none, as where tests run elsewhere than they were built.
    fn find() -> Option<Compiler> {
        let folder = std::env::current_exe().unwrap().parent()?.to_owned();
        let mut libraries: Vec<PathBuf> = std::fs::read_dir(&folder)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("libfirebox_workers-") && name.ends_with(".rlib")
            })
            .collect();
        // Of other features, and of before.
        libraries.sort_by_key(|path| std::fs::metadata(path).and_then(|file| file.modified()).ok());
        let mut errors = Vec::new();
        for library in libraries.into_iter().rev() {
            let compiler = Compiler { library };
            match compiler.compile("pool.map(|x: u64| x * 3, 0..10)")? {
                Ok(()) => return Some(compiler),
                Err(error) => errors.push(error),
            }
        }
        // By another compiler: that is none of ours.
        errors.retain(|error| !error.contains("E0514"));
        assert!(errors.is_empty(), "a closure that captures nothing: {}", errors.join("\n"));
        None
    }

    /// Compiles a function that uses a pool of processes as this expression does, with variables around it;
    /// gives the errors. `None` if there is no compiler.
    fn compile(&self, expression: &str) -> Option<Result<(), String>> {
        let source = format!(
            "use firebox_workers::{{Pool, WorkersExt as _}};
            pub fn program(by: u64, name: String) {{
                let pool = Pool::processes(1).unwrap();
                let _ = {expression};
                drop((by, name));
            }}"
        );
        let mut library = std::ffi::OsString::from("firebox_workers=");
        library.push(&self.library);
        let mut dependencies = std::ffi::OsString::from("dependency=");
        dependencies.push(self.library.parent().unwrap_or(Path::new(".")));
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let out = std::env::temp_dir().join(format!("firebox-closure-{}.o", std::process::id()));
        // As far as to code: what a closure captures is looked at when it is compiled for that closure.
        let started = Command::new(rustc)
            .args(["--edition", "2024", "--crate-type", "lib", "--crate-name", "closure", "--color", "never"])
            .args(["--emit", "obj", "--cap-lints", "allow", "-"])
            .arg("-o")
            .arg(&out)
            .arg("--extern")
            .arg(library)
            .arg("-L")
            .arg(dependencies)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut rustc = started.ok()?;
        // One that ends before it has read all has said why.
        let _ = rustc.stdin.take()?.write_all(source.as_bytes());
        let output = rustc.wait_with_output().unwrap();
        let _ = std::fs::remove_file(out);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Some(if output.status.success() { Ok(()) } else { Err(errors) })
    }
}

#[test]
fn a_closure_that_captures_is_told_why_it_does_not_compile() {
    let Some(compiler) = Compiler::find() else { return };
    let programs: [(&str, &[&str]); 4] = [
        (
            // A number, which the closure has a copy of.
            "pool.map(move |x: u64| x * by, 0..10)",
            &[
                "a closure that captures variables cannot run in another process, which does not have them",
                "make them a part of the task, or settings of a type that implements `Work` and is \
                 registered by `firebox_workers::remote_work!`",
                "`Pool::threads` runs closures of any kind",
            ],
        ),
        (
            "pool.map({ let name = name.clone(); move |x: u64| x + name.len() as u64 }, 0..10)",
            &[
                "cannot run in another process",
                "neither a function, nor registered work",
                "a closure that captures variables is of this process: make them a part of the task, or \
                 settings of a type that implements `Work` and is registered by \
                 `firebox_workers::remote_work!`",
                "`Pool::threads` runs closures of any kind",
            ],
        ),
        ("pool.imap(move |x: u64| x * by, 0..10, 4).count()", &["cannot run in another process"]),
        (
            "pool.submit({ let name = name.clone(); move || name.len() })",
            &["cannot be sent to another process", "`Pool::threads` takes tasks of any type"],
        ),
    ];
    for (expression, texts) in programs {
        let errors = compiler.compile(expression).unwrap().expect_err(expression);
        for text in texts {
            assert!(errors.contains(text), "{expression}: expected `{text}`, got:\n{errors}");
        }
    }
}
