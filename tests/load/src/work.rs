//! Many clients at once, until they are stopped; and the book of what they were told.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use http::StatusCode;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tailnet_node::Node;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    http::{Connection, Gone, Target},
    journey::{Journey, Standing},
    oauth::{self, Registered},
};

/// Journeys that one worker has open: few enough that each gets ahead before the kill.
const OPEN: usize = 6;
/// What is kept of earlier rounds to be asked for again.
const REMEMBERED: usize = 60;

/// What was acknowledged.
#[derive(Default)]
pub struct Book {
    clients: Vec<Registered>,
    journeys: Vec<Journey>,
}

/// Running workers.
pub struct Load {
    workers: JoinSet<Book>,
    stop: watch::Sender<bool>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// Starts `workers` of them, two connections each.
    pub async fn start(node: &Arc<Node>, target: &Target, workers: u64, seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut set = JoinSet::new();
        for number in 0..workers {
            let connections = [
                Connection::open(node, target).await,
                Connection::open(node, target).await,
            ];
            let worker = Worker {
                connections,
                rng: SmallRng::seed_from_u64(seed ^ (number << 48)),
                book: Book::default(),
                acknowledged: Arc::clone(&acknowledged),
            };
            set.spawn(worker.run(stopped.clone()));
        }
        Self {
            workers: set,
            stop,
            acknowledged,
        }
    }

    /// Answers that were acknowledgements of something that must last.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }

    /// Stops the workers; what they wait for now is never answered.
    ///
    /// # Panics
    /// When a worker saw something spent twice.
    pub async fn stop(mut self) -> Book {
        self.stop.send_replace(true);
        let mut all = Book::default();
        while let Some(book) = self.workers.join_next().await {
            let book = book.expect("a worker saw nothing wrong");
            all.clients.extend(book.clients);
            all.journeys.extend(book.journeys);
        }
        all
    }
}

struct Worker {
    connections: [Connection; 2],
    rng: SmallRng,
    book: Book,
    acknowledged: Arc<AtomicU64>,
}

impl Worker {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Book {
        loop {
            let ended = tokio::select! {
                biased;
                step = self.step() => step.is_err(),
                _ = stopped.wait_for(|stopped| *stopped) => true,
            };
            if ended {
                return self.book;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Gone> {
        let [first, _] = &mut self.connections;
        if self.book.clients.is_empty() || self.rng.random_bool(0.15) {
            let client = oauth::register(first).await?;
            self.book.clients.push(client);
            self.acknowledged.fetch_add(1, Relaxed);
            return Ok(());
        }
        let open: Vec<usize> = (0..self.book.journeys.len())
            .filter(|index| !self.book.journeys[*index].is_over())
            .collect();
        if open.len() < OPEN {
            let client = &self.book.clients[self.rng.random_range(0..self.book.clients.len())];
            let journey = Journey::begin(first, &client.id).await?;
            self.book.journeys.push(journey);
            self.acknowledged.fetch_add(1, Relaxed);
            return Ok(());
        }
        let chosen = open[self.rng.random_range(0..open.len())];
        let twice = self.rng.random_bool(0.2);
        let given = self.book.journeys[chosen].advance(&mut self.connections, twice).await?;
        self.acknowledged.fetch_add(given, Relaxed);
        Ok(())
    }
}

impl Book {
    /// Clients and journeys in it.
    pub fn len(&self) -> (usize, usize) {
        (self.clients.len(), self.journeys.len())
    }

    /// Journeys with a request that was never answered.
    pub fn unsure(&self) -> usize {
        self.journeys.iter().filter(|journey| journey.is_unsure()).count()
    }

    /// Holds the server to everything in it.
    ///
    /// # Panics
    /// When something is lost, given twice, or the server ends.
    pub async fn verify(&mut self, connection: &mut Connection, rng: &mut SmallRng) {
        for client in &self.clients {
            let answer = oauth::read(connection, client).await.expect("it answers");
            assert_eq!(
                answer.status,
                StatusCode::OK,
                "a client that was registered: {}",
                answer.text
            );
            assert_eq!(answer.field("client_id"), client.id);
        }
        let mut living = Vec::new();
        for mut journey in std::mem::take(&mut self.journeys) {
            let replay = rng.random_bool(0.25);
            if journey.verify(connection, replay).await.expect("it answers") == Standing::Lives {
                living.push(journey);
            }
        }
        self.journeys = living;
    }

    /// Takes over what another book holds, and forgets at random what is too much to ask for every time.
    pub fn absorb(&mut self, other: Self, rng: &mut SmallRng) {
        self.clients.extend(other.clients);
        self.journeys.extend(other.journeys);
        while self.clients.len() > REMEMBERED {
            self.clients.swap_remove(rng.random_range(0..self.clients.len()));
        }
        while self.journeys.len() > REMEMBERED {
            self.journeys.swap_remove(rng.random_range(0..self.journeys.len()));
        }
    }
}
