//! What the network around the node looks like: which relay is near, and under which addresses we are seen
//! (Go: `net/netcheck`).
//!
//! A [`Netcheck`] measures: [`stun_servers`] names whom to ask, the owner resolves them to [`StunTarget`]s, and one
//! round of STUN probes ends in a [`Report`]. [`HomeChoice`] picks the home region from reports, [`own_endpoints`] lists
//! where peers may reach us, and [`Report::net_info`] says it to control. No I/O happens here.

mod endpoints;
mod home;
mod plan;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand_core::RngCore;
use tailnet_wire::stun::{self, REQUEST_LEN, TxId};

pub use self::{
    endpoints::{Interface, SeenAddresses, own_endpoints},
    home::HomeChoice,
    plan::{StunServer, StunTarget, stun_servers},
    report::Report,
};

/// How long answers are waited for.
pub const BUDGET: Duration = Duration::from_secs(3);
/// Time between two tries of one region and family.
pub const RETRY: Duration = Duration::from_millis(100);

/// How often each region is asked per family while it does not answer.
const TRIES: usize = 3;
/// As many regions are enough to choose a home among; slower ones would not win.
const ENOUGH_REGIONS: usize = 3;
/// How long other answers are waited for once enough is known, at least.
const GRACE: Duration = Duration::from_millis(50);

/// One round of STUN probes. See the [module](self).
#[derive(Debug, Default)]
pub struct Netcheck {
    round: Option<Round>,
}

#[derive(Debug)]
struct Round {
    deadline: Instant,
    /// Tries that are still to be sent, by time.
    due: Vec<Probe>,
    sent: BTreeMap<TxId, (Probe, Instant)>,
    /// What has to answer: each region and family that was asked.
    open: BTreeSet<(u32, bool)>,
    report: Report,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    at: Instant,
    target: StunTarget,
}

impl Probe {
    fn group(&self) -> (u32, bool) {
        (self.target.region, self.target.addr.is_ipv4())
    }
}

impl Netcheck {
    /// Begins a round; one that is under way is given up. `targets` come from [`stun_servers`].
    pub fn start(&mut self, targets: &[StunTarget], now: Instant) {
        let mut groups: BTreeMap<_, Vec<StunTarget>> = BTreeMap::new();
        for target in targets {
            groups
                .entry((target.region, target.addr.is_ipv4()))
                .or_default()
                .push(*target);
        }
        let mut due = Vec::new();
        for (try_number, delay) in (0..TRIES).zip([0, 1, 2]) {
            let probes = groups.values().map(|group| Probe {
                at: now + RETRY * delay,
                target: group[try_number % group.len()],
            });
            due.extend(probes);
        }
        self.round = Some(Round {
            deadline: now + BUDGET,
            due,
            sent: BTreeMap::new(),
            open: groups.into_keys().collect(),
            report: Report::default(),
        });
    }

    /// Whether a round is under way.
    pub fn is_running(&self) -> bool {
        self.round.is_some()
    }

    /// The next request, to be sent from the socket that carries WireGuard.
    pub fn poll_transmit(&mut self, now: Instant, rng: &mut dyn RngCore) -> Option<(SocketAddr, [u8; REQUEST_LEN])> {
        let round = self.round.as_mut()?;
        // Who has answered is not asked again.
        round.due.retain(|probe| round.open.contains(&probe.group()));
        let probe = *round.due.first().filter(|probe| probe.at <= now)?;
        round.due.remove(0);
        let mut tx_id = TxId([0; 12]);
        rng.fill_bytes(&mut tx_id.0);
        round.sent.insert(tx_id, (probe, now));
        Some((probe.target.addr, stun::request(tx_id)))
    }

    /// The socket cannot send to `addr`: no answer is waited for.
    pub fn handle_unreachable(&mut self, addr: SocketAddr) {
        let Some(round) = &mut self.round else { return };
        round.due.retain(|probe| probe.target.addr != addr);
        let gone: Vec<_> = round
            .sent
            .values()
            .filter(|(probe, _)| probe.target.addr == addr)
            .map(|(probe, _)| probe.group())
            .collect();
        round.sent.retain(|_, (probe, _)| probe.target.addr != addr);
        for group in gone {
            let others = round.due.iter().chain(round.sent.values().map(|(probe, _)| probe));
            if others.map(Probe::group).all(|other| other != group) {
                round.open.remove(&group);
            }
        }
    }

    /// A datagram that looks like STUN arrived; true when it answers one of ours.
    pub fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> bool {
        let (Some(round), Ok(response)) = (&mut self.round, stun::parse_response(datagram)) else {
            return false;
        };
        let Some((probe, at)) = round.sent.remove(&response.tx_id) else {
            return false;
        };
        round.open.remove(&probe.group());
        let latency = now.saturating_duration_since(at);
        round.report.note(probe.target, latency, response.mapped);
        if round.has_enough() {
            let slowest = round.report.latencies().values().max().copied().unwrap_or_default();
            round.deadline = round.deadline.min(now + (slowest * 2).max(GRACE));
        }
        true
    }

    /// When to call [`Netcheck::poll_transmit`] and [`Netcheck::poll_report`] again without any news.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let round = self.round.as_ref()?;
        let due = round.due.iter().find(|probe| round.open.contains(&probe.group()));
        Some(due.map_or(round.deadline, |probe| probe.at.min(round.deadline)))
    }

    /// The result, once everybody has answered or time is over.
    pub fn poll_report(&mut self, now: Instant) -> Option<Report> {
        let done = self
            .round
            .as_ref()
            .is_some_and(|round| round.open.is_empty() || now >= round.deadline);
        if !done {
            return None;
        }
        self.round.take().map(|round| round.report)
    }
}

impl Round {
    /// Whether a home can be chosen: each region answered in one family at least, or enough of them did.
    fn has_enough(&self) -> bool {
        let answered = self.report.latencies();
        answered.len() >= ENOUGH_REGIONS || self.open.iter().all(|(region, _)| answered.contains_key(region))
    }
}

#[cfg(test)]
mod tests;
