//! One file per endpoint. Each takes the caller: an endpoint without an identity does not compile.

pub(crate) mod ca;
pub(crate) mod metadata;
pub(crate) mod register;
