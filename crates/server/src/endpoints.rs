//! One file per endpoint. Each takes the caller: an endpoint without an identity does not compile.

pub(crate) mod authorize;
pub(crate) mod bearer;
pub(crate) mod ca;
pub(crate) mod client_auth;
pub(crate) mod consent;
pub(crate) mod explain;
pub(crate) mod logout;
pub(crate) mod manage;
pub(crate) mod me;
pub(crate) mod metadata;
pub(crate) mod par;
pub(crate) mod register;
pub(crate) mod token;
