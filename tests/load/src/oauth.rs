//! The steps of a public client and of the browser that clicks for it, one function each.

use http::{Method, StatusCode};
use serde_json::json;

use crate::http::{Answer, Connection, Gone, between, encoded};

const REDIRECT: &str = "http://localhost:5000/callback";
/// RFC 7636 appendix B: what is under load here is not PKCE's randomness.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A client, as its registration was answered.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Its id.
    pub id: String,
    /// With what its registration is read.
    pub registration_token: String,
}

/// A consent page, as a browser holds it.
#[derive(Debug, Clone)]
pub struct Page {
    ticket: String,
    cookie: String,
}

/// Registers a public client.
///
/// # Errors
/// [`Gone`].
///
/// # Panics
/// When it is refused.
pub async fn register(connection: &mut Connection) -> Result<Registered, Gone> {
    let metadata = json!({
        "client_name": "load", "redirect_uris": ["http://localhost/callback"],
        "token_endpoint_auth_method": "none", "grant_types": ["authorization_code", "refresh_token"],
    });
    let headers = [("content-type", "application/json")];
    let answer = connection
        .send(Method::POST, "/register", &headers, metadata.to_string())
        .await?;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    Ok(Registered {
        id: answer.field("client_id"),
        registration_token: answer.field("registration_access_token"),
    })
}

/// Reads a client's registration (RFC 7592 2.1).
///
/// # Errors
/// [`Gone`].
pub async fn read(connection: &mut Connection, client: &Registered) -> Result<Answer, Gone> {
    let bearer = format!("Bearer {}", client.registration_token);
    let path = format!("/register/{}", client.id);
    connection.get(&path, &[("authorization", &bearer)]).await
}

/// Asks for the consent page of an authorization for a resource, or for this server itself.
///
/// # Errors
/// [`Gone`].
///
/// # Panics
/// When there is none.
pub async fn page(
    connection: &mut Connection,
    client: &str,
    scope: &str,
    resource: Option<&str>,
) -> Result<Page, Gone> {
    let mut query = vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", REDIRECT),
        ("scope", scope),
        ("state", "st"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    query.extend(resource.map(|resource| ("resource", resource)));
    page_at(connection, &format!("/authorize?{}", encoded(&query))).await
}

/// The consent page at a path.
///
/// # Errors
/// [`Gone`].
///
/// # Panics
/// When there is none.
pub(crate) async fn page_at(connection: &mut Connection, path: &str) -> Result<Page, Gone> {
    let answer = connection.get(path, &[]).await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let ticket = answer.between("name=\"ticket\" value=\"", '"').expect("a ticket");
    let cookies = answer.headers.get_all("set-cookie").iter();
    let cookies = cookies.filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
    Ok(Page {
        ticket: ticket.to_owned(),
        cookie: cookies.collect::<Vec<_>>().join("; "),
    })
}

impl Page {
    /// The page in a browser that has this session cookie already.
    pub fn with_session(mut self, session: Option<&str>) -> Self {
        if let Some(session) = session {
            self.cookie = format!("{}; {session}", self.cookie);
        }
        self
    }
}

/// Clicks "continue"; `None` when the page is refused.
///
/// # Errors
/// [`Gone`].
pub async fn consent(connection: &mut Connection, page: &Page) -> Result<Option<String>, Gone> {
    Ok(click(connection, page).await?.0)
}

/// The same with the session cookie that a browser would keep, where the click began a session.
///
/// # Errors
/// [`Gone`].
pub async fn click(connection: &mut Connection, page: &Page) -> Result<(Option<String>, Option<String>), Gone> {
    click_and(connection, page, &[]).await
}

/// The same with more fields of the page's form.
///
/// # Errors
/// [`Gone`].
pub(crate) async fn click_and(
    connection: &mut Connection,
    page: &Page,
    fields: &[(&str, &str)],
) -> Result<(Option<String>, Option<String>), Gone> {
    let issuer = connection.issuer().to_owned();
    let headers = [
        ("cookie", page.cookie.as_str()),
        ("origin", &issuer),
        ("sec-fetch-site", "same-origin"),
    ];
    let form = [&[("ticket", page.ticket.as_str()), ("choice", "allow")], fields].concat();
    let answer = connection.form("/authorize/consent", &form, &headers).await?;
    let code = between(answer.header("location"), "code=", '&').map(str::to_owned);
    let cookies = answer.headers.get_all("set-cookie").iter();
    let session = cookies
        .filter_map(|cookie| cookie.to_str().ok()?.split(';').next())
        .find(|cookie| cookie.contains("countersign_session=") && !cookie.ends_with('='));
    Ok((code, session.map(str::to_owned)))
}

/// Redeems a code.
///
/// # Errors
/// [`Gone`].
pub async fn redeem(connection: &mut Connection, client: &str, code: &str) -> Result<Answer, Gone> {
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", client),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    connection.form("/token", &form, &[]).await
}

/// Refreshes.
///
/// # Errors
/// [`Gone`].
pub async fn refresh(connection: &mut Connection, client: &str, token: &str) -> Result<Answer, Gone> {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", client),
        ("refresh_token", token),
    ];
    connection.form("/token", &form, &[]).await
}
