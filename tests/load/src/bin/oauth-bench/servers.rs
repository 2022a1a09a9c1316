//! The tailnet, alice's node on it, and the two servers as processes.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use countersign_interop_tests::Process;
use countersign_load_tests::Target;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tailnet_node::Node;
use tailnet_testkit::{AuthKeySpec, Tailnet, TailnetConfig};
use tempfile::TempDir;

use crate::Result;

const ALICE: &str = "alice@example.com";
const TAG: &str = "tag:internal-idp";
/// A server on alice's node.
pub(crate) const RESOURCE: &str = "https://alice.tailnet.test/mcp";
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `countersign serve`, beside this program.
    Ours,
    /// The lab's `tsidp`.
    Tsidp,
}

impl Kind {
    /// Its MagicDNS label as well.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Tsidp => "tsidp",
        }
    }
}

/// A tailnet whose control offers certificates, as tsidp demands.
pub(crate) struct Stage {
    tailnet: Tailnet,
    folder: TempDir,
    pub(crate) alice: Arc<Node>,
}

/// A server that listens.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) target: Target,
    database: Option<PathBuf>,
}

impl Running {
    /// What its database takes on disk; `None` when it has none.
    pub(crate) fn database_mib(&self) -> Option<f64> {
        self.database
            .as_deref()
            .map(|folder| size(folder) as f64 / f64::from(1 << 20))
    }
}

impl Stage {
    pub(crate) async fn start() -> Result<Self> {
        let rules = r#"[{"allow_dcr": true, "users": ["*"], "resources": ["*"]}]"#;
        let policy = format!(
            r#"{{"tagOwners": {{"{TAG}": ["{ALICE}"]}},
                "grants": [{{"src": ["*"], "dst": ["*"], "ip": ["*"], "app": {{"tailscale.com/cap/tsidp": {rules}}}}}]}}"#
        );
        let config = TailnetConfig {
            policy: Some(policy),
            certificates: true,
            ..TailnetConfig::default()
        };
        let tailnet = Tailnet::start(config).await?;
        let folder = TempDir::new()?;
        let key = tailnet.auth_key(AuthKeySpec::user(ALICE))?;
        let config = tailnet.node_config(folder.path().join("alice"), "alice", Some(&key))?;
        let alice = Arc::new(Node::start(config).await?);
        tailnet.wait_online("alice", PATIENCE).await?;
        Ok(Self { tailnet, folder, alice })
    }

    /// The number that control gave alice's node.
    pub(crate) fn alice_number(&self) -> Result<i64> {
        Ok(self.tailnet.node("alice")?.id.0)
    }

    /// Starts a server and waits until it is on the tailnet.
    pub(crate) async fn serve(&self, kind: Kind) -> Result<Running> {
        match kind {
            Kind::Ours => self.ours().await,
            Kind::Tsidp => self.tsidp().await,
        }
    }

    async fn ours(&self) -> Result<Running> {
        let (state, key, ca) = (self.path("state"), self.path("key"), self.path("ca.pem"));
        std::fs::write(&key, self.tailnet.auth_key(AuthKeySpec::tags(&[TAG]))?)?;
        self.tailnet.write_ca(&ca)?;
        let binary = match std::env::var_os("COUNTERSIGN_BIN_DIR") {
            Some(folder) => PathBuf::from(folder).join("countersign"),
            None => std::env::current_exe()?.with_file_name("countersign"),
        };
        let mut serve = Command::new(&binary);
        serve
            .arg("serve")
            .arg("--state-dir")
            .arg(&state)
            .arg("--auth-key-file")
            .arg(&key);
        serve.arg("--extra-ca-file").arg(&ca).args([
            "--control-url",
            self.tailnet.control_url(),
            "--hostname",
            Kind::Ours.label(),
            "--tls",
            "internal-ca",
            "--dcr-max-clients-per-user",
            "0",
            "--rate-limit-per-peer",
            "0",
        ]);
        let process = Process::spawn(Kind::Ours.label(), serve, &self.path("ours.log"))?;
        let beside = |args: &[&str]| {
            let mut command = Command::new(&binary);
            command.args(args).arg("--state-dir").arg(&state);
            command.output()
        };
        let ready = beside(&["status", "--wait", "60"])?;
        if !ready.status.success() {
            return Err(process.log().into());
        }
        let root = String::from_utf8(beside(&["ca"])?.stdout)?;
        Ok(Running {
            process,
            target: Target::tls("https://ours.tailnet.test", &root),
            database: Some(state.join("store")),
        })
    }

    async fn tsidp(&self) -> Result<Running> {
        let lab = std::env::var_os("COUNTERSIGN_LAB").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/countersign-lab"),
            PathBuf::from,
        );
        let binary = lab.join("bin/tsidp");
        if !binary.exists() {
            return Err(format!("{} is missing: tests/interop/peers.sh builds it", binary.display()).into());
        }
        let folder = self.path("tsidp");
        std::fs::create_dir_all(folder.join("certs"))?;
        let root = certificate("tsidp.tailnet.test", &folder.join("certs"))?;
        let trusted = self.path("tsidp-roots.pem");
        std::fs::write(&trusted, format!("{}{root}", self.tailnet.ca_pem()))?;
        let mut command = Command::new(binary);
        command
            .arg("-dir")
            .arg(&folder)
            .args(["-hostname", Kind::Tsidp.label()])
            .env("SSL_CERT_FILE", &trusted)
            .env("TS_CONTROL_URL", self.tailnet.control_url())
            .env("TS_AUTHKEY", self.tailnet.auth_key(AuthKeySpec::tags(&[TAG]))?)
            .env("TAILSCALE_USE_WIP_CODE", "1")
            .env("TS_NO_LOGS_NO_SUPPORT", "true");
        let mut process = Process::spawn(Kind::Tsidp.label(), command, &self.path("tsidp.log"))?;
        let begun = Instant::now();
        while !process.log().contains("Running tsidp at") {
            if !process.is_running() || begun.elapsed() > PATIENCE {
                return Err(process.ended().into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.tailnet.wait_online(Kind::Tsidp.label(), PATIENCE).await?;
        Ok(Running {
            process,
            target: Target::tls("https://tsidp.tailnet.test", &root),
            database: None,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Puts a certificate for `name` where tailscale looks for one before it asks ACME; returns the root it hangs on.
fn certificate(name: &str, folder: &Path) -> Result<String> {
    let mut root = CertificateParams::default();
    root.distinguished_name.push(DnType::CommonName, "oauth-bench");
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &root)?;
    std::fs::write(folder.join(format!("{name}.crt")), leaf.pem())?;
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    Ok(root.pem())
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
