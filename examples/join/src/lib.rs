//! How the examples join a tailnet and serve on it: the flags and variables of `countersign serve`, as far as they
//! concern the node, and a task for each connection.

use std::{future::Future, io::IsTerminal, path::PathBuf, time::Duration};

use clap::Args;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tailnet_node::{AuthKey, Conn, Listener, Node, NodeConfig, NodeState};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use url::Url;

/// How long open connections may take to finish after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// Everything that can go wrong before an example serves.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// How to join, under the names that `countersign serve` uses. Flatten it into the arguments of an example.
#[derive(Debug, Clone, Args)]
pub struct JoinArgs {
    /// Where the node's keys are kept
    #[arg(long, env = "COUNTERSIGN_STATE_DIR", value_name = "DIR")]
    state_dir: PathBuf,
    /// Control server to join
    #[arg(long, env = "COUNTERSIGN_CONTROL_URL", value_name = "URL")]
    control_url: Url,
    /// Accept an http:// control_url, for tests
    #[arg(long, env = "COUNTERSIGN_CONTROL_PLAIN_HTTP", value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set)]
    control_plain_http: bool,
    /// File that holds the pre-auth key; the variable TS_AUTHKEY also does
    #[arg(long, env = "COUNTERSIGN_AUTH_KEY_FILE", value_name = "FILE")]
    auth_key_file: Option<PathBuf>,
    /// Name to ask for on the tailnet
    #[arg(long, env = "COUNTERSIGN_HOSTNAME", value_name = "NAME", default_value = "example")]
    hostname: String,
    /// Tags to ask for
    #[arg(long, env = "COUNTERSIGN_TAGS", value_name = "TAGS", value_delimiter = ',')]
    tags: Vec<String>,
    /// TCP port on the tailnet addresses
    #[arg(long, env = "COUNTERSIGN_PORT", value_name = "PORT", default_value_t = 80)]
    port: u16,
    /// PEM file of further roots to trust for control and DERP
    #[arg(long, env = "COUNTERSIGN_EXTRA_CA_FILE", value_name = "FILE")]
    extra_ca_file: Option<PathBuf>,
    /// Local UDP port for direct paths; 0 lets the system choose
    #[arg(long, env = "COUNTERSIGN_UDP_PORT", value_name = "PORT", default_value_t = 0)]
    udp_port: u16,
    /// What to log
    #[arg(
        long,
        env = "COUNTERSIGN_LOG",
        value_name = "FILTER",
        default_value = "info,rmcp=warn"
    )]
    log: String,
}

impl JoinArgs {
    /// TCP port to serve on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Joins the tailnet and serves each connection with what `prepare` makes of the node, until a signal comes.
    ///
    /// # Errors
    /// Whatever keeps the node from joining or listening; its text says what to do.
    pub async fn serve<H, F>(&self, prepare: impl FnOnce(&Node) -> H) -> Result<(), Error>
    where
        H: Fn(Conn) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        self.start_logging()?;
        let node = self.join().await?;
        let handler = prepare(&node);
        let listener = node.listen(self.port)?;
        tracing::info!(addresses = ?listener.local_addrs(), "ready");
        until_stopped(node, accept(listener, handler)).await
    }

    /// Starts logging to standard error.
    fn start_logging(&self) -> Result<(), Error> {
        let filter = tracing_subscriber::EnvFilter::builder().parse(&self.log)?;
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_env_filter(filter)
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
        Ok(())
    }

    /// Joins the tailnet and waits until the node is on it.
    async fn join(&self) -> Result<Node, Error> {
        let mut config = NodeConfig::new(&self.state_dir, self.control_url.clone(), &self.hostname);
        config.auth_key = match &self.auth_key_file {
            Some(path) => Some(AuthKey::new(std::fs::read_to_string(path)?)),
            None => std::env::var("TS_AUTHKEY").ok().map(AuthKey::new),
        };
        config.tags.clone_from(&self.tags);
        config.allow_plain_control = self.control_plain_http;
        config.udp_port = (self.udp_port != 0).then_some(self.udp_port);
        if let Some(path) = &self.extra_ca_file {
            config.extra_roots = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
        }
        config.app = String::from("countersign-example");
        let node = Node::start_watched(config, |state| {
            if let NodeState::NeedsLogin(url) = state {
                eprintln!("To admit this node, open {url}");
            }
        });
        Ok(node.await?)
    }
}

/// One task per connection, all of which end with this one.
async fn accept<F: Future<Output = ()> + Send + 'static>(mut listener: Listener, handler: impl Fn(Conn) -> F) {
    let mut connections = JoinSet::new();
    while let Ok(connection) = listener.accept().await {
        connections.spawn(handler(connection));
        while connections.try_join_next().is_some() {}
    }
}

/// Runs `serve` until it ends or SIGTERM or SIGINT comes, then takes the node off the tailnet.
async fn until_stopped(node: Node, serve: impl Future<Output = ()>) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = serve => {}
        _ = terminate.recv() => {}
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    node.shutdown(GRACE).await;
    Ok(())
}
