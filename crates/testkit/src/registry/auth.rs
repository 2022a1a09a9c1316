//! How a node comes in: the decisions behind `/machine/register`, in Headscale 0.29's order and with its words.

use std::sync::Arc;

use tailnet_wire::{
    control::{Hostinfo, RegisterRequest, RegisterResponse, UserId},
    key::{MachinePublic, NodePublic},
};
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;

use super::{Record, Registry, State, User};
use crate::random;

/// Whom a node belongs to: never both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    User(Arc<(UserId, User)>),
    Tags(Vec<String>),
}

/// A pre-auth key.
#[derive(Debug, Clone)]
pub(crate) struct AuthKey {
    pub(crate) owner: Owner,
    pub(crate) reusable: bool,
    pub(crate) ephemeral: bool,
    pub(crate) expiry: OffsetDateTime,
    pub(crate) used: bool,
}

/// A registration that waits for a person.
#[derive(Debug)]
pub(crate) struct PendingLogin {
    pub(crate) machine: MachinePublic,
    pub(crate) key: NodePublic,
    pub(crate) hostinfo: Hostinfo,
    pub(crate) verdict: watch::Sender<Option<Verdict>>,
}

/// What the person decided.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    Approved,
    Refused(String),
}

/// What `/machine/register` answers.
pub(crate) enum Answer {
    Now(RegisterResponse),
    /// When the person has decided; then ask again with [`Registry::finish_login`].
    Wait(watch::Receiver<Option<Verdict>>),
}

const DIFFERENT_MACHINE: &str = "node exists with a different machine key";
const LIFE_OF_A_KEY: Duration = Duration::days(180);

impl Registry {
    /// Decides one registration. `login_url` makes the address of the page where a person logs in.
    pub(crate) fn register(
        &self,
        machine: MachinePublic,
        request: &RegisterRequest,
        login_url: impl Fn(&str) -> String,
    ) -> Answer {
        let wall = self.wall();
        let Some(key) = request.node_key else {
            return Answer::Now(refusal("the node key is missing"));
        };
        let logout = request.expiry.is_some_and(|expiry| expiry < wall);
        let auth_key = request
            .auth
            .as_ref()
            .map(|auth| auth.auth_key.as_str())
            .filter(|key| !key.is_empty());
        let known = self.lock().node_by_key(&key).cloned();
        if let Some(node) = &known
            && (logout || request.auth.is_none())
            && let Some(answer) = self.known_node(machine, node, request, wall, logout)
        {
            return Answer::Now(answer);
        }
        if !request.followup.is_empty() {
            let id = request.followup.rsplit('/').next().unwrap_or_default();
            if let Some(login) = self.lock().logins.get(id) {
                return Answer::Wait(login.verdict.subscribe());
            }
        }
        Answer::Now(match auth_key {
            Some(text) => self.change(|state| state.register_with(text, machine, key, request, wall)),
            None => self.open_login(machine, key, request, login_url),
        })
    }

    /// A node that control knows by its node key, and that shows no pre-auth key or logs out.
    fn known_node(
        &self,
        machine: MachinePublic,
        node: &Record,
        request: &RegisterRequest,
        wall: OffsetDateTime,
        logout: bool,
    ) -> Option<RegisterResponse> {
        if node.machine != machine {
            return Some(refusal(DIFFERENT_MACHINE));
        }
        if node.is_expired(wall) {
            // A followup or a new login may still come; a plain restart is told to log in.
            return request.followup.is_empty().then(|| RegisterResponse {
                node_key_expired: true,
                ..RegisterResponse::default()
            });
        }
        if !logout {
            let extends = request.expiry.is_some();
            return Some(if extends {
                refusal("extending key is not allowed")
            } else {
                accepted(node, wall)
            });
        }
        if node.ephemeral {
            self.remove_node(node.id);
            return Some(RegisterResponse {
                node_key_expired: true,
                ..RegisterResponse::default()
            });
        }
        if matches!(node.owner, Owner::Tags(_)) {
            return Some(accepted(node, wall));
        }
        self.change_node(node.id, |node| node.expiry = Some(wall));
        let mut answer = accepted(node, wall);
        answer.node_key_expired = true;
        Some(answer)
    }

    fn open_login(
        &self,
        machine: MachinePublic,
        key: NodePublic,
        request: &RegisterRequest,
        login_url: impl Fn(&str) -> String,
    ) -> RegisterResponse {
        let id = random::hex::<12>();
        let hostinfo = request.hostinfo.clone().unwrap_or_default();
        let login = PendingLogin {
            machine,
            key,
            hostinfo,
            verdict: watch::Sender::new(None),
        };
        let auth_url = login_url(&id);
        self.change(|state| state.logins.insert(id, login));
        RegisterResponse {
            auth_url,
            ..RegisterResponse::default()
        }
    }

