//! A real tailscaled with a TUN device, and what a person at that machine can do.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::lab::peer;
use crate::{Authority, Curl, Error, Headscale, HeadscaleNode, Host, Process, Result, until};

/// A machine of the tailnet with the official client.
#[derive(Debug)]
pub struct Client {
    host: Host,
    ca: PathBuf,
    process: Process,
}

/// The kinds of `tailscale ping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingKind {
    /// A disco ping on the path in use, without an IP packet.
    Disco,
    /// Through the tunnel, answered by the peer's TSMP.
    Tsmp,
    /// Through the tunnel, answered by the peer's IP stack.
    Icmp,
}

/// A ping's answer.
#[derive(Clone, Debug)]
pub struct Pong {
    /// The whole line that `tailscale ping` printed.
    pub line: String,
    /// Round-trip time.
    pub rtt: Duration,
    /// Whether it came on a direct path (only a disco pong tells).
    pub direct: bool,
}

impl Client {
    /// Starts tailscaled on `host` and logs in to Headscale with `key`.
    pub(crate) fn start(host: Host, headscale: &Headscale, authority: &Authority, key: &str) -> Result<Client> {
        let ca = authority.root();
        let mut command = host.command(peer("tailscaled")?);
        command
            .env("SSL_CERT_FILE", &ca)
            .env("TS_NO_LOGS_NO_SUPPORT", "true")
            .env("TS_DISABLE_PORTMAPPER", "true")
            .arg("--no-logs-no-support")
            .arg(format!("--statedir={}", host.dir().display()))
            .arg(format!("--socket={}", socket(&host).display()))
            .args(["--tun=tailscale0", "--port=41641"]);
        let process = host.spawn("tailscaled", command)?;
        let mut client = Client { host, ca, process };
        until("tailscaled opens its socket", Duration::from_secs(10), || {
            if !client.process.is_running() {
                return Err(client.process.ended());
            }
            Ok(if socket(&client.host).exists() {
                Ok(())
            } else {
                Err("no socket".to_owned())
            })
        })?;
        let (server, name) = (
            format!("--login-server={}", headscale.url()),
            client.host.name().to_owned(),
        );
        client.tailscale(&[
            "up",
            &server,
            &format!("--auth-key={key}"),
            &format!("--hostname={name}"),
            "--netfilter-mode=off",
            "--accept-dns=true",
            "--timeout=45s",
        ])?;
        Ok(client)
    }

    /// The machine it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The tailscaled process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Runs the `tailscale` command against this client.
    pub fn tailscale(&self, args: &[&str]) -> Result<String> {
        crate::process::run(self.command()?.args(args))
    }

    /// `tailscale status --json`.
    pub fn status(&self) -> Result<Value> {
        let said = self.tailscale(&["status", "--json"])?;
        serde_json::from_str(&said).map_err(|_| Error::unexpected("tailscale status", said))
    }

    /// The peer whose MagicDNS label is `label`, as `tailscale status` shows it.
    pub fn peer(&self, label: &str) -> Result<Option<Value>> {
        let status = self.status()?;
        let peers = status["Peer"].as_object().into_iter().flat_map(|peers| peers.values());
        let named = |peer: &&Value| {
            peer["DNSName"]
                .as_str()
                .is_some_and(|name| name.split('.').next() == Some(label))
        };
        Ok(peers.into_iter().find(named).cloned())
    }

    /// Waits until the peer `label` can be reached from this client's netmap (`present`) or is out of it, 10 s at most.
    ///
    /// The netmap comes first and the route a moment later: a connection made in between leaves by the default route.
    pub fn await_peer(&self, label: &str, present: bool) -> Result<Duration> {
        let what = format!(
            "{} {} {label}",
            self.host.name(),
            if present { "sees" } else { "no longer sees" }
        );
        let look = || {
            let peer = self.peer(label)?;
            Ok(match (&peer, present) {
                (None, false) => Ok(()),
                (None, true) => Err("no such peer".to_owned()),
                (Some(_), false) => Err("still a peer".to_owned()),
                (Some(peer), true) => self.routed(peer)?,
            })
        };
        until(&what, Duration::from_secs(10), look).map(|((), took)| took)
    }

