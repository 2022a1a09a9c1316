//! Sealing and opening disco messages with a shared key per peer, computed once.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use rand::RngCore;
use tailnet_wire::{
    disco::{DiscoBox, DiscoError, Message},
    key::{DiscoPrivate, DiscoPublic},
};

/// Shared keys kept at most; past this all are computed anew, one X25519 each.
const MAX_BOXES: usize = 4096;

/// Our disco key and what was derived from it.
pub(crate) struct DiscoBoxes {
    ours: DiscoPrivate,
    boxes: Mutex<HashMap<DiscoPublic, Arc<DiscoBox>>>,
}

impl DiscoBoxes {
    pub(crate) fn new(ours: DiscoPrivate) -> Self {
        Self {
            ours,
            boxes: Mutex::default(),
        }
    }

    /// Our own key.
    pub(crate) fn public(&self) -> DiscoPublic {
        self.ours.public()
    }

    /// Opens a datagram that names `sender`, which must be a key of the netmap: others would fill the cache.
    pub(crate) fn open(&self, sender: &DiscoPublic, datagram: &[u8]) -> Result<Message, DiscoError> {
        self.with(sender).open(datagram)
    }

    /// The datagram that carries `message` to the owner of `receiver`.
    pub(crate) fn seal(&self, receiver: &DiscoPublic, message: &Message, rng: &mut dyn RngCore) -> Vec<u8> {
        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        self.with(receiver).seal(message, &nonce)
    }

    fn with(&self, peer: &DiscoPublic) -> Arc<DiscoBox> {
        let mut boxes = self.boxes.lock();
        if boxes.len() >= MAX_BOXES && !boxes.contains_key(peer) {
            boxes.clear();
        }
        Arc::clone(
            boxes
                .entry(*peer)
                .or_insert_with(|| Arc::new(DiscoBox::new(&self.ours, peer))),
        )
    }
}
