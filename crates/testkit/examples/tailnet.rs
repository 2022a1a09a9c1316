//! A tailnet in a process of its own, for programs that are to join it: `cargo run -p tailnet-testkit --example
//! tailnet -- FOLDER [FAKE_PEERS]`.
//!
//! Writes `ca.pem`, `idp.key`, `alice.key` and `bob.key` (reusable pre-auth keys) into FOLDER, prints one line of JSON
//! when it is ready, and runs until its standard input ends. Lines on standard input change it: `policy FILE`,
//! `expire NAME`, `delete NAME`, `stop control`, `resume control`, `stop derp`, `resume derp`, `block udp`,
//! `unblock udp`, `nodes`.

use std::{error::Error, path::Path};

use serde_json::json;
use tailnet_testkit::{AuthKeySpec, Tailnet, TailnetConfig};

/// What small teams write: engineers register clients, sales people only reach the server.
const POLICY: &str = r#"{
    "groups": {"group:eng": ["alice@example.com"], "group:sales": ["bob@example.com"]},
    "tagOwners": {"tag:internal-idp": ["group:eng"]},
    "grants": [
        {"src": ["group:eng"], "dst": ["tag:internal-idp"], "ip": ["tcp:443", "tcp:80", "icmp:*"],
         "app": {"tailscale.com/cap/tsidp": [{"allow_dcr": true}]}},
        {"src": ["group:sales"], "dst": ["tag:internal-idp"], "ip": ["tcp:443", "tcp:80", "icmp:*"]}
    ]
}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("usage: tailnet FOLDER [FAKE_PEERS]")?;
    let folder = Path::new(&folder);
    let tailnet = Tailnet::start(TailnetConfig {
        policy: Some(POLICY.to_owned()),
        ..TailnetConfig::default()
    })
    .await?;
    if let Some(count) = args.next() {
        tailnet.add_fake_peers("alice@example.com", count.parse()?)?;
    }
    std::fs::create_dir_all(folder)?;
    tailnet.write_ca(&folder.join("ca.pem"))?;
    let keys = [
        ("idp", AuthKeySpec::tags(&["tag:internal-idp"])),
        ("alice", AuthKeySpec::user("alice@example.com")),
        ("bob", AuthKeySpec::user("bob@example.com")),
    ];
    for (name, spec) in keys {
        std::fs::write(folder.join(format!("{name}.key")), tailnet.auth_key(spec.reusable())?)?;
    }
    println!(
        "{}",
        json!({"control_url": tailnet.control_url(), "base_domain": tailnet.base_domain()})
    );

    let (sender, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        let mut read = std::io::stdin().lines().map_while(Result::ok);
        while read.next().is_some_and(|line| sender.blocking_send(line).is_ok()) {}
    });
    while let Some(line) = lines.recv().await {
        match obey(&tailnet, &line).await {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("{}", json!({"error": error.to_string()})),
        }
    }
    Ok(())
}

async fn obey(tailnet: &Tailnet, line: &str) -> Result<serde_json::Value, Box<dyn Error>> {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("policy", file) => tailnet.set_policy(&std::fs::read_to_string(file)?)?,
        ("expire", name) => tailnet.expire_node(tailnet.node(name)?.id)?,
        ("delete", name) => tailnet.delete_node(tailnet.node(name)?.id)?,
        ("stop", "control") => tailnet.stop_control().await,
        ("resume", "control") => tailnet.resume_control().await?,
        ("stop", "derp") => tailnet.stop_derp().await,
        ("resume", "derp") => tailnet.resume_derp().await?,
        ("block", "udp") => tailnet.block_udp(true),
        ("unblock", "udp") => tailnet.block_udp(false),
        ("nodes", _) => {
            let show = |node: tailnet_testkit::NodeInfo| {
                json!({"name": node.name, "addresses": node.addresses, "online": node.online,
                       "home_derp": node.home_derp, "endpoints": node.endpoints})
            };
            return Ok(tailnet.nodes().into_iter().map(show).collect());
        }
        _ => return Err(format!("not known: {line:?}").into()),
    }
    Ok(json!({"ok": line}))
}