    /// The person logged in: the node enters as `user`'s, or its registration is refused.
    pub(crate) fn approve_login(&self, id: &str, user: &str) -> bool {
        let wall = self.wall();
        self.change(|state| {
            let Some(login) = state.logins.get(id) else {
                return false;
            };
            let (machine, key, hostinfo) = (login.machine, login.key, login.hostinfo.clone());
            let verdict = match state.user(user).cloned() {
                Some(user) => {
                    let request = RegisterRequest {
                        hostinfo: Some(hostinfo),
                        ..RegisterRequest::default()
                    };
                    match state.enter(machine, key, Owner::User(user), &request, wall) {
                        Ok(_) => Verdict::Approved,
                        Err(reason) => Verdict::Refused(reason),
                    }
                }
                None => Verdict::Refused(format!("user {user:?} does not exist")),
            };
            if let Some(login) = state.logins.get(id) {
                login.verdict.send_replace(Some(verdict));
            }
            true
        })
    }

    /// Answers a followup whose login was decided.
    pub(crate) fn finish_login(&self, machine: MachinePublic, key: NodePublic, verdict: Verdict) -> RegisterResponse {
        match verdict {
            Verdict::Refused(reason) => refusal(&reason),
            Verdict::Approved => match self.lock().node_by_key(&key) {
                Some(node) if node.machine == machine => accepted(node, self.wall()),
                _ => refusal(DIFFERENT_MACHINE),
            },
        }
    }
}

impl State {
    fn register_with(
        &mut self,
        text: &str,
        machine: MachinePublic,
        key: NodePublic,
        request: &RegisterRequest,
        wall: OffsetDateTime,
    ) -> RegisterResponse {
        let Some(auth) = self.auth_keys.get(text).cloned() else {
            return refusal("invalid pre auth key");
        };
        // A restart shows the key of its first registration again, used or expired as it may be.
        let same = self
            .node_by_key(&key)
            .filter(|node| node.machine == machine && node.owner == auth.owner);
        if let Some(node) = same
            && !node.is_expired(wall)
        {
            return accepted(node, wall);
        }
        if auth.expiry <= wall {
            return refusal("authkey expired");
        }
        if auth.used && !auth.reusable {
            return refusal("authkey already used");
        }
        // Tags come from the key; Headscale refuses to be asked for others beside one, whoever owns them.
        let asked = request
            .hostinfo
            .as_ref()
            .map(|hostinfo| hostinfo.request_tags.join(" "));
        if let Some(tags) = asked.filter(|tags| !tags.is_empty()) {
            return refusal(&format!("requested tags [{tags}] are invalid or not permitted"));
        }
        match self.enter(machine, key, auth.owner, request, wall) {
            Err(reason) => refusal(&reason),
            Ok(node) => {
                node.ephemeral = auth.ephemeral;
                let answer = accepted(node, wall);
                self.auth_keys
                    .entry(text.to_owned())
                    .and_modify(|auth| auth.used = true);
                answer
            }
        }
    }

    /// Adds a node, or gives a known machine's node of the same owner its new key.
    fn enter(
        &mut self,
        machine: MachinePublic,
        key: NodePublic,
        owner: Owner,
        request: &RegisterRequest,
        wall: OffsetDateTime,
    ) -> Result<&mut Record, String> {
        if self.node_by_key(&key).is_some_and(|node| node.machine != machine) {
            return Err("node key already in use by another machine".to_owned());
        }
        let hostinfo = request.hostinfo.clone().unwrap_or_default();
        let owner = self.tagged(owner, &hostinfo.request_tags)?;
        let same_owner = |node: &Record| node.machine == machine && node.owner.user_id() == owner.user_id();
        let known = self.nodes.values().find(|node| same_owner(node)).map(|node| node.id);
        let expiry = matches!(owner, Owner::User(_)).then(|| wall + LIFE_OF_A_KEY);
        let id = match known {
            Some(id) => {
                self.set_key(id, key);
                id
            }
            None => self.add(machine, key, owner, hostinfo.clone(), wall).id,
        };
        let node = self.node_mut(id).ok_or("the node vanished")?;
        node.expiry = expiry;
        node.set_hostinfo(hostinfo);
        Ok(node)
    }

    /// A person who logs in may ask for tags that are theirs to give; the node is then nobody's.
    fn tagged(&self, owner: Owner, requested: &[String]) -> Result<Owner, String> {
        match owner {
            Owner::User(user) if !requested.is_empty() => {
                let refused: Vec<&str> = requested
                    .iter()
                    .map(String::as_str)
                    .filter(|tag| !self.policy.may_tag(&user.1.login, tag))
                    .collect();
                if refused.is_empty() {
                    Ok(Owner::Tags(requested.to_vec()))
                } else {
                    Err(format!(
                        "requested tags [{}] are invalid or not permitted",
                        refused.join(" ")
                    ))
                }
            }
            owner => Ok(owner),
        }
    }
}

fn accepted(node: &Record, wall: OffsetDateTime) -> RegisterResponse {
    let (user, login) = node.owner.registered();
    RegisterResponse {
        user,
        login,
        machine_authorized: true,
        node_key_expired: node.is_expired(wall),
        ..RegisterResponse::default()
    }
}

fn refusal(reason: &str) -> RegisterResponse {
    RegisterResponse {
        error: reason.to_owned(),
        ..RegisterResponse::default()
    }
}
