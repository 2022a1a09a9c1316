//! OAuth 2.1 and OpenID Connect decisions, pure.
//!
//! One module per endpoint owns that endpoint's rules: bytes of a request become a type that only valid values
//! inhabit, and a decision turns it, the [`Caller`](caller::Caller), the records that were read and the time into an
//! outcome, which is a value. Nothing here knows HTTP, storage or WireGuard, reads a clock or draws randomness: time
//! and a source of random bytes are arguments, so every decision can be replayed and is run again after a conflict in
//! the store.
//!
//! Three parties, three types. [`caller::Caller`] is the node on this connection; the Subject is the user or node a
//! grant was given to; [`client::Client`] is the OAuth client. None of them defaults to another.

pub mod access;
pub mod answer;
pub mod assertion;
pub mod audit;
pub mod authorize;
pub mod bearer;
pub mod caller;
pub mod claims;
pub mod client;
pub mod client_auth;
pub mod consent;
pub mod error;
pub mod explain;
pub mod footing;
pub mod form;
pub mod grant;
pub mod hint;
pub mod jwks;
pub mod logout;
pub mod manage;
pub mod me;
pub mod metadata;
pub mod opaque;
pub mod options;
pub mod par;
pub mod params;
pub mod pkce;
pub mod policy;
pub mod prompt;
pub mod publish;
pub mod redirect;
pub mod register;
pub mod remedy;
pub mod remembered;
pub mod resource;
pub mod rotation;
pub mod sealed;
pub mod secret;
pub mod server_secret;
pub mod session;
pub mod signing;
pub mod subject;
pub mod text;
pub mod ticket;
pub mod token;

#[cfg(test)]
mod tests_support;
