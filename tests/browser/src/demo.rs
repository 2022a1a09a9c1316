//! `countersign demo`, and a browser that is started as its output says.

use std::{path::Path, process::Stdio};

use countersign_flow_tests::binary;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{chromium::Chromium, shots};

/// How long the transcript may take on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// The running demo; it ends when dropped.
pub struct Demo {
    chromium: Chromium,
    /// What it says to type for alice and for bob, in words.
    commands: Vec<Vec<String>>,
    _child: Child,
    _folder: TempDir,
}

impl Demo {
    /// Waits until the transcript is over and the browser lines are there.
    ///
    /// # Panics
    /// With `could-not-run:` when Chromium or Node.js are missing, or when the demo fails.
    pub async fn start() -> Self {
        let chromium = Chromium::find();
        let folder = TempDir::new().expect("a folder");
        let mut child = Command::new(binary("countersign"))
            .arg("demo")
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the demo starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut commands: Vec<Vec<String>> = Vec::new();
        let read = async {
            // The last word of each command is the address to open.
            while commands.len() < 2 || !commands[1].iter().any(|word| word.starts_with("http://")) {
                let line = lines.next_line().await.expect("text").expect("it stays up");
                let words = line.trim_end_matches('\\').split_whitespace().map(str::to_owned);
                if line.starts_with("chromium ") {
                    commands.push(words.collect());
                } else if line.starts_with("  ")
                    && let Some(command) = commands.last_mut()
                    && !command.iter().any(|word| word.starts_with("http://"))
                {
                    command.extend(words);
                }
            }
        };
        timeout(PATIENCE, read).await.expect("in time");
        Self {
            chromium,
            commands,
            _child: child,
            _folder: folder,
        }
    }

    /// Clicks through as the person (0 is alice, 1 is bob); gives what was seen.
    ///
    /// # Panics
    /// When the line is not as expected, or the browser fails.
    pub async fn click_through(&self, person: usize) -> Value {
        let words = &self.commands[person];
        let proxy = words.iter().find_map(|word| word.strip_prefix("--proxy-server="));
        let trust = words
            .iter()
            .find(|word| word.starts_with("--ignore-certificate-errors-spki-list="));
        let folder = words
            .iter()
            .find_map(|word| word.strip_prefix("--user-data-dir="))
            .expect("a profile");
        assert!(
            Path::new(folder).is_absolute(),
            "Chromium heeds the list of keys only with a profile of its own"
        );
        let setting = json!({
            "start": words.last(),
            "proxy": proxy,
            "flags": [trust],
            "issuer": "https://idp.tailnet.test",
            "challenge": "",
            "client": "",
            "shots": shots(),
        });
        self.chromium.run("demo", &setting).await
    }
}
