//! One WireGuard tunnel, and the handshake limiter that all tunnels share. The only file that names boringtun.
//!
//! Datagrams come in, IP packets go out, and back, always through buffers of the caller. Three facts about boringtun
//! 0.7.1 shape this file:
//! - It panics when an output buffer is too small, so every length is checked here first.
//! - It stamps its timers with the time of the last tick, not of the packet: after an idle minute a new handshake looks
//!   a minute old and is given up at once. [`Tunnel::tick_due`] says when a tick must come before anything else.
//! - It reads its own clock and draws its own ephemeral keys, the exception that the purity rule of the engine lists.
//!
//! Its packet queue is never used: [`Tunnel::encapsulate`] refuses a packet while there is no session, and the packet
//! stays with TCP, which keeps it anyway.
//!
//! # Handshakes
//! [`HandshakeLimiter::verify`] runs on every initiation before any Diffie-Hellman; then
//! [`HandshakeLimiter::initiator_of`] names the peer at the price of one. The tunnel verifies the same packet again,
//! which boringtun does not let us skip, so the limiter counts an initiation twice and its limit is doubled.

mod sources;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use boringtun::noise::{Packet, Tunn, TunnResult, errors::WireGuardError, handshake, rate_limiter::RateLimiter};
use sources::Sources;
use tailnet_wire::key::{NodePrivate, NodePublic};
use x25519_dalek::{PublicKey, StaticSecret};

/// Bytes that a data message adds to the IP packet inside it.
pub const OVERHEAD: usize = 32;
/// Bytes that an output buffer needs at least, whatever goes into it: a handshake initiation.
pub const MIN_BUFFER: usize = 148;
/// Bytes of a cookie reply.
pub const COOKIE_REPLY_LEN: usize = 64;
/// A peer's number has 24 bits; the low 8 bits of a receiver index count its sessions.
pub const PEER_INDEX_BITS: u32 = 24;

const DATA_HEADER_LEN: usize = 16;
/// Counters from here on are refused (WireGuard paper, section 6.5: REJECT_AFTER_MESSAGES). boringtun has no such
/// check, and its replay window overflows just below `u64::MAX`.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// How old the last tick may be when the tunnel is used.
const TICK: Duration = Duration::from_millis(250);
/// How often a tunnel in use is ticked for keepalives and new handshakes; WireGuard's own timers are in seconds.
const ACTIVE_TICK: Duration = Duration::from_secs(1);
/// KEEPALIVE_TIMEOUT + REKEY_TIMEOUT and a tick: for so long after the last packet a timer may still be due.
const QUIET: Duration = Duration::from_secs(16);
/// An unanswered initiation is repeated after REKEY_TIMEOUT.
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// REJECT_AFTER_TIME: session keys are wiped by the first tick after it.
const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// How often [`Tunnel::force_handshake`] may send.
const FORCE_INTERVAL: Duration = Duration::from_secs(1);

/// What a WireGuard message is, as far as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A handshake initiation: it names nobody in the clear, see [`HandshakeLimiter::initiator_of`].
    Initiation,
    /// The answer to an initiation of ours.
    Response {
        /// The receiver index that we chose.
        receiver: u32,
    },
    /// A cookie reply to an initiation of ours.
    Cookie {
        /// The receiver index that we chose.
        receiver: u32,
    },
    /// An encrypted packet.
    Data {
        /// The receiver index that we chose.
        receiver: u32,
    },
}

impl Kind {
    /// The number of the peer this message is for, unless it is an initiation.
    pub fn peer_index(self) -> Option<u32> {
        match self {
            Self::Initiation => None,
            Self::Response { receiver } | Self::Cookie { receiver } | Self::Data { receiver } => Some(receiver >> 8),
        }
    }
}

