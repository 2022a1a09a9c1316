//! The tailnet policy: who reaches what, and which capabilities go with it.
//!
//! In comes the JSON that Headscale and Tailscale users write (`groups`, `tagOwners`, `hosts`, `grants`, `nodeAttrs`).
//! Out go, for one node, the packet-filter rules with their capability grants, the set of peers it may know of, and its
//! node attributes. Everything here is a pure function of the document and of who is in the tailnet.
//!
//! A document that a real server would refuse is refused here too: unknown fields, groups or tags nobody declared,
//! capability names that Headscale does not let through. Comments and trailing commas (HuJSON) are not read.

mod compile;
mod selector;

use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;
use serde_json::Value;

use self::selector::Selector;

/// Why a policy document is not usable.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is not JSON of the expected shape.
    #[error("the policy is not valid JSON of the expected shape: {0}")]
    Json(#[from] serde_json::Error),
    /// A name stands where something of another form belongs.
    #[error("policy: {text:?} in {place} is not {expected}")]
    Form {
        /// The text as written.
        text: String,
        /// Where it was written.
        place: &'static str,
        /// What would have been right.
        expected: &'static str,
    },
    /// A group, tag or host is used that the document does not define.
    #[error("policy: {name:?} is used but not defined; add it to {section:?}")]
    Undefined {
        /// The name as written.
        name: String,
        /// The section that would define it.
        section: &'static str,
    },
    /// A grant gives neither `ip` nor `app`.
    #[error("policy: grant number {0} has neither \"ip\" nor \"app\": it grants nothing")]
    Empty(usize),
    /// Headscale lets only some `tailscale.com/` capabilities into grants.
    #[error("policy: the capability {0:?} may not be granted; use a name of your own domain, like example.com/cap/x")]
    Capability(String),
}

/// A checked policy document.
#[derive(Debug, Clone)]
pub struct Policy {
    groups: BTreeMap<String, Vec<String>>,
    tag_owners: BTreeMap<String, Vec<Selector>>,
    grants: Vec<Grant>,
    node_attrs: Vec<(Vec<Selector>, Vec<String>)>,
}

#[derive(Debug, Clone)]
struct Grant {
    src: Vec<Selector>,
    dst: Vec<Selector>,
    /// Ports by IP protocol; an empty protocol list means what the packet filter makes of it (TCP, UDP, ICMP).
    ip: BTreeMap<Vec<i64>, Vec<Ports>>,
    app: BTreeMap<String, Vec<Value>>,
}

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl Ports {
    pub(crate) const ALL: Ports = Ports {
        first: 0,
        last: u16::MAX,
    };
}

/// What the policy needs to know of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    /// Login name of the owner; `None` for a tagged node.
    pub(crate) user: Option<&'a str>,
    pub(crate) tags: &'a [String],
    pub(crate) addresses: &'a [IpAddr],
}

