//! Finding out where the node can be reached: the driver of [`tailnet_engine::netcheck`].
//!
//! [`run`] asks the STUN servers of the DERP map through the node's own UDP socket, so that the answers show the mapping
//! that WireGuard will use. Out comes a watch of [`Findings`]: endpoints, home region and what to tell control. It is
//! renewed after every round, also when nothing changed, because freshness counts for CallMeMaybe.
//!
//! A full round runs at the start, after a change of the DERP map or of the interfaces, and every [`FULL_EVERY`]; short
//! ones run every 20 to 26 s while peers are active, and when somebody asks.

mod host;
mod resolve;

use std::{
    collections::BTreeMap,
    future::pending,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, rngs::StdRng};
use tailnet_engine::netcheck::{HomeChoice, Interface, Netcheck, Report, SeenAddresses, own_endpoints, stun_servers};
use tailnet_wire::control::{DerpMap, NetInfo};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{sleep, sleep_until},
};
use tracing::{debug, info};

pub(crate) use self::host::spawn;
use self::resolve::Resolver;
use crate::clock;

/// How often everything is measured.
pub(crate) const FULL_EVERY: Duration = Duration::from_secs(5 * 60);
/// The same while no server answers.
const RETRY_EVERY: Duration = Duration::from_secs(60);
/// While peers are active, rounds come at random times in this range: NATs forget a mapping after 30 s.
const ACTIVE_EVERY: std::ops::Range<Duration> = Duration::from_secs(20)..Duration::from_secs(26);
/// Who asks again this soon is given the last findings.
const FRESH: Duration = Duration::from_secs(2);
/// How often the interfaces are looked at.
const LINK_CHECK: Duration = Duration::from_secs(30);

/// Where peers can reach us.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Findings {
    /// Our endpoints, best first, each with its [kind](tailnet_wire::control::endpoint_type).
    pub(crate) endpoints: Vec<(SocketAddr, u8)>,
    /// The DERP region where we listen; none while there is no DERP map.
    pub(crate) home: Option<u32>,
    /// What control is told.
    pub(crate) net_info: NetInfo,
}

/// What netcheck needs of the node around it.
pub(crate) trait Host: Send + Sync + 'static {
    /// Sends a STUN request from the socket that carries WireGuard; false when `to` cannot be reached from here.
    fn send_stun(&self, to: SocketAddr, request: &[u8]) -> bool;
    /// The port that socket is bound to.
    fn port(&self) -> u16;
    /// Whether the system has IPv6.
    fn has_ipv6(&self) -> bool;
    /// Whether any peer is active, so that NAT mappings have to be kept.
    fn is_active(&self) -> bool;
    /// Whether control would hear of a new home: without it, moving only hides us.
    fn may_move_home(&self) -> bool;
    /// Whether the home relay was heard lately.
    fn is_home_alive(&self) -> bool;
    /// Takes the chosen home region: called when it changes.
    fn use_home(&self, home: Option<u32>);
}

/// What comes in while [`run`] runs.
pub(crate) struct Inputs {
    /// The DERP map, as the netmap has it.
    pub(crate) maps: watch::Receiver<Arc<DerpMap>>,
    /// Datagrams that look like STUN, from the demux.
    pub(crate) answers: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
    /// Somebody wants fresh endpoints.
    pub(crate) refresh: Arc<Notify>,
}

/// The interface addresses with our own `port`: all that is known before the first answer.
pub(crate) fn local_endpoints(port: u16) -> Vec<(SocketAddr, u8)> {
    own_endpoints(&Report::default(), &SeenAddresses::default(), &interfaces(), port)
}

/// Measures until it is dropped or its inputs end. `seed` spreads nodes over regions where nothing can be measured; it
/// should be fixed for a node.
pub(crate) async fn run(host: Arc<impl Host>, mut inputs: Inputs, seed: u64, findings: watch::Sender<Findings>) {
    let mut driver = Driver {
        host,
        findings,
        check: Netcheck::default(),
        resolver: Resolver::default(),
        home: HomeChoice::new(seed),
        seen: SeenAddresses::default(),
        known: BTreeMap::new(),
        interfaces: interfaces(),
        rng: clock::rng(),
    };
    let mut next_full = clock::now();
    let mut last_round: Option<Instant> = None;
    loop {
        let map = inputs.maps.borrow_and_update().clone();
        let now = clock::now();
        let full = now >= next_full;
        if last_round.is_some_and(|at| now.duration_since(at) < FRESH) && !full {
            driver.findings.send_modify(|_| {});
        } else {
            let works = driver.round(&map, full, &mut inputs.answers).await;
            last_round = Some(clock::now());
            if full {
                next_full = clock::now() + if works { FULL_EVERY } else { RETRY_EVERY };
            }
        }
        match driver.pause(&mut inputs, next_full).await {
            Wake::Time => {}
            Wake::Changed => next_full = clock::now(),
            Wake::Ended => return,
        }
    }
}

