//! Headscale: the real control server, with its embedded DERP and STUN, on a private CA.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

use crate::lab::peer;
use crate::{Authority, Error, Host, Process, Result, until};

/// The control server's name on the wire.
pub(crate) const NAME: &str = "hs.lab.test";
/// The MagicDNS domain.
const DOMAIN: &str = "tail.lab.test";

/// A running Headscale and its command line.
#[derive(Debug)]
pub struct Headscale {
    host: Host,
    config: PathBuf,
    policy: PathBuf,
    process: Mutex<Option<Process>>,
    users: Mutex<HashMap<String, u64>>,
}

/// A row of `headscale nodes list`.
#[derive(Clone, Debug, Deserialize)]
pub struct HeadscaleNode {
    /// Headscale's number for the node, which is also its tailnet node id.
    pub id: u64,
    /// Its MagicDNS label.
    pub given_name: String,
    /// The host name that it asked for.
    pub name: String,
    /// Its WireGuard key, as `nodekey:<hex>`: the one thing that no later node of the same name shares.
    pub node_key: String,
    /// Tailnet addresses, IPv4 first.
    pub ip_addresses: Vec<String>,
    /// Whether it is connected to control.
    #[serde(default)]
    pub online: bool,
}

impl Headscale {
    /// Starts Headscale on `host` with an allow-all policy and waits until its command line answers.
    pub(crate) fn start(host: Host, authority: &Authority) -> Result<Headscale> {
        let (config, policy) = (host.dir().join("config.yaml"), host.dir().join("policy.json"));
        let addresses = [host.ipv4().to_string(), host.ipv6().to_string()];
        let (chain, key) = authority.issue(NAME, &addresses)?;
        write(&config, &configuration(&host, &chain, &key))?;
        write(&policy, "{}")?;
        let headscale = Headscale {
            host,
            config,
            policy,
            process: Mutex::default(),
            users: Mutex::default(),
        };
        headscale.resume()?;
        Ok(headscale)
    }

    /// The URL for `--login-server` and `--control-url`.
    pub fn url(&self) -> String {
        format!("https://{NAME}")
    }

    /// The full MagicDNS name of the node called `label`.
    pub fn fqdn(&self, label: &str) -> String {
        format!("{label}.{DOMAIN}")
    }

    /// The host it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Starts it (again) and waits until it answers.
    pub fn resume(&self) -> Result {
        let mut command = self.host.command(peer("headscale")?);
        command.arg("--config").arg(&self.config).arg("serve");
        let mut process = self.host.spawn("headscale", command)?;
        until("Headscale answers its command line", Duration::from_secs(20), || {
            if !process.is_running() {
                return Err(process.ended());
            }
            Ok(self.cli(&["users", "list"]).map_err(|e| e.to_string()))
        })?;
        *self.process() = Some(process);
        Ok(())
    }

