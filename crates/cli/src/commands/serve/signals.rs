//! What the outside tells the main loop: signals, and the beat of systemd's watchdog.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{self, SignalKind},
    time::{Interval, MissedTickBehavior},
};

use crate::notify;

/// One thing to react to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// Time to tell systemd that the main loop runs.
    Watchdog,
}

/// The signals of this process.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    watchdog: Option<Interval>,
}

impl Signals {
    /// Takes the signals over from their default, which would end the process.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hangup: unix::signal(SignalKind::hangup())?,
            watchdog: notify::watchdog_period()
                .filter(|period| *period > Duration::ZERO)
                .map(|period| {
                    let mut interval = tokio::time::interval(period);
                    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    interval
                }),
        })
    }

    /// Waits for the next one. Cancel-safe: nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Signal {
        let beat = async {
            match &mut self.watchdog {
                Some(interval) => interval.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
            _ = beat => Signal::Watchdog,
        }
    }
}
