//! The threats of `docs/security-tests.md`, one module for each party that could be deceived. A test begins with the
//! name of its row; what another test of the tree already shows is named in the table instead of being repeated here.

use super::{flow::*, *};

mod clients;
mod codes;
mod people;
mod tokens;

/// A rig, alice's connection to it, and a public client of hers.
async fn alices_client() -> (Rig, Client, String) {
    let rig = Rig::start(config()).await;
    let mut client = rig.client(&alice()).await;
    let id = registered(&mut client).await;
    (rig, client, id)
}

/// `/token` with these fields.
async fn token(client: &mut Client, fields: &[(&str, &str)]) -> Answer {
    client.send(Method::POST, "/token", &[FORM], form(fields)).await
}

fn error(answer: &Answer) -> String {
    text(answer, "error")
}