/// Why a pause ended.
enum Wake {
    /// It is time for the next round, or somebody asks for one.
    Time,
    /// The world has changed: measure everything.
    Changed,
    /// Nobody is left to measure for.
    Ended,
}

struct Driver<H> {
    host: Arc<H>,
    findings: watch::Sender<Findings>,
    check: Netcheck,
    resolver: Resolver,
    home: HomeChoice,
    seen: SeenAddresses,
    /// Latencies of the last full round.
    known: BTreeMap<u32, Duration>,
    interfaces: Vec<Interface>,
    rng: StdRng,
}

impl<H: Host> Driver<H> {
    /// One round; false when no server answered.
    async fn round(&mut self, map: &DerpMap, full: bool, answers: &mut mpsc::Receiver<(SocketAddr, Vec<u8>)>) -> bool {
        if self.home.current().is_none() && map.regions.len() == 1 {
            // There is no choice, so peers need not wait for a measurement.
            self.publish(map, &Report::default());
        }
        let known = if full { None } else { Some(&self.known) };
        let servers = stun_servers(map, self.home.current(), known);
        let targets = self.resolver.resolve(&servers, self.host.has_ipv6()).await;
        while answers.try_recv().is_ok() {}
        self.check.start(&targets, clock::now());
        let report = loop {
            let now = clock::now();
            while let Some((to, request)) = self.check.poll_transmit(now, &mut self.rng) {
                if !self.host.send_stun(to, &request) {
                    self.check.handle_unreachable(to);
                }
            }
            if let Some(report) = self.check.poll_report(clock::now()) {
                break report;
            }
            let next = self.check.poll_timeout();
            tokio::select! {
                Some((_, datagram)) = answers.recv() => {
                    self.check.handle_datagram(&datagram, clock::now());
                }
                () = sleep_or_never(next) => {}
            }
        };
        if full && report.works() {
            self.known = report.latencies();
        }
        self.publish(map, &report);
        report.works()
    }

    fn publish(&mut self, map: &DerpMap, report: &Report) {
        let now = clock::now();
        self.interfaces = interfaces();
        self.seen.note(report, now);
        let before = self.home.current().filter(|home| map.regions.contains_key(home));
        let home = match before {
            Some(before) if !self.host.may_move_home() => Some(before),
            _ => self.home.choose(report, map, self.host.is_home_alive(), now),
        };
        if home != before {
            info!(event = "home_derp", ?home, ?before, "home DERP region chosen");
            self.host.use_home(home);
        }
        let mut new = Findings {
            endpoints: own_endpoints(report, &self.seen, &self.interfaces, self.host.port()),
            home,
            net_info: report.net_info(home, self.host.has_ipv6()),
        };
        debug!(?new, "network measured");
        self.findings.send_modify(|findings| {
            keep_if_alike(findings, &mut new);
            *findings = new;
        });
    }

    async fn pause(&mut self, inputs: &mut Inputs, next_full: Instant) -> Wake {
        let next = if self.host.is_active() {
            next_full.min(clock::now() + self.rng.random_range(ACTIVE_EVERY))
        } else {
            next_full
        };
        let time = sleep_or_never(Some(next));
        tokio::pin!(time);
        loop {
            tokio::select! {
                () = &mut time => return Wake::Time,
                () = inputs.refresh.notified() => return Wake::Time,
                changed = inputs.maps.changed() => return if changed.is_ok() { Wake::Changed } else { Wake::Ended },
                () = self.findings.closed() => return Wake::Ended,
                // Late answers are of no use, but must not fill the queue.
                answer = inputs.answers.recv() => if answer.is_none() { return Wake::Ended },
                () = sleep(LINK_CHECK) => if self.links_changed() { return Wake::Changed },
            }
        }
    }

    fn links_changed(&self) -> bool {
        let now = interfaces();
        now.len() != self.interfaces.len() || now.iter().any(|interface| !self.interfaces.contains(interface))
    }
}

/// Control is told only of real changes: not of another order, nor of latencies that differ as they always do.
fn keep_if_alike(old: &Findings, new: &mut Findings) {
    let same_set = old.endpoints.len() == new.endpoints.len();
    if same_set && old.endpoints.iter().all(|endpoint| new.endpoints.contains(endpoint)) {
        new.endpoints.clone_from(&old.endpoints);
    }
    let mut alike = new.net_info.clone();
    alike.derp_latency.clone_from(&old.net_info.derp_latency);
    if alike == old.net_info && !old.net_info.derp_latency.is_empty() {
        new.net_info = alike;
    }
}

fn interfaces() -> Vec<Interface> {
    let all = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        debug!(%error, "the network interfaces cannot be listed");
        Vec::new()
    });
    let up = all
        .into_iter()
        .filter(|interface| interface.is_oper_up() || interface.is_loopback());
    up.map(|interface| Interface {
        ip: interface.ip(),
        name: interface.name,
    })
    .collect()
}

async fn sleep_or_never(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
