//! From alice's click to a token, and what it is worth in other hands.

use std::{io, time::Duration};

use hyper::StatusCode;
use tokio::{net::TcpStream, time::timeout};

use super::{Stage, words};
use crate::demo::{
    BoxError,
    app::{self, App, Outing},
    browser::Page,
    client::{Answer, Client},
    people::{self, ALICE},
    token,
    transcript::{Outcome, StepFailed, Transcript},
};

/// A visit that has led to a code.
pub(super) struct Consented {
    code: String,
    verifier: String,
}

/// Gives the application, and the code that it has heard.
pub(super) async fn alice_consents<W: io::Write>(
    stage: &Stage,
    out: &mut Transcript<W>,
    alice: &mut Client,
    client_id: &str,
) -> Result<(App, Consented), StepFailed> {
    out.section("Alice lets the client use echo for her");
    let (mut echo, challenge) = out.step("calls echo without a token", turned_away(stage)).await?;
    let (scheme, rest) = challenge.split_once(' ').unwrap_or((&challenge, ""));
    out.note(format_args!("WWW-Authenticate: {scheme}"));
    out.note(format_args!("  {rest}"));
    out.step(
        "reads whose tokens it takes (RFC 9728)",
        authorization_server(stage, &mut echo, &challenge),
    )
    .await?;
    let start = async {
        let app = App::start(&stage.alice, &stage.idp, client_id).await?;
        let words = format!("listens at {}", app.address());
        Ok((app, words))
    };
    let app = out.step("starts the client on her computer", start).await?;
    let open = async {
        let outing = app.outing()?;
        let page = Page::open(alice, &outing.path).await?;
        Ok(((outing, page), "200, and says:".to_owned()))
    };
    let (outing, page) = out.step("opens the authorization page", open).await?;
    words::columns(&page.facts).iter().for_each(|line| out.note(line));
    page.remarks.iter().for_each(|remark| out.note(remark));
    let click = async {
        let location = page.click(alice).await?;
        let words = "303, back to the app".to_owned();
        Ok((location, words))
    };
    let label = format!("clicks \"{}\"", page.button);
    let location = out.step(&label, click).await?;
    let consented = out
        .step("the app hears the code on loopback", heard(&app, &location, outing))
        .await?;
    Ok((app, consented))
}

/// Gives the refresh token that alice's application ends up with.
pub(super) async fn the_code_is_hers<W: io::Write>(
    stage: &Stage,
    out: &mut Transcript<W>,
    app: &App,
    consented: &Consented,
    alice: &mut Client,
    bob: &mut Client,
) -> Result<String, StepFailed> {
    let Consented { code, verifier } = consented;
    out.section("Bob has stolen the code, with all that the app knows");
    let stolen = async { refusal(app.redeem(bob, code, verifier).await?, "invalid_grant") };
    let why = out.step("bob redeems it from his node", stolen).await?;
    words::wrap(&why, words::WRAP).iter().for_each(|line| out.note(line));
    let redeem = async { granted(app.redeem(alice, code, verifier).await?) };
    let tokens = out.step("the app redeems it from alice's", redeem).await?;
    let claims = token::shown(tokens.field("access_token")).unwrap_or_default();
    words::columns(&token::highlights(&claims))
        .iter()
        .for_each(|line| out.note(line));
    let access = tokens.field("access_token");
    out.step("and calls echo with the token", welcomed(stage, access))
        .await?;

    out.section("Bob has stolen the tokens, too");
    let stolen = async {
        let mut echo = Client::connect_plain(&stage.bob, people::ECHO_HOST).await?;
        let answer = app::call_echo(&mut echo, access).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Err(answer.instead_of("a refusal"));
        }
        let words = format!("401, {}", answer.field("error"));
        Ok((answer.field("error_description").to_owned(), words))
    };
    let why = out.step("bob calls echo with alice's token", stolen).await?;
    words::wrap(&why, words::WRAP).iter().for_each(|line| out.note(line));
    let refresh = tokens.field("refresh_token");
    let stolen = async { refusal(app.refresh(bob, refresh).await?, "invalid_grant") };
    let why = out.step("bob tries her refresh token", stolen).await?;
    words::wrap(&why, words::WRAP).iter().for_each(|line| out.note(line));
    let again = async { granted(app.refresh(alice, refresh).await?) };
    let renewed = out.step("the app refreshes from alice's node", again).await?;
    Ok(renewed.field("refresh_token").to_owned())
}

/// Gives the connection and the challenge.
async fn turned_away(stage: &Stage) -> Outcome<(Client, String)> {
    let mut echo = Client::connect_plain(&stage.alice, people::ECHO_HOST).await?;
    let answer = echo.get("/", &[]).await?;
    let challenge = answer.header("www-authenticate").to_owned();
    if answer.status != StatusCode::UNAUTHORIZED || challenge.is_empty() {
        return Err(answer.instead_of("a challenge"));
    }
    Ok(((echo, challenge), "401, and where to read why:".to_owned()))
}

async fn authorization_server(stage: &Stage, echo: &mut Client, challenge: &str) -> Outcome<()> {
    let named = challenge
        .split("resource_metadata=\"")
        .nth(1)
        .and_then(|rest| rest.strip_suffix('"'));
    let path = named
        .and_then(|url| url.strip_prefix(people::ECHO))
        .ok_or("the challenge names no metadata")?;
    let answer = echo.get(path, &[]).await?;
    let issuer = stage.idp.issuer();
    if answer.body["authorization_servers"][0] != issuer {
        return Err(answer.instead_of("the issuer"));
    }
    Ok(((), issuer.to_owned()))
}

/// The browser follows the redirect, and the application has the code.
async fn heard(app: &App, location: &str, outing: Outing) -> Outcome<Consented> {
    let address = app.address();
    let path = location
        .strip_prefix(&format!("http://{address}"))
        .ok_or("the redirect leads elsewhere")?;
    let mut browser = Client::over(TcpStream::connect(address).await?, &address.to_string()).await?;
    let answer = browser.get(path, &[]).await?;
    if answer.status != StatusCode::OK {
        return Err(answer.instead_of("the application's page"));
    }
    let code = timeout(Duration::from_secs(1), outing.code).await??;
    let words = format!("code {}", words::short(&code));
    let verifier = outing.verifier;
    Ok((Consented { code, verifier }, words))
}

async fn welcomed(stage: &Stage, token: &str) -> Outcome<()> {
    let mut echo = Client::connect_plain(&stage.alice, people::ECHO_HOST).await?;
    let answer = app::call_echo(&mut echo, token).await?;
    let user = answer.body["caller"]["user"].as_str().unwrap_or_default();
    if answer.status != StatusCode::OK || user != ALICE.login {
        return Err(answer.instead_of("a greeting"));
    }
    Ok(((), format!("200, \"{user}\"")))
}

fn granted(answer: Answer) -> Outcome<Answer> {
    if answer.status != StatusCode::OK || answer.field("refresh_token").is_empty() {
        return Err(answer.instead_of("tokens"));
    }
    let words = format!("200, good for {} s", answer.body["expires_in"]);
    Ok((answer, words))
}

/// Gives the server's reason for saying no.
pub(super) fn refusal(answer: Answer, error: &str) -> Result<(String, String), BoxError> {
    if answer.status != StatusCode::BAD_REQUEST || answer.field("error") != error {
        return Err(answer.instead_of(error));
    }
    Ok((answer.field("error_description").to_owned(), format!("400, {error}")))
}
