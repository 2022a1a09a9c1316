//! Hosts on one wire: network namespaces joined by veth pairs on a bridge that has a namespace of its own.
//!
//! A host is a holder process in fresh network and mount namespaces; everything else enters through its process id. So
//! nothing is named system-wide, nothing touches the machine's own network, and all of it vanishes with the processes.
//! Each host sees its own overlay of `/etc`, since tailscaled rewrites `resolv.conf`, and an empty `/run`.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Error, Process, Result, process, reaper};

/// What a host's holder does before it sleeps. `$1` is the folder for the overlay, empty for none.
const HOLDER: &str = r#"
set -e
ip link set lo up
mount -t tmpfs tmpfs /run
if [ -n "$1" ]; then
    mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
fi
echo ready
exec sleep infinity
"#;

/// The bridge and the addresses on it.
#[derive(Debug)]
pub struct Network {
    dir: PathBuf,
    switch: Holder,
    next: AtomicU8,
}

/// One machine of the lab.
#[derive(Debug)]
pub struct Host {
    name: String,
    dir: PathBuf,
    holder: Holder,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
}

impl Network {
    /// The wire, with no host on it yet; hosts keep their files under `dir`.
    pub fn new(dir: &Path) -> Result<Network> {
        let switch = Holder::start("switch", "")?;
        switch.script("ip link add br0 type bridge && ip link set br0 up")?;
        Ok(Network {
            dir: dir.to_owned(),
            switch,
            next: AtomicU8::new(1),
        })
    }

    /// A new host. `names` are extra lines for its `/etc/hosts`. Its default route leads nowhere: tailscaled wants one.
    pub fn host(&self, name: &str, names: &str) -> Result<Host> {
        let dir = self.dir.join(name);
        let (upper, work) = (dir.join("etc/upper"), dir.join("etc/work"));
        for path in [&upper, &work] {
            std::fs::create_dir_all(path).map_err(Error::io(format!("making {path:?}")))?;
        }
        // Written before the overlay is mounted: changing its upper layer afterwards is undefined.
        write(&upper.join("resolv.conf"), "nameserver 100.100.100.100\n")?;
        write(
            &upper.join("hosts"),
            &format!("127.0.0.1 localhost\n::1 localhost\n{names}"),
        )?;
        let holder = Holder::start(name, &dir.join("etc").display().to_string())?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let ipv4 = Ipv4Addr::new(192, 0, 2, number);
        let ipv6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into());
        holder.script(&format!(
            "ip link add eth0 type veth peer name {name} netns {switch}
             ip link set eth0 up
             ip addr add {ipv4}/24 dev eth0 && ip addr add {ipv6}/64 dev eth0 nodad
             ip route add default via 192.0.2.254 && ip -6 route add default via 2001:db8::fe",
            switch = self.switch.pid()
        ))?;
        self.switch.script(&format!("ip link set {name} master br0 up"))?;
        Ok(Host {
            name: name.to_owned(),
            dir,
            holder,
            ipv4,
            ipv6,
        })
    }
}

