//! An application on a machine of the lab that is written with openid-client, a library that others wrote against the
//! standards: what it refuses to talk to, our server does wrong.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{Client, Error, Result, Server, lab::npm, process, skewed};

/// The application and what it keeps between its steps: its registration, its key, the request in progress.
#[derive(Debug)]
pub struct RelyingParty<'a> {
    machine: &'a Client,
    issuer: String,
    ca: PathBuf,
    node: PathBuf,
    modules: PathBuf,
    held: Value,
}

impl<'a> RelyingParty<'a> {
    /// Registers itself from `machine` as a client with a key of its own and this metadata.
    ///
    /// # Errors
    /// [`Error::CannotRun`] when Node.js or the library is missing.
    pub fn register(machine: &'a Client, server: &Server, metadata: &Value) -> Result<RelyingParty<'a>> {
        let modules = npm(&["node/bin/node", "openid-client", "jose"])?;
        let mut application = RelyingParty {
            machine,
            issuer: server.url(),
            ca: server.ca()?,
            node: modules.join("node/bin/node"),
            modules,
            held: Value::Null,
        };
        application.step(server, "register", json!({ "metadata": metadata }))?;
        Ok(application)
    }

    /// What the server said when it registered.
    pub fn client(&self) -> &Value {
        &self.held["client"]
    }

    /// Takes a step of `relying_party.mjs` at the time that `server` believes in; `refused` in what comes back is the
    /// error with which the server refused it.
    ///
    /// # Errors
    /// When the library found something wrong with an answer.
    pub fn step(&mut self, server: &Server, step: &str, with: Value) -> Result<Value> {
        let mut setting = with;
        setting["issuer"] = json!(self.issuer);
        setting["held"] = self.held.clone();
        let mut command = self.machine.host().command(&self.node);
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/relying_party.mjs"))
            .args([step, &setting.to_string()])
            .env("COUNTERSIGN_NPM", &self.modules)
            .env("NODE_EXTRA_CA_CERTS", &self.ca);
        skewed::ahead(&mut command, server.ahead())?;
        let printed = process::run(&mut command)?;
        let mut got: Value = serde_json::from_str(&printed).map_err(|_| Error::unexpected(step, printed))?;
        if let Value::Object(fields) = &mut got
            && let Some(held) = fields.remove("held")
        {
            self.held = held;
        }
        Ok(got)
    }
}
