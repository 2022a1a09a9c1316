//! One connection: TLS, HTTP/1.1 or HTTP/2, and the ends it can come to.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    config::Limits,
    counters::bump,
    event,
    gate::ConnectionPermit,
    peer::{Peer, Withdrawn},
    reply,
};

/// Streams that one HTTP/2 connection may have open.
const STREAMS: u32 = 128;

/// Serves `io` until the client, the tailnet, the idle timer or `stop` ends it.
pub(crate) async fn serve<Io>(
    app: Arc<App>,
    peer: Arc<dyn Peer>,
    io: Io,
    permit: ConnectionPermit,
    stop: CancellationToken,
) where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Whom the log will name: later the tailnet may no longer know.
    let Ok(known) = peer.caller() else { return };
    let serving = async {
        match app.tls.as_ref().map(crate::tls::Tls::acceptor) {
            None => serve_http(&app, &peer, io, &stop).await,
            Some(acceptor) => match timeout(app.config.limits.handshake_timeout, acceptor.accept(io)).await {
                Ok(Ok(stream)) => serve_http(&app, &peer, stream, &stop).await,
                Ok(Err(error)) => {
                    bump(&app.counters.handshakes_failed);
                    tracing::debug!(%error, "a TLS handshake failed");
                }
                Err(_) => bump(&app.counters.handshakes_failed),
            },
        }
    };
    let withdrawn = tokio::select! {
        biased;
        withdrawn = peer.withdrawn() => Some(withdrawn),
        // A withdrawn connection is also reset, and its reader may learn that a moment before this task is told.
        () = serving => timeout(TOLD_WITHIN, peer.withdrawn()).await.ok(),
    };
    if let Some(withdrawn) = withdrawn {
        bump(&app.counters.connections_withdrawn);
        event::withdrawn(&known, &withdrawn);
    }
    drop(permit);
}

/// How long after its end a connection may still turn out to have been withdrawn.
const TOLD_WITHIN: Duration = Duration::from_millis(50);

async fn serve_http<Io>(app: &Arc<App>, peer: &Arc<dyn Peer>, io: Io, stop: &CancellationToken)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let service = service_fn({
        let (app, peer, activity) = (Arc::clone(app), Arc::clone(peer), Arc::clone(&activity));
        move |request| {
            let busy = activity.begin();
            let answer = Arc::clone(&app).answer(Arc::clone(&peer), request);
            async move {
                let (reply, permit) = answer.await?;
                Ok::<_, Withdrawn>(reply::keeping(reply, (busy, permit)).await)
            }
        }
    });
    let builder = builder(&app.config.limits);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let over = activity.over(app.config.limits.idle_timeout);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(error, "a connection ended badly");
            }
            return;
        }
        () = over => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(app.config.limits.shutdown_grace, connection).await;
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.headers.max(8 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.headers).unwrap_or(u32::MAX))
        .max_send_buf_size(64 << 10);
    builder
}

/// What a connection does: the requests in progress and the answers that are not sent yet, and whether there were any
/// lately.
#[derive(Default)]
struct Activity {
    begun: AtomicUsize,
    looks: AtomicUsize,
    /// How many are open of those that began after the same look. The places are used in turn.
    open: [AtomicUsize; 3],
}

/// One request, until its answer is sent.
struct Busy {
    activity: Arc<Activity>,
    place: usize,
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Relaxed);
        let place = self.looks.load(Relaxed) % self.open.len();
        self.open[place].fetch_add(1, Relaxed);
        let activity = Arc::clone(self);
        Busy { activity, place }
    }

    /// Returns after there was no request for `limit` at most, and half of it at least; or when an answer was not taken
    /// within `limit`, or half as long again. Looking now and then costs requests nothing; a timer that each of them
    /// resets would.
    async fn over(&self, limit: Duration) {
        let mut seen = None;
        loop {
            sleep(limit / 2).await;
            let next = self.looks.load(Relaxed) + 1;
            // What is still open there began before the last look but one.
            if self.open[next % self.open.len()].load(Relaxed) > 0 {
                return;
            }
            self.looks.store(next, Relaxed);
            let begun = self.begun.load(Relaxed);
            if seen == Some(begun) && self.open.iter().all(|open| open.load(Relaxed) == 0) {
                return;
            }
            seen = Some(begun);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.activity.open[self.place].fetch_sub(1, Relaxed);
    }
}
