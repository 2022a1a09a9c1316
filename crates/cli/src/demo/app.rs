//! The demo's application: a public client (RFC 8252) on this computer, as a desktop program or an MCP client would be.
//!
//! It sends its user to the authorization page, hears the code on a loopback port, redeems it over alice's node and
//! calls echo with what it got. The transcript takes it through that step by step; a person's browser does it through
//! its pages.

mod pages;
mod visits;

use std::{io, net::SocketAddr, sync::Arc};

use hyper::{Request, StatusCode, body::Incoming, header::AUTHORIZATION};
use serde_json::{Value, json};
use tailnet_node::Node;
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use self::visits::{Back, Visits};
use super::{
    BoxError,
    client::{Answer, Client},
    people,
    server::Idp,
    web::{self, Reply},
};

/// Connections to its pages at a time; further ones are closed.
const MAX_CONNECTIONS: usize = 32;
const PORT: u16 = 8080;

/// The running application.
pub(super) struct App {
    program: Arc<Program>,
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

/// What its pages need.
struct Program {
    node: Arc<Node>,
    issuer: String,
    host: String,
    root: String,
    style: String,
    visits: Visits,
}

/// A visit that the transcript makes.
pub(super) struct Outing {
    /// The authorization page's path and query.
    pub(super) path: String,
    /// The secret that goes with the code (RFC 7636).
    pub(super) verifier: String,
    /// The code, once the browser has come back.
    pub(super) code: oneshot::Receiver<String>,
}

/// What the application registers about itself.
pub(super) fn metadata() -> Value {
    json!({
        "client_name": "Notes",
        "redirect_uris": ["http://127.0.0.1/callback"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
    })
}

impl App {
    /// Listens on loopback, at a port that stays the same where it is free; `client_id` is what registration gave.
    pub(super) async fn start(node: &Arc<Node>, idp: &Idp, client_id: &str) -> Result<Self, BoxError> {
        let listener = match TcpListener::bind(("127.0.0.1", PORT)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => TcpListener::bind(("127.0.0.1", 0)).await,
            bound => bound,
        }?;
        let address = listener.local_addr()?;
        // Its pages look like the server's.
        let style = Client::connect(node, idp.host(), idp.root())
            .await?
            .get("/style.css", &[])
            .await?
            .text;
        let program = Arc::new(Program {
            node: Arc::clone(node),
            issuer: idp.issuer().to_owned(),
            host: idp.host().to_owned(),
            root: idp.root().to_owned(),
            style,
            visits: Visits::new(idp.issuer(), client_id, format!("http://{address}/callback")),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&program)));
        Ok(Self {
            program,
            address,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Where its pages are.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts a visit whose code the transcript takes.
    pub(super) fn outing(&self) -> Result<Outing, BoxError> {
        let (awaited, code) = oneshot::channel();
        let (path, verifier) = self.program.visits.begin(Some(awaited))?;
        Ok(Outing { path, verifier, code })
    }

    /// Redeems a code over `client`, which need not be alice's.
    pub(super) async fn redeem(&self, client: &mut Client, code: &str, verifier: &str) -> Result<Answer, BoxError> {
        self.program.redeem(client, code, verifier).await
    }

    /// Spends a refresh token over `client`, which need not be alice's.
    pub(super) async fn refresh(&self, client: &mut Client, token: &str) -> Result<Answer, BoxError> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", self.program.visits.client_id()),
            ("refresh_token", token),
        ];
        client.form("/token", &form, &[]).await
    }
}

/// Calls echo with a token.
pub(super) async fn call_echo(echo: &mut Client, token: &str) -> Result<Answer, BoxError> {
    echo.get("/", &[(AUTHORIZATION.as_str(), &format!("Bearer {token}"))])
        .await
}

async fn accept(listener: TcpListener, program: Arc<Program>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else { continue };
        if connections.len() < MAX_CONNECTIONS {
            let program = Arc::clone(&program);
            connections.spawn(async move { web::serve(stream, |request| program.answer(request)).await });
        }
    }
}

impl Program {
    async fn answer(&self, request: Request<Incoming>) -> Reply {
        match request.uri().path() {
            "/" => web::page(StatusCode::OK, pages::welcome(self)),
            "/start" => match self.visits.begin(None) {
                Ok((path, _)) => web::see_other(&format!("{}{path}", self.issuer)),
                Err(error) => self.trouble(&error.to_string()),
            },
            "/callback" => self.callback(request.uri().query().unwrap_or_default()).await,
            _ => self.trouble("there is no such page"),
        }
    }

    fn trouble(&self, why: &str) -> Reply {
        web::page(StatusCode::BAD_REQUEST, pages::trouble(self, why))
    }

    /// The browser is back.
    async fn callback(&self, query: &str) -> Reply {
        let Back {
            code,
            verifier,
            awaited,
        } = match self.visits.back(query) {
            Ok(back) => back,
            Err(why) => return self.trouble(&why),
        };
        if let Some(awaited) = awaited {
            // The transcript may have ended; nobody else wants the code.
            let _ = awaited.send(code);
            return web::page(StatusCode::OK, pages::received(self));
        }
        match timeout(people::PATIENCE, self.use_code(&code, &verifier)).await {
            Ok(Ok(used)) => web::page(StatusCode::OK, pages::done(self, &code, &used)),
            Ok(Err(error)) => self.trouble(&error.to_string()),
            Err(_) => self.trouble("no answer came in time"),
        }
    }

    async fn redeem(&self, client: &mut Client, code: &str, verifier: &str) -> Result<Answer, BoxError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", self.visits.client_id()),
            ("redirect_uri", self.visits.redirect_uri()),
            ("code", code),
            ("code_verifier", verifier),
        ];
        client.form("/token", &form, &[]).await
    }

    /// What the application does with a code: a token, and a call with it.
    async fn use_code(&self, code: &str, verifier: &str) -> Result<Used, BoxError> {
        let mut idp = Client::connect(&self.node, &self.host, &self.root).await?;
        let tokens = self.redeem(&mut idp, code, verifier).await?;
        if tokens.status != StatusCode::OK {
            return Err(tokens.instead_of("a token"));
        }
        let mut echo = Client::connect_plain(&self.node, people::ECHO_HOST).await?;
        let echoed = call_echo(&mut echo, tokens.field("access_token")).await?;
        Ok(Used { tokens, echoed })
    }
}

/// What came of a code.
struct Used {
    tokens: Answer,
    echoed: Answer,
}
