//! What `status` shows of the running server, kept up to date by the main loop and read by the status socket.

use std::{sync::Mutex, time::Instant};

use crate::{
    config::Settings,
    status::{ControlReport, State, StatusReport, StatusSource},
};

/// The state of the server as others may see it.
#[derive(Debug)]
pub(super) struct Board {
    started: Instant,
    control_url: String,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    state: State,
    ready_after_ms: Option<u64>,
}

impl Board {
    pub(super) fn new(settings: &Settings, started: Instant) -> Self {
        Self {
            started,
            control_url: settings.control_url.to_string(),
            now: Mutex::default(),
        }
    }

    /// Notes that the server has come to this state.
    pub(super) fn enter(&self, state: State) {
        let elapsed = self.elapsed_ms();
        let mut now = self.now();
        now.state = state;
        if state == State::Serving {
            now.ready_after_ms.get_or_insert(elapsed);
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A panic while the lock was held leaves plain values behind, which stay true.
    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl StatusSource for Board {
    fn status(&self) -> StatusReport {
        let now = self.now();
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: now.state,
            ready: matches!(now.state, State::Serving | State::Stale),
            ready_after_ms: now.ready_after_ms,
            uptime_ms: self.elapsed_ms(),
            control: ControlReport {
                url: self.control_url.clone(),
                ..ControlReport::default()
            },
            ..StatusReport::default()
        }
    }

    fn root_certificate(&self) -> Result<String, String> {
        Err("the server is still starting: ask again when it is ready".to_owned())
    }
}
