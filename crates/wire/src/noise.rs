//! ts2021: Noise IK between a node and control (Go: `control/controlbase`).
//!
//! The initiator (a node) knows the responder's static key from `GET /key`; the responder (control) learns the
//! initiator's machine key from the handshake. After one message each way, both hold a [`Transport`] that seals and
//! opens records. What is new to a reader of the Noise specification:
//!
//! - the prologue names the protocol version, which also stands in clear in the initiation; both must agree;
//! - the record counter is **big-endian** in the nonce. Library transports (little-endian) agree on record 0 and fail
//!   on record 1, so the stateless transport is given a byte-swapped counter;
//! - messages and records carry a header, and a frame is never longer than 4096 bytes.
//!
//! The ephemeral keys come from the caller's random source.

mod crypto;
mod early;

use bytes::{Buf, Bytes, BytesMut};
use rand_core::RngCore;
use snow::{HandshakeState, StatelessTransportState};

pub use self::early::{Early, write_early};
use crate::key::{MachinePrivate, MachinePublic};

/// Bytes of an initiation: version, header, ephemeral key, sealed static key, tag.
pub const INITIATION_LEN: usize = 101;
/// Bytes of a response: header, ephemeral key, tag.
pub const RESPONSE_LEN: usize = 51;
/// Bytes of plaintext that fit into one record.
pub const MAX_PLAINTEXT: usize = MAX_FRAME - HEADER_LEN - TAG_LEN;

const HEADER_LEN: usize = 3;
const TAG_LEN: usize = 16;
const MAX_FRAME: usize = 4096;
/// An error text is only ever logged; what is longer than a frame is not one.
const MAX_ERROR_TEXT: usize = MAX_FRAME - HEADER_LEN;

const TYPE_INITIATION: u8 = 1;
const TYPE_RESPONSE: u8 = 2;
const TYPE_ERROR: u8 = 3;
const TYPE_RECORD: u8 = 4;

/// Why a Noise connection cannot go on. None of these can be mended on the same connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// A frame of a type that does not belong here.
    #[error("a Noise frame of type {expected} was expected, type {found} arrived")]
    Type {
        /// What the protocol allows here.
        expected: u8,
        /// What arrived.
        found: u8,
    },
    /// A length that the protocol does not allow.
    #[error("a Noise frame of type {kind} has the impossible length {len}")]
    Length {
        /// Type of the frame.
        kind: u8,
        /// Length its header claims.
        len: usize,
    },
    /// The other side gave up and said why. Nothing authenticates the text.
    #[error("the other side ended the Noise handshake: {0:?}")]
    Refused(String),
    /// Cryptography says no: another key, another version in the prologue, or changed bytes.
    #[error(
        "the Noise handshake failed: the server key is not the one that was fetched, or bytes were changed on the way"
    )]
    Handshake,
    /// A record was changed, lost, repeated or reordered.
    #[error("a Noise record could not be authenticated; bytes were changed on the way")]
    Record,
    /// An earlier error ended the connection, or its counter ran out.
    #[error("the Noise connection has ended")]
    Ended,
    /// What follows the handshake is neither an early payload nor HTTP/2.
    #[error("the server's early payload is not readable: {0}")]
    Early(&'static str),
}

/// A node that has sent its initiation and waits for the response.
pub struct Initiator(HandshakeState);

impl Initiator {
    /// Begins a handshake as `machine` with the owner of `server`, claiming protocol `version`.
    ///
    /// The returned bytes are to be sent. Fails only if the library refuses the keys.
    pub fn new(
        version: u16,
        machine: &MachinePrivate,
        server: &MachinePublic,
        rng: &mut dyn RngCore,
    ) -> Result<(Self, [u8; INITIATION_LEN]), NoiseError> {
        let mut state = crypto::start(version, machine, Some(server), rng)?;
        let mut message = [0; INITIATION_LEN];
        message[..2].copy_from_slice(&version.to_be_bytes());
        write_header(&mut message[2..], TYPE_INITIATION, INITIATION_LEN - 2 - HEADER_LEN);
        state
            .write_message(&[], &mut message[2 + HEADER_LEN..])
            .map_err(|_| NoiseError::Handshake)?;
        Ok((Self(state), message))
    }

