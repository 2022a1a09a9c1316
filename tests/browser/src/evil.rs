//! A web server on a tailnet node of bob's. Its page is empty: `driver.mjs` is what its script would do.

use std::sync::Arc;

use tailnet_node::Node;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::AbortHandle,
};

/// The server; it ends when dropped.
pub(crate) struct EvilPage {
    origin: String,
    task: AbortHandle,
}

impl EvilPage {
    /// Serves plain http on port 80 of `node`.
    pub(crate) async fn start(node: Arc<Node>) -> Self {
        let origin = format!("http://{}", node.status().name.trim_end_matches('.'));
        let mut listener = node.listen(80).expect("the port is free");
        let task = tokio::spawn(async move {
            while let Ok(connection) = listener.accept().await {
                let (mut stream, _) = connection.into_parts();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let body = "<!doctype html><title>Cat pictures</title><body>";
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close";
                    let reply = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    let _ = stream.write_all(reply.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
            drop(node);
        });
        Self {
            origin,
            task: task.abort_handle(),
        }
    }

    /// Scheme and host.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }
}

impl Drop for EvilPage {
    fn drop(&mut self) {
        self.task.abort();
    }
}
