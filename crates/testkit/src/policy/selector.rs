//! What `src`, `dst`, `target` and tag owners may name, and which nodes a name holds.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Document, Member, Policy, PolicyError, same_login};

/// One entry of a `src` or `dst` list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// `*`: every node of the tailnet.
    Any,
    /// A login name.
    User(String),
    /// `group:x`.
    Group(String),
    /// `tag:x`.
    Tag(String),
    /// `autogroup:member`: every node that a user owns.
    Member,
    /// `autogroup:tagged`: every node that carries a tag.
    Tagged,
    /// `autogroup:self`, as a destination: the nodes of whoever is the source.
    Own,
    /// An address, a prefix, or a name from `hosts`.
    Net(IpNet),
}

impl Selector {
    pub(super) fn read(text: &str, place: &'static str, document: &Document) -> Result<Self, PolicyError> {
        let form = |expected| PolicyError::Form {
            text: text.to_owned(),
            place,
            expected,
        };
        let defined = |known: bool, section| {
            known.then_some(()).ok_or_else(|| PolicyError::Undefined {
                name: text.to_owned(),
                section,
            })
        };
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.starts_with("group:") {
            defined(document.groups.contains_key(text), "groups")?;
            return Ok(Self::Group(text.to_owned()));
        }
        if text.starts_with("tag:") {
            defined(document.tag_owners.contains_key(text), "tagOwners")?;
            return Ok(Self::Tag(text.to_owned()));
        }
        if let Some(which) = text.strip_prefix("autogroup:") {
            return match which {
                "member" => Ok(Self::Member),
                "tagged" => Ok(Self::Tagged),
                "self" if place == "dst" => Ok(Self::Own),
                _ => Err(form(
                    "one of autogroup:member, autogroup:tagged or, in dst, autogroup:self",
                )),
            };
        }
        if text.contains('@') {
            return Ok(Self::User(text.to_owned()));
        }
        let net = document.hosts.get(text).map_or(text, String::as_str);
        if let Some(net) = net.parse().ok().or_else(|| net.parse::<IpAddr>().ok().map(IpNet::from)) {
            return Ok(Self::Net(net));
        }
        Err(form(
            "*, user@domain, group:x, tag:x, autogroup:x, an address, a prefix, or a name from \"hosts\"",
        ))
    }

    /// Whether this names `node`, as a source or as a plain destination.
    pub(super) fn holds(&self, policy: &Policy, node: &Member<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::User(login) => node.user.is_some_and(|user| same_login(login, user)),
            Self::Group(group) => node.user.is_some_and(|user| policy.in_group(group, user)),
            Self::Tag(tag) => node.tags.contains(tag),
            Self::Member => node.user.is_some(),
            Self::Tagged => !node.tags.is_empty(),
            Self::Own => false,
            Self::Net(net) => node.addresses.iter().any(|address| net.contains(address)),
        }
    }
}