    /// Takes the server's answer off `buffer`; `None` = more bytes are needed, and nothing was taken.
    ///
    /// What is left in `buffer` afterwards are records already.
    pub fn take_response(buffer: &mut BytesMut) -> Result<Option<[u8; RESPONSE_LEN]>, NoiseError> {
        let Some((kind, len)) = read_header(buffer) else {
            return Ok(None);
        };
        match kind {
            TYPE_RESPONSE if len == RESPONSE_LEN - HEADER_LEN => {}
            TYPE_ERROR if len <= MAX_ERROR_TEXT => {}
            TYPE_RESPONSE | TYPE_ERROR => return Err(NoiseError::Length { kind, len }),
            found => {
                return Err(NoiseError::Type {
                    expected: TYPE_RESPONSE,
                    found,
                });
            }
        }
        if buffer.len() < HEADER_LEN + len {
            return Ok(None);
        }
        let frame = buffer.split_to(HEADER_LEN + len);
        if kind == TYPE_ERROR {
            return Err(NoiseError::Refused(
                String::from_utf8_lossy(&frame[HEADER_LEN..]).into_owned(),
            ));
        }
        let mut response = [0; RESPONSE_LEN];
        response.copy_from_slice(&frame);
        Ok(Some(response))
    }

    /// Ends the handshake with the server's response.
    pub fn finish(mut self, response: &[u8; RESPONSE_LEN]) -> Result<Transport, NoiseError> {
        self.0
            .read_message(&response[HEADER_LEN..], &mut [])
            .map_err(|_| NoiseError::Handshake)?;
        Transport::new(self.0)
    }
}

/// What a control server learned from an initiation, and what it answers.
pub struct Responder {
    /// Protocol version that the node claims, its capability version.
    pub version: u16,
    /// Who the node is.
    pub machine: MachinePublic,
    /// To be sent to the node.
    pub response: [u8; RESPONSE_LEN],
    /// The connection from then on.
    pub transport: Transport,
}

impl Responder {
    /// Answers an initiation as the control server with key `private`.
    pub fn accept(private: &MachinePrivate, initiation: &[u8], rng: &mut dyn RngCore) -> Result<Self, NoiseError> {
        let initiation: &[u8; INITIATION_LEN] = initiation.try_into().map_err(|_| NoiseError::Length {
            kind: TYPE_INITIATION,
            len: initiation.len(),
        })?;
        let version = u16::from_be_bytes([initiation[0], initiation[1]]);
        match read_header(&initiation[2..]) {
            Some((TYPE_INITIATION, len)) if len == INITIATION_LEN - 2 - HEADER_LEN => {}
            Some((TYPE_INITIATION, len)) => {
                return Err(NoiseError::Length {
                    kind: TYPE_INITIATION,
                    len,
                });
            }
            Some((found, _)) => {
                return Err(NoiseError::Type {
                    expected: TYPE_INITIATION,
                    found,
                });
            }
            None => return Err(NoiseError::Handshake),
        }
        let mut state = crypto::start(version, private, None, rng)?;
        state
            .read_message(&initiation[2 + HEADER_LEN..], &mut [])
            .map_err(|_| NoiseError::Handshake)?;
        let machine = state.get_remote_static().and_then(|key| key.try_into().ok());
        let machine = MachinePublic::from_bytes(machine.ok_or(NoiseError::Handshake)?);
        let mut response = [0; RESPONSE_LEN];
        write_header(&mut response, TYPE_RESPONSE, RESPONSE_LEN - HEADER_LEN);
        state
            .write_message(&[], &mut response[HEADER_LEN..])
            .map_err(|_| NoiseError::Handshake)?;
        Ok(Self {
            version,
            machine,
            response,
            transport: Transport::new(state)?,
        })
    }
}

