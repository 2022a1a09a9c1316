//! What `status` shows of the running server, kept up to date by the main loop and read by the status socket.

mod report;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use countersign_server::Server;
use tailnet_node::Node;

use crate::{
    config::Settings,
    socket::{Answer, Question},
    status::{ControlReport, STARTING, State, StatusReport, StatusSource},
};

/// The state of the server as others may see it.
pub(crate) struct Board {
    started: Instant,
    control_url: String,
    netmap_max_age: Duration,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    state: State,
    ready_after_ms: Option<u64>,
    connected: bool,
    login_url: Option<String>,
    problem: Option<String>,
    serving: Option<(Arc<Node>, Server)>,
}

impl Board {
    pub(crate) fn new(settings: &Settings, started: Instant) -> Self {
        Self {
            started,
            control_url: settings.control_url.to_string(),
            netmap_max_age: settings.netmap_max_age,
            now: Mutex::default(),
        }
    }

    /// Notes that the server has come to this state.
    pub(super) fn enter(&self, state: State) {
        self.now().state = state;
    }

    /// Notes that a person must open this URL.
    pub(super) fn needs_login(&self, url: &str) {
        let mut now = self.now();
        now.state = State::NeedsLogin;
        now.login_url = Some(url.to_owned());
    }

    /// Notes what keeps the server from working.
    pub(super) fn problem(&self, text: &str) {
        self.now().problem = Some(text.to_owned());
    }

    /// Notes whether control can be reached, and why not.
    pub(super) fn connected(&self, connected: bool, reason: Option<&str>) {
        let mut now = self.now();
        now.connected = connected;
        now.login_url = None;
        now.problem = reason.map(str::to_owned);
    }

    /// Notes that the server is on the tailnet and listening.
    pub(super) fn serve(&self, node: &Arc<Node>, server: &Server) {
        let elapsed = self.elapsed_ms();
        let mut now = self.now();
        now.state = State::Serving;
        now.ready_after_ms.get_or_insert(elapsed);
        now.serving = Some((Arc::clone(node), server.clone()));
    }

    /// From the start of the process until it was ready.
    pub(super) fn ready_after_ms(&self) -> Option<u64> {
        self.now().ready_after_ms
    }

    /// Lets go of the node and the server, which are about to end.
    pub(super) fn clear(&self) {
        self.now().serving = None;
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A panic while the lock was held leaves plain values behind, which stay true.
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatusSource for Board {
    fn status(&self) -> StatusReport {
        let now = self.now();
        let mut report = StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: now.state,
            ready: now.state == State::Serving,
            ready_after_ms: now.ready_after_ms,
            uptime_ms: self.elapsed_ms(),
            login_url: now.login_url.clone(),
            problem: now.problem.clone(),
            control: ControlReport {
                url: self.control_url.clone(),
                connected: now.connected,
                netmap_age_ms: None,
            },
            ..StatusReport::default()
        };
        let serving = now.serving.clone();
        drop(now);
        if let Some((node, server)) = serving {
            report::fill(&mut report, node.status(), &server);
            let too_old = u128::from(report.control.netmap_age_ms.unwrap_or(0)) > self.netmap_max_age.as_millis();
            if too_old && report.state == State::Serving {
                report.state = State::Stale;
            }
        }
        report
    }

    fn root_certificate(&self) -> Result<String, String> {
        let now = self.now();
        let Some((_, server)) = &now.serving else {
            return Err(STARTING.to_owned());
        };
        let none = "there is no internal root: certificates come from files, or TLS is off";
        server.root_pem().map(str::to_owned).ok_or_else(|| none.to_owned())
    }

    fn administer<'a>(
        &'a self,
        question: Question,
        asker: &'a str,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        let serving = self.now().serving.clone();
        Box::pin(async move {
            match serving {
                Some((_, server)) => administer(&server, question, asker).await,
                None => Answer::Error(STARTING.to_owned()),
            }
        })
    }
}

async fn administer(server: &Server, question: Question, asker: &str) -> Answer {
    let answer = match question {
        Question::Explain(query) => server
            .explain(&query)
            .await
            .map(Answer::Explained)
            .map_err(|error| error.to_string()),
        Question::Clients => server
            .clients()
            .await
            .map(Answer::Clients)
            .map_err(|error| error.to_string()),
        Question::Publish { client, published } => server
            .publish(&client, published, asker)
            .await
            .map(Answer::Published)
            .map_err(|error| error.to_string()),
        Question::Status | Question::Ca => Err("this question is answered elsewhere".to_owned()),
    };
    answer.unwrap_or_else(Answer::Error)
}
