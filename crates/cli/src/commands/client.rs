//! `countersign client`: which clients are registered, and who may use them.

#[cfg(test)]
mod tests;

use std::{fmt::Write as _, path::Path};

use countersign_server::ClientList;

use super::{asked, harmless, print};
use crate::{
    args,
    exit::Exit,
    socket::{Answer, Question},
};

/// Lists the clients of the running server.
pub(crate) async fn list(args: &args::ClientList, state_dir: &Path) -> Exit {
    let list = asked(state_dir, Question::Clients, |answer| match answer {
        Answer::Clients(list) => Some(list),
        _ => None,
    });
    match list.await {
        Ok(list) => print(&render(&list), args.json.then_some(&list)),
        Err(exit) => exit,
    }
}

/// Lets everybody use a client, or its owner alone.
pub(crate) async fn publish(id: &str, published: bool, state_dir: &Path) -> Exit {
    let question = Question::Publish {
        client: id.to_owned(),
        published,
    };
    let changed = asked(state_dir, question, |answer| match answer {
        Answer::Published(changed) => Some(changed),
        _ => None,
    });
    match changed.await {
        Ok(changed) => print(&format!("{}\n", outcome(id, published, changed)), None::<&()>),
        Err(exit) => exit,
    }
}

fn outcome(id: &str, published: bool, changed: bool) -> String {
    match (published, changed) {
        (true, true) => format!(
            "The client {id} is published: everybody may use it, as far as the tailnet policy allows. If its owner changes \
             its registration, it must be published again."
        ),
        (true, false) => format!("The client {id} was published already."),
        (false, true) => {
            format!(
                "The client {id} is its owner's alone again. A publish_clients grant for its node still publishes it."
            )
        }
        (false, false) => format!("The client {id} was not published by an administrator."),
    }
}

fn render(list: &ClientList) -> String {
    if list.clients.is_empty() {
        return "No client is registered.\n".to_owned();
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    for client in &list.clients {
        let name = client.name.as_deref().map_or_else(|| "unnamed".to_owned(), harmless);
        let used = if client.unused { ", never used" } else { "" };
        let published = match &client.published {
            Some(by) => format!("published by {}", harmless(by)),
            None => "its owner's alone".to_owned(),
        };
        let _ = writeln!(text, "{}  {name}", client.id);
        let _ = writeln!(
            text,
            "    registered by {} on {}, {}{used}; {published}",
            harmless(&client.user),
            harmless(&client.node),
            client.registered.date()
        );
        for uri in &client.redirect_uris {
            let _ = writeln!(text, "    {}", harmless(uri));
        }
    }
    if list.more {
        text.push_str("There are more; only the first are listed.\n");
    }
    text
}
