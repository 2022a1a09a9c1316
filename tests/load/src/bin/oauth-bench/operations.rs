//! The operations, as the clients of a server do them.

use std::{collections::VecDeque, future::Future, pin::Pin};

use countersign_load_tests::{Answer, Connection, Gone, oauth};
use http::StatusCode;

use crate::servers::{Kind, RESOURCE};

/// One connection, with what earlier operations left for later ones.
pub(crate) struct Session {
    kind: Kind,
    connection: Connection,
    /// The number of the node that asks: tsidp names relying parties so.
    node_number: i64,
    client: String,
    access: String,
    /// An access token for a server on the node that asks, which may therefore introspect it.
    for_resource: String,
    /// The latest refresh token of each grant.
    refresh: VecDeque<String>,
    /// The session cookie, as a browser keeps it.
    cookie: Option<String>,
}

type Done<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Something a client does.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// Milliseconds of server CPU.
    pub(crate) goal: &'static str,
    /// Whether tsidp can do it.
    pub(crate) tsidp: bool,
    pub(crate) run: fn(&mut Session) -> Done<'_>,
}

/// In this order: the first makes the tokens that the others present.
pub(crate) static OPERATIONS: [Operation; 8] = [
    Operation {
        name: "flow: page, consent, code, token, id_token",
        goal: "0.3",
        tsidp: true,
        run: |session| Box::pin(session.flow()),
    },
    Operation {
        name: "the same in a browser without a session",
        goal: "",
        tsidp: false,
        run: |session| Box::pin(session.first_flow()),
    },
    Operation {
        name: "refresh, each grant now and then",
        goal: "0.2",
        tsidp: false,
        run: |session| Box::pin(session.refresh_next()),
    },
    Operation {
        name: "refresh, the same grant again and again",
        goal: "",
        tsidp: false,
        run: |session| Box::pin(session.refresh_last()),
    },
    Operation {
        name: "jwks",
        goal: "0.06",
        tsidp: true,
        run: |session| Box::pin(session.jwks()),
    },
    Operation {
        name: "introspection",
        goal: "0.06",
        tsidp: false,
        run: |session| Box::pin(session.introspect()),
    },
    Operation {
        name: "userinfo",
        goal: "0.06",
        tsidp: true,
        run: |session| Box::pin(session.userinfo()),
    },
    Operation {
        name: REGISTRATION,
        goal: "0.15",
        tsidp: false,
        run: |session| Box::pin(session.register()),
    },
];

/// The name of the operation that leaves a client behind.
pub(crate) const REGISTRATION: &str = "registration";

impl Session {
    pub(crate) fn new(kind: Kind, connection: Connection, node_number: i64) -> Self {
        Self {
            kind,
            connection,
            node_number,
            client: String::new(),
            access: String::new(),
            for_resource: String::new(),
            refresh: VecDeque::new(),
            cookie: None,
        }
    }

    /// The flow in a browser that never came before.
    async fn first_flow(&mut self) -> Result<(), String> {
        self.cookie = None;
        self.flow().await
    }

    async fn flow(&mut self) -> Result<(), String> {
        let answer = match self.kind {
            Kind::Ours => self.our_code_and_token(None).await?,
            Kind::Tsidp => self.tsidp_code_and_token().await?,
        };
        let answer = expect(Ok(answer), StatusCode::OK)?;
        self.access = answer.field("access_token");
        if self.kind == Kind::Ours {
            self.refresh.push_back(answer.field("refresh_token"));
        }
        Ok(())
    }

    async fn our_code_and_token(&mut self, resource: Option<&str>) -> Result<Answer, String> {
        if self.client.is_empty() {
            self.register().await?;
        }
        let connection = &mut self.connection;
        let page = oauth::page(connection, &self.client, "openid profile", resource)
            .await
            .map_err(gone)?
            .with_session(self.cookie.as_deref());
        let (code, cookie) = oauth::click(connection, &page).await.map_err(gone)?;
        self.cookie = cookie.or(self.cookie.take());
        let code = code.ok_or("the page was refused")?;
        oauth::redeem(connection, &self.client, &code).await.map_err(gone)
    }

    async fn tsidp_code_and_token(&mut self) -> Result<Answer, String> {
        let redirect = "http://localhost:5000/callback";
        let path = format!(
            "/authorize/{}?response_type=code&client_id=unused&state=st&scope=openid+profile&redirect_uri={redirect}",
            self.node_number
        );
        let answer = self.connection.get(&path, &[]).await.map_err(gone)?;
        let code = answer.header("location").split("code=").nth(1).unwrap_or_default();
        let code = code.split('&').next().unwrap_or_default().to_owned();
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", "unused"),
            ("code", code.as_str()),
            ("redirect_uri", redirect),
        ];
        self.connection.form("/token", &form, &[]).await.map_err(gone)
    }

    async fn refresh_next(&mut self) -> Result<(), String> {
        let token = self.refresh.pop_front().unwrap_or_default();
        let next = self.rotate(&token).await?;
        self.refresh.push_back(next);
        Ok(())
    }

    async fn refresh_last(&mut self) -> Result<(), String> {
        let token = self.refresh.pop_back().unwrap_or_default();
        let next = self.rotate(&token).await?;
        self.refresh.push_back(next);
        Ok(())
    }

    async fn rotate(&mut self, token: &str) -> Result<String, String> {
        let answer = oauth::refresh(&mut self.connection, &self.client, token).await;
        let answer = expect(answer, StatusCode::OK)?;
        self.access = answer.field("access_token");
        Ok(answer.field("refresh_token"))
    }

    async fn jwks(&mut self) -> Result<(), String> {
        let answer = self.connection.get("/.well-known/jwks.json", &[]).await;
        expect(answer, StatusCode::OK).map(drop)
    }

    async fn introspect(&mut self) -> Result<(), String> {
        if self.for_resource.is_empty() {
            self.for_resource = self.our_code_and_token(Some(RESOURCE)).await?.field("access_token");
        }
        let form = [("token", self.for_resource.as_str())];
        let answer = expect(self.connection.form("/introspect", &form, &[]).await, StatusCode::OK)?;
        if answer.text.contains("\"active\":true") {
            return Ok(());
        }
        Err(format!("a good token is not active: {}", answer.text))
    }

    async fn userinfo(&mut self) -> Result<(), String> {
        let bearer = format!("Bearer {}", self.access);
        let answer = self.connection.get("/userinfo", &[("authorization", &bearer)]).await;
        expect(answer, StatusCode::OK).map(drop)
    }

    async fn register(&mut self) -> Result<(), String> {
        let client = oauth::register(&mut self.connection).await.map_err(gone)?;
        if self.client.is_empty() {
            self.client = client.id;
        }
        Ok(())
    }
}

fn gone(_: Gone) -> String {
    "the server ended a connection".to_owned()
}

fn expect(answer: Result<Answer, Gone>, status: StatusCode) -> Result<Answer, String> {
    let answer = answer.map_err(gone)?;
    if answer.status == status {
        return Ok(answer);
    }
    Err(format!("{} instead of {status}: {}", answer.status, answer.text))
}
