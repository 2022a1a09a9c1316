//! An in-process tailnet: control server, DERP relay and STUN server on loopback, for tests and the demo.
//!
//! Nodes join it with the code they use in production, over TLS from a CA of its own. It is as strict as a real server
//! (unknown keys, versions, malformed requests are refused), and real `tailscaled`s work on it too, which a test in
//! `tests/node` proves. What it adds is control: policy edits, deletion, expiry, faults, messages of one's own making.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tailnet_testkit::{AuthKeySpec, Tailnet, TailnetConfig};
//!
//! let tailnet = Tailnet::start(TailnetConfig::default()).await?;
//! let key = tailnet.auth_key(AuthKeySpec::user("alice@example.com"))?;
//! println!("join {} with {key}, trusting {}", tailnet.control_url(), tailnet.ca_pem());
//! # Ok(())
//! # }
//! ```

mod ca;
mod control;
mod derp;
mod fault;
mod http;
mod network;
mod policy;
mod random;
mod registry;
mod service;
mod socks;
mod stun;
mod tailnet;

pub use ca::CaError;
pub use policy::{Policy, PolicyError};
pub use registry::User;
pub use socks::Socks5;
pub use tailnet::{
    Answer, AuthKeySpec, NodeConfigError, NodeInfo, PingError, REGION, StartError, Tailnet, TailnetConfig, UnknownError,
};
