//! What an edit of the tailnet policy does, to a client that is at work and to a connection that is open.

use std::{
    io,
    time::{Duration, Instant},
};

use hyper::StatusCode;
use tokio::time::{sleep, timeout};

use super::{
    Stage,
    registration::{METADATA, register},
    tokens, words,
};
use crate::demo::{
    BoxError,
    app::App,
    client::Client,
    people,
    transcript::{Outcome, StepFailed, Transcript},
};

/// How long an edit may take to count.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

/// Gives the time from the edit that withdrew alice's access to the end of her connection.
pub(super) async fn the_policy_changes<W: io::Write>(
    stage: &Stage,
    out: &mut Transcript<W>,
    app: &App,
    alice: &mut Client,
    refresh: String,
) -> Result<Duration, StepFailed> {
    out.section("The policy is edited while alice is connected");
    let without_resource = async {
        stage.tailnet.set_policy(&people::policy(people::WITHOUT_RESOURCE))?;
        last_refresh(app, alice, refresh).await
    };
    let why = out.step("loses echo: her refresh is refused", without_resource).await?;
    words::wrap(&why, words::WRAP).iter().for_each(|line| out.note(line));
    let without_grant = async {
        stage.tailnet.set_policy(&people::policy(people::WITHOUT_CAPABILITY))?;
        until(alice, StatusCode::FORBIDDEN).await?;
        Ok(((), "403 on the same connection".to_owned()))
    };
    out.step("loses allow_dcr: is refused at once", without_grant).await?;
    let with_grant = async {
        stage.tailnet.set_policy(&people::policy(people::GRANTS))?;
        until(alice, StatusCode::CREATED).await?;
        Ok(((), "201 on the same connection".to_owned()))
    };
    out.step("gets it back: registers again", with_grant).await?;
    let start = Instant::now();
    let cut = async {
        stage.tailnet.set_policy(&people::policy(people::WITHOUT_ACCESS))?;
        alice.ended().await;
        Ok((start.elapsed(), "connection reset".to_owned()))
    };
    let cut = out.step("loses access: her connection ends", cut).await?;
    let restore = async {
        stage.tailnet.set_policy(&people::policy(people::GRANTS))?;
        let mut again = people::reconnect(&stage.alice, stage.idp.host(), stage.idp.root()).await?;
        let answer = again.get(METADATA, &[]).await?;
        Ok(((), answer.status.as_str().to_owned()))
    };
    out.step("the policy is as before: she is back", restore).await?;
    Ok(cut)
}

/// Refreshes until that is refused; the policy is on its way to the server. Gives the server's reason.
async fn last_refresh(app: &App, client: &mut Client, mut token: String) -> Outcome<String> {
    let patience = async {
        loop {
            let answer = app.refresh(client, &token).await?;
            if answer.status != StatusCode::OK {
                return tokens::refusal(answer, "invalid_grant");
            }
            token = answer.field("refresh_token").to_owned();
            sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, patience)
        .await
        .unwrap_or_else(|_| Err("after 5 s the refresh token still works".into()))
}

/// Registers until the answer has this status; the policy is on its way to the server.
async fn until(client: &mut Client, status: StatusCode) -> Result<(), BoxError> {
    let patience = async {
        while register(client).await?.status != status {
            sleep(PAUSE).await;
        }
        Ok(())
    };
    timeout(PATIENCE, patience)
        .await
        .unwrap_or_else(|_| Err(format!("after 5 s the answer is still not {status}").into()))
}
