//! The state folder: what a node must remember to be the same node after a restart.
//!
//! One JSON file, `node.json`, holds the machine key, the node key, the UDP port, the stable id that control gave us
//! and which peers were active last. It is replaced as a whole (temporary file, fsync, rename, fsync of the folder), is
//! readable by its owner only, and the folder is locked against a second process: two nodes with one key would push
//! each other off the relays.
//!
//! A new node key is stored *before* it is registered, beside the one it replaces. A crash in between must not lose a
//! key for which a one-time auth key was already spent.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rand::RngCore;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tailnet_wire::key::{MachinePrivate, NodePrivate, NodePublic};
use zeroize::Zeroizing;

use crate::clock;

const FILE: &str = "node.json";
const TEMPORARY: &str = "node.json.new";
const LOCK: &str = "lock";
const VERSION: u32 = 1;
/// How often, and how long after one another, a locked folder is tried.
const UNLOCK_LOOKS: u32 = 50;
const UNLOCK_LOOK: Duration = Duration::from_millis(20);
/// A state file has about 1 KiB; what is larger is something else.
const MAX_FILE: u64 = 1024 * 1024;
/// Recently active peers remembered at most.
pub(crate) const MAX_ACTIVE: usize = 32;

/// Why the state folder cannot be used. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has it.
    #[error("the state folder {dir} is in use by {holder}. Stop that process, or give this node a folder of its own")]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// The other process, as far as it is known.
        holder: String,
    },
    /// It cannot be written.
    #[error("the state folder {dir} cannot be written. Make it writable for this user, or name another folder")]
    ReadOnly {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Any other trouble with the file system.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Cut off, or no state file at all.
    #[error(
        "the state file {path} is damaged ({reason}). Restore it from a backup, or delete it to join as a new node, which \
         needs a new auth key"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by a later version of this program.
    #[error("the state file {path} has version {version}, this program knows {VERSION}. Use the newer program")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version it has.
        version: u32,
    },
    /// The node in it belongs to another control server.
    #[error(
        "the state folder {dir} belongs to a node of {stored}, but control_url is {configured}. Set control_url back, or \
         name another state folder"
    )]
    OtherControl {
        /// The folder.
        dir: PathBuf,
        /// Control server of the stored node.
        stored: String,
        /// Control server asked for.
        configured: String,
    },
}

/// The open, locked state folder. Clones share it; the lock goes with the last one.
///
/// Writing blocks for as long as an fsync takes: on a runtime it goes through `aside`.
#[derive(Debug, Clone)]
pub struct State {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    contents: Mutex<Contents>,
    _lock: File,
}

/// What the file says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Contents {
    version: u32,
    control_url: String,
    #[serde(with = "private_key")]
    machine_key: MachinePrivate,
    #[serde(with = "private_key")]
    node_key: NodePrivate,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    old_node_key: Option<NodePublic>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    udp_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stable_id: Option<String>,
    #[serde(default)]
    active_peers: Vec<NodePublic>,
}

