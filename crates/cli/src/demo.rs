//! `countersign demo`: what Countersign does, shown on a tailnet that lives in this process.
//!
//! A control server, a relay and a STUN server come up on loopback; the server, a protected echo, alice and bob join
//! them as four nodes, with the code they would use in production. Alice, whom the policy lets register clients,
//! registers one and lets it use echo for her; bob is refused a client, and finds that what he steals of hers is worth
//! nothing. Every step is timed. Then the tailnet stays up, and a browser or curl can speak as either of them through a
//! SOCKS proxy.

mod app;
mod browser;
mod client;
mod echo;
mod people;
mod server;
mod story;
mod token;
mod transcript;
mod web;

use std::{error::Error, io, time::Duration};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::{story::Story, transcript::Transcript};
use crate::{commands::complain, exit::Exit};

type BoxError = Box<dyn Error + Send + Sync>;

/// How long the nodes may take to leave.
const GRACE: Duration = Duration::from_secs(2);

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the transcript, with 1 if a step failed
    #[arg(long)]
    once: bool,
    /// What to log besides the transcript, on standard error
    #[arg(long, value_name = "FILTER", default_value = "off")]
    log: String,
}

/// Tells the story, and stays up unless told otherwise.
pub(crate) fn run(args: &DemoArgs) -> Exit {
    if let Err(error) = crate::log::start(&args.log) {
        complain(error);
        return Exit::Usage;
    }
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(demo(args));
            runtime.shutdown_timeout(Duration::from_secs(1));
            exit
        }
        Err(error) => {
            complain(format_args!("cannot start: {error}"));
            Exit::Failed
        }
    }
}

async fn demo(args: &DemoArgs) -> Exit {
    let told = match told_to_end() {
        Ok(told) => told,
        Err(error) => {
            complain(format_args!("cannot listen for signals: {error}"));
            return Exit::Failed;
        }
    };
    tokio::pin!(told);
    let mut transcript = Transcript::on_stdout();
    let story = tokio::select! {
        story = Story::tell(&mut transcript) => story,
        () = &mut told => return Exit::Failed,
    };
    let Ok(story) = story else {
        return Exit::Failed;
    };
    let mut exit = Exit::Done;
    if !args.once {
        match story.invite(&mut transcript).await {
            Ok(_invitation) => told.await,
            Err(error) => {
                complain(format_args!("the demo cannot stay up: {error}"));
                exit = Exit::Failed;
            }
        }
    }
    story.end(GRACE).await;
    exit
}

/// Resolves at Ctrl-C or SIGTERM, which are heard from now on.
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