/// One packet-filter rule, before it takes its wire form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// Addresses or prefixes in text form.
    pub(crate) src: Vec<String>,
    pub(crate) what: Permits,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Permits {
    Packets {
        dst: Vec<IpAddr>,
        protocols: Vec<i64>,
        ports: Vec<Ports>,
    },
    Capabilities {
        dst: Vec<IpAddr>,
        caps: BTreeMap<String, Vec<Value>>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    groups: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    tag_owners: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    hosts: BTreeMap<String, String>,
    #[serde(default)]
    grants: Vec<GrantText>,
    #[serde(default)]
    node_attrs: Vec<NodeAttrText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantText {
    src: Vec<String>,
    dst: Vec<String>,
    #[serde(default)]
    ip: Vec<String>,
    #[serde(default)]
    app: BTreeMap<String, Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeAttrText {
    target: Vec<String>,
    attr: Vec<String>,
}

impl Policy {
    /// The policy of a tailnet that has none: everyone reaches everyone.
    pub fn allow_all() -> Self {
        Self {
            groups: BTreeMap::new(),
            tag_owners: BTreeMap::new(),
            grants: vec![Grant {
                src: vec![Selector::Any],
                dst: vec![Selector::Any],
                ip: BTreeMap::from([(Vec::new(), vec![Ports::ALL])]),
                app: BTreeMap::new(),
            }],
            node_attrs: Vec::new(),
        }
    }

    /// Reads and checks a document.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let document: Document = serde_json::from_str(text)?;
        for group in document.groups.keys() {
            must_begin(group, "group:", "groups")?;
        }
        for tag in document.tag_owners.keys() {
            must_begin(tag, "tag:", "tagOwners")?;
        }
        let read = |texts: &[String], place| {
            texts
                .iter()
                .map(|text| Selector::read(text, place, &document))
                .collect::<Result<Vec<_>, _>>()
        };
        let mut tag_owners = BTreeMap::new();
        for (tag, owners) in &document.tag_owners {
            tag_owners.insert(tag.clone(), read(owners, "tagOwners")?);
        }
        let mut grants = Vec::with_capacity(document.grants.len());
        for (number, grant) in document.grants.iter().enumerate() {
            if grant.ip.is_empty() && grant.app.is_empty() {
                return Err(PolicyError::Empty(number + 1));
            }
            grants.push(Grant {
                src: read(&grant.src, "src")?,
                dst: read(&grant.dst, "dst")?,
                ip: read_ports(&grant.ip)?,
                app: read_capabilities(&grant.app)?,
            });
        }
        let mut node_attrs = Vec::with_capacity(document.node_attrs.len());
        for entry in &document.node_attrs {
            node_attrs.push((read(&entry.target, "target")?, entry.attr.clone()));
        }
        Ok(Self {
            groups: document.groups,
            tag_owners,
            grants,
            node_attrs,
        })
    }

    /// Whether `login` may put `tag` on a node of theirs.
    pub(crate) fn may_tag(&self, login: &str, tag: &str) -> bool {
        let owner = Member {
            user: Some(login),
            tags: &[],
            addresses: &[],
        };
        self.tag_owners
            .get(tag)
            .is_some_and(|owners| owners.iter().any(|by| by.holds(self, &owner)))
    }

    /// Whether the document knows `tag`; nobody can be given one it does not know.
    pub(crate) fn defines_tag(&self, tag: &str) -> bool {
        self.tag_owners.contains_key(tag)
    }

    /// The node attributes that the document gives to `node`.
    pub(crate) fn attributes(&self, node: &Member<'_>) -> impl Iterator<Item = &str> {
        self.node_attrs
            .iter()
            .filter(|(targets, _)| targets.iter().any(|target| target.holds(self, node)))
            .flat_map(|(_, attrs)| attrs.iter().map(String::as_str))
    }

    fn in_group(&self, group: &str, login: &str) -> bool {
        self.groups
            .get(group)
            .is_some_and(|members| members.iter().any(|member| same_login(member, login)))
    }
}

/// Headscale writes a user without an e-mail as `name@` in policies, and his login name is then just `name`.
fn same_login(written: &str, login: &str) -> bool {
    written == login || written.strip_suffix('@') == Some(login)
}

fn must_begin(text: &str, prefix: &'static str, place: &'static str) -> Result<(), PolicyError> {
    if text.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()) {
        return Ok(());
    }
    let expected = if prefix == "group:" {
        "a name of the form group:x"
    } else {
        "a name of the form tag:x"
    };
    Err(PolicyError::Form {
        text: text.to_owned(),
        place,
        expected,
    })
}

fn read_ports(texts: &[String]) -> Result<BTreeMap<Vec<i64>, Vec<Ports>>, PolicyError> {
    let mut by_protocol: BTreeMap<Vec<i64>, Vec<Ports>> = BTreeMap::new();
    for text in texts {
        let wrong = || PolicyError::Form {
            text: text.clone(),
            place: "ip",
            expected: "*, a port, a range, or protocol:ports with tcp, udp, icmp or sctp",
        };
        let (protocol, ports) = text.split_once(':').unwrap_or(("*", text));
        let protocols = match protocol {
            "*" => Vec::new(),
            "tcp" => vec![6],
            "udp" => vec![17],
            "icmp" => vec![1, 58],
            "sctp" => vec![132],
            number => vec![number.parse::<u8>().map_err(|_| wrong())?.into()],
        };
        by_protocol
            .entry(protocols)
            .or_default()
            .push(read_range(ports).ok_or_else(wrong)?);
    }
    Ok(by_protocol)
}

fn read_range(text: &str) -> Option<Ports> {
    if text == "*" {
        return Some(Ports::ALL);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let ports = Ports {
        first: first.parse().ok()?,
        last: last.parse().ok()?,
    };
    (ports.first <= ports.last).then_some(ports)
}

fn read_capabilities(app: &BTreeMap<String, Vec<Value>>) -> Result<BTreeMap<String, Vec<Value>>, PolicyError> {
    // The ones under tailscale.com that Headscale 0.29 lets through (lab.md).
    const OF_TAILSCALE: [&str; 5] = ["drive", "relay", "webui", "kubernetes", "tsidp"];
    for name in app.keys() {
        let allowed = match name.strip_prefix("tailscale.com/cap/") {
            Some(rest) => OF_TAILSCALE.contains(&rest),
            None => {
                !name.starts_with("tailscale.com/")
                    && name
                        .split_once('/')
                        .is_some_and(|(domain, rest)| domain.contains('.') && !rest.is_empty())
            }
        };
        if !allowed {
            return Err(PolicyError::Capability(name.clone()));
        }
    }
    Ok(app.clone())
}

#[cfg(test)]
mod tests;
