use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, Network};
use tokio::io::DuplexStream;

use super::assignment::{Assignment, Proposed};
use super::case::{Case, Life};
use super::failure::Failure;
use super::line::{self, Line};
use super::program::Program;
use super::table::Table;
use super::{against_payee, against_payer};
use crate::channel::{ChannelId, ChannelKey, NonceSource, Protocol, Terms};
use crate::malice::Forger;
use crate::regtest::{Coin, CoinKind, NodeBuilder};
use crate::scenario::{payout, terms, NodeChain, Recorder, Watch, World};
use crate::service::{KeyReuse, Setup};
use crate::transcript::{Names, Side, Transcript, Unit};

/// How long the program may take for each thing that it has to do, unless told otherwise.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How often somebody looks whether the run is broken off.
const STOP_LOOK: Duration = Duration::from_millis(50);

const CAPACITY: Amount = Amount::from_sat(1_000_000);
const COIN: Amount = Amount::from_sat(1_050_000);
/// So that there is something between nothing and the least payment.
const MINIMUM_PAYMENT: Amount = Amount::from_sat(2);

/// Plays cases with a program.
#[derive(Debug, Clone)]
pub struct Runner {
    command: String,
    program: Side,
    deadline: Duration,
}

/// A case that was played.
#[derive(Debug)]
pub struct Played {
    /// Why it was not passed, if it was not.
    pub verdict: Result<(), Failure>,
    /// The run was broken off, and the verdict says nothing.
    pub interrupted: bool,
    /// What happened, with every transaction.
    pub transcript: Transcript,
    /// The end of what the program said on its standard error, at most 64 KiB.
    pub stderr: String,
}

impl Runner {
    /// `command` is started with `/bin/sh -c`, and is this side.
    #[must_use]
    pub fn new(command: impl Into<String>, program: Side) -> Self {
        Self {
            command: command.into(),
            program,
            deadline: DEADLINE,
        }
    }

    /// How long the program may take for each thing that it has to do.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Plays one case on a fresh node. Blocks the calling thread, and must not be called from async code. Once `stop` is
    /// set, it comes to its end at once.
    #[must_use]
    pub fn play(&self, case: &Case, node: NodeBuilder, stop: &AtomicBool) -> Played {
        let recorder = Recorder::new(blank(case));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let mut stderr = String::new();
        let verdict = match (&runtime, case.program == self.program) {
            (Err(error), _) => Err(Failure::runner(error)),
            (_, false) => Err(Failure::runner(format!("{} is for the other side", case.name))),
            (Ok(runtime), true) => {
                let world = World::start(node, Watch::Node, recorder.clone(), &case.name, case.construction);
                match world {
                    Ok(world) => runtime.block_on(self.seat(case, &world, stop, &mut stderr)),
                    Err(error) => Err(error.into()),
                }
            }
        };
        Played {
            interrupted: verdict.is_err() && stop.load(Ordering::Relaxed),
            verdict,
            transcript: recorder.transcript(),
            stderr,
        }
    }

    async fn seat(
        &self,
        case: &Case,
        world: &World,
        stop: &AtomicBool,
        stderr: &mut String,
    ) -> Result<(), Failure> {
        let cast = Cast::new(case, world)?;
        let assignment = cast.assignment(case, world);
        let assignment = serde_json::to_string(&assignment).map_err(Failure::runner)?;
        world.say(format!("The {} is started: {}", case.program, self.command));
        let (program, pipes) = Program::start(&self.command, &assignment).map_err(|error| {
            let expected = format!("`/bin/sh -c '{}'` to start", self.command);
            Failure::new("start", expected, error.to_string())
        })?;
        let ours = case.program.peer();
        let setup = line::Setup {
            side: ours,
            rule: case.rule,
            forger: Forger::new(ChannelKey::new(cast.key(ours))),
            killer: program.killer(),
            recorder: world.recorder.clone(),
            deadline: self.deadline,
        };
        let (line, end) = Line::start(setup, pipes);
        let table = Table {
            case,
            world,
            view: NodeChain::new(world.chain.node().clone()).map_err(Failure::runner)?,
            line,
            program: RefCell::new(program),
            deadline: self.deadline,
            terms: cast.terms.clone(),
        };
        let played = tokio::select! {
            biased;
            () = stopped(stop) => Err(Failure::runner("the run was broken off")),
            played = self.play_at(&table, &cast, end) => played,
        };
        let Table { program, line, .. } = table;
        *stderr = program.into_inner().end().await;
        drop(line);
        played
    }