impl State {
    /// Opens the folder of the node that belongs to `control_url`; makes the folder and the keys when they are not
    /// there.
    pub fn open(dir: &Path, control_url: &str) -> Result<Self, StateError> {
        if !dir.is_dir() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|e| write_error(dir, "make the state folder", dir, e))?;
        }
        let lock = lock(dir)?;
        let contents = match read(dir)? {
            Some(contents) if contents.control_url != control_url => {
                return Err(StateError::OtherControl {
                    dir: dir.into(),
                    stored: contents.control_url,
                    configured: control_url.into(),
                });
            }
            Some(contents) => contents,
            None => Contents {
                version: VERSION,
                control_url: control_url.into(),
                machine_key: MachinePrivate::from_random(random()),
                node_key: NodePrivate::from_random(random()),
                old_node_key: None,
                udp_port: None,
                stable_id: None,
                active_peers: Vec::new(),
            },
        };
        // Also shows at once, not when a key must be saved, whether the folder can be written.
        write(dir, &contents)?;
        Ok(Self {
            shared: Arc::new(Shared {
                dir: dir.into(),
                contents: Mutex::new(contents),
                _lock: lock,
            }),
        })
    }

    /// Opens the folder of a node that ran there before, whichever its control server; `None` when none did.
    pub fn open_existing(dir: &Path) -> Result<Option<Self>, StateError> {
        if !dir.join(FILE).exists() {
            return Ok(None);
        }
        let lock = lock(dir)?;
        let opened = |contents| Self {
            shared: Arc::new(Shared {
                dir: dir.into(),
                contents: Mutex::new(contents),
                _lock: lock,
            }),
        };
        Ok(read(dir)?.map(opened))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// What control knows the device by.
    pub fn machine_key(&self) -> MachinePrivate {
        self.shared.contents.lock().machine_key.clone()
    }

    /// What peers know the node by.
    pub fn node_key(&self) -> NodePrivate {
        self.shared.contents.lock().node_key.clone()
    }

    /// The node key that the present one replaces, while control has not confirmed the present one.
    pub fn old_node_key(&self) -> Option<NodePublic> {
        self.shared.contents.lock().old_node_key
    }

    /// The UDP port used last. Peers that hold a session find us there after a restart.
    pub fn udp_port(&self) -> Option<u16> {
        self.shared.contents.lock().udp_port
    }

    /// The stable id that control gave the node last.
    pub fn stable_id(&self) -> Option<String> {
        self.shared.contents.lock().stable_id.clone()
    }

    /// Peers that were active lately, most recent first.
    pub fn active_peers(&self) -> Vec<NodePublic> {
        self.shared.contents.lock().active_peers.clone()
    }

    /// Stores a new node key beside the one it replaces.
    pub fn replace_node_key(&self, key: NodePrivate) -> Result<(), StateError> {
        self.update(|contents| {
            contents.old_node_key = Some(contents.node_key.public());
            contents.node_key = key;
        })
    }

    /// Control has accepted the present node key: forgets the one it replaced.
    pub fn confirm_node_key(&self) -> Result<(), StateError> {
        if self.old_node_key().is_none() {
            return Ok(());
        }
        self.update(|contents| contents.old_node_key = None)
    }

    /// Remembers the UDP port.
    pub fn set_udp_port(&self, port: u16) -> Result<(), StateError> {
        if self.udp_port() == Some(port) {
            return Ok(());
        }
        self.update(|contents| contents.udp_port = Some(port))
    }

    /// Remembers the stable id.
    pub fn set_stable_id(&self, id: &str) -> Result<(), StateError> {
        if self.stable_id().as_deref() == Some(id) {
            return Ok(());
        }
        self.update(|contents| contents.stable_id = Some(id.into()))
    }

    /// Remembers which peers were active lately, most recent first; those beyond the first 32 are not kept.
    pub fn set_active_peers(&self, peers: impl IntoIterator<Item = NodePublic>) -> Result<(), StateError> {
        let peers: Vec<_> = peers.into_iter().take(MAX_ACTIVE).collect();
        if self.active_peers() == peers {
            return Ok(());
        }
        self.update(|contents| contents.active_peers = peers)
    }

    /// Writes on a thread that may block, and returns when that is durable. The write goes on when the future is dropped.
    pub(crate) async fn aside(
        &self,
        write: impl FnOnce(&Self) -> Result<(), StateError> + Send + 'static,
    ) -> Result<(), StateError> {
        let state = self.clone();
        let dir = self.dir().to_owned();
        match tokio::task::spawn_blocking(move || write(&state)).await {
            Ok(written) => written,
            // The runtime is going down, and this task goes with it: there is nobody to tell.
            Err(ended) if ended.is_cancelled() => std::future::pending().await,
            Err(ended) => Err(io_error("write", &dir, io::Error::other(ended))),
        }
    }

    /// On an error neither the file nor what is remembered has changed.
    fn update(&self, edit: impl FnOnce(&mut Contents)) -> Result<(), StateError> {
        let mut contents = self.shared.contents.lock();
        let mut edited = contents.clone();
        edit(&mut edited);
        write(&self.shared.dir, &edited)?;
        *contents = edited;
        Ok(())
    }
}

