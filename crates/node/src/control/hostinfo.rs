//! What the node says about its host.

use std::env::consts::{ARCH, OS};

use tailnet_wire::control::Hostinfo;

/// Host information for a node that asks for `hostname` and `tags` and is run by `app`.
pub fn hostinfo(hostname: &str, tags: &[String], app: &str) -> Hostinfo {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Hostinfo {
        ipn_version: concat!(env!("CARGO_PKG_VERSION"), "-", env!("CARGO_PKG_NAME")).into(),
        os: if OS == "macos" { "macOS".into() } else { OS.into() },
        os_version: kernel.trim().into(),
        app: app.into(),
        package: env!("CARGO_PKG_NAME").into(),
        hostname: hostname.into(),
        no_logs_no_support: true,
        machine: ARCH.into(),
        go_arch: match ARCH {
            "x86_64" => "amd64".into(),
            "aarch64" => "arm64".into(),
            other => other.into(),
        },
        request_tags: tags.to_vec(),
        userspace: Some(true),
        userspace_router: Some(true),
        ..Hostinfo::default()
    }
}
