//! A web server on a tailnet node of bob's. Its page is empty: `driver.mjs` is what its script would do.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tailnet_node::Node;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::AbortHandle,
};

/// The server; it ends when dropped.
pub(crate) struct EvilPage {
    origin: String,
    name: String,
    rebound: Arc<AtomicBool>,
    task: AbortHandle,
}

impl EvilPage {
    /// Serves plain http on port 80 of `node`.
    pub(crate) async fn start(node: Arc<Node>) -> Self {
        let name = node.status().name.trim_end_matches('.').to_owned();
        let mut listener = node.listen(80).expect("the port is free");
        let rebound = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&rebound);
        let task = tokio::spawn(async move {
            while let Ok(connection) = listener.accept().await {
                let (mut stream, _) = connection.into_parts();
                let asked = Arc::clone(&asked);
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let length = stream.read(&mut request).await.unwrap_or_default();
                    if request[..length].starts_with(b"GET /rebind ") {
                        asked.store(true, Ordering::SeqCst);
                    }
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
            origin: format!("http://{name}"),
            name,
            rebound,
            task: task.abort_handle(),
        }
    }

    /// Scheme and host.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// What the resolver of bob's own domain says: his node, until his page has asked for `/rebind`; then `victim`.
    pub(crate) fn resolver(&self, victim: &str) -> impl Fn() -> String + Clone + Send + Sync + 'static + use<> {
        let (rebound, own, victim) = (Arc::clone(&self.rebound), self.name.clone(), victim.to_owned());
        move || {
            let address = if rebound.load(Ordering::SeqCst) { &victim } else { &own };
            address.clone()
        }
    }
}

impl Drop for EvilPage {
    fn drop(&mut self) {
        self.task.abort();
    }
}