/// Tells WireGuard messages apart without a key. `None` when it is no WireGuard message.
#[inline]
pub fn peek(datagram: &[u8]) -> Option<Kind> {
    let word = |at: usize| {
        let bytes = datagram.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    match (word(0)?, datagram.len()) {
        (1, 148) => Some(Kind::Initiation),
        (2, 92) => Some(Kind::Response { receiver: word(8)? }),
        (3, 64) => Some(Kind::Cookie { receiver: word(4)? }),
        (4, OVERHEAD..) => Some(Kind::Data { receiver: word(4)? }),
        _ => None,
    }
}

/// The address under which the limiter knows a peer that sends through a DERP relay. Cookies are bound to an address,
/// and a relayed packet has none, so it gets one from the discard-only block 100::/64 (RFC 6666).
pub fn relay_address(region: u32, peer: &NodePublic) -> IpAddr {
    let mut raw = [0; 16];
    raw[0] = 1;
    raw[4..8].copy_from_slice(&region.to_be_bytes());
    raw[8..].copy_from_slice(&peer.as_bytes()[..8]);
    IpAddr::V6(Ipv6Addr::from(raw))
}

/// What [`HandshakeLimiter::verify`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The initiation is for us and may cost a Diffie-Hellman.
    Proceed,
    /// We are under load: send back this many bytes of the reply buffer, a cookie, and forget the initiation.
    Challenge(usize),
    /// We are under load, and this source has had its share of the second.
    Throttled,
    /// Not for us.
    Refused,
}

/// The gate in front of all handshakes of this node: checks that an initiation is meant for us and, above a rate, that
/// its sender receives at the address it claims (cookies, WireGuard paper section 5.3) and does not ask for too much.
///
/// The last is ours: boringtun lets everybody in who echoes a cookie, at any rate.
pub struct HandshakeLimiter {
    shared: Arc<RateLimiter>,
    sources: Mutex<Sources>,
    private: StaticSecret,
    public: PublicKey,
}

impl HandshakeLimiter {
    /// A limiter that lets `per_second` handshakes through before it asks for cookies.
    pub fn new(our: &NodePrivate, per_second: u32) -> Self {
        let private = our.to_x25519();
        let public = PublicKey::from(&private);
        let limit = per_second.saturating_mul(2);
        Self {
            shared: Arc::new(RateLimiter::new(&public, limit.into())),
            sources: Mutex::new(Sources::new(limit)),
            private,
            public,
        }
    }

    /// Judges an initiation that came from `source` (for relayed ones see [`relay_address`]).
    pub fn verify(&self, source: IpAddr, initiation: &[u8], reply: &mut [u8; COOKIE_REPLY_LEN]) -> Verdict {
        match self.shared.verify_packet(Some(source), initiation, reply) {
            Ok(Packet::HandshakeInit(_)) if self.sources().admit(source) => Verdict::Proceed,
            Ok(Packet::HandshakeInit(_)) => Verdict::Throttled,
            Err(TunnResult::WriteToNetwork(cookie)) => Verdict::Challenge(cookie.len()),
            _ => Verdict::Refused,
        }
    }

    /// The key of whoever sent an initiation, after one Diffie-Hellman. It is only claimed until the peer's tunnel has
    /// accepted the packet. `None` when the initiation was not made for our key.
    pub fn initiator_of(&self, initiation: &[u8]) -> Option<NodePublic> {
        let Ok(Packet::HandshakeInit(packet)) = Tunn::parse_incoming_packet(initiation) else {
            return None;
        };
        let half = handshake::parse_handshake_anon(&self.private, &self.public, &packet).ok()?;
        Some(NodePublic::from_bytes(half.peer_static_public))
    }

    /// Starts a new counting period. Call once per second.
    pub fn handle_timeout(&self) {
        self.shared.reset_count();
        self.sources().reset();
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        // Counters are right whatever happened to whoever held them.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for HandshakeLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeLimiter").finish_non_exhaustive()
    }
}

/// What became of one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decapsulated {
    /// This many bytes of the output are an IP packet, as long as its length field says.
    Packet(usize),
    /// This many bytes of the output go back to where the datagram came from; the peer has proven its key.
    Handshake(usize),
    /// This many bytes of the output are a cookie for whoever sent the datagram; nothing is proven.
    Challenge(usize),
    /// A keepalive: authentic, and nothing to do.
    Keepalive,
    /// A cookie for our next initiation.
    Cookie,
    /// Not accepted.
    Refused(Refusal),
}

/// Why a datagram was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No WireGuard message, or an IP packet that contradicts its own length field.
    Malformed,
    /// Longer than the caller's buffer.
    Oversized,
    /// The session it was sent under is unknown or over: [`Tunnel::force_handshake`] mends that.
    UnknownSession,
    /// Its counter or timestamp was seen before, or is too old to tell.
    Replayed,
    /// Not encrypted with the peer's key.
    NotAuthentic,
}

