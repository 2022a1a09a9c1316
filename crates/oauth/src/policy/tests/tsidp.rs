//! Random policies against a model of tsidp, and against a second reading of our own keys.
//!
//! The model is written from what tsidp does (keys in any case, `null` as absent, unknown keys ignored, some rule must
//! name both the login and the resource, booleans ored) and shares no code with the policy it judges. It differs from
//! tsidp in two points on purpose: resources are compared as URLs, and `*` also means tagged nodes, which tsidp turns away
//! before it reads a rule. `PROPTEST_CASES=100000` looks for longer.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const USERS: [&str; 5] = ["*", "alice", "Alice", "bob", "tag:app"];
const RESOURCES: [&str; 6] = [
    "*",
    "https://a.example",
    "https://A.example/",
    "https://a.example/mcp",
    "https://a.example/*",
    "https://b.example",
];
const ASKED: [&str; 4] = [
    "https://a.example",
    "https://a.example/mcp",
    "https://a.example.evil/mcp",
    "https://b.example/",
];
const CLIENTS: [&str; 2] = ["c1", "c2"];
const SCOPES: [&str; 3] = ["read", "write", "openid"];
const TIMES: [&str; 2] = ["2026-11-24T11:59:59Z", "2026-11-24T12:00:01Z"];

/// tsidp, as it reads a rule.
mod model {
    use super::*;

    fn key<'a>(rule: &'a Value, name: &str) -> Option<&'a Value> {
        let fields = rule.as_object()?;
        let (_, value) = fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        (!value.is_null()).then_some(value)
    }

    fn list(rule: &Value, name: &str) -> Vec<String> {
        let items = key(rule, name).and_then(Value::as_array);
        items
            .into_iter()
            .flatten()
            .map(|item| item.as_str().unwrap().to_owned())
            .collect()
    }

    pub(super) fn flag(rules: &[Value], name: &str) -> bool {
        rules.iter().any(|rule| key(rule, name) == Some(&Value::Bool(true)))
    }

    pub(super) fn allows(rules: &[Value], login: &str, resource: &str) -> bool {
        rules.iter().any(|rule| {
            let user = list(rule, "users")
                .iter()
                .any(|named| named == "*" || named == login && !login.starts_with("tag:"));
            user && list(rule, "resources")
                .iter()
                .any(|named| named == "*" || same(named, resource))
        })
    }

    /// Equal but for the case of scheme and host and the slash of an empty path.
    pub(super) fn same(one: &str, other: &str) -> bool {
        let plain = |text: &str| {
            let (scheme, rest) = text.split_once("://").unwrap();
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            (scheme.to_lowercase(), host.to_lowercase(), path.to_owned())
        };
        plain(one) == plain(other)
    }
}

/// Our keys, read a second time from their description in the documentation.
mod nested {
    use super::*;

