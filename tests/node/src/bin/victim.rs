//! A node in a process of its own, so that what it costs to attack it can be measured.
//!
//!     victim STATE_DIR CONTROL_URL CA_FILE CONNECTION_MEMORY AUTH_KEY
//!
//! Port 443 of the tailnet does what the first byte of a connection says: `e` echoes the rest, `w` writes without end,
//! anything else reads no more. Each line on stdin is answered with the node's status as one line of JSON; the end of
//! stdin ends it.

use std::{error::Error, path::Path};

use countersign_node_tests::fleet::PORT;
use tailnet_node::{AuthKey, Listener, Node, NodeConfig, Stream, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [state_dir, control_url, ca, memory, auth_key] = &arguments[..] else {
        return Err("usage: victim STATE_DIR CONTROL_URL CA_FILE CONNECTION_MEMORY AUTH_KEY".into());
    };
    let mut config = NodeConfig::new(state_dir, control_url.parse()?, "server");
    config.auth_key = Some(AuthKey::new(auth_key));
    config.extra_roots = tls::read_roots(Path::new(ca))?;
    config.connection_memory = memory.parse()?;
    let node = Node::start(config).await?;
    tokio::spawn(accept(node.listen(PORT)?));
    println!("ready");
    let answers = std::thread::spawn(move || {
        for _ in std::io::stdin().lines() {
            println!("{}", serde_json::to_string(&node.status()).unwrap_or_default());
        }
    });
    while !answers.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn accept(mut listener: Listener) {
    while let Ok(conn) = listener.accept().await {
        let (stream, caller) = conn.into_parts();
        tokio::spawn(async move {
            tokio::select! {
                _ = serve(stream) => {}
                () = caller.withdrawn() => {}
            }
        });
    }
}

async fn serve(mut stream: Stream) -> std::io::Result<()> {
    match stream.read_u8().await? {
        b'e' => {
            let (mut reader, mut writer) = tokio::io::split(stream);
            tokio::io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await
        }
        b'w' => loop {
            stream.write_all(&[0; 4096]).await?;
        },
        _ => std::future::pending().await,
    }
}
