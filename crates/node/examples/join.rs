//! Joins a tailnet as a control client alone and prints what control says: the netmap, each change, each loss of the
//! connection. No packet is carried.
//!
//! ```text
//! TS_AUTHKEY=… cargo run -p tailnet-node --example join -- STATE_DIR CONTROL_URL HOSTNAME [CA_FILE]
//! ```
//!
//! `JOIN_TAGS` holds tags to ask for, separated by commas.

use std::{env, path::Path, process::ExitCode};

use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use tailnet_engine::netmap::{Change, Netmap};
use tailnet_node::{
    control::{ControlClient, ControlConfig, ControlEvent, Local, hostinfo},
    state::State,
    tls,
};
use tailnet_wire::key::DiscoPrivate;

#[tokio::main]
async fn main() -> ExitCode {
    match join().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("join: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn join() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [state_dir, url, hostname, ca @ ..] = &arguments[..] else {
        return Err("usage: join STATE_DIR CONTROL_URL HOSTNAME [CA_FILE]".into());
    };
    let roots = match ca.first() {
        Some(file) => tls::read_roots(Path::new(file))?,
        None => Vec::new(),
    };
    let tags = env::var("JOIN_TAGS").unwrap_or_default();
    let tags: Vec<String> = tags.split(',').filter(|tag| !tag.is_empty()).map(Into::into).collect();
    let mut rng = StdRng::from_os_rng();
    let mut disco = [0; 32];
    rng.fill_bytes(&mut disco);
    let config = ControlConfig {
        url: url.parse()?,
        allow_plain: url.starts_with("http://"),
        tls: tls::client_config(tls::root_store(&roots)?)?,
        disco_key: DiscoPrivate::from_random(disco).public(),
        auth_key: env::var("TS_AUTHKEY").ok().map(Into::into),
        ephemeral: false,
        tags: tags.clone(),
    };
    let state = State::open(Path::new(state_dir), url)?;
    let local = Local {
        hostinfo: hostinfo(hostname, &tags, "join example"),
        endpoints: Vec::new(),
    };
    let (_client, mut events) = ControlClient::start(config, state, local)?;
    while let Some(event) = events.recv().await {
        match event {
            ControlEvent::LoginUrl(url) => println!("log in at {url}"),
            ControlEvent::Change(change) => show(&change),
            ControlEvent::Fatal(error) => return Err(error.into()),
            other => println!("{other:?}"),
        }
    }
    Err("the control task ended".into())
}

fn show(change: &Change) {
    let netmap: &Netmap = &change.netmap;
    let node = netmap.self_node();
    let flags = [
        ("filter", change.filter),
        ("users", change.users),
        ("derp", change.derp_map),
        ("self", change.self_node),
    ];
    let flags: Vec<_> = flags.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    println!(
        "change [{}] updated {} removed {:?}",
        flags.join(" "),
        change.updated.len(),
        change.removed
    );
    if change.self_node {
        println!(
            "  we are {} {:?} {:?} id {}",
            node.name, node.addresses, node.tags, node.stable_id
        );
    }
    for key in &change.updated {
        let Some(peer) = netmap.peer_by_key(key) else { continue };
        let owner = netmap.user(peer.user).map_or("?", |user| user.login_name.as_str());
        println!(
            "  peer {} {:?} of {owner} {:?} online {:?}",
            peer.name, peer.addresses, peer.tags, peer.online
        );
    }
    if change.filter {
        for peer in netmap.peers() {
            let Some(src) = peer.addresses.first() else { continue };
            let caps = netmap.filter().whois_caps(*src);
            for name in caps.names() {
                let values: Vec<_> = caps.values(name).map(|value| value.get()).collect();
                println!("  {} may {name} {}", peer.name, values.join(" "));
            }
        }
    }
}
