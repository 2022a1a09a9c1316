//! A laboratory of real peers: Headscale, two tailscaled clients and our own server, each in a network namespace of its
//! own on one bridge.
//!
//! What comes in: root, the peers that `peers.sh` built, and the `countersign` binary. What goes out: [`Lab`], through
//! which a test changes the policy, runs `curl` as alice or bob, pings, blocks UDP, and kills what should be killed.
//!
//! A lab takes some seconds to start, so the tests of one process share it ([`Lab::shared`]) one after the other, and
//! each begins by setting the policy it needs. Nothing outlives the process: a reaper ends every child when the tests end
//! or are killed, and the namespaces go with their last process. Logs stay in `target/lab/`, the last few runs of them.

mod browser;
mod client;
mod curl;
mod error;
mod headscale;
mod journal;
mod lab;
mod loopback;
mod network;
mod pki;
mod process;
mod reaper;
mod relying_party;
mod server;
mod session;
mod skewed;
mod stream;
mod wait;

pub use browser::Browser;
pub use client::{Client, PingKind, Pong};
pub use curl::{Curl, Response};
pub use error::{Error, Result};
pub use headscale::{Headscale, HeadscaleNode};
pub use lab::{Lab, LabGuard};
pub use loopback::Loopback;
pub use network::{Host, Network};
pub use pki::Authority;
pub use process::{Process, Usage};
pub use relying_party::RelyingParty;
pub use server::{Server, ServerOptions};
pub use session::Session;
pub use stream::{JoinTo, StreamKind, StreamServer};
pub use wait::{until, wait_for};
