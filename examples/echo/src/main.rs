//! An MCP server that knows who calls, without OAuth: the tailnet identity of the connection is the login.
//!
//! `tailnet-node` gives each connection its [`Caller`](tailnet_node::Caller), hyper carries it into every request, rmcp hands the request to
//! the tool. The tool reads the identity anew each time, so a policy change counts at once. Try it with any MCP client
//! on the tailnet: `http://example/mcp`.

mod echo;

use std::sync::Arc;

use clap::Parser;
use countersign_example_join::{Error, JoinArgs};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use tailnet_node::{Conn, Node};
use tower::Service;

use self::echo::Echo;

type Mcp = StreamableHttpService<Echo, NeverSessionManager>;

/// An echo MCP server that answers with who the caller is on the tailnet.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    join: JoinArgs,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let args = Args::parse();
    let prepare = |node: &Node| {
        let mcp = mcp(node, args.join.port());
        move |connection| serve(connection, mcp.clone())
    };
    args.join.serve(prepare).await
}

/// The MCP endpoint. The caller's identity is ambient, as a cookie would be, so nothing that a web page could send is
/// answered: no request with an `Origin`, and none for a host name that is not ours (DNS rebinding).
fn mcp(node: &Node, port: u16) -> Mcp {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_allowed_hosts(own_names(node, port))
        .enforce_origin_validation();
    StreamableHttpService::new(|| Ok(Echo), Arc::new(NeverSessionManager::default()), config)
}

/// The MagicDNS name, its first label and the addresses, each alone and with the port.
fn own_names(node: &Node, port: u16) -> Vec<String> {
    let status = node.status();
    let short = status.name.split('.').next().map(str::to_owned);
    let addresses = status.addresses.iter().map(|address| match address.is_ipv6() {
        true => format!("[{address}]"),
        false => address.to_string(),
    });
    let names = short.into_iter().chain([status.name]).chain(addresses);
    names.flat_map(|name| [format!("{name}:{port}"), name]).collect()
}

async fn serve(connection: Conn, mcp: Mcp) {
    let (stream, caller) = connection.into_parts();
    let with_caller = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        mcp.clone().call(request)
    });
    let server = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = server.serve_connection(TokioIo::new(stream), with_caller).await {
        tracing::debug!(error, "connection");
    }
}
