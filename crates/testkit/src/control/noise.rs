//! The server's side of ts2021's Noise IK handshake, and the byte stream after it.
//!
//! Written from the protocol on its own, apart from the client's side in `tailnet-wire`, so that the two check each
//! other. The stream is handed out as one end of a pipe; a task for each direction turns it into records.

use std::{io, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf, BufMut, BytesMut};
use snow::{
    StatelessTransportState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use tailnet_wire::{
    control::EarlyNoise,
    key::{MachinePrivate, MachinePublic},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_util::task::AbortOnDropHandle;

use crate::{random, service::Connection};

/// What the `Upgrade` header says.
pub(super) const UPGRADE: &str = "tailscale-control-protocol";

const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
const INITIATION_LEN: usize = 101;
const TYPE_INITIATION: u8 = 1;
const TYPE_RESPONSE: u8 = 2;
const TYPE_RECORD: u8 = 4;
/// Type and big-endian length.
const HEADER_LEN: usize = 3;
const MAX_CIPHERTEXT: usize = 4093;
const TAG_LEN: usize = 16;
const PIPE: usize = 64 << 10;
/// The first version that is sent a challenge ahead of HTTP/2.
const VERSION_WITH_EARLY_PAYLOAD: u16 = 49;

/// The client's first message, which comes in an HTTP header.
pub(super) struct Initiation {
    version: u16,
    noise: Vec<u8>,
}

impl Initiation {
    /// Reads the header's value; `None` when it is not an initiation.
    pub(super) fn read(header: &str) -> Option<Self> {
        let mut raw = STANDARD.decode(header).ok().filter(|raw| raw.len() == INITIATION_LEN)?;
        let noise = raw.split_off(5);
        let (version, kind, length) = (raw.as_slice().get_u16(), raw[2], (&raw[3..]).get_u16());
        (kind == TYPE_INITIATION && usize::from(length) == noise.len()).then_some(Self { version, noise })
    }
}

/// A client whose machine key is proven.
pub(super) struct Session {
    pub(super) machine: MachinePublic,
    pub(super) version: u16,
    /// Plaintext in both directions.
    pub(super) stream: DuplexStream,
    /// The record layer, which ends with the session.
    pub(super) tasks: [AbortOnDropHandle<()>; 2],
}

/// Completes the upgrade. A client below `min_version` is dropped without a word, as Headscale does it.
pub(super) async fn accept(
    mut connection: Connection,
    leftover: BytesMut,
    initiation: &Initiation,
    key: &MachinePrivate,
    min_version: u16,
) -> io::Result<Session> {
    let switch = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: {UPGRADE}\r\nConnection: upgrade\r\n\r\n");
    connection.write_all(switch.as_bytes()).await?;
    connection.flush().await?;
    let (machine, response, transport) = respond(initiation, key)?;
    let version = initiation.version;
    if version < min_version {
        return Err(io::Error::other(format!(
            "capability version {version} is below {min_version}"
        )));
    }
    let transport = Arc::new(transport);
    let mut writer = RecordWriter {
        transport: transport.clone(),
        counter: 0,
        out: BytesMut::new(),
    };
    writer.out.put_u8(TYPE_RESPONSE);
    writer.out.put_u16(response.len() as u16);
    writer.out.extend_from_slice(&response);
    if version >= VERSION_WITH_EARLY_PAYLOAD {
        writer.seal(&early_payload())?;
    }
    // Response and early payload leave in one write, so that clients meet the coalesced form.
    connection.write_all(&writer.out).await?;
    connection.flush().await?;

    let (ours, stream) = tokio::io::duplex(PIPE);
    let (mut from_client, mut to_client) = tokio::io::split(connection);
    let (mut plain_out, mut plain_in) = tokio::io::split(ours);
    let reading = async move {
        let reader = RecordReader {
            transport,
            counter: 0,
            buffer: leftover,
        };
        if let Err(error) = reader.run(&mut from_client, &mut plain_in).await {
            tracing::debug!(%error, "the Noise stream of a client ended");
        }
        let _ = plain_in.shutdown().await;
    };
    let writing = async move {
        let _ = writer.run(&mut plain_out, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    let tasks = [tokio::spawn(reading), tokio::spawn(writing)].map(AbortOnDropHandle::new);
    Ok(Session {
        machine,
        version,
        stream,
        tasks,
    })
}

/// Runs the responder's half of the handshake.
fn respond(
    initiation: &Initiation,
    key: &MachinePrivate,
) -> io::Result<(MachinePublic, Vec<u8>, StatelessTransportState)> {
    let prologue = format!("Tailscale Control Protocol v{}", initiation.version);
    let secret = key.to_x25519();
    let pattern = PATTERN
        .parse()
        .map_err(|_| io::Error::other("the Noise pattern is not supported"))?;
    let mut noise = snow::Builder::with_resolver(pattern, Box::new(Resolver))
        .prologue(prologue.as_bytes())
        .and_then(|builder| builder.local_private_key(secret.as_bytes()))
        .and_then(snow::Builder::build_responder)
        .map_err(io::Error::other)?;
    let mut buffer = [0; 128];
    noise
        .read_message(&initiation.noise, &mut buffer)
        .map_err(io::Error::other)?;
    let machine = noise.get_remote_static().and_then(|raw| <[u8; 32]>::try_from(raw).ok());
    let machine = machine
        .map(MachinePublic::from_bytes)
        .ok_or_else(|| io::Error::other("no machine key"))?;
    let length = noise.write_message(&[], &mut buffer).map_err(io::Error::other)?;
    let response = buffer[..length].to_vec();
    let transport = noise.into_stateless_transport_mode().map_err(io::Error::other)?;
    Ok((machine, response, transport))
}

fn early_payload() -> Vec<u8> {
    let challenge = EarlyNoise {
        node_key_challenge: format!("chalpub:{}", random::hex::<32>()),
    };
    let json = serde_json::to_vec(&challenge).unwrap_or_default();
    let mut payload = b"\xff\xff\xffTS".to_vec();
    payload.put_u32(json.len() as u32);
    payload.extend_from_slice(&json);
    payload
}

/// Control counts its records big-endian; the library writes the counter little-endian, as Noise has it.
fn nonce(counter: &mut u64) -> u64 {
    let nonce = counter.swap_bytes();
    *counter += 1;
    nonce
}

struct RecordWriter {
    transport: Arc<StatelessTransportState>,
    counter: u64,
    out: BytesMut,
}

impl RecordWriter {
    fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        for chunk in plain.chunks(MAX_CIPHERTEXT - TAG_LEN) {
            let mut sealed = [0; MAX_CIPHERTEXT];
            let nonce = nonce(&mut self.counter);
            let length = self
                .transport
                .write_message(nonce, chunk, &mut sealed)
                .map_err(io::Error::other)?;
            self.out.put_u8(TYPE_RECORD);
            self.out.put_u16(length as u16);
            self.out.extend_from_slice(&sealed[..length]);
        }
        Ok(())
    }

    async fn run(mut self, plain: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(PIPE);
        while plain.read_buf(&mut buffer).await? > 0 {
            self.out.clear();
            self.seal(&buffer)?;
            buffer.clear();
            to.write_all(&self.out).await?;
            to.flush().await?;
        }
        Ok(())
    }
}

struct RecordReader {
    transport: Arc<StatelessTransportState>,
    counter: u64,
    buffer: BytesMut,
}

impl RecordReader {
    async fn run(
        mut self,
        from: &mut (impl AsyncRead + Unpin),
        plain: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let mut opened = [0; MAX_CIPHERTEXT];
        loop {
            while let Some(length) = self.open(&mut opened)? {
                plain.write_all(&opened[..length]).await?;
            }
            if from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Opens one record if it is there in full; any error ends the connection.
    fn open(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(&[kind, high, low]) = self.buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != TYPE_RECORD || !(TAG_LEN..=MAX_CIPHERTEXT).contains(&length) {
            return Err(io::Error::other(format!(
                "a frame of type {kind} with {length} bytes is no record"
            )));
        }
        if self.buffer.len() < HEADER_LEN + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_LEN);
        let sealed = self.buffer.split_to(length);
        let nonce = nonce(&mut self.counter);
        self.transport
            .read_message(nonce, &sealed, into)
            .map(Some)
            .map_err(io::Error::other)
    }
}

/// The library's primitives with this crate's randomness: the workspace builds the library without a source of its own.
struct Resolver;

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        struct Os;

        impl Random for Os {
            fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
                random::fill(dest);
                Ok(())
            }
        }

        Some(Box::new(Os))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}
