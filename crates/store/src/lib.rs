//! Durable state of Countersign.
//!
//! A caller reads [records](Record) through [`Reads`], decides, and hands over a [`Txn`]: what it expects unchanged,
//! what is written and deleted, and the audit records that go with it. [`Store::commit`] makes all of it durable or
//! nothing, and answers [`CommitError::Conflict`] when something that was read has changed meanwhile; the decision is
//! then run again. What `commit` acknowledged is on disk, also after a power cut.
//!
//! Two backends share every test: memory, and sled 0.34.7 behind a journal. Nothing above this crate may lean on there being one
//! process, so that a database for several replicas can come behind the same interface.

mod audit;
mod backend;
mod error;
mod held;
mod journal;
mod key;
mod layer;
mod manifest;
mod recent;
mod record;
mod records;
mod resting;
mod settle;
mod store;
mod txn;
mod writer;

pub use self::{
    audit::Oldest,
    error::{CommitError, OpenError, StoreError},
    held::{held_by, held_id},
    key::Key,
    record::Record,
    records::{ByOwner, Due, DueKind, UnusedUntil, clients_of},
    resting::{Anchored, Found, Resting},
    store::{Committed, OpenOptions, Page, Reads, Store},
    txn::Txn,
};
