//! Answers every connection on port 80 of the tailnet with who is asking.
//!
//!     cargo run -p tailnet-node --example hello -- STATE_DIR CONTROL_URL AUTH_KEY_FILE [CA_FILE]

use std::{error::Error, path::Path};

use tailnet_node::{AuthKey, Node, NodeConfig, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [state_dir, control_url, auth_key_file, rest @ ..] = &arguments[..] else {
        return Err("usage: hello STATE_DIR CONTROL_URL AUTH_KEY_FILE [CA_FILE]".into());
    };
    let mut config = NodeConfig::new(state_dir, control_url.parse()?, "hello");
    config.auth_key = Some(AuthKey::new(std::fs::read_to_string(auth_key_file)?));
    if let Some(file) = rest.first() {
        config.extra_roots = tls::read_roots(Path::new(file))?;
    }
    let node = Node::start(config).await?;
    println!("http://{}/", node.status().name);
    let mut listener = node.listen(80)?;
    loop {
        let (mut stream, caller) = listener.accept().await?.into_parts();
        tokio::spawn(async move {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await?;
            let body = match caller.identity() {
                Ok(identity) => format!("hello {:?} on {}\n", identity.who, identity.node_name),
                Err(withdrawn) => format!("{withdrawn}\n"),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).await?;
            stream.shutdown().await
        });
    }
}
