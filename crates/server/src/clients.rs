//! How a client is forgotten, whoever wishes it: its owner by a program or a page, or the sweep.

use countersign_oauth::client::Client;
use countersign_store::{ByOwner, Record as _, Txn, UnusedUntil, clients_of};

/// Adds to a transaction that `client` goes, and its entries and its place in its owner's quota with it.
pub(crate) fn forget(txn: &mut Txn, client: &Client) {
    txn.delete::<Client>(client.id.as_str());
    txn.count(&clients_of(&client.owner), -1, None);
    let entry = ByOwner {
        owner: client.owner.clone(),
        client: client.id.clone(),
    };
    txn.delete::<ByOwner>(entry.id());
    if let Some(at) = client.unused_until {
        let client = client.id.clone();
        txn.delete::<UnusedUntil>(UnusedUntil { at, client }.id());
    }
}
