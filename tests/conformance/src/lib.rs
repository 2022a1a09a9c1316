//! What the conformance test needs beside the stage of the flow tests: the tool as npm installs it, and an HTTP proxy
//! by which it speaks as alice's node, so that it sees the issuer under its own name and certificate.
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod connect;

use std::path::{Path, PathBuf};

pub use self::connect::ConnectProxy;

/// The conformance tool and the Node that runs it, where `tests/run` has npm put them.
pub struct Tool {
    /// Node 22 or later: the tool does not start on older ones.
    pub node: PathBuf,
    /// The tool's program.
    pub program: PathBuf,
}

impl Tool {
    /// Where they are.
    ///
    /// # Panics
    /// With `could-not-run:` when they are not installed.
    pub fn find() -> Self {
        let modules = lab().join("npm/node_modules");
        let tool = Self {
            node: modules.join("node/bin/node"),
            program: modules.join("@modelcontextprotocol/conformance/dist/index.js"),
        };
        for file in [&tool.node, &tool.program] {
            assert!(
                file.exists(),
                "could-not-run: {} is missing; bash tests/run conformance installs it",
                file.display()
            );
        }
        tool
    }
}

fn lab() -> PathBuf {
    std::env::var_os("COUNTERSIGN_LAB").map_or_else(
        || Path::new(&std::env::var_os("HOME").expect("a home")).join(".cache/countersign-lab"),
        PathBuf::from,
    )
}
