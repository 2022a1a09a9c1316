//! Who finds the server, and who may register a client.

use std::io;

use countersign_oauth::remedy::Remedy;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Stage, words};
use crate::demo::{
    BoxError, app,
    client::{Answer, Client},
    transcript::{Outcome, StepFailed, Transcript},
};

pub(super) const METADATA: &str = "/.well-known/oauth-authorization-server";
pub(super) const REGISTER: &str = "/register";

/// Gives her connection and the client's id.
pub(super) async fn alice_registers<W: io::Write>(
    stage: &Stage,
    out: &mut Transcript<W>,
) -> Result<(Client, String), StepFailed> {
    out.section("Alice, an engineer, registers a client");
    let (idp, issuer) = (&stage.idp, stage.idp.issuer());
    let connect = async {
        let client = Client::connect(&stage.alice, idp.host(), idp.root()).await?;
        Ok((client, issuer.to_owned()))
    };
    let mut client = out.step("finds idp by MagicDNS name, over TLS", connect).await?;
    out.step("reads the OAuth metadata", metadata(&mut client, issuer))
        .await?;
    let id = out
        .step("registers a client (RFC 7591)", registered(&mut client))
        .await?;
    Ok((client, id))
}

/// Gives his connection.
pub(super) async fn bob_is_refused<W: io::Write>(stage: &Stage, out: &mut Transcript<W>) -> Result<Client, StepFailed> {
    out.section("Bob, in sales, may look but not register");
    let (idp, issuer) = (&stage.idp, stage.idp.issuer());
    let connect = async {
        let client = Client::connect(&stage.bob, idp.host(), idp.root()).await?;
        Ok((client, issuer.to_owned()))
    };
    let mut client = out.step("finds idp too", connect).await?;
    out.step("reads the same metadata", metadata(&mut client, issuer))
        .await?;
    let answer = out.step("is refused a client", refused(&mut client)).await?;
    let note = |out: &mut Transcript<W>, text: &str| {
        words::wrap(text, words::WRAP).iter().for_each(|line| out.note(line));
    };
    note(out, answer.field("error_description"));
    let remedies = Vec::<Remedy>::deserialize(&answer.body["remedies"]).unwrap_or_default();
    for remedy in &remedies {
        note(out, &format!("remedy: {}", remedy.place));
        for line in remedy.lines() {
            out.note(format_args!("    {line}"));
        }
    }
    Ok(client)
}

/// What the lines to try at the end register, in as few words as will do.
pub(super) fn shortest_metadata() -> Value {
    json!({"client_name": "demo", "redirect_uris": ["http://127.0.0.1:8080/callback"]})
}

/// Asks for a client.
pub(super) async fn register(client: &mut Client) -> Result<Answer, BoxError> {
    client.post(REGISTER, &app::metadata()).await
}

async fn metadata(client: &mut Client, issuer: &str) -> Outcome<()> {
    let answer = client.get(METADATA, &[]).await?;
    if answer.status != StatusCode::OK || answer.field("issuer") != issuer {
        return Err(answer.instead_of("the metadata of the issuer"));
    }
    Ok(((), format!("200, issuer {}", issuer.trim_start_matches("https://"))))
}

async fn registered(client: &mut Client) -> Outcome<String> {
    let answer = register(client).await?;
    let id = answer.field("client_id");
    if answer.status != StatusCode::CREATED || id.is_empty() {
        return Err(answer.instead_of("a client"));
    }
    Ok((id.to_owned(), format!("201, client_id {}", words::short(id))))
}

async fn refused(client: &mut Client) -> Outcome<Answer> {
    let answer = register(client).await?;
    if answer.status != StatusCode::FORBIDDEN {
        return Err(answer.instead_of("a refusal"));
    }
    let words = format!("403, {}", answer.field("error"));
    Ok((answer, words))
}
