//! `countersign issuer change`: the way out when a node came back under another name and cannot be renamed.

#[cfg(test)]
mod tests;

use std::{fmt::Write, path::Path};

use countersign_server::{
    Issuer,
    issuer::{self, Breakage, IssuerError},
};
use time::OffsetDateTime;

use super::{
    complain,
    offline::{self, Offline},
};
use crate::{
    args::IssuerChange,
    exit::Exit,
    socket::{Question, client::ask},
};

/// Shows what breaks, and with `--yes` does it.
pub(crate) async fn change(args: &IssuerChange, state_dir: &Path) -> Exit {
    let to = match Issuer::parse(&args.issuer) {
        Ok(to) => to,
        Err(error) => {
            complain(error);
            return Exit::Usage;
        }
    };
    if ask(state_dir, Question::Status).await.is_ok() {
        complain("the server is running: stop it first, because its clients are being told the old issuer");
        return Exit::Failed;
    }
    let opened = match offline::open(state_dir).await {
        Ok(opened) => opened,
        Err(error) => {
            complain(&error);
            return error.exit();
        }
    };
    let outcome = show_and_change(&opened, &to, args.yes).await;
    opened.close().await;
    match outcome {
        Ok(exit) => exit,
        Err(error) => {
            complain(error);
            Exit::Failed
        }
    }
}

async fn show_and_change(opened: &Offline, to: &Issuer, yes: bool) -> Result<Exit, IssuerError> {
    let Some(breakage) = issuer::breakage(opened.store(), to).await? else {
        complain("no issuer is fixed yet: set `issuer` before the first start instead");
        return Ok(Exit::Failed);
    };
    if breakage.from == to.as_str() {
        println!("The issuer is {to} already.");
        return Ok(Exit::Done);
    }
    print!("{}", describe(&breakage, to));
    if !yes {
        println!("\nNothing was changed. Run it again with --yes to change it.");
        return Ok(Exit::Done);
    }
    issuer::change(opened.store(), to, OffsetDateTime::now_utc()).await?;
    println!("\nThe issuer is now {to}. If the setting `issuer` is in use, change it as well before the next start.");
    Ok(Exit::Done)
}

fn describe(breakage: &Breakage, to: &Issuer) -> String {
    let clients = match breakage.clients {
        0 => "no client is registered yet, so nobody has to register again".to_owned(),
        1 => "1 registered client must register again: what it holds is bound to the old issuer".to_owned(),
        many => format!("{many} registered clients must register again: what they hold is bound to the old issuer"),
    };
    let mut text = format!(
        "Changing the issuer from {} to {to} breaks this:\n  - {clients}\n",
        breakage.from
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "  - tokens issued so far: nobody accepts them under the new issuer"
    );
    if breakage.new_root {
        let root = "the internal root may vouch for the old name only; a new one is made at the next start";
        let _ = writeln!(
            text,
            "  - {root}, and every client must be told to trust it (countersign ca)"
        );
    }
    text
}