    fn list<'a>(ours: &'a Value, name: &str) -> Vec<&'a str> {
        ours[name]
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| item.as_str().unwrap())
            .collect()
    }

    fn in_force(ours: &Value) -> bool {
        ours["expires"].as_str() != Some(TIMES[0])
    }

    fn covers(pattern: &str, resource: &str) -> bool {
        match pattern.strip_suffix("/*") {
            // The only one here is of a whole host.
            Some(base) => resource.starts_with(&format!("{base}/")) || model::same(base, resource),
            None => pattern == "*" || model::same(pattern, resource),
        }
    }

    fn names(list: &[&str], name: &str, empty: bool) -> bool {
        if list.is_empty() {
            return empty;
        }
        list.iter().any(|item| *item == "*" || *item == name)
    }

    fn concerns(ours: &Value, user: &str, client: &str, resource: Option<&str>, empty: bool) -> bool {
        let patterns = list(ours, "resources");
        let covered = match resource {
            Some(resource) if !patterns.is_empty() => patterns.iter().any(|pattern| covers(pattern, resource)),
            Some(_) => empty,
            None => patterns.is_empty() || !empty,
        };
        let clients = list(ours, "clients");
        in_force(ours)
            && names(&list(ours, "users"), user, empty)
            && (clients.is_empty() || clients.contains(&client))
            && covered
    }

    pub(super) fn allows(
        rules: &[Value],
        user: &str,
        client: &str,
        resource: Option<&str>,
        scope: Option<&str>,
    ) -> bool {
        rules.iter().map(|rule| &rule["countersign"]).any(|ours| {
            let scopes = list(ours, "scopes");
            ours["deny"] != true
                && concerns(ours, user, client, resource, false)
                && scope.is_none_or(|scope| scopes.is_empty() || scopes.contains(&scope))
        })
    }

    pub(super) fn denies(
        rules: &[Value],
        user: &str,
        client: &str,
        resource: Option<&str>,
        scope: Option<&str>,
    ) -> bool {
        rules.iter().map(|rule| &rule["countersign"]).any(|ours| {
            let scopes = list(ours, "scopes");
            ours["deny"] == true
                && concerns(ours, user, client, resource, true)
                && (scopes.is_empty() || scope.is_some_and(|scope| scopes.contains(&scope)))
        })
    }

    pub(super) fn denies_everything(rules: &[Value], user: &str) -> bool {
        let names_nothing = |ours: &Value| {
            ["resources", "clients", "scopes"]
                .iter()
                .all(|key| list(ours, key).is_empty())
        };
        rules.iter().map(|rule| &rule["countersign"]).any(|ours| {
            ours["deny"] == true && in_force(ours) && names_nothing(ours) && names(&list(ours, "users"), user, true)
        })
    }
}

fn some_of(items: &'static [&'static str]) -> impl Strategy<Value = Value> {
    proptest::sample::subsequence(items, 0..=items.len().min(2)).prop_map(|items| json!(items))
}

fn field(name: &'static str, value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<(String, Value)>> {
    proptest::option::weighted(0.4, value.prop_map(move |value| (name.to_owned(), value))).boxed()
}

fn object(fields: Vec<BoxedStrategy<Option<(String, Value)>>>) -> impl Strategy<Value = Value> {
    fields.prop_map(|fields| fields.into_iter().flatten().collect())
}

fn flag() -> impl Strategy<Value = Value> {
    any::<bool>().prop_map(Value::from)
}

/// tsidp's own keys, one of them in another case, and one that neither side knows.
fn plain() -> impl Strategy<Value = Value> {
    object(vec![
        field("users", some_of(&USERS)),
        field("Resources", some_of(&RESOURCES)),
        field("allow_dcr", flag()),
        field("allow_admin_ui", flag()),
        field("sts", flag()),
    ])
}

/// Whom and what a rule of ours names. One that allows is refused without `users`.
fn naming() -> impl Strategy<Value = Value> {
    object(vec![
        field("users", some_of(&USERS)),
        field("resources", some_of(&RESOURCES)),
        field("clients", some_of(&CLIENTS)),
        field("scopes", some_of(&SCOPES)),
        field("expires", proptest::sample::select(&TIMES[..]).prop_map(Value::from)),
    ])
}

fn allowing() -> impl Strategy<Value = Value> {
    let users = proptest::option::weighted(0.9, proptest::sample::subsequence(&USERS[..], 1..=2));
    (naming(), users).prop_map(|(mut ours, users)| {
        if let Some(users) = users {
            ours["users"] = json!(users);
        }
        ours
    })
}

fn denying() -> impl Strategy<Value = Value> {
    naming().prop_map(|mut ours| {
        ours["deny"] = true.into();
        ours
    })
}

fn publishing() -> impl Strategy<Value = Value> {
    object(vec![
        field("publish_clients", flag()),
        field("expires", proptest::sample::select(&TIMES[..]).prop_map(Value::from)),
    ])
}

fn introspecting() -> impl Strategy<Value = Value> {
    object(vec![
        field("introspect", some_of(&RESOURCES)),
        field("clients", some_of(&CLIENTS)),
    ])
}

