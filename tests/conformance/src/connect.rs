//! An HTTP proxy (RFC 9110 9.3.6, `CONNECT` only) on loopback that dials through a node. Node.js speaks this by itself
//! when `NODE_USE_ENV_PROXY` is set; SOCKS it does not.

use std::{io, net::SocketAddr, sync::Arc};

use tailnet_node::Node;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

const MAX_HEAD: usize = 8 << 10;

/// A proxy that takes no more connections once it is dropped.
pub struct ConnectProxy {
    address: SocketAddr,
    task: AbortHandle,
}

impl ConnectProxy {
    /// Listens on a free port of loopback; whoever connects speaks as `node`'s owner.
    ///
    /// # Panics
    /// When loopback has no port.
    pub async fn start(node: Arc<Node>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, Arc::clone(&node)));
            }
        });
        Self {
            address,
            task: task.abort_handle(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, node: Arc<Node>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD {
            return Err(io::Error::other("an endless request"));
        }
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = match head.split(' ').collect::<Vec<_>>()[..] {
        ["CONNECT", target, ..] => target,
        _ => return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await,
    };
    match node.dial(target).await {
        Ok(mut server) => {
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
        }
        Err(_) => client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await,
    }
}
