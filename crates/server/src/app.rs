//! One request: who asks, may it come in, which endpoint answers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use countersign_oauth::{
    authorize,
    caller::{Caller, IdentityRules},
    claims,
    client::Client,
    register::{Mode, Rules},
    server_secret::ServerSecret,
    subject::Subject,
    token,
};
use countersign_store::Store;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{ACCEPT, HOST},
    uri::Authority,
};
use hyper::body::Incoming;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::{
    clock::{self, Clock},
    complaints::Complaints,
    config::{ServerConfig, span},
    cors,
    counters::{Counters, bump},
    endpoints::{
        self, bearer, ca, consent,
        metadata::{self, Documents},
        register,
    },
    gate::{Full, Gate, Rates, RequestPermit},
    issuer::Name,
    keys::Keys,
    pages,
    peer::{Directory, Peer, Withdrawn},
    reply::{self, Reply},
    route::{Cors, Kind, Route},
    status,
    tls::Tls,
    watch::{Doubts, Steady},
};

/// Everything that the requests of one server share.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) registration: Rules,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    pub(crate) gate: Gate,
    pub(crate) tls: Option<Tls>,
    pub(crate) tokens: token::Rules,
    pub(crate) keys: Keys,
    pub(crate) secret: ServerSecret,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) doubts: Doubts,
    changes: watch::Receiver<u64>,
    documents: Documents,
    pub(crate) complaints: Complaints,
    /// Tells the requests of two runs apart in one log.
    run: u32,
    requests: AtomicU64,
}

/// What a server is made of besides its configuration.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) tls: Option<Tls>,
    pub(crate) keys: Keys,
    pub(crate) secret: ServerSecret,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) documents: Documents,
    pub(crate) run: u32,
}

/// What belongs to one request and its answer.
pub(crate) struct Exchange {
    /// The request in the log.
    pub(crate) request_id: String,
    /// Read once, so that one request is decided at one time.
    pub(crate) now: OffsetDateTime,
}

impl App {
    pub(crate) fn new(config: ServerConfig, parts: Parts) -> Self {
        let identity = IdentityRules {
            netmap_max_age: config.netmap_max_age,
            routers_are_users: config.routers_are_users,
        };
        Self {
            registration: Rules {
                mode: config.registration,
                max_clients_per_owner: config.dcr_max_clients_per_user,
                own_names: config.own_names.clone(),
                identity: identity.clone(),
            },
            tokens: token::Rules {
                authorize: authorize::Rules {
                    issuer: config.issuer.to_string(),
                    open_network: config.registration == Mode::Network,
                    require_grant: config.require_grant,
                    identity,
                },
                claims: claims::Rules {
                    issuer_host: config.issuer.host().to_owned(),
                    email_domain: config.claims.email_domain.clone(),
                    verified_email_domains: config.claims.verified_email_domains.clone(),
                },
                access_lifetime: span(config.tokens.access_token_lifetime),
                grant_lifetime: span(config.tokens.grant_lifetime),
                refresh_grace: span(config.tokens.refresh_grace),
            },
            gate: Gate::new(
                config.limits.clone(),
                Rates {
                    per_peer: config.rate_limit_per_peer,
                    in_total: config.rate_limit,
                },
            ),
            counters: Counters::default(),
            config,
            store: parts.store,
            clock: parts.clock,
            tls: parts.tls,
            keys: parts.keys,
            secret: parts.secret,
            doubts: Doubts::default(),
            changes: parts.directory.changes(),
            directory: parts.directory,
            documents: parts.documents,
            complaints: Complaints::default(),
            run: parts.run,
            requests: AtomicU64::new(0),
        }
    }

    /// The node whose rules may publish `client` to `subject`; none for the owner, who needs no publication.
    pub(crate) fn publisher(&self, client: &Client, subject: Option<&Subject>) -> Option<Caller> {
        subject.filter(|subject| subject.owner != client.owner)?;
        self.directory.node(&client.registrant.node_id)
    }

    pub(crate) fn root_pem(&self) -> Option<&str> {
        self.tls.as_ref().and_then(Tls::root_pem)
    }

