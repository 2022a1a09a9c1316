//! The task: one loop around the session.

use std::{future::pending, pin::Pin, sync::Arc};

use rand::{RngCore as _, rngs::StdRng};
use tailnet_engine::control::{Action, Event, Failure, Session, SessionConfig};
use tailnet_wire::{
    control::{MapRequest, MapResponse, PingRequest, RegisterResponse},
    key::{MachinePublic, NodePrivate},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep_until,
};

use super::{
    ControlConfig, ControlError, ControlEvent, FatalError, Local,
    connection::{Connection, MapStream},
    dial::fetch_key,
    ping,
    target::Target,
};
use crate::{
    clock,
    state::{State, StateError},
};

/// Pings answered at the same time; further ones go unanswered, and control repeats what it needs.
const MAX_PINGS: usize = 4;

pub(super) struct Driver {
    config: ControlConfig,
    target: Arc<Target>,
    state: State,
    local: watch::Receiver<Local>,
    events: mpsc::Sender<ControlEvent>,
    session: Session,
    rng: StdRng,
    server_key: Option<MachinePublic>,
    connection: Option<Arc<Connection>>,
    step: Option<Work<Step>>,
    stream: Option<MapStream>,
    update: Option<Work<Result<(), ControlError>>>,
    pings: JoinSet<()>,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the one thing that is being waited for came to.
enum Step {
    Connected(Result<(MachinePublic, Connection), ControlError>),
    Registered(Result<RegisterResponse, ControlError>),
    Streaming(Result<MapStream, ControlError>),
}

/// What woke the loop.
enum Woken {
    Step(Step),
    Message(Result<Box<MapResponse>, ControlError>),
    Updated(Result<(), ControlError>),
    Local,
    Timer,
    /// Nobody listens any more.
    Abandoned,
}

impl Driver {
    pub(super) fn new(
        config: ControlConfig,
        target: Target,
        state: State,
        local: watch::Receiver<Local>,
        events: mpsc::Sender<ControlEvent>,
    ) -> Self {
        let session = SessionConfig {
            node_key: state.node_key().public(),
            old_node_key: state.old_node_key(),
            known: state.stable_id().is_some() && state.old_node_key().is_none(),
            disco_key: config.disco_key,
            auth_key: config.auth_key.clone(),
            ephemeral: config.ephemeral,
            tags: config.tags.clone(),
        };
        let said = local.borrow().clone();
        Self {
            session: Session::new(session, said, clock::now()),
            target: Arc::new(target),
            config,
            state,
            local,
            events,
            rng: clock::rng(),
            server_key: None,
            connection: None,
            step: None,
            stream: None,
            update: None,
            pings: JoinSet::new(),
        }
    }

    /// Runs until the session ends for good or nobody listens.
    pub(super) async fn run(mut self) {
        loop {
            self.session.handle_timeout(clock::now(), clock::wall(), &mut self.rng);
            if let Err(error) = self.act().await {
                self.tell(ControlEvent::Fatal(error.into())).await;
                return;
            }
            while let Some(event) = self.session.poll_event() {
                if !self.report(event).await {
                    return;
                }
            }
            match self.wait().await {
                Woken::Step(step) => self.stepped(step),
                Woken::Message(message) => self.received(message),
                Woken::Updated(result) => self.updated(result),
                Woken::Local => {
                    let local = self.local.borrow_and_update().clone();
                    self.session.handle_local(local);
                }
                Woken::Timer => {}
                Woken::Abandoned => return,
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let deadline = self.session.poll_timeout(clock::now(), clock::wall());
        let readable = self.session.may_read(clock::now());
        tokio::select! {
            step = done(&mut self.step) => Woken::Step(step),
            message = next(&mut self.stream), if readable => Woken::Message(message),
            result = done(&mut self.update) => Woken::Updated(result),
            Some(_) = self.pings.join_next(), if !self.pings.is_empty() => Woken::Timer,
            changed = self.local.changed() => if changed.is_ok() { Woken::Local } else { Woken::Abandoned },
            () = self.events.closed() => Woken::Abandoned,
            () = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => pending().await,
                }
            } => Woken::Timer,
        }
    }

    /// Does what the session asks for.
    async fn act(&mut self) -> Result<(), StateError> {
        while let Some(action) = self.session.poll_action(clock::now()) {
            match action {
                Action::Connect { fetch_key } => self.connect(fetch_key),
                Action::NewNodeKey => {
                    let mut raw = [0; 32];
                    self.rng.fill_bytes(&mut raw);
                    let key = NodePrivate::from_random(raw);
                    let public = key.public();
                    self.state.aside(|state| state.replace_node_key(key)).await?;
                    self.session.handle_new_node_key(public, clock::now());
                }
                Action::Register(request) => {
                    self.stream = None;
                    self.with_connection(|c| Box::pin(async move { Step::Registered(c.register(*request).await) }));
                }
                Action::Stream(request) => {
                    self.stream = None;
                    self.with_connection(|c| Box::pin(async move { Step::Streaming(c.stream(*request).await) }));
                }
                Action::Update(request) => self.start_update(*request),
                Action::Ping(ping) => self.answer(*ping),
                Action::Disconnect => {
                    (self.step, self.stream, self.update, self.connection) = (None, None, None, None);
                    self.pings.abort_all();
                }
            }
        }
        Ok(())
    }

