//! Builds and starts the Go programs that say what Tailscale itself would decide.
//!
//! Each program lies in a folder of its own beside this crate with a `go.mod` that pins tailscale.com. A test builds it
//! with [`Oracle::start`], writes questions as JSON lines and reads one line of answer for each.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// A running Go program. It ends when its standard input is dropped.
#[derive(Debug)]
pub struct Oracle {
    child: Child,
    /// Where the questions go.
    pub questions: ChildStdin,
    /// Where the answers come from.
    pub answers: ChildStdout,
}

/// Why the comparison could not be made.
#[derive(Debug)]
pub enum Unavailable {
    /// `COUNTERSIGN_NO_GO=1` says that this machine has no Go on purpose.
    Declined,
    /// Go is missing or the program could not be built or started.
    Broken(String),
}

impl Oracle {
    /// Builds the Go program in the folder `name` and starts it.
    ///
    /// # Errors
    /// [`Unavailable::Declined`] when the environment says so, else [`Unavailable::Broken`] with what Go said.
    pub fn start(name: &str) -> Result<Self, Unavailable> {
        if env::var_os("COUNTERSIGN_NO_GO").is_some_and(|value| value == "1") {
            return Err(Unavailable::Declined);
        }
        let program = build(name)?;
        let broken = |error: io::Error| Unavailable::Broken(format!("{} did not start: {error}", program.display()));
        let mut child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(broken)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(questions), Some(answers)) => Ok(Self {
                child,
                questions,
                answers,
            }),
            _ => Err(Unavailable::Broken("the oracle has no pipes".into())),
        }
    }

    /// Takes the parts apart; the caller closes `questions` to end the program and then waits for it.
    pub fn into_parts(self) -> (ChildStdin, ChildStdout, Child) {
        (self.questions, self.answers, self.child)
    }
}

fn build(name: &str) -> Result<PathBuf, Unavailable> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let folder = env::temp_dir().join(format!("countersign-oracle-{}", std::process::id()));
    let target = env::var_os("CARGO_TARGET_DIR").map_or(folder, |dir| PathBuf::from(dir).join("oracle"));
    let broken = |text: String| Unavailable::Broken(text);
    fs::create_dir_all(&target).map_err(|error| broken(format!("{}: {error}", target.display())))?;
    let program = target.join(name);
    let output = Command::new(go())
        .arg("build")
        .arg("-o")
        .arg(&program)
        .arg(".")
        .current_dir(&source)
        .output();
    let output = output.map_err(|error| {
        broken(format!(
            "Go is needed to build {} ({error}): install Go 1.26 or set COUNTERSIGN_NO_GO=1",
            source.display()
        ))
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(broken(format!("go build in {} failed:\n{said}", source.display())));
    }
    Ok(program)
}

/// The Go command: from `PATH`, else where its own installer puts it.
fn go() -> PathBuf {
    let usual = PathBuf::from("/usr/local/go/bin/go");
    let on_path = env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join("go").is_file()));
    if !on_path && usual.is_file() {
        usual
    } else {
        "go".into()
    }
}
