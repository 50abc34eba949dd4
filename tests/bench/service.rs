//! What a payee's service adds to the verification of payments: storing them and answering over connections. All variants in
//! turns, in one process. `just bench-service` writes the table.

mod bare;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod report;
mod usage;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bare::Bare;
use bitcoin::absolute::LockTime;
use bitcoin::Transaction;
use client::Client;
use common::pair::{payout, tip, Case, HEIGHT, MTP};
use futures_util::future::join_all;
use report::{machine, publish, version_of};
use spilman::channel::{
    Capacity, ChainView, ChannelKeys, ChannelState, Construction, FundingTx, PayeeState, Protocol, Tip,
};
use spilman::service::{Bounds, Chain, ChainError, ChannelManager, ChannelManagerBuilder, Watched};
use spilman::store::{MemoryStore, SqliteStore, Store, StoredChannel};
use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use usage::{cost, resident, Cost};

const TURNS: usize = 5;

/// In each measurement, over all connections.
const PAYMENTS: u32 = 32_000;

const ROUND_TRIPS: usize = 1_000;

const IDLE: u32 = 100_000;

/// A chain on which every funding transaction is confirmed, and nothing else happens.
#[derive(Clone)]
struct Still(watch::Sender<u64>);

impl Still {
    fn tip() -> Tip {
        tip(HEIGHT, MTP)
    }
}

impl Chain for Still {
    async fn tip(&self) -> Result<Tip, ChainError> {
        Ok(Self::tip())
    }

    async fn view(&self, _: Watched) -> Result<ChainView, ChainError> {
        Ok(ChainView {
            tip: Self::tip(),
            confirmations: 6,
            funding_parent: None,
            spend: None,
        })
    }