/// A rule of either kind or both, which may be one that is refused.
fn rule() -> impl Strategy<Value = Value> {
    let ours = prop_oneof![3 => allowing(), 2 => denying(), 1 => introspecting(), 1 => publishing()];
    let ours = ours.prop_map(|ours| json!({ "countersign": ours }));
    let both = (plain(), denying()).prop_map(|(mut rule, ours)| {
        rule["countersign"] = ours;
        rule
    });
    prop_oneof![4 => plain(), 4 => ours, 2 => both]
}

fn rules() -> impl Strategy<Value = Vec<Value>> {
    proptest::collection::vec(rule(), 0..5)
}

fn policy(rules: &[Value]) -> Policy {
    let texts: Vec<String> = rules.iter().map(Value::to_string).collect();
    Policy::parse(texts.iter().map(String::as_str))
}

/// What the policy says to everybody about everything: each question with its answer.
fn answers(rules: &[Value], open_network: bool, require_grant: bool) -> Vec<(String, bool)> {
    let policy = policy(rules);
    let scopes = strings(&SCOPES);
    let mut answers = Vec::new();
    for user in ["alice", "bob", "carol", "tag:app"] {
        let names = names(user);
        answers.push((format!("{user} registers"), policy.may_register(&names, NOW).is_ok()));
        answers.push((
            format!("{user} administers"),
            policy.may_administer(&names, NOW).is_ok(),
        ));
        for client in CLIENTS.map(ClientId::from_request) {
            for resource in ASKED.map(Some).into_iter().chain([None]) {
                let parsed = resource.map(|text| Resource::parse(text).unwrap());
                let ask = Ask {
                    names: &names,
                    client: &client,
                    resource: parsed.as_ref(),
                    scopes: &scopes,
                    open_network,
                    require_grant,
                };
                let ruling = policy.rule_on(&ask, NOW);
                let what = format!("{user} with {client} at {}", resource.unwrap_or("login"));
                answers.push((what.clone(), ruling.whole.is_ok()));
                for (scope, answer) in SCOPES.iter().zip(ruling.scopes) {
                    answers.push((format!("{what} for {scope}"), answer.is_ok()));
                }
            }
        }
    }
    answers
}

/// Nobody may more by `after` than by `before`.
fn no_more(before: &[(String, bool)], after: &[(String, bool)]) -> Result<(), TestCaseError> {
    for ((what, before), (_, after)) in before.iter().zip(after) {
        prop_assert!(*before || !after, "{} became allowed", what);
    }
    Ok(())
}

