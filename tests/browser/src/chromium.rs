//! Debian's Chromium with a home of its own, driven by playwright-core.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

const LIMIT: Duration = Duration::from_secs(90);

/// The programs, and the folder that is `HOME` to them.
pub(crate) struct Chromium {
    node: PathBuf,
    modules: PathBuf,
    home: TempDir,
}

impl Chromium {
    /// Finds Chromium, certutil, Node.js and playwright-core as `tests/run` installs them.
    pub(crate) fn find() -> Self {
        let lab = std::env::var_os("COUNTERSIGN_LAB").map_or_else(
            || Path::new(&std::env::var_os("HOME").expect("a home")).join(".cache/countersign-lab"),
            PathBuf::from,
        );
        let modules = lab.join("npm/node_modules");
        let node = modules.join("node/bin/node");
        let programs = ["/usr/bin/chromium", "/usr/bin/certutil"].map(PathBuf::from);
        for file in programs.iter().chain([&node, &modules.join("playwright-core")]) {
            assert!(
                file.exists(),
                "could-not-run: {} is missing; bash tests/run browser installs it",
                file.display()
            );
        }
        let home = TempDir::new().expect("a folder");
        Self { node, modules, home }
    }

    /// Puts a root into the certificate database that Chromium reads.
    pub(crate) async fn trust(&self, root: &str) {
        let file = self.home.path().join("root.pem");
        std::fs::write(&file, root).expect("the root is written");
        let folder = self.home.path().join(".pki/nssdb");
        std::fs::create_dir_all(&folder).expect("a folder");
        let database = format!("sql:{}", folder.display());
        let file = file.display().to_string();
        let (new, add) = (
            ["-N", "--empty-password"],
            ["-A", "-t", "C,,", "-n", "countersign", "-i", &file],
        );
        for args in [&new[..], &add[..]] {
            let done = Command::new("/usr/bin/certutil")
                .args(["-d", &database])
                .args(args)
                .output();
            let done = done.await.expect("certutil runs");
            assert!(done.status.success(), "{done:?}");
        }
    }

    /// Runs a scenario of the driver; gives what it printed.
    pub(crate) async fn run(&self, scenario: &str, setting: &Value) -> Value {
        let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/driver.mjs");
        let run = Command::new(&self.node)
            .args([driver, scenario, &setting.to_string()])
            .env("HOME", self.home.path())
            .env("COUNTERSIGN_NPM", &self.modules)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(LIMIT, run).await.expect("in time").expect("node runs");
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{scenario}: {printed}\n{said}");
        println!("{scenario}: {printed}");
        serde_json::from_str(&printed).expect("the driver prints JSON")
    }
}
