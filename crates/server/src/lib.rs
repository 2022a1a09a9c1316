//! HTTP and TLS of Countersign.
//!
//! Connections come in through [`Inbound`], each with a [`Peer`] that says, afresh for every request, which tailnet
//! node is at the other end. A request passes the gate (limits), the host check and the route table to one endpoint,
//! which reads what it needs from the store, runs a pure decision of `countersign-oauth`, commits, and replies. This
//! is the only crate that knows HTTP status codes, and only `status.rs` chooses them.

mod admin;
mod app;
mod body;
mod client_keys;
mod clients;
mod clock;
mod complaints;
mod config;
mod connection;
mod cookie;
mod cors;
mod counters;
mod endings;
mod endpoints;
mod event;
mod explain;
mod forms;
mod gate;
mod granted;
pub mod issuer;
mod keys;
mod pages;
mod peer;
mod reply;
mod route;
mod server;
mod server_secret;
mod sessions;
mod signer;
mod status;
mod sweep;
mod tailnet;
mod tls;
mod verified;
mod watch;
mod wiped;

#[cfg(test)]
mod tests;

pub use self::{
    admin::{AdminError, ClientLine, ClientList},
    clock::Clock,
    config::{ClaimSettings, Limits, ServerConfig, TlsMode, TokenSettings},
    counters::{CounterSnapshot, RouteCount},
    explain::{ExplainError, ExplainQuery},
    issuer::Issuer,
    peer::{Directory, Inbound, Peer, Wanted, Withdrawn},
    server::{ServeError, Server, StartError},
    server_secret::SecretError,
    tailnet::{TailnetDirectory, TailnetInbound, names_in_policy},
    tls::{TlsError, stored_root_pem},
};