    async fn broadcast(&self, _: &Transaction) -> Result<Option<String>, ChainError> {
        Ok(None)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// A file that is gone with this value, on the disk that the build is on.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the store");
        Self(folder)
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(self.0.join("channels.sqlite")).expect("a store"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn case() -> Case {
    let mut case = Case::new(Protocol::Example7).on(Construction::P2wsh);
    case.terms.capacity = Capacity::MAX;
    case
}

async fn payees(store: Arc<dyn Store>) -> ChannelManager<Still> {
    let bounds = Bounds {
        connections: 10_000,
        connections_per_peer: 10_000,
        unfunded_channels: 10_000,
        unfunded_channels_per_peer: 10_000,
        ..Bounds::default()
    };
    ChannelManagerBuilder::new(store, ChannelKeys::new([7; 32]), payout("payee"))
        .limits(case().limits)
        .bounds(bounds)
        .start(Still(watch::Sender::new(1)))
        .await
        .expect("an empty store")
}

/// One way to serve payments.
struct Variant {
    what: String,
    clients: Vec<Client>,
    /// The payee's side, which ends with this.
    _place: Option<Place>,
}

async fn over_pipes(what: &str, store: Arc<dyn Store>, place: Option<Place>, connections: u32) -> Variant {
    let manager = payees(store).await;
    let clients = (0..connections).map(|number| {
        let ((here, there), manager) = (duplex(64 * 1_024), manager.clone());
        tokio::spawn(async move { manager.accept(there, None).await });
        Client::open(here, number)
    });
    Variant {
        what: what.to_owned(),
        clients: join_all(clients).await,
        _place: place,
    }
}

async fn over_tcp(connections: u32) -> Variant {
    let place = Place::new(&connections.to_string());
    let manager = payees(place.store()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { manager.serve(listener).await });
    let mut clients = Vec::new();
    for number in 0..connections {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("an option of TCP");
        clients.push(Client::open(stream, number).await);
    }
    Variant {
        what: format!("SQLite, TCP, {connections} connections"),
        clients,
        _place: Some(place),
    }
}

fn median<T: Copy + PartialOrd>(mut all: Vec<T>) -> T {
    all.sort_by(|one, other| one.partial_cmp(other).expect("no NaN"));
    all[all.len() / 2]
}

fn verify_only(cores: u32) -> Cost {
    let mut bare: Vec<_> = (0..cores).map(|_| Bare::new(Construction::P2wsh)).collect();
    cost(|| {
        std::thread::scope(|scope| {
            for bare in &mut bare {
                scope.spawn(move || bare.verify(PAYMENTS / cores));
            }
        });
    })
}

struct Row {
    what: String,
    costs: Vec<Cost>,
    /// To verification alone, in the same turn.
    ratios: Vec<f64>,
}

fn throughput(runtime: &Runtime) -> Vec<Row> {
    let cores =
        std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let mut variants = runtime.block_on(async {
        let sqlite = Place::new("pipes");
        let store = sqlite.store();
        vec![
            over_pipes(
                "in memory, pipes, 64 connections",
                Arc::new(MemoryStore::default()),
                None,
                64,
            )
            .await,
            over_pipes("SQLite, pipes, 64 connections", store, Some(sqlite), 64).await,
            over_tcp(1).await,
            over_tcp(64).await,
            over_tcp(1_000).await,
        ]
    });
    let row = |what: String| Row {
        what,
        costs: Vec::new(),
        ratios: Vec::new(),
    };
    let mut rows = vec![row(format!("verification alone, {cores} threads"))];
    rows.extend(variants.iter().map(|variant| row(variant.what.clone())));
    for turn in 0..TURNS {
        eprintln!("turn {} of {TURNS}", turn + 1);
        let alone = verify_only(cores);
        rows[0].costs.push(alone);
        rows[0].ratios.push(1.0);
        for (variant, row) in variants.iter_mut().zip(&mut rows[1..]) {
            let each = PAYMENTS / u32::try_from(variant.clients.len()).expect("few");
            variant.clients.iter_mut().for_each(|client| client.sign(each));
            let clients = std::mem::take(&mut variant.clients);
            let mut back = Vec::new();
            let cost = cost(|| {
                let paying = clients.into_iter().map(|mut client| {
                    runtime.spawn(async move {
                        client.pay_all().await;
                        client
                    })
                });
                let paying: Vec<_> = paying.collect();
                back = runtime.block_on(join_all(paying));
            });
            variant.clients = back.into_iter().map(|client| client.expect("it pays")).collect();
            row.ratios
                .push(alone.wall.as_secs_f64() / cost.wall.as_secs_f64());
            row.costs.push(cost);
        }
    }
    rows
}

struct RoundTrip {
    whole: Duration,
    echo: Duration,
    verify: Duration,
    sync: Duration,
}

fn round_trip(runtime: &Runtime) -> RoundTrip {
    let mut variant = runtime.block_on(over_tcp(1));
    let client = &mut variant.clients[0];
    client.sign(u32::try_from(ROUND_TRIPS).expect("few"));
    let whole = median(runtime.block_on(client.pay_each()));
    let echo = median(runtime.block_on(echoes()));
    let mut bare = Bare::new(Construction::P2wsh);
    let verify = median(times(|| bare.verify(1)));
    let place = Place::new("sync");
    let mut file = File::create(place.0.join("file")).expect("a file");
    let sync = median(times(|| {
        file.write_all(&[0; 85]).expect("written");
        file.sync_data().expect("durable");
    }));
    RoundTrip {
        whole,
        echo,
        verify,
        sync,
    }
}

fn times(mut work: impl FnMut()) -> Vec<Duration> {
    let time = |_| {
        let begin = Instant::now();
        work();
        begin.elapsed()
    };
    (0..ROUND_TRIPS).map(time).collect()
}

/// A frame as long as a payment and the answer as long as its acknowledgement, over TCP.
async fn echoes() -> Vec<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("an option of TCP");
        let mut payment = [0; 78];
        while stream.read_exact(&mut payment).await.is_ok() {
            stream.write_all(&payment[..9]).await.expect("sent");
        }
    });
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.set_nodelay(true).expect("an option of TCP");
    let mut times = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let begin = Instant::now();
        stream.write_all(&[0; 78]).await.expect("sent");
        stream.read_exact(&mut [0; 9]).await.expect("an answer");
        times.push(begin.elapsed());
    }
    times
}

struct Idle {
    memory: u64,
    restart: Duration,
    file: u64,
}