/// The WireGuard state of one peer. About 11 KiB.
pub struct Tunnel {
    tunn: Box<Tunn>,
    ticked: Instant,
    used: Instant,
    session_at: Option<Instant>,
    initiated: Option<Instant>,
    forced: Option<Instant>,
    /// Whether boringtun has a session to send under: as responder only after the initiator's first packet.
    sendable: bool,
    /// Whether attempts to get a session were given up since this was last asked.
    expired: bool,
    handshakes: u64,
}

impl Tunnel {
    /// A tunnel to `peer`. `index` (24 bits) should be unpredictable and not reused at once. Costs two curve
    /// multiplications, about 50 us.
    pub fn new(our: &NodePrivate, peer: &NodePublic, index: u32, limiter: &HandshakeLimiter, now: Instant) -> Self {
        let tunn = Tunn::new(
            our.to_x25519(),
            peer.to_x25519(),
            None,
            None,
            index & ((1 << PEER_INDEX_BITS) - 1),
            Some(Arc::clone(&limiter.shared)),
        );
        Self {
            tunn: Box::new(tunn),
            ticked: now,
            used: now,
            session_at: None,
            initiated: None,
            forced: None,
            sendable: false,
            expired: false,
            handshakes: 0,
        }
    }

    /// Opens one datagram into `out`. Handshakes are checked against the shared limiter under the address `source`.
    /// Call [`handle_timeout`](Self::handle_timeout) first when [`tick_due`](Self::tick_due) says so.
    #[inline]
    pub fn decapsulate(&mut self, now: Instant, source: IpAddr, datagram: &[u8], out: &mut [u8]) -> Decapsulated {
        let Some(kind) = peek(datagram) else {
            return Decapsulated::Refused(Refusal::Malformed);
        };
        if out.len() < MIN_BUFFER || out.len() + DATA_HEADER_LEN < datagram.len() {
            return Decapsulated::Refused(Refusal::Oversized);
        }
        if matches!(kind, Kind::Data { .. }) && data_counter(datagram) >= REJECT_AFTER_MESSAGES {
            return Decapsulated::Refused(Refusal::Replayed);
        }
        let outcome = match self.tunn.decapsulate(Some(source), datagram, out) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Decapsulated::Packet(packet.len())
            }
            TunnResult::WriteToNetwork(reply)
                if peek(reply).is_some_and(|kind| matches!(kind, Kind::Cookie { .. })) =>
            {
                Decapsulated::Challenge(reply.len())
            }
            TunnResult::WriteToNetwork(reply) => Decapsulated::Handshake(reply.len()),
            TunnResult::Done if matches!(kind, Kind::Cookie { .. }) => Decapsulated::Cookie,
            TunnResult::Done => Decapsulated::Keepalive,
            TunnResult::Err(error) => Decapsulated::Refused(refusal(&error)),
        };
        match outcome {
            Decapsulated::Packet(_) | Decapsulated::Keepalive => {
                self.used = now;
                self.sendable = true;
            }
            Decapsulated::Handshake(_) => self.note_handshake(now, kind),
            _ => {}
        }
        outcome
    }

    /// Seals `packet` into `out` and returns the length of the datagram. `None` while there is no session, or when
    /// `out` is shorter than the packet plus [`OVERHEAD`] or than [`MIN_BUFFER`].
    #[inline]
    pub fn encapsulate(&mut self, now: Instant, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        if !self.sendable || out.len() < MIN_BUFFER || out.len() < packet.len() + OVERHEAD {
            return None;
        }
        self.used = now;
        self.written(now, |tunn| tunn.encapsulate(packet, out))
    }

    /// Whether packets can be sent now.
    #[inline]
    pub fn has_session(&self) -> bool {
        self.sendable
    }

    /// How long ago the last handshake was completed.
    pub fn session_age(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.session_at?))
    }

    /// How many handshakes were completed.
    pub fn handshakes(&self) -> u64 {
        self.handshakes
    }

    /// Whether WireGuard has given up on a handshake, after 90 s (REKEY_ATTEMPT_TIME), since this was last asked.
    pub fn take_expired(&mut self) -> bool {
        std::mem::take(&mut self.expired)
    }

    /// Whether an initiation of ours waits for its answer.
    pub fn is_initiating(&self) -> bool {
        self.initiated.is_some()
    }

    /// Asks the peer for a session, unless that is already under way. Returns the length of the datagram to send.
    pub fn initiate(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if self.initiated.is_some() || out.len() < MIN_BUFFER {
            return None;
        }
        self.written(now, |tunn| tunn.format_handshake_initiation(out, false))
    }

    /// Asks the peer for a new session because it sends under one that we do not have, as happens after our restart.
    /// At most once per second; returns the length of the datagram to send.
    pub fn force_handshake(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let recently = |at: Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < FORCE_INTERVAL);
        if recently(self.forced) || recently(self.initiated) {
            return None;
        }
        self.renew(now, out)
    }

    /// Asks the peer for a new session at once. For the owner's own decisions: what a stranger can cause goes through
    /// [`force_handshake`](Self::force_handshake) and its limit.
    pub fn renew(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if out.len() < MIN_BUFFER {
            return None;
        }
        self.forced = Some(now);
        self.written(now, |tunn| tunn.format_handshake_initiation(out, true))
    }

    /// Whether the last tick is too old for the tunnel to be used before the next.
    #[inline]
    pub fn tick_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.ticked) >= TICK
    }

    /// Runs WireGuard's timers. Returns the length of the datagram to send: a keepalive or an initiation.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if out.len() < MIN_BUFFER {
            return None;
        }
        self.ticked = now;
        let sent = self.written(now, |tunn| tunn.update_timers(out));
        self.sendable = self.tunn.time_since_last_handshake().is_some();
        if self
            .session_at
            .is_some_and(|at| now.saturating_duration_since(at) > REJECT_AFTER_TIME * 3)
        {
            self.session_at = None;
        }
        sent
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next:
    /// - every second while the last packet is younger than 16 s,
    /// - 5 s after an unanswered initiation,
    /// - otherwise once when the session keys, and once when all key material is to be wiped (180 s and 540 s),
    /// - never for a tunnel at rest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let retry = self.initiated.map(|at| (at + REKEY_TIMEOUT).max(self.ticked + TICK));
        let upkeep = self.session_at.map(|at| {
            if self.ticked < self.used + QUIET {
                self.ticked + ACTIVE_TICK
            } else if self.ticked <= at + REJECT_AFTER_TIME {
                at + REJECT_AFTER_TIME + ACTIVE_TICK
            } else {
                at + REJECT_AFTER_TIME * 3 + ACTIVE_TICK
            }
        });
        retry.into_iter().chain(upkeep).min()
    }

    /// Runs one boringtun call that may write a datagram, and keeps our own books of what it wrote.
    #[inline]
    fn written<'a>(&mut self, now: Instant, call: impl FnOnce(&mut Tunn) -> TunnResult<'a>) -> Option<usize> {
        match call(&mut self.tunn) {
            TunnResult::WriteToNetwork(datagram) => {
                if peek(datagram) == Some(Kind::Initiation) {
                    self.initiated = Some(now);
                }
                Some(datagram.len())
            }
            TunnResult::Err(WireGuardError::ConnectionExpired) => {
                self.expired |= self.initiated.take().is_some();
                None
            }
            _ => None,
        }
    }

    fn note_handshake(&mut self, now: Instant, kind: Kind) {
        self.used = now;
        self.session_at = Some(now);
        self.handshakes += 1;
        if matches!(kind, Kind::Response { .. }) {
            self.initiated = None;
            self.sendable = true;
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("handshakes", &self.handshakes)
            .finish_non_exhaustive()
    }
}

fn data_counter(datagram: &[u8]) -> u64 {
    datagram
        .get(8..DATA_HEADER_LEN)
        .and_then(|raw| raw.try_into().ok())
        .map_or(u64::MAX, u64::from_le_bytes)
}

fn refusal(error: &WireGuardError) -> Refusal {
    match error {
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex | WireGuardError::UnexpectedPacket => {
            Refusal::UnknownSession
        }
        WireGuardError::DuplicateCounter | WireGuardError::InvalidCounter | WireGuardError::WrongTai64nTimestamp => {
            Refusal::Replayed
        }
        WireGuardError::InvalidPacket => Refusal::Malformed,
        _ => Refusal::NotAuthentic,
    }
}
