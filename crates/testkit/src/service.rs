//! A TCP service that can be switched off and on again at the same address.
//!
//! Off means what it means for a real server: the port refuses, and every connection is gone at once. State is not in
//! here, so a service that comes back finds what it knew.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// One accepted connection.
pub(crate) type Connection = TlsStream<TcpStream>;

/// What serves a connection until it ends.
pub(crate) trait Serve: Send + Sync + 'static {
    fn serve(self: Arc<Self>, connection: Connection, from: SocketAddr) -> impl Future<Output = ()> + Send;
}

/// See the module's description.
pub(crate) struct Service<S> {
    address: SocketAddr,
    tls: TlsAcceptor,
    serve: Arc<S>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl<S: Serve> Service<S> {
    /// Binds `address` (port 0 = any) and begins to serve.
    pub(crate) async fn start(address: SocketAddr, tls: Arc<ServerConfig>, serve: Arc<S>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let service = Self {
            address: listener.local_addr()?,
            tls: TlsAcceptor::from(tls),
            serve,
            running: Mutex::new(None),
        };
        service.run(listener);
        Ok(service)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and every connection; returns when all tasks have ended.
    pub(crate) async fn stop(&self) {
        let running = self.running.lock().take();
        if let Some(Running { stop, tasks }) = running {
            stop.cancel();
            tasks.close();
            tasks.wait().await;
        }
    }

    /// Serves again at the same address; nothing happens when it already does.
    pub(crate) async fn resume(&self) -> io::Result<()> {
        if self.running.lock().is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.address).await?;
        self.run(listener);
        Ok(())
    }

    fn run(&self, listener: TcpListener) {
        let running = Running {
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let (stop, tasks) = (running.stop.clone(), running.tasks.clone());
        let (tls, serve) = (self.tls.clone(), self.serve.clone());
        running.tasks.spawn(async move {
            let accept = async {
                loop {
                    let Ok((socket, from)) = listener.accept().await else {
                        continue;
                    };
                    // Small frames must not wait for acknowledgements of others.
                    let _ = socket.set_nodelay(true);
                    let (tls, serve, stop) = (tls.clone(), serve.clone(), stop.clone());
                    tasks.spawn(async move {
                        let connection = async {
                            match tls.accept(socket).await {
                                Ok(connection) => serve.serve(connection, from).await,
                                Err(error) => tracing::debug!(%from, %error, "TLS handshake failed"),
                            }
                        };
                        stop.run_until_cancelled(connection).await;
                    });
                }
            };
            stop.run_until_cancelled(accept).await;
        });
        *self.running.lock() = Some(running);
    }
}

impl<S> Drop for Service<S> {
    fn drop(&mut self) {
        if let Some(running) = self.running.get_mut() {
            running.stop.cancel();
        }
    }
}