fn random() -> [u8; 32] {
    let mut raw = [0; 32];
    clock::rng().fill_bytes(&mut raw);
    raw
}

fn lock(dir: &Path) -> Result<File, StateError> {
    let path = dir.join(LOCK);
    let mut options = OpenOptions::new();
    let opened = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let mut file = opened.map_err(|e| write_error(dir, "open the lock", &path, e))?;
    match lock_patiently(&file) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // The holder may be writing its number just now; the message does without then.
            let _ = (&mut file).take(32).read_to_string(&mut pid);
            let holder = match pid.trim() {
                "" => "another process".into(),
                pid => format!("process {pid}"),
            };
            return Err(StateError::InUse {
                dir: dir.into(),
                holder,
            });
        }
        Err(e) => return Err(io_error("lock", &path, e.into())),
    }
    let noted = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    noted.map_err(|e| write_error(dir, "write the lock", &path, e))?;
    Ok(file)
}

/// Gives whoever has the lock a second to let go of it: a node of this process that was just shut down may still be
/// writing its last state.
fn lock_patiently(file: &File) -> rustix::io::Result<()> {
    for _ in 0..UNLOCK_LOOKS {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(UNLOCK_LOOK),
            outcome => return outcome,
        }
    }
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
}

fn read(dir: &Path) -> Result<Option<Contents>, StateError> {
    let path = dir.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error("read", &path, e)),
    };
    let mut text = Zeroizing::new(Vec::new());
    file.take(MAX_FILE)
        .read_to_end(&mut text)
        .map_err(|e| io_error("read", &path, e))?;
    let damaged = |reason: String| StateError::Damaged {
        path: path.clone(),
        reason,
    };
    if text.is_empty() {
        return Err(damaged("it is empty".into()));
    }
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    // serde_json's messages name places, types and fields, never values of strings that are of the right type.
    let Versioned { version } = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    if version > VERSION {
        return Err(StateError::Newer { path, version });
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|e| damaged(e.to_string()))
}

fn write(dir: &Path, contents: &Contents) -> Result<(), StateError> {
    let (path, temporary) = (dir.join(FILE), dir.join(TEMPORARY));
    let failed = |e: io::Error| write_error(dir, "write", &path, e);
    let text = serde_json::to_vec_pretty(contents)
        .map(Zeroizing::new)
        .map_err(|e| failed(e.into()))?;
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    // The mode above counts for new files only.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, &path).map_err(failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> StateError {
    StateError::Io {
        what,
        path: path.into(),
        source,
    }
}

fn write_error(dir: &Path, what: &'static str, path: &Path, source: io::Error) -> StateError {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StateError::ReadOnly {
            dir: dir.into(),
            source,
        },
        _ => io_error(what, path, source),
    }
}

/// Private keys as `privkey:` texts. The reasons given on a bad text never contain it.
mod private_key {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use tailnet_wire::key::{MachinePrivate, NodePrivate, ParseKeyError};
    use zeroize::Zeroizing;

    pub(super) trait Text: Sized {
        fn read(text: &str) -> Result<Self, ParseKeyError>;
        fn text(&self) -> Zeroizing<String>;
    }

    macro_rules! text {
        ($($key:ident)*) => {$(
            impl Text for $key {
                fn read(text: &str) -> Result<Self, ParseKeyError> {
                    Self::from_text(text)
                }

                fn text(&self) -> Zeroizing<String> {
                    self.to_text()
                }
            }
        )*};
    }
    text!(MachinePrivate NodePrivate);

    pub(super) fn serialize<K: Text, S: Serializer>(key: &K, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&key.text())
    }

    pub(super) fn deserialize<'de, K: Text, D: Deserializer<'de>>(d: D) -> Result<K, D::Error> {
        let text = Zeroizing::new(String::deserialize(d)?);
        K::read(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