    /// Stops it, as `systemctl stop` would.
    pub fn stop(&self) -> Result {
        match self.process().take() {
            Some(mut process) => process.terminate(Duration::from_secs(30)).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Replaces the policy and has it reloaded (SIGHUP); nodes get their new map within a second.
    pub fn set_policy(&self, policy: &Value) -> Result {
        let slot = self.process();
        let process = slot.as_ref().ok_or_else(|| Error::unexpected("Headscale", "stopped"))?;
        let reloads = || process.log().matches("SIGHUP").count();
        let before = reloads();
        write(&self.policy, &policy.to_string())?;
        process.signal(Signal::HUP)?;
        until("Headscale takes the policy", Duration::from_secs(5), || {
            Ok(if reloads() > before {
                Ok(())
            } else {
                Err("no word of it in its log".into())
            })
        })?;
        Ok(())
    }

    /// A reusable pre-auth key for nodes of the user `name`, who is created when needed.
    pub fn user_key(&self, name: &str) -> Result<String> {
        let id = self.user(name)?.to_string();
        self.key(&["--user", &id])
    }

    /// A reusable pre-auth key that tags its nodes (`tag:a,tag:b`).
    pub fn tagged_key(&self, tags: &str) -> Result<String> {
        self.key(&["--tags", tags])
    }

    /// Every node it knows.
    pub fn nodes(&self) -> Result<Vec<HeadscaleNode>> {
        let listed = self.cli(&["nodes", "list"])?;
        let nodes = if listed.is_null() {
            Value::Array(Vec::new())
        } else {
            listed
        };
        serde_json::from_value(nodes).map_err(|e| Error::unexpected("headscale nodes list", e.to_string()))
    }

    /// The node called `label`, if there is one.
    pub fn node(&self, label: &str) -> Result<Option<HeadscaleNode>> {
        Ok(self.nodes()?.into_iter().find(|node| node.given_name == label))
    }

    /// Waits until the nodes with these labels are connected again after [`Headscale::resume`], a minute at most.
    pub fn await_online(&self, labels: &[&str]) -> Result<Duration> {
        let look = || {
            let online: Vec<_> = self.nodes()?.into_iter().filter(|node| node.online).collect();
            let missing = |label: &&&str| !online.iter().any(|node| node.given_name == **label);
            Ok(match labels.iter().find(missing) {
                None => Ok(()),
                Some(label) => Err(format!("{label} is not connected")),
            })
        };
        until("all are connected to Headscale", Duration::from_secs(60), look).map(|((), took)| took)
    }

    /// Logs a node out.
    pub fn expire(&self, node: &HeadscaleNode) -> Result {
        self.cli(&["nodes", "expire", "-i", &node.id.to_string()]).map(|_| ())
    }

    /// Deletes a node.
    pub fn delete(&self, node: &HeadscaleNode) -> Result {
        self.cli(&["nodes", "delete", "--force", "-i", &node.id.to_string()])
            .map(|_| ())
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user(&self, name: &str) -> Result<u64> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = users.get(name) {
            return Ok(*id);
        }
        let made = self.cli(&["users", "create", name])?;
        let id = made["id"]
            .as_u64()
            .ok_or_else(|| Error::unexpected("headscale users create", made.to_string()))?;
        users.insert(name.to_owned(), id);
        Ok(id)
    }

    /// A key for these tags that works once and expires after `expiration` (`24h`, `1s`).
    pub fn single_key(&self, tags: &str, expiration: &str) -> Result<String> {
        self.make_key(&["--tags", tags, "--expiration", expiration])
    }

    fn key(&self, whose: &[&str]) -> Result<String> {
        let mut args = vec!["--reusable", "--expiration", "24h"];
        args.extend(whose);
        self.make_key(&args)
    }

    fn make_key(&self, args: &[&str]) -> Result<String> {
        let args = [&["preauthkeys", "create"], args].concat();
        let made = self.cli(&args)?;
        let key = made["key"].as_str();
        key.map(str::to_owned)
            .ok_or_else(|| Error::unexpected("headscale preauthkeys create", made.to_string()))
    }

    fn cli(&self, args: &[&str]) -> Result<Value> {
        let mut command = self.host.command(peer("headscale")?);
        command
            .arg("--config")
            .arg(&self.config)
            .args(args)
            .args(["--output", "json"]);
        let said = crate::process::run(&mut command)?;
        serde_json::from_str(&said).map_err(|_| Error::unexpected(format!("headscale {}", args.join(" ")), said))
    }
}

fn configuration(host: &Host, chain: &Path, key: &Path) -> String {
    let dir = host.dir().display();
    format!(
        r#"server_url: https://{NAME}
listen_addr: "[::]:443"
metrics_listen_addr: 127.0.0.1:9090
grpc_listen_addr: 127.0.0.1:50443
tls_cert_path: {chain}
tls_key_path: {key}
noise: {{ private_key_path: {dir}/noise_private.key }}
prefixes: {{ v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential }}
derp:
  server:
    enabled: true
    region_id: 999
    region_code: lab
    region_name: Lab
    verify_clients: true
    stun_listen_addr: "[::]:3478"
    private_key_path: {dir}/derp_private.key
    automatically_add_embedded_derp_region: true
    ipv4: {ipv4}
    ipv6: {ipv6}
  urls: []
  paths: []
  auto_update_enabled: false
disable_check_updates: true
database: {{ type: sqlite, sqlite: {{ path: {dir}/db.sqlite, write_ahead_log: true }} }}
log: {{ level: info, format: text }}
policy: {{ mode: file, path: {dir}/policy.json }}
dns:
  magic_dns: true
  base_domain: {DOMAIN}
  override_local_dns: false
  nameservers: {{ global: [], split: {{}} }}
  search_domains: []
  extra_records: []
# Its command line gives up after 5 s otherwise, which a busy machine can take.
cli: {{ timeout: 30s }}
unix_socket: {dir}/headscale.sock
unix_socket_permission: "0770"
logtail: {{ enabled: false }}
"#,
        chain = chain.display(),
        key = key.display(),
        ipv4 = host.ipv4(),
        ipv6 = host.ipv6(),
    )
}

fn write(path: &Path, text: &str) -> Result {
    std::fs::write(path, text).map_err(Error::io(format!("writing {path:?}")))
}
