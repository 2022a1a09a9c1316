//! `curl` on a machine of the lab: the client that needs no trust in our own code.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::{Error, Host, Result, process};

/// Parts the body from what curl adds at the end.
const MARK: &str = "\n--curl--";

/// A request being built.
#[derive(Debug)]
pub struct Curl<'a> {
    host: &'a Host,
    args: Vec<String>,
    urls: Vec<String>,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status; 0 when there was no answer.
    pub status: u16,
    /// The headers as they came.
    pub headers: String,
    /// The body, as text.
    pub body: String,
    /// Until the last byte, from the start of curl.
    pub time: Duration,
    /// curl's exit code: 0 is fine, 7 could not connect, 28 timed out, 56 reset while receiving.
    pub exit: i32,
    /// curl's own words when it failed.
    pub error: String,
}

impl<'a> Curl<'a> {
    pub(crate) fn new(host: &'a Host, url: &str) -> Curl<'a> {
        Curl {
            host,
            args: Vec::new(),
            urls: vec![url.to_owned()],
        }
        .limit(Duration::from_secs(10))
    }

    /// Any option.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// `--cacert`.
    pub fn trust(self, ca: &Path) -> Self {
        self.arg("--cacert").arg(ca.display().to_string())
    }

    /// `--max-time`: the whole transfer.
    pub fn limit(self, limit: Duration) -> Self {
        self.arg("--max-time").arg(limit.as_secs_f32().to_string())
    }

    /// Connects to this address whatever the name resolves to. MagicDNS has no AAAA for a node with an IPv4 address.
    pub fn via(self, address: IpAddr) -> Self {
        let address = match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        self.arg("--connect-to").arg(format!("::{address}:"))
    }

    /// A request header.
    pub fn header(self, header: &str) -> Self {
        self.arg("--header").arg(header)
    }

    /// POSTs a JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type: application/json")
            .arg("--data-binary")
            .arg(body.to_string())
    }

    /// POSTs a form.
    pub fn form(mut self, pairs: &[(&str, &str)]) -> Self {
        for (name, value) in pairs {
            self = self.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        self
    }

    /// HTTP Basic authentication, as a confidential client presents its secret.
    pub fn basic(self, client_id: &str, secret: &str) -> Self {
        self.arg("--user").arg(format!("{client_id}:{secret}"))
    }

    /// The command, for a test that runs it in the background.
    pub fn into_command(self) -> Command {
        let mut command = self.host.command("curl");
        command
            .args(["--silent", "--show-error"])
            .args(self.args)
            .args(self.urls);
        command
    }

    /// Sends it. A transfer that fails is an answer too: see [`Response::exit`].
    pub fn send(self) -> Result<Response> {
        let format = format!("{MARK}%{{http_code}} %{{time_total}}");
        let output = process::output(&mut self.arg("--include").arg("--write-out").arg(format).into_command())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (message, figures) = text
            .rsplit_once(MARK)
            .ok_or_else(|| Error::unexpected("curl's output", &*text))?;
        let (status, seconds) = figures.split_once(' ').unwrap_or_default();
        let (mut headers, mut body) = message.split_once("\r\n\r\n").unwrap_or(("", message));
        // An interim answer (100 Continue) comes with headers of its own.
        while headers.starts_with("HTTP/1.1 1") && body.starts_with("HTTP/") {
            (headers, body) = body.split_once("\r\n\r\n").unwrap_or((body, ""));
        }
        Ok(Response {
            status: status.parse().unwrap_or_default(),
            headers: headers.to_owned(),
            body: body.to_owned(),
            time: Duration::from_secs_f64(seconds.parse().unwrap_or_default()),
            exit: output.status.code().unwrap_or(-1),
            error: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

impl Response {
    /// The value of a header; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        let mut pairs = self.headers.lines().filter_map(|line| line.split_once(':'));
        let found = pairs.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim()).unwrap_or_default()
    }

    /// A string field of the JSON body; empty when there is none.
    pub fn field(&self, name: &str) -> String {
        let body: Option<Value> = serde_json::from_str(&self.body).ok();
        body.and_then(|body| body[name].as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).map_err(|e| Error::unexpected("a JSON body", format!("{e}: {self:?}")))
    }

    /// Whether the transfer failed before an answer.
    pub fn unanswered(&self) -> bool {
        self.exit != 0 && self.status == 0
    }
}