    /// Waits until exactly `node` can be reached from this client's netmap: not a predecessor of the same name, in which a
    /// client still believes that control has not told yet. 40 s at most, as tailscaled waits up to 30 s before it asks
    /// a control server again that was gone.
    pub fn await_node(&self, node: &HeadscaleNode) -> Result<Duration> {
        let what = format!("{} sees {} ({})", self.host.name(), node.given_name, node.node_key);
        let look = || {
            Ok(match self.peer(&node.given_name)? {
                None => Err("no such peer".to_owned()),
                Some(peer) if peer["PublicKey"] != node.node_key => Err(format!("its predecessor {peer}")),
                Some(peer) => self.routed(&peer)?,
            })
        };
        until(&what, Duration::from_secs(40), look).map(|((), took)| took)
    }

    fn routed(&self, peer: &Value) -> Result<Result<(), String>> {
        for address in addresses(peer)? {
            let route = self.host.output("ip", &["route", "get", &address.to_string()])?;
            let route = String::from_utf8_lossy(&route.stdout).into_owned();
            if !route.contains("dev tailscale0") {
                return Ok(Err(format!("no route: {route}")));
            }
        }
        Ok(Ok(()))
    }

    /// This client's own tailnet addresses, IPv4 first.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        addresses(&self.status()?["Self"])
    }

    /// The tailnet addresses of the peer `label`, IPv4 first.
    pub fn peer_addresses(&self, label: &str) -> Result<Vec<IpAddr>> {
        let peer = self.peer(label)?;
        addresses(&peer.ok_or_else(|| Error::unexpected("the netmap", format!("no peer {label}")))?)
    }

    /// One `tailscale ping`; `Err` with what it printed when there was no answer within `limit`.
    pub fn ping(&self, target: &str, kind: PingKind, limit: Duration) -> Result<Pong> {
        let timeout = format!("--timeout={}ms", limit.as_millis());
        let mut args = vec!["ping", "--c=1", "--until-direct=false", &timeout];
        match kind {
            PingKind::Disco => {}
            PingKind::Tsmp => args.push("--tsmp"),
            PingKind::Icmp => args.push("--icmp"),
        }
        args.push(target);
        let line = self.tailscale(&args)?.trim().to_owned();
        // "pong from idp (100.64.0.3) via 192.0.2.4:41641 in 2ms", "... via DERP(lab) in 3ms", "... via TSMP in 2ms"
        let rtt = line.rsplit_once(" in ").and_then(|(_, rtt)| milliseconds(rtt));
        match (line.starts_with("pong from"), rtt) {
            (true, Some(rtt)) => {
                let direct = kind == PingKind::Disco && !line.contains("via DERP(");
                Ok(Pong { line, rtt, direct })
            }
            _ => Err(Error::unexpected(format!("tailscale ping {target}"), line)),
        }
    }

    /// Pings until the path is direct (or relayed, with `direct = false`).
    pub fn await_path(&self, target: &str, direct: bool, limit: Duration) -> Result<Duration> {
        let what = format!(
            "{} reaches {target} {}",
            self.host.name(),
            if direct { "directly" } else { "by DERP" }
        );
        let look = || {
            Ok(match self.ping(target, PingKind::Disco, Duration::from_secs(2)) {
                Ok(pong) if pong.direct == direct => Ok(()),
                Ok(pong) => Err(pong.line),
                Err(error) => Err(error.to_string()),
            })
        };
        until(&what, limit, look).map(|((), took)| took)
    }

    /// `curl URL` on this machine; trusts the lab's root unless another is given.
    pub fn curl(&self, url: &str) -> Curl<'_> {
        Curl::new(&self.host, url).trust(&self.ca)
    }

    fn command(&self) -> Result<Command> {
        let mut command = self.host.command(peer("tailscale")?);
        command.arg(format!("--socket={}", socket(&self.host).display()));
        Ok(command)
    }
}

fn socket(host: &Host) -> PathBuf {
    host.dir().join("tailscaled.sock")
}

fn addresses(node: &Value) -> Result<Vec<IpAddr>> {
    let listed = node["TailscaleIPs"].as_array().into_iter().flatten();
    let mut parsed: Vec<IpAddr> = listed.filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    parsed.sort_by_key(IpAddr::is_ipv6);
    if parsed.is_empty() {
        return Err(Error::unexpected("TailscaleIPs", node.to_string()));
    }
    Ok(parsed)
}

/// Reads Go's duration text as `tailscale ping` prints it: whole milliseconds, or with a fraction or in seconds.
fn milliseconds(text: &str) -> Option<Duration> {
    let text = text.split_whitespace().next()?;
    let (digits, scale) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1e-3),
        None => (text.strip_suffix('s')?, 1.0),
    };
    digits.parse::<f64>().ok().map(|n| Duration::from_secs_f64(n * scale))
}
