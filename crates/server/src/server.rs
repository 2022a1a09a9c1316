//! The server as the binary starts and stops it.

use std::sync::Arc;

use countersign_store::{Store, StoreError};
use rand_core::RngCore as _;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    app::{App, Parts},
    clock::{self, Clock},
    config::ServerConfig,
    connection,
    counters::{CounterSnapshot, bump},
    endpoints::metadata::Documents,
    keys::{KeyError, Keys},
    peer::{Directory, Inbound, Peer},
    server_secret::{self, SecretError},
    sweep,
    tls::{Tls, TlsError},
    watch::Watcher,
};

/// A server, ready to serve. Clones are cheap and share it.
#[derive(Clone)]
pub struct Server(Arc<App>);

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no certificate to show.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no key to sign with.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The server's own secret cannot be read or made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The system gave no random bytes.
    #[error("the system has no random bytes to give: {0}")]
    Entropy(#[from] getrandom::Error),
    /// The metadata has no JSON form.
    #[error("the metadata cannot be written as JSON: {0}")]
    Metadata(#[from] serde_json::Error),
}

/// Why a server stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No more connections can come.
    #[error("the tailnet node has shut down, so no more connections can come")]
    InboundClosed,
    /// A write failed; only a restart finds out what is on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody looks any more at what the tailnet withdraws.
    #[error("the task that ends what the tailnet withdrew has stopped; please report this")]
    WatcherStopped,
}

impl Server {
    /// Prepares keys, certificates and documents. `directory` knows the nodes to which grants were given. `config.issuer` has passed [`crate::issuer::check`].
    ///
    /// # Errors
    /// [`StartError`]; nothing is served then.
    pub async fn new(
        config: ServerConfig,
        store: Store,
        clock: Clock,
        directory: Arc<dyn Directory>,
    ) -> Result<Self, StartError> {
        let now = clock.now();
        let keys = Keys::open(&store, config.tokens.schedule(), now).await?;
        let secret = server_secret::open(&store, now).await?;
        let tls = Tls::start(&config.tls, &config.issuer, &store, now).await?;
        let documents = Documents::new(&config)?;
        let run = clock::rng()?.next_u32();
        let parts = Parts {
            store,
            clock,
            tls,
            keys,
            secret,
            directory,
            documents,
            run,
        };
        Ok(Self(Arc::new(App::new(config, parts))))
    }

    /// Ends what the tailnet withdrew while no server ran, then serves `inbound` until `stop` is cancelled, then lets requests in progress finish for `limits.shutdown_grace`.
    ///
    /// # Errors
    /// [`ServeError`] when it had to stop by itself.
    pub async fn serve<I: Inbound>(&self, mut inbound: I, stop: CancellationToken) -> Result<(), ServeError> {
        let app = &self.0;
        let mut watcher = Watcher::new(Arc::clone(app));
        watcher.look(app.clock.now()).await?;
        let mut watching = AbortOnDropHandle::new(tokio::spawn(watcher.run()));
        let connections_stop = stop.child_token();
        let mut connections = JoinSet::new();
        let upkeep = self.upkeep();
        tokio::pin!(upkeep);
        let result = loop {
            tokio::select! {
                accepted = inbound.accept() => match accepted {
                    None => break Err(ServeError::InboundClosed),
                    Some((io, peer)) => self.start(io, peer, &mut connections, &connections_stop),
                },
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "a connection's task panicked; please report this");
                    }
                }
                () = &mut upkeep => {}
                _ = &mut watching => break Err(ServeError::WatcherStopped),
                () = app.store.failed() => break Err(StoreError::Stopped.into()),
                () = stop.cancelled() => break Ok(()),
            }
        };
        connections_stop.cancel();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(app.config.limits.shutdown_grace, drained)
            .await
            .is_err()
        {
            connections.abort_all();
        }
        result
    }

    fn start<Io>(&self, io: Io, peer: Arc<dyn Peer>, connections: &mut JoinSet<()>, stop: &CancellationToken)
    where
        Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let app = &self.0;
        let Ok(caller) = peer.caller() else { return };
        match app.gate.connection(&caller.node_id, clock::monotonic()) {
            Ok(permit) => {
                bump(&app.counters.connections);
                connections.spawn(connection::serve(Arc::clone(app), peer, io, permit, stop.clone()));
            }
            Err(full) => {
                bump(&app.counters.connections_refused);
                tracing::debug!(
                    node = caller.node_name,
                    ?full,
                    "a connection was refused: too many are open"
                );
            }
        }
    }

    /// What goes on beside requests; never returns.
    async fn upkeep(&self) {
        let app = &self.0;
        let certificates = async {
            match &app.tls {
                Some(tls) => tls.keep_fresh(&app.clock).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(
            certificates,
            app.complaints.run(app.directory.as_ref()),
            sweep::run(app),
            app.keys.run(&app.store, &app.clock)
        );
    }

    /// What was counted so far.
    pub fn counters(&self) -> CounterSnapshot {
        self.0.counters.snapshot()
    }

    /// The internal root as PEM; `None` when certificates come from elsewhere or TLS is off.
    pub fn root_pem(&self) -> Option<&str> {
        self.0.root_pem()
    }

    /// The issuer that is served.
    pub fn issuer(&self) -> &crate::Issuer {
        &self.0.config.issuer
    }

    /// What its requests share.
    pub(crate) fn app(&self) -> &Arc<App> {
        &self.0
    }
}