/// A store with many channels, in which something was paid, and the process that starts them.
fn idle(runtime: &Runtime) -> Idle {
    let place = Place::new("idle");
    eprintln!("{IDLE} channels");
    runtime.block_on(fill(&place));
    let file = fs::metadata(place.0.join("channels.sqlite"))
        .expect("the store")
        .len();
    let (before, begin) = (resident(), Instant::now());
    let manager = runtime.block_on(async {
        let manager = payees(place.store()).await;
        let handles = manager.payees();
        assert_eq!(handles.len(), IDLE as usize);
        for payee in handles {
            // Its first look at the chain is behind it.
            let mut status = payee.status();
            status.wait_for(|status| status.seen > 0).await.expect("it runs");
        }
        manager
    });
    let idle = Idle {
        restart: begin.elapsed(),
        memory: resident().saturating_sub(before),
        file,
    };
    drop(manager);
    idle
}

async fn fill(place: &Place) {
    // One that is real, and copies with other funding transactions.
    let model = Place::new("model");
    let store = model.store();
    let manager = payees(Arc::clone(&store)).await;
    let (here, there) = duplex(64 * 1_024);
    tokio::spawn(async move { manager.accept(there, None).await });
    let mut client = Client::open(here, 0).await;
    client.sign(1);
    client.pay_all().await;
    let mut channels = store.load().await.expect("it can be read");
    let channel = channels.pop().expect("the channel");
    let ChannelState::Payee(state) = &channel.state else {
        panic!("a payee's channel")
    };
    let store = place.store();
    let tickets = (1..=IDLE).map(|number| store.insert(another(&channel, state, number)));
    for ticket in tickets.collect::<Vec<_>>() {
        ticket.await.expect("stored");
    }
}

fn another(channel: &StoredChannel, state: &PayeeState, number: u32) -> StoredChannel {
    let mut tx = state.funding.tx().clone();
    tx.lock_time = LockTime::from_consensus(number);
    let mut state = state.clone();
    state.funding = FundingTx::find(&state.params, tx).expect("the same output");
    // Its signature is for another funding output.
    state.progress.latest = None;
    StoredChannel {
        key_id: channel.key_id,
        state: ChannelState::Payee(state),
    }
}

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let rows = throughput(&runtime);
    let round_trip = round_trip(&runtime);
    let idle = idle(&runtime);
    publish(&table(&rows, &round_trip, &idle));
    runtime.shutdown_background();
}

fn table(rows: &[Row], round_trip: &RoundTrip, idle: &Idle) -> String {
    let mut text = String::from("# A payee's service beside the verification of payments\n\n");
    let _ = writeln!(
        text,
        "Medians of {TURNS} turns of {PAYMENTS} payments each; in each turn every row once, in one process. The payments are signed\n\
         before, so the processor is the payee's, but for the reading of acknowledgements. `just bench-service` measures again\n\
         and rewrites this file.\n"
    );
    let _ = writeln!(text, "- machine: {}", machine());
    let _ = writeln!(
        text,
        "- crates: spilman {}, secp256k1 {}, rusqlite {}, tokio {}\n",
        version_of("spilman"),
        version_of("secp256k1"),
        version_of("rusqlite"),
        version_of("tokio")
    );
    text += "| what | payments a second | processor time for one | ratio to verification alone |\n|---|--:|--:|--:|\n";
    for row in rows {
        let wall = median(row.costs.iter().map(|cost| cost.wall).collect());
        let cpu = median(row.costs.iter().map(|cost| cost.cpu).collect());
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.1} µs | {:.2} |",
            row.what,
            f64::from(PAYMENTS) / wall.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / f64::from(PAYMENTS),
            median(row.ratios.clone())
        );
    }
    let RoundTrip {
        whole,
        echo,
        verify,
        sync,
    } = round_trip;
    let parts = *echo + *verify + *sync;
    let _ = writeln!(
        text,
        "\nOne channel that waits for each acknowledgement, over TCP with SQLite, takes {whole:.1?} for a payment (median of\n\
         {ROUND_TRIPS}): {:.2} times an echo ({echo:.1?}), a verification ({verify:.1?}) and an `fdatasync` ({sync:.1?}) one after another.\n",
        whole.as_secs_f64() / parts.as_secs_f64()
    );
    let _ = writeln!(
        text,
        "A process with {IDLE} idle channels starts in {:.1?}, the first look at the chain included, and takes {} MB more than\n\
         before; their file has {} MB.",
        idle.restart,
        idle.memory / 1_000_000,
        idle.file / 1_000_000
    );
    text
}