impl Host {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder for state and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its address on the wire.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.ipv4
    }

    /// Its IPv6 address on the wire.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.ipv6
    }

    /// A path of this host as the tests' own mount namespace sees it.
    pub fn path(&self, path: &str) -> String {
        format!("/proc/{}/root{path}", self.holder.pid())
    }

    /// `program`, to be run on this host. The process started is the program itself: `nsenter` execs.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.holder.command(program)
    }

    /// Runs a program to its end and returns its output whatever its status.
    pub fn output(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Result<Output> {
        process::output(self.command(program).args(args))
    }

    /// Runs a program to its end and returns what it printed; a failing status is an error.
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Result<String> {
        process::run(self.command(program).args(args))
    }

    /// Starts a program on this host, logging to `NAME.log` in its folder.
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process> {
        Process::spawn(name, command, &self.dir.join(format!("{name}.log")))
    }

    /// A listener on a free port of this host's loopback; it stays there whoever holds it.
    pub fn listen(&self) -> Result<TcpListener> {
        let namespace = format!("/proc/{}/ns/net", self.holder.pid());
        // A socket belongs to the namespace that its thread was in: one thread goes there, binds and ends.
        let bind = move || {
            let namespace = File::open(namespace)?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        };
        let bound = std::thread::spawn(bind).join();
        bound
            .map_err(|_| Error::unexpected("the listener's thread", "a panic"))?
            .map_err(Error::io(format!("listening on {}", self.name)))
    }

    /// Drops all UDP on the wire between this host and `other`, both ways and on IPv4 and IPv6, so that WireGuard has to
    /// take the relay. Traffic inside the tailnet keeps its own addresses and is not concerned.
    pub fn block_udp(&self, other: &Host) -> Result {
        self.block(&[("ip", &other.ipv4), ("ip6", &other.ipv6)])
    }

    /// [`Host::block_udp`] on IPv4 alone: what remains is IPv6.
    pub fn block_udp_ipv4(&self, other: &Host) -> Result {
        self.block(&[("ip", &other.ipv4)])
    }

    fn block(&self, others: &[(&str, &dyn std::fmt::Display)]) -> Result {
        self.unblock_udp()?;
        let mut script = String::from(
            "nft add table inet lab
             nft 'add chain inet lab in { type filter hook input priority 0; }'
             nft 'add chain inet lab out { type filter hook output priority 0; }'\n",
        );
        for (family, address) in others {
            script.push_str(&format!(
                "nft add rule inet lab in meta l4proto udp {family} saddr {address} drop
                 nft add rule inet lab out meta l4proto udp {family} daddr {address} drop\n"
            ));
        }
        self.holder.script(&script)
    }

    /// Lifts [`Host::block_udp`].
    pub fn unblock_udp(&self) -> Result {
        self.holder.script("nft delete table inet lab 2>/dev/null || true")
    }

    /// Removes the IPv4 or IPv6 address from the wire (and with [`Host::add_address`] puts it back).
    pub fn remove_address(&self, address: IpAddr) -> Result {
        let length = if address.is_ipv4() { 24 } else { 64 };
        self.holder.script(&format!("ip addr del {address}/{length} dev eth0"))
    }

    /// Adds an address on the wire, with the default route of its family.
    pub fn add_address(&self, address: IpAddr) -> Result {
        self.holder.script(&match address {
            IpAddr::V4(v4) => {
                format!("ip addr add {v4}/24 dev eth0 && ip route replace default via 192.0.2.254")
            }
            IpAddr::V6(v6) => {
                format!("ip addr add {v6}/64 dev eth0 nodad && ip -6 route replace default via 2001:db8::fe")
            }
        })
    }
}

/// The process that keeps a host's namespaces alive.
#[derive(Debug)]
struct Holder {
    child: Child,
}

impl Holder {
    fn start(name: &str, overlay: &str) -> Result<Holder> {
        let mut child = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                HOLDER,
                name,
                overlay,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io("starting unshare (util-linux)"))?;
        reaper::register(child.id())?;
        let mut said = [0; 5];
        let ready = child
            .stdout
            .as_mut()
            .is_some_and(|out| out.read_exact(&mut said).is_ok())
            && &said == b"ready";
        let mut holder = Holder { child };
        if ready {
            return Ok(holder);
        }
        let mut why = String::new();
        if let Some(stderr) = holder.child.stderr.as_mut() {
            let _ = stderr.read_to_string(&mut why);
        }
        Err(Error::CannotRun(format!(
            "namespaces for {name} cannot be made (needs root): {}",
            why.trim()
        )))
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid().to_string(), "--net", "--mount", "--"])
            .arg(program);
        command
    }

    fn script(&self, script: &str) -> Result {
        process::run(self.command("sh").args(["-ec", script])).map(|_| ())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = reaper::forget(self.child.id());
    }
}

fn write(path: &Path, text: &str) -> Result {
    std::fs::write(path, text).map_err(Error::io(format!("writing {path:?}")))
}