proptest! {
    /// Every answer is what tsidp's keys allow or our own keys add in so many words, less what ours deny.
    #[test]
    fn a_policy_allows_what_tsidp_allows_and_our_keys_say(rules in rules(), open_network: bool, require_grant: bool) {
        let policy = policy(&rules);
        let broken = !policy.errors().is_empty();
        let scopes = strings(&SCOPES);
        for user in ["alice", "bob", "carol", "tag:app"] {
            let names = names(user);
            let out = broken || nested::denies_everything(&rules, user);
            prop_assert_eq!(policy.may_register(&names, NOW).is_ok(), !out && model::flag(&rules, "allow_dcr"));
            prop_assert_eq!(policy.may_administer(&names, NOW).is_ok(), !out && model::flag(&rules, "allow_admin_ui"));
            for client in CLIENTS {
                for resource in ASKED.map(Some).into_iter().chain([None]) {
                    let (id, parsed) = (ClientId::from_request(client), resource.map(|text| Resource::parse(text).unwrap()));
                    let ask = Ask {
                        names: &names, client: &id, resource: parsed.as_ref(), scopes: &scopes, open_network, require_grant,
                    };
                    let ruling = policy.rule_on(&ask, NOW);
                    let by_tsidp = match resource {
                        Some(resource) => open_network || model::allows(&rules, user, resource),
                        // A login rule is any that names the user, whatever for.
                        None => !require_grant || rules.iter().any(|rule| {
                            let mut all = rule.clone();
                            all["Resources"] = json!(["*"]);
                            model::allows(&[all], user, "https://any.example")
                        }),
                    };
                    let whole = !broken
                        && !nested::denies(&rules, user, client, resource, None)
                        && (by_tsidp || nested::allows(&rules, user, client, resource, None));
                    prop_assert_eq!(ruling.whole.is_ok(), whole, "{} with {} at {:?}", user, client, resource);
                    for (scope, answer) in SCOPES.iter().zip(&ruling.scopes) {
                        let named = resource.map(|_| *scope);
                        let may = whole
                            && !nested::denies(&rules, user, client, resource, Some(scope))
                            && (by_tsidp || nested::allows(&rules, user, client, resource, named));
                        prop_assert_eq!(answer.is_ok(), may, "{} with {} at {:?} for {}", user, client, resource, scope);
                    }
                }
            }
        }
    }

    /// A rule of ours that grants nothing by itself (a denial, a publication, an introspection) makes nothing larger.
    #[test]
    fn what_tsidp_allows_is_never_made_larger_by_our_keys(
        plain in proptest::collection::vec(plain(), 0..4),
        ours in proptest::collection::vec(prop_oneof![
            denying(),
            introspecting(),
            publishing(),
        ], 0..3),
        beside: bool,
    ) {
        let before = answers(&plain, false, false);
        let mut after = plain.clone();
        for (index, ours) in ours.into_iter().enumerate() {
            match after.get_mut(index).filter(|_| beside) {
                Some(rule) => rule["countersign"] = ours,
                None => after.push(json!({ "countersign": ours })),
            }
        }
        no_more(&before, &answers(&after, false, false))?;
    }

    /// Each restriction that is added to a rule of ours takes away or changes nothing, and so does every denial.
    #[test]
    fn restrictions_and_denials_only_take_away(
        rules in rules(), at in any::<prop::sample::Index>(), restriction in naming(), denial in denying(),
        open_network: bool, require_grant: bool,
    ) {
        let before = answers(&rules, open_network, require_grant);
        let mut restricted = rules.clone();
        let allowing: Vec<usize> = (0..rules.len()).filter(|&index| {
            let ours = &rules[index]["countersign"];
            ours.is_object() && ours["deny"] != true
        }).collect();
        if !allowing.is_empty() {
            let ours = &mut restricted[allowing[at.index(allowing.len())]]["countersign"];
            for key in ["clients", "scopes", "expires"] {
                if ours[key].is_null() && !restriction[key].is_null() {
                    ours[key] = restriction[key].clone();
                }
                if ours[key].is_null() {
                    ours.as_object_mut().unwrap().remove(key);
                }
            }
            no_more(&before, &answers(&restricted, open_network, require_grant))?;
        }
        let mut denied = rules;
        denied.push(json!({ "countersign": denial }));
        no_more(&before, &answers(&denied, open_network, require_grant))?;
    }

    /// A policy that was written for us gives nothing away on a tsidp: what is restricted here is empty there.
    #[test]
    fn tsidp_reads_our_rules_as_empty(ours in prop_oneof![allowing(), denying(), introspecting(), publishing()]) {
        let rules = [json!({ "countersign": ours })];
        for user in ["alice", "bob", "tag:app"] {
            prop_assert!(ASKED.iter().all(|resource| !model::allows(&rules, user, resource)));
        }
        prop_assert!(!model::flag(&rules, "allow_dcr") && !model::flag(&rules, "allow_admin_ui"));
    }

    /// The mode alone opens; the fewer rules there are, the less is open, down to none.
    #[test]
    fn taking_a_rule_that_allows_away_opens_nothing(rules in rules(), at in any::<prop::sample::Index>()) {
        let granting: Vec<usize> = (0..rules.len()).filter(|&index| rules[index]["countersign"]["deny"] != true).collect();
        if granting.is_empty() || !policy(&rules).errors().is_empty() {
            return Ok(());
        }
        let before = answers(&rules, false, true);
        let mut fewer = rules.clone();
        fewer.remove(granting[at.index(granting.len())]);
        no_more(&before, &answers(&fewer, false, true))?;
        prop_assert!(answers(&[], false, true).iter().all(|(_, allowed)| !allowed));
    }
}
