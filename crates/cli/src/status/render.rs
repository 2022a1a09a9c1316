//! The report for a person: what matters first, at most one screen for a small tailnet, colour only on a terminal.

use std::fmt::Write;

use super::{PathReport, PeerReport, State, StatusReport};

/// Peers shown before the list is cut; active ones come first.
const PEERS_SHOWN: usize = 20;

/// The report as text. `colour` says whether the reader is a terminal.
pub(crate) fn render(report: &StatusReport, colour: bool) -> String {
    let paint = Paint { colour };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = head(&mut text, report, paint).and_then(|()| peers(&mut text, report, paint));
    let _ = counters(&mut text, report, paint);
    text
}

fn head(out: &mut String, report: &StatusReport, paint: Paint) -> std::fmt::Result {
    let (state, colour) = match report.state {
        State::Starting => ("starting", YELLOW),
        State::Joining => ("joining the tailnet", YELLOW),
        State::NeedsLogin => ("waiting for a login", YELLOW),
        State::Serving => ("serving", GREEN),
        State::Stale => ("serving what is known; issuing nothing new", RED),
        State::Stopping => ("stopping", YELLOW),
    };
    write!(
        out,
        "{} {} for {}",
        paint.with(colour, "●"),
        paint.with(BOLD, state),
        span(report.uptime_ms)
    )?;
    if let Some(ready) = report.ready_after_ms {
        write!(out, ", ready after {}", span(ready))?;
    }
    writeln!(
        out,
        "{}",
        paint.with(DIM, &format!("   countersign {}, pid {}", report.version, report.pid))
    )?;
    if let Some(problem) = &report.problem {
        writeln!(out, "  {}", paint.with(RED, problem))?;
    }
    if let Some(url) = &report.login_url {
        writeln!(out, "  open this to admit the node: {}", paint.with(BOLD, url))?;
    }
    writeln!(out)?;
    if let Some(issuer) = &report.issuer {
        row(out, paint, "issuer", issuer)?;
    }
    if let Some(node) = &report.node {
        row(out, paint, "node", &node.name)?;
        let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
        row(out, paint, "addresses", &addresses.join("  "))?;
        if !node.tags.is_empty() {
            row(out, paint, "tags", &node.tags.join("  "))?;
        }
        if let Some(region) = node.home_region {
            row(out, paint, "home relay", &format!("region {region}"))?;
        }
    }
    let connected = match report.control.connected {
        true => paint.with(GREEN, "connected"),
        false => paint.with(RED, "not connected"),
    };
    let age = report.control.netmap_age_ms.map(netmap_age).unwrap_or_default();
    row(
        out,
        paint,
        "control",
        &format!("{}, {connected}{age}", report.control.url),
    )
}

fn netmap_age(age: u64) -> String {
    match age {
        0 => ", netmap current".to_owned(),
        age => format!(", netmap {} old", span(age)),
    }
}

fn row(out: &mut String, paint: Paint, name: &str, value: &str) -> std::fmt::Result {
    writeln!(out, "  {} {value}", paint.with(DIM, &format!("{name:<10}")))
}

fn peers(out: &mut String, report: &StatusReport, paint: Paint) -> std::fmt::Result {
    let active = report.peers.iter().filter(|peer| peer.path != PathReport::Idle).count();
    row(
        out,
        paint,
        "peers",
        &format!("{active} active of {}", report.peers.len()),
    )?;
    if report.peers.is_empty() {
        return Ok(());
    }
    let mut peers: Vec<&PeerReport> = report.peers.iter().collect();
    peers.sort_by_key(|peer| (peer.path == PathReport::Idle, &peer.name));
    let rows: Vec<_> = peers.iter().take(PEERS_SHOWN).map(|peer| columns(peer)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second, third) = (width(0), width(1), width(2));
    writeln!(out)?;
    for ([name, owner, address, path], peer) in rows.iter().zip(&peers) {
        let path = match peer.path {
            PathReport::Direct { .. } => paint.with(GREEN, path),
            PathReport::Derp { .. } => paint.with(YELLOW, path),
            PathReport::Idle => paint.with(DIM, path),
        };
        let connections = match peer.connections {
            0 => String::new(),
            1 => ", 1 connection".to_owned(),
            many => format!(", {many} connections"),
        };
        let traffic = match peer.rx_bytes + peer.tx_bytes {
            0 => String::new(),
            _ => format!(", {} in, {} out", size(peer.rx_bytes), size(peer.tx_bytes)),
        };
        writeln!(
            out,
            "  {name:<first$}  {owner:<second$}  {address:<third$}  {path}{connections}{traffic}"
        )?;
    }
    match report.peers.len().saturating_sub(PEERS_SHOWN) {
        0 => Ok(()),
        more => writeln!(
            out,
            "  {}",
            paint.with(DIM, &format!("and {more} more: status --json lists all"))
        ),
    }
}

fn columns(peer: &PeerReport) -> [String; 4] {
    let name = peer.name.split('.').next().unwrap_or(&peer.name).to_owned();
    let address = peer.addresses.first().map(ToString::to_string).unwrap_or_default();
    let path = match &peer.path {
        PathReport::Direct { address } => format!("direct {address}"),
        PathReport::Derp { region } => format!("relay region {region}"),
        PathReport::Idle => "idle".to_owned(),
    };
    [name, peer.owner.clone(), address, path].map(|text| plain(&text))
}

/// Names are chosen by others: what could steer a terminal is taken out.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn counters(out: &mut String, report: &StatusReport, paint: Paint) -> std::fmt::Result {
    let counted: Vec<_> = report.counters.iter().filter(|(_, count)| **count > 0).collect();
    let width = counted.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let digits = counted
        .iter()
        .map(|(_, count)| count.to_string().len())
        .max()
        .unwrap_or(0);
    if !counted.is_empty() {
        writeln!(out)?;
    }
    for (name, count) in counted {
        writeln!(
            out,
            "  {}  {count:>digits$}",
            paint.with(DIM, &format!("{:<width$}", name.replace('_', " ")))
        )?;
    }
    Ok(())
}

/// A span of time in the two largest units that matter.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0 => format!("{ms} ms"),
        1..10 => format!("{}.{} s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// An amount of bytes in the largest unit that leaves a number of one to four digits.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (0..units.len())
        .rev()
        .find(|power| bytes >> (10 * power) > 0)
        .unwrap_or(0);
    format!("{} {}", bytes >> (10 * power), units[power])
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}
