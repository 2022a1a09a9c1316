//! `countersign policy explain`: who may what, and which rule decides.

#[cfg(test)]
mod tests;

use std::{fmt::Write as _, path::Path};

use countersign_oauth::{
    explain::{Explanation, Kind, Step},
    remedy::Remedy,
};
use countersign_server::ExplainQuery;

use super::{asked, harmless, print};
use crate::{
    args::ExplainArgs,
    exit::Exit,
    socket::{Answer, Question},
};

/// Asks the running server and prints what it says. A refusal that is explained is no failure of this command.
pub(crate) async fn explain(args: &ExplainArgs, state_dir: &Path) -> Exit {
    let query = ExplainQuery {
        user: args.user.clone(),
        node: args.node.clone(),
        client: args.client.clone(),
        resources: args.resource.clone(),
        scopes: args
            .scope
            .iter()
            .flat_map(|scopes| scopes.split_whitespace())
            .map(str::to_owned)
            .collect(),
    };
    let explained = asked(state_dir, Question::Explain(Box::new(query)), |answer| match answer {
        Answer::Explained(explained) => Some(explained),
        _ => None,
    });
    match explained.await {
        Ok(explained) => print(&render(&explained), args.json.then_some(&explained)),
        Err(exit) => exit,
    }
}

/// The answers for a person: one paragraph for each node, one line for each question, below it the rule and what would
/// change the answer.
fn render(explained: &[Explanation]) -> String {
    let mut text = String::new();
    for (index, explanation) in explained.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        heading(&mut text, explanation);
        for step in &explanation.steps {
            answer(&mut text, step);
        }
    }
    text
}

// Writing to a String cannot fail.

fn heading(text: &mut String, explanation: &Explanation) {
    let nodes: Vec<String> = explanation
        .nodes
        .iter()
        .map(|node| format!("{} ({})", harmless(&node.name), harmless(&node.id)))
        .collect();
    let rules = match explanation.rules {
        0 => "no rule".to_owned(),
        1 => "1 rule".to_owned(),
        rules => format!("{rules} rules"),
    };
    let verdict = if explanation.allowed { "ALLOWED" } else { "REFUSED" };
    let user = harmless(&explanation.user);
    let _ = writeln!(text, "{verdict}: {user} on {}, {rules} granted\n", nodes.join(", "));
}

fn answer(text: &mut String, step: &Step) {
    let mark = if step.allowed { "yes" } else { "no " };
    let what = match step.kind {
        Kind::Identity => "identity",
        Kind::Registration => "register",
        Kind::Client => "client",
        Kind::Login => "login",
        Kind::Resource => "resource",
        Kind::Scope => "scope",
    };
    let about = if step.why.contains(&step.about) {
        String::new()
    } else {
        format!("{}: ", harmless(&step.about))
    };
    let _ = writeln!(text, "  {mark}  {what:<9} {about}{}", harmless(&step.why));
    if let Some(rule) = step.rule.as_ref().filter(|rule| !rule.text.is_empty()) {
        let _ = writeln!(text, "       {}:", harmless(&rule.source));
        let _ = writeln!(text, "         {}", harmless(&rule.text));
    }
    for remedy in &step.remedies {
        change(text, remedy);
    }
}

fn change(text: &mut String, remedy: &Remedy) {
    let place = match remedy.place.split_once(": ").filter(|_| !remedy.add.is_null()) {
        Some((place, effect)) => format!("{place}, this {effect}"),
        None => remedy.place.to_string(),
    };
    let _ = writeln!(text, "       in {}:", harmless(&place));
    for line in remedy.lines() {
        let _ = writeln!(text, "         {}", harmless(&line));
    }
}
