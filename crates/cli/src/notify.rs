//! What systemd hears of us: ready, stopping, the one line that `systemctl status` shows, and the watchdog.
//!
//! Outside systemd (`NOTIFY_SOCKET` not set) all of this does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells systemd that the service works, with a line about how.
pub(crate) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Replaces the line that `systemctl status` shows.
pub(crate) fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// Settings are being read again; [`ready`] ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock for systemd"),
    }
}

/// The service is ending what is open.
pub(crate) fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Proves that the main loop still runs.
pub(crate) fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`alive`] must be called: twice per `WatchdogSec`, if that is set.
pub(crate) fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(event = "sd_notify", %error, "cannot tell systemd: is NotifyAccess set in the unit?");
    }
}