    async fn play_at(&self, table: &Table<'_>, cast: &Cast, end: DuplexStream) -> Result<(), Failure> {
        let ours = table.ours();
        let key = cast.key(ours);
        let nonces = NonceSource::new(table.world.key(&format!("{ours}/nonces")).secret_bytes());
        let setup = Setup {
            // Published: the same in every run.
            key_reuse: KeyReuse::Allow,
            observer: table.line.observer.clone(),
            opening_timeout: self.deadline,
            nonces: table.case.joint.then_some(nonces),
            ..Setup::new(ChannelKey::new(key), payout(&key))
        };
        let coin = cast.coin.clone();
        match ours {
            Side::Payer => {
                let ours = against_payee::Ours {
                    end,
                    setup,
                    coin,
                    key,
                };
                Box::pin(against_payee::play(table, ours)).await
            }
            Side::Payee => {
                let change = payout(&cast.key(Side::Payer));
                let ours = against_payer::Ours {
                    end,
                    setup,
                    coin,
                    change,
                };
                Box::pin(against_payer::play(table, ours)).await
            }
        }
    }
}

async fn stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(STOP_LOOK).await;
    }
}

fn blank(case: &Case) -> Transcript {
    Transcript {
        scenario: case.name.clone(),
        summary: case.summary.clone(),
        protocol: case.protocol,
        construction: case.construction,
        unit: Unit::Satoshi,
        network: Network::Regtest,
        entries: Vec::new(),
        transactions: Vec::new(),
        names: Names::default(),
    }
}

/// What both sides of a case bring.
struct Cast {
    payer: SecretKey,
    payee: SecretKey,
    coin: Coin,
    terms: Terms,
}

impl Cast {
    fn new(case: &Case, world: &World) -> Result<Self, Failure> {
        let (payer, payee) = (world.key("payer"), world.key("payee"));
        let coin = world.payer_coin(COIN, CoinKind::Segwit, ChannelId(1))?.coin;
        let terms = Terms {
            minimum_payment: MINIMUM_PAYMENT,
            ..terms(case.protocol, CAPACITY, world)?
        };
        world.name_everything(&terms, "", &payer, &payee, &coin);
        Ok(Self {
            payer,
            payee,
            coin,
            terms,
        })
    }

    const fn key(&self, side: Side) -> SecretKey {
        match side {
            Side::Payer => self.payer,
            Side::Payee => self.payee,
        }
    }

    fn assignment(&self, case: &Case, world: &World) -> Assignment {
        let key = self.key(case.program);
        let told = Assignment::new(case, world.node(), (key, payout(&key)));
        let sums = case.payments();
        let closes = match case.program {
            Side::Payer => Life::ClosedByPayer,
            Side::Payee => Life::ClosedByPayee,
        };
        let close_after = (case.life == closes).then_some(sums.len());
        let sums: Vec<_> = sums.into_iter().map(Amount::to_sat).collect();
        match case.program {
            Side::Payee => Assignment {
                close_after,
                requests: (case.protocol == Protocol::Bond).then_some(sums),
                joint: case.construction.closes_with_one_key().then_some(case.joint),
                ..told
            },
            Side::Payer => Assignment {
                close_after,
                channel: Some(1),
                terms: Some(Proposed::from(&self.terms)),
                coin: Some((&self.coin).into()),
                payments: Some(sums),
                ..told
            },
        }
    }
}