    /// Grows with each change of the netmap.
    pub(crate) fn netmap_version(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Answers one request of `peer`. The permit is to be kept until the answer is sent: until then it takes memory.
    ///
    /// # Errors
    /// [`Withdrawn`] when the peer is nobody any more: there is no answer then, the connection ends.
    pub(crate) async fn answer(
        self: Arc<Self>,
        peer: Arc<dyn Peer>,
        request: Request<Incoming>,
    ) -> Result<(Reply, Option<RequestPermit>), Withdrawn> {
        let version = self.netmap_version();
        let caller = peer.caller()?;
        self.complaints.hear(&caller);
        let exchange = Exchange {
            request_id: format!("{:08x}-{:x}", self.run, self.requests.fetch_add(1, Relaxed)),
            now: self.clock.now(),
        };
        let route = Route::find(request.uri().path());
        let _steady = Steady::new(&self, &caller.node_id, version, route == Some(Route::Consent));
        let for_people = route.map_or_else(|| asks_for_html(&request), Route::is_shown);
        let (mut reply, permit) = self.admit(&exchange, &caller, route, request).await;
        if for_people {
            reply = reply::as_page(reply, &exchange.request_id);
        }
        self.counters.count(route, reply.status());
        tracing::debug!(
            event = "request",
            user = caller.user_label(),
            node = caller.node_name,
            request_id = exchange.request_id,
            path = route.map_or("other", Route::path),
            status = reply.status().as_u16(),
        );
        if let Ok(id) = HeaderValue::from_str(&exchange.request_id) {
            reply.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
        }
        Ok((reply, permit))
    }

    /// Answers within the limits.
    async fn admit(
        &self,
        exchange: &Exchange,
        caller: &Caller,
        route: Option<Route>,
        request: Request<Incoming>,
    ) -> (Reply, Option<RequestPermit>) {
        match self.gate.request(&caller.node_id, clock::monotonic()) {
            Ok(permit) => (self.routed(exchange, caller, route, request).await, Some(permit)),
            Err(full) => {
                bump(&self.counters.requests_limited);
                let reply = match full {
                    Full::Node => reply::busy(status::TOO_MANY, "this node sends too many requests"),
                    Full::Server => reply::busy(status::OVERLOADED, "the server has too much to do"),
                };
                (reply, None)
            }
        }
    }

    /// The checks that every request passes: the name it was sent to, path and method.
    async fn routed(
        &self,
        exchange: &Exchange,
        caller: &Caller,
        route: Option<Route>,
        request: Request<Incoming>,
    ) -> Reply {
        match authority_of(&request).and_then(|name| self.config.issuer.name_of(&name)) {
            Some(Name::Full) => {}
            // A form is never sent on: what is in it was meant for the name that it was sent to.
            Some(Name::Short)
                if route.is_some_and(|route| route.kind() == Kind::Page)
                    && matches!(*request.method(), Method::GET | Method::HEAD) =>
            {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                return reply::redirect(&format!("{}{path}", self.config.issuer));
            }
            Some(Name::Short) | None => {
                return reply::refuse(
                    status::MISDIRECTED,
                    &format!("this server is {}; use that name", self.config.issuer),
                );
            }
        }
        let Some(route) = route else {
            return reply::refuse(status::NOT_FOUND, "there is nothing at this path");
        };
        if !route.allows(request.method()) {
            return reply::wrong_method(route.allowed());
        }
        // Only registration answers by who asks.
        let asking = match route.cors() {
            Cors::Registration => request.headers().clone(),
            Cors::SameOrigin | Cors::Anyone => HeaderMap::new(),
        };
        let mut reply = if request.method() == Method::OPTIONS {
            let mut reply = reply::body(status::PREFLIGHT, "text/plain; charset=utf-8", "");
            if route.cors() == Cors::Anyone || cors::may_register(request.headers(), &self.config.cors_origins) {
                cors::preflight(route, reply.headers_mut());
            }
            reply
        } else {
            self.dispatch(exchange, caller, route, request).await
        };
        cors::open(route, &asking, &self.config.cors_origins, reply.headers_mut());
        reply
    }

    async fn dispatch(&self, exchange: &Exchange, caller: &Caller, route: Route, request: Request<Incoming>) -> Reply {
        match route {
            Route::OauthMetadata => self.documents.oauth(caller),
            Route::OpenidMetadata => self.documents.openid(caller),
            Route::Jwks => metadata::jwks(self, caller),
            Route::Register => register::post(self, exchange, caller, request).await,
            Route::Manage => endpoints::manage::any(self, exchange, caller, request).await,
            Route::Authorize => endpoints::authorize::any(self, exchange, caller, request).await,
            Route::Consent => consent::post(self, exchange, caller, request).await,
            Route::Par => endpoints::par::post(self, exchange, caller, request).await,
            Route::Token => endpoints::token::post(self, exchange, caller, request).await,
            Route::Introspect => bearer::introspect(self, exchange, caller, request).await,
            Route::Revoke => bearer::revoke(self, exchange, caller, request).await,
            Route::Userinfo => bearer::userinfo(self, exchange, caller, request).await,
            Route::Logout => endpoints::logout::any(self, exchange, caller, request).await,
            Route::LogoutAnswer => endpoints::logout::answer(self, exchange, caller, request).await,
            Route::Me => endpoints::me::any(self, exchange, caller, request).await,
            Route::CaPem => ca::pem(self, caller),
            Route::CaPage => ca::page(self, caller),
            Route::Explain => endpoints::explain::get(self, exchange, caller, &request).await,
            Route::Landing => reply::page(
                status::FOUND,
                pages::landing(&self.config.issuer, caller, self.root_pem().is_some()),
            ),
            Route::Style => {
                let reply = reply::body(status::FOUND, "text/css; charset=utf-8", pages::STYLE);
                reply::cached(reply, "public, max-age=3600")
            }
            Route::FormPostScript => {
                let reply = reply::body(status::FOUND, "text/javascript; charset=utf-8", pages::FORM_POST_SCRIPT);
                reply::cached(reply, "public, max-age=3600")
            }
        }
    }
}

/// Whether a browser wants to show the answer.
fn asks_for_html(request: &Request<Incoming>) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// The name a request was sent to: `:authority` in HTTP/2, else the one `Host`; none when they contradict each other.
fn authority_of(request: &Request<Incoming>) -> Option<String> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().ok()?),
        (None, _) => None,
        (Some(_), Some(_)) => return None,
    };
    match (request.uri().authority().map(Authority::as_str), host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => None,
        (Some(name), _) | (None, Some(name)) => Some(name.to_owned()),
        (None, None) => None,
    }
}
