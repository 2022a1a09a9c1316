//! Alice, bob, and the policy they live under.

use std::{io, path::Path, sync::Arc, time::Duration};

use tailnet_node::Node;
use tailnet_testkit::{AuthKeySpec, Socks5, Tailnet, User};

use super::{BoxError, client::Client, transcript::Outcome};

/// The tag that the server carries.
pub(super) const IDP_TAG: &str = "tag:internal-idp";

/// The tag that echo carries.
pub(super) const ECHO_TAG: &str = "tag:echo";

/// What echo is called: the resource that tokens for it name.
pub(super) const ECHO: &str = "http://echo.tailnet.test";

/// The host in [`ECHO`].
pub(super) const ECHO_HOST: &str = "echo.tailnet.test";

/// How long a step may take that waits for the tailnet.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody with a node.
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) login: &'static str,
    group: &'static str,
}

pub(super) const ALICE: Person = Person {
    name: "alice",
    login: "alice@example.com",
    group: "group:eng",
};
pub(super) const BOB: Person = Person {
    name: "bob",
    login: "bob@example.com",
    group: "group:sales",
};

/// The grants as they stand in the policy.
pub(super) const GRANTS: &str = r#"
    {"src": ["group:eng"],   "dst": ["tag:internal-idp"], "ip": ["tcp:443"],
     "app": {"tailscale.com/cap/tsidp": [{
        "allow_dcr": true, "users": ["*"],
        "resources": ["http://echo.tailnet.test"]}]}},
    {"src": ["group:sales"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"]}"#;

/// The grants when engineers may register, and use nothing.
pub(super) const WITHOUT_RESOURCE: &str = r#"
    {"src": ["group:eng"],   "dst": ["tag:internal-idp"], "ip": ["tcp:443"],
     "app": {"tailscale.com/cap/tsidp": [{"allow_dcr": true}]}},
    {"src": ["group:sales"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"]}"#;

/// The grants when nobody may register.
pub(super) const WITHOUT_CAPABILITY: &str =
    r#"{"src": ["group:eng", "group:sales"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"]}"#;

/// The grants when engineers do not even reach the server.
pub(super) const WITHOUT_ACCESS: &str = r#"{"src": ["group:sales"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"]}"#;

/// The way to echo, which stays open, and echo's own way to the server's keys.
const ECHO_GRANTS: &str = r#"
    {"src": ["group:eng", "group:sales"], "dst": ["tag:echo"], "ip": ["tcp:80"]},
    {"src": ["tag:echo"], "dst": ["tag:internal-idp"], "ip": ["tcp:443"]}"#;

/// A whole policy document around some grants.
pub(super) fn policy(grants: &str) -> String {
    let [alice, bob] = [&ALICE, &BOB].map(|person| format!(r#""{}": ["{}"]"#, person.group, person.login));
    let [idp, echo] = [IDP_TAG, ECHO_TAG].map(|tag| format!(r#""{tag}": ["{}"]"#, ALICE.group));
    format!(r#"{{"groups": {{{alice}, {bob}}}, "tagOwners": {{{idp}, {echo}}}, "grants": [{grants}, {ECHO_GRANTS}]}}"#)
}

impl Person {
    pub(super) fn user(&self) -> User {
        User::new(self.login)
    }
}

/// Joins a person's node, and waits until others can reach it.
pub(super) async fn join(tailnet: &Tailnet, folder: &Path, person: &Person) -> Outcome<Arc<Node>> {
    let key = tailnet.auth_key(AuthKeySpec::user(person.login))?;
    let config = tailnet.node_config(folder.join(person.name), person.name, Some(&key))?;
    let node = Node::start(config).await?;
    let info = tailnet.wait_online(person.name, PATIENCE).await?;
    let address = info.addresses.first().map(ToString::to_string).unwrap_or_default();
    Ok((Arc::new(node), format!("{address}  {}", person.group)))
}

/// Connects again once the server is a peer again.
pub(super) async fn reconnect(node: &Node, host: &str, root: &str) -> Result<Client, BoxError> {
    let attempts = async {
        loop {
            match Client::connect(node, host, root).await {
                Ok(client) => return client,
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    };
    let late = |_| "the server did not become reachable again in time".into();
    tokio::time::timeout(PATIENCE, attempts).await.map_err(late)
}

/// A SOCKS proxy that speaks as the node's owner, at `port` where that is free, so that lines typed once fit again.
pub(super) async fn proxy(node: &Arc<Node>, port: u16) -> io::Result<Socks5> {
    match start_proxy(node, port).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => start_proxy(node, 0).await,
        started => started,
    }
}

async fn start_proxy(node: &Arc<Node>, port: u16) -> io::Result<Socks5> {
    let node = Arc::clone(node);
    let dial = move |target: String| {
        let node = Arc::clone(&node);
        async move { node.dial(&target).await.map_err(io::Error::other) }
    };
    Socks5::start(port, dial).await
}