/// The frame by which a server ends a handshake and says why, cut to the length a frame may have.
pub fn error_frame(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(MAX_ERROR_TEXT)];
    let mut frame = vec![0; HEADER_LEN + text.len()];
    write_header(&mut frame, TYPE_ERROR, text.len());
    frame[HEADER_LEN..].copy_from_slice(text);
    frame
}

/// Both directions of an established connection.
pub struct Transport {
    state: StatelessTransportState,
    sealed: u64,
    opened: u64,
    ended: bool,
}

impl Transport {
    fn new(state: HandshakeState) -> Result<Self, NoiseError> {
        let state = state
            .into_stateless_transport_mode()
            .map_err(|_| NoiseError::Handshake)?;
        Ok(Self {
            state,
            sealed: 0,
            opened: 0,
            ended: false,
        })
    }

    /// Appends `plaintext` to `out` in as many records as it needs; nothing for empty input.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut BytesMut) -> Result<(), NoiseError> {
        for chunk in plaintext.chunks(MAX_PLAINTEXT) {
            let nonce = next(&mut self.sealed, &mut self.ended)?;
            let len = chunk.len() + TAG_LEN;
            let at = out.len();
            out.resize(at + HEADER_LEN + len, 0);
            write_header(&mut out[at..], TYPE_RECORD, len);
            let sealed = self.state.write_message(nonce, chunk, &mut out[at + HEADER_LEN..]);
            if sealed != Ok(len) {
                self.ended = true;
                return Err(NoiseError::Record);
            }
        }
        Ok(())
    }

    /// Takes the first record off `buffer` and opens it; `None` = more bytes are needed, and nothing was taken.
    ///
    /// An empty record is legal and gives empty bytes. After an error the connection is over, and every later call
    /// says so.
    pub fn open(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, NoiseError> {
        let opened = self.try_open(buffer);
        self.ended |= opened.is_err();
        opened
    }

    fn try_open(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, NoiseError> {
        if self.ended {
            return Err(NoiseError::Ended);
        }
        let Some((kind, len)) = read_header(buffer) else {
            return Ok(None);
        };
        if kind != TYPE_RECORD {
            return Err(NoiseError::Type {
                expected: TYPE_RECORD,
                found: kind,
            });
        }
        if !(TAG_LEN..=MAX_FRAME - HEADER_LEN).contains(&len) {
            return Err(NoiseError::Length { kind, len });
        }
        if buffer.len() < HEADER_LEN + len {
            return Ok(None);
        }
        buffer.advance(HEADER_LEN);
        let ciphertext = buffer.split_to(len);
        let nonce = next(&mut self.opened, &mut self.ended)?;
        let mut plaintext = vec![0; len - TAG_LEN];
        self.state
            .read_message(nonce, &ciphertext, &mut plaintext)
            .map_err(|_| NoiseError::Record)?;
        Ok(Some(plaintext.into()))
    }
}

/// The next counter, in the byte order that makes the library's little-endian nonce big-endian on the wire.
fn next(counter: &mut u64, ended: &mut bool) -> Result<u64, NoiseError> {
    if *ended || *counter >= u64::MAX - 1 {
        *ended = true;
        return Err(NoiseError::Ended);
    }
    let nonce = counter.swap_bytes();
    *counter += 1;
    Ok(nonce)
}

fn read_header(buffer: &[u8]) -> Option<(u8, usize)> {
    let header = buffer.first_chunk::<HEADER_LEN>()?;
    Some((header[0], usize::from(u16::from_be_bytes([header[1], header[2]]))))
}

/// `len` fits: the callers' frames are at most 4096 bytes.
fn write_header(frame: &mut [u8], kind: u8, len: usize) {
    frame[0] = kind;
    frame[1..HEADER_LEN].copy_from_slice(&(len as u16).to_be_bytes());
}

#[cfg(test)]
mod tests;