    fn connect(&mut self, forget_key: bool) {
        let known = self.server_key.filter(|_| !forget_key);
        let (target, tls) = (self.target.clone(), self.config.tls.clone());
        let (machine, mut rng) = (self.state.machine_key(), clock::rng());
        self.step = Some(Box::pin(async move {
            let open = async {
                let key = match known {
                    Some(key) => key,
                    None => fetch_key(&target, &tls).await?,
                };
                Ok((key, Connection::open(target, &tls, &machine, &key, &mut rng).await?))
            };
            Step::Connected(open.await)
        }));
    }

    /// The session asks for requests only while a connection stands.
    fn with_connection(&mut self, work: impl FnOnce(Arc<Connection>) -> Work<Step>) {
        self.step = self.connection.clone().map(work);
    }

    fn start_update(&mut self, request: MapRequest) {
        let connection = self.connection.clone();
        self.update = connection.map(|c| -> Work<_> { Box::pin(async move { c.update(request).await }) });
    }

    fn answer(&mut self, ping: PingRequest) {
        if let Some(connection) = self.connection.clone()
            && self.pings.len() < MAX_PINGS
        {
            self.pings.spawn(ping::answer(
                connection,
                self.config.tls.clone(),
                self.events.clone(),
                ping,
            ));
        }
    }

    fn stepped(&mut self, step: Step) {
        let now = clock::now();
        match step {
            Step::Connected(Ok((key, connection))) => {
                self.server_key = Some(key);
                self.connection = Some(Arc::new(connection));
                self.session.handle_connected(now);
            }
            Step::Registered(Ok(answer)) => self.session.handle_register(answer, now, &mut self.rng),
            Step::Streaming(Ok(stream)) => self.stream = Some(stream),
            Step::Connected(Err(error)) | Step::Registered(Err(error)) => self.failed(error.failure(false)),
            Step::Streaming(Err(error)) => self.failed(error.failure(true)),
        }
    }

    fn received(&mut self, message: Result<Box<MapResponse>, ControlError>) {
        match message {
            Ok(message) => self
                .session
                .handle_map(*message, clock::now(), clock::wall(), &mut self.rng),
            Err(error) => {
                self.stream = None;
                self.failed(error.failure(true));
            }
        }
    }

    fn updated(&mut self, result: Result<(), ControlError>) {
        match result {
            Ok(()) => self.session.handle_updated(clock::now()),
            Err(error) => {
                tracing::debug!(%error, "update to control failed");
                self.session
                    .handle_update_failed(error.failure(true), clock::now(), &mut self.rng);
            }
        }
    }

    fn failed(&mut self, failure: Failure) {
        self.session.handle_failure(failure, clock::now(), &mut self.rng);
    }

    /// Whether to go on.
    async fn report(&mut self, event: Event) -> bool {
        if let Err(error) = remember(&self.state, &event).await {
            self.tell(ControlEvent::Fatal(error.into())).await;
            return false;
        }
        let event = match event {
            Event::LoginUrl(url) => ControlEvent::LoginUrl(url),
            Event::AwaitingApproval => ControlEvent::AwaitingApproval,
            Event::Registered(_) => ControlEvent::Registered,
            Event::Change(change) => ControlEvent::Change(change),
            Event::Online => ControlEvent::Online,
            Event::Offline { reason, retry_in } => ControlEvent::Offline { reason, retry_in },
            Event::ShowUrl(url) => ControlEvent::ShowUrl(url),
            Event::Fatal(fatal) => ControlEvent::Fatal(FatalError::Session(fatal)),
        };
        let last = matches!(event, ControlEvent::Fatal(_));
        self.tell(event).await && !last
    }

    async fn tell(&mut self, event: ControlEvent) -> bool {
        self.events.send(event).await.is_ok()
    }
}

/// Stores what must survive a restart, before anyone acts on it.
async fn remember(state: &State, event: &Event) -> Result<(), StateError> {
    match event {
        Event::Registered(_) => state.aside(State::confirm_node_key).await,
        Event::Change(change) if change.self_node => {
            let stable_id = Arc::clone(&change.netmap.self_node().stable_id);
            match state.stable_id() {
                Some(before) if *before == *stable_id => return Ok(()),
                Some(before) => tracing::warn!(
                    before,
                    now = &*stable_id,
                    "control knows this node by another stable id than before"
                ),
                None => {}
            }
            state.aside(move |state| state.set_stable_id(&stable_id)).await
        }
        _ => Ok(()),
    }
}

/// Waits for work, if there is any, and takes it off.
async fn done<T>(work: &mut Option<Work<T>>) -> T {
    let result = match work {
        Some(work) => work.as_mut().await,
        None => pending().await,
    };
    *work = None;
    result
}

async fn next(stream: &mut Option<MapStream>) -> Result<Box<MapResponse>, ControlError> {
    match stream {
        Some(stream) => stream.next().await,
        None => pending().await,
    }
}
