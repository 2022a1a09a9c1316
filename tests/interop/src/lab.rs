//! The whole laboratory and its life in a test process.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{Authority, Client, Error, Headscale, Host, Network, Result, headscale, journal::Journal};

/// How many runs keep their logs.
const RUNS_KEPT: usize = 3;

/// Headscale, alice and bob, and an empty machine for our server.
#[derive(Debug)]
pub struct Lab {
    /// The wire.
    pub network: Network,
    /// The CA that everyone trusts.
    pub authority: Authority,
    /// The control server.
    pub headscale: Headscale,
    /// A machine of alice, who is in `group:eng`.
    pub alice: Client,
    /// A machine of bob, who is in `group:sales`.
    pub bob: Client,
    /// The machine for the node under test.
    pub idp: Host,
    pub(crate) journal: Journal,
    app: OnceLock<Client>,
    dir: PathBuf,
    hosts: String,
}

/// Exclusive use of the shared lab.
pub type LabGuard = MutexGuard<'static, Lab>;

static SHARED: OnceLock<Result<Mutex<Lab>, String>> = OnceLock::new();

impl Lab {
    /// The lab of this process, started at first use. Holding the guard is what makes tests run one after the other.
    pub fn shared() -> Result<LabGuard> {
        match SHARED.get_or_init(|| Lab::start().map(Mutex::new).map_err(|e| e.to_string())) {
            Ok(lab) => Ok(lab.lock().unwrap_or_else(PoisonError::into_inner)),
            Err(error) => Err(Error::CannotRun(error.clone())),
        }
    }

    /// Starts a lab. The two clients log in at the same time.
    pub fn start() -> Result<Lab> {
        let started = Instant::now();
        let dir = fresh_dir()?;
        let network = Network::new(&dir)?;
        let authority = Authority::new(&dir.join("ca"))?;
        let control = network.host("headscale", "")?;
        let hosts = format!(
            "{} {name}\n{} {name}\n",
            control.ipv4(),
            control.ipv6(),
            name = headscale::NAME
        );
        let headscale = Headscale::start(control, &authority)?;
        let client = |name: &str| -> Result<Client> {
            let key = headscale.user_key(name)?;
            Client::start(network.host(name, &hosts)?, &headscale, &authority, &key)
        };
        // Policies name users, and a policy that names an unknown user is refused: the users come first.
        let (alice, bob) = std::thread::scope(|scope| {
            let alice = scope.spawn(|| client("alice"));
            let bob = client("bob");
            (alice.join(), bob)
        });
        let alice = alice.map_err(|_| Error::unexpected("alice's start", "a panic"))??;
        let bob = bob?;
        headscale.set_policy(&Lab::open_policy())?;
        let idp = network.host("idp", &hosts)?;
        let journal = Journal::start(&idp)?;
        eprintln!(
            "lab: up after {:.1} s, logs in {}",
            started.elapsed().as_secs_f32(),
            dir.display()
        );
        Ok(Lab {
            network,
            authority,
            headscale,
            alice,
            bob,
            idp,
            journal,
            app: OnceLock::new(),
            dir,
            hosts,
        })
    }

    /// This run's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One more machine on the wire, which knows Headscale's address.
    pub fn host(&self, name: &str) -> Result<Host> {
        self.network.host(name, &self.hosts)
    }

    /// One more machine of a user who is there already.
    pub fn client(&self, name: &str, user: &str) -> Result<Client> {
        let key = self.headscale.user_key(user)?;
        Client::start(self.host(name)?, &self.headscale, &self.authority, &key)
    }

    /// A server machine of its own, `app` with the tag `tag:app`, started at first use: an application or a resource.
    pub fn app(&self) -> Result<&Client> {
        if let Some(app) = self.app.get() {
            return Ok(app);
        }
        let key = self.headscale.tagged_key("tag:app")?;
        let app = Client::start(self.host("app")?, &self.headscale, &self.authority, &key)?;
        Ok(self.app.get_or_init(|| app))
    }

    /// A pre-auth key, in a file as `--auth-key-file` wants it.
    pub fn key_file(&self, name: &str, key: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("{name}.authkey"));
        std::fs::write(&path, key).map_err(Error::io(format!("writing {path:?}")))?;
        Ok(path)
    }

    /// A policy with these grants: alice is `group:eng`, bob `group:sales`, and the tags of the lab have owners.
    pub fn policy(grants: Value) -> Value {
        json!({
            "groups": { "group:eng": ["alice@"], "group:sales": ["bob@"] },
            "tagOwners": {
                "tag:internal-idp": ["group:eng"], "tag:bench": ["group:eng"], "tag:app": ["group:eng"],
            },
            "grants": grants,
        })
    }

    /// Everyone reaches everything, and nobody has a capability.
    pub fn open_policy() -> Value {
        Lab::policy(json!([{ "src": ["*"], "dst": ["*"], "ip": ["*"] }]))
    }
}

/// The file of a real peer's program.
pub(crate) fn peer(name: &str) -> Result<PathBuf> {
    let path = root().join("bin").join(name);
    match path.exists() {
        true => Ok(path),
        false => Err(Error::CannotRun(format!(
            "{path:?} is missing: run tests/interop/peers.sh"
        ))),
    }
}

/// The folder of the npm packages that `tests/run` installs; these must be among them.
pub(crate) fn npm(packages: &[&str]) -> Result<PathBuf> {
    let modules = root().join("npm/node_modules");
    match packages.iter().find(|package| !modules.join(package).exists()) {
        None => Ok(modules),
        Some(missing) => Err(Error::CannotRun(format!(
            "{missing} is missing in {modules:?}: run tests/run interop"
        ))),
    }
}

/// Where programs of others are kept between runs.
fn root() -> PathBuf {
    match std::env::var_os("COUNTERSIGN_LAB") {
        Some(root) => PathBuf::from(root),
        None => {
            PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/countersign-lab")
        }
    }
}

/// The target folder that this test was built into.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().map_err(Error::io("asking for the test's own path"))?;
    // target/PROFILE/deps/TEST or target/PROFILE/BINARY
    let profile = exe
        .ancestors()
        .skip(1)
        .find(|dir| !dir.ends_with("deps"))
        .unwrap_or(&exe);
    Ok(profile.to_owned())
}

/// `target/lab/SECONDS-PID`, and the oldest runs gone.
fn fresh_dir() -> Result<PathBuf> {
    let root = target_dir()?
        .parent()
        .map(|target| target.join("lab"))
        .unwrap_or_else(|| PathBuf::from("target/lab"));
    std::fs::create_dir_all(&root).map_err(Error::io(format!("making {root:?}")))?;
    let listed = std::fs::read_dir(&root).map_err(Error::io(format!("reading {root:?}")))?;
    let mut runs: Vec<PathBuf> = listed
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    runs.sort();
    for old in runs.iter().rev().skip(RUNS_KEPT - 1) {
        let _ = std::fs::remove_dir_all(old);
    }
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|since| since.as_secs())
        .unwrap_or_default();
    let dir = root.join(format!("{seconds}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(Error::io(format!("making {dir:?}")))?;
    Ok(dir)
}
