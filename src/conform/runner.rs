use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, Network};
use tokio::io::DuplexStream;

use super::assignment::Assignment;
use super::case::{Case, Ending, InterferenceRule};
use super::failure::{CaseFailure, Stop};
use super::link::{LinkSetup, ProgramLink};
use super::program::Program;
use super::run::{OurSide, Run};
use super::{against_payee, against_payer, resuming};
use crate::adversary::Forger;
use crate::channel::{ChannelId, ChannelKey, NonceSource, Protocol, Terms};
use crate::json::TermNumbers;
use crate::regtest::{Coin, CoinKind, NodeBuilder};
use crate::scenario::{payout, public, terms, ChainSource, Recorder, World};
use crate::service::{BitcoindChain, KeyReuse, Setup};
use crate::transcript::{Names, Side, Transcript, Unit};

/// The default deadline of each step of the program.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(20);

/// The interval for checking whether the run is interrupted.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

const CAPACITY: Amount = Amount::from_sat(1_000_000);
const COIN: Amount = Amount::from_sat(1_050_000);
/// Two, so that there is a payment below the minimum.
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
pub struct CaseResult {
    /// Whether the program passed, or why not.
    pub verdict: Result<(), CaseFailure>,
    /// Why the case says nothing about this program, if so. The verdict is then `Ok`.
    pub not_applicable: Option<String>,
    /// The run was interrupted, so the verdict means nothing.
    pub interrupted: bool,
    /// What happened, with every transaction.
    pub transcript: Transcript,
    /// The end of the program's standard error, at most 64 KiB.
    pub stderr: String,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The program did what the case demands.
    Passed,
    /// It did not.
    Failed,
    /// It says that it does not do what the case is about.
    NotApplicable,
}

impl Verdict {
    /// Returns the published name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotApplicable => "not-applicable",
        }
    }
}

impl CaseResult {
    /// Returns how the case ended.
    pub const fn outcome(&self) -> Verdict {
        match (&self.verdict, &self.not_applicable) {
            (Err(_), _) => Verdict::Failed,
            (Ok(()), Some(_)) => Verdict::NotApplicable,
            (Ok(()), None) => Verdict::Passed,
        }
    }
}

impl Runner {
    /// Creates a runner that starts `command` with `/bin/sh -c`, as the program on this side.
    #[must_use]
    pub fn new(command: impl Into<String>, program: Side) -> Self {
        Self {
            command: command.into(),
            program,
            deadline: DEFAULT_DEADLINE,
        }
    }

    /// Sets the deadline of each step of the program.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Plays one case on a fresh node. Blocks the calling thread, and must not be called from async code. Once `stop` is
    /// set, it ends at once.
    pub fn play(&self, case: &Case, node: NodeBuilder, stop: &AtomicBool) -> CaseResult {
        let recorder = Recorder::new(blank(case));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let mut played = Played::default();
        let verdict = match (&runtime, case.program == self.program) {
            (Err(error), _) => Err(CaseFailure::runner(error)),
            (_, false) => Err(CaseFailure::runner(format!(
                "{} is a case for the other side",
                case.name
            ))),
            (Ok(runtime), true) => {
                // A restart is to lose the mempool.
                let node = match case.taken_back {
                    Some(_) => node.arg("-persistmempool=0"),
                    None => node,
                };
                let world = World::start(
                    node,
                    ChainSource::Node,
                    recorder.clone(),
                    &case.name,
                    case.construction,
                );
                match world {
                    Ok(world) => runtime.block_on(self.connect(case, &world, stop, &mut played)),
                    Err(error) => Err(error.into()),
                }
            }
        };
        CaseResult {
            interrupted: verdict.is_err() && stop.load(Ordering::Relaxed),
            verdict,
            not_applicable: played.not_applicable,
            transcript: recorder.transcript(),
            stderr: played.stderr,
        }
    }

    async fn connect(
        &self,
        case: &Case,
        world: &World,
        stop: &AtomicBool,
        played: &mut Played,
    ) -> Result<(), CaseFailure> {
        let launcher = Launcher {
            command: &self.command,
            case,
            world,
            parties: CaseParties::new(case, world)?,
            view: BitcoindChain::when_announced(world.node().new_client()),
            deadline: self.deadline,
            state: Launcher::state(case, world)?,
            stderr: RefCell::default(),
        };
        let played_out = tokio::select! {
            biased;
            () = stopped(stop) => Err(CaseFailure::runner("the run was interrupted").into()),
            played = self.play_with(&launcher) => played,
        };
        played.stderr = launcher.stderr.into_inner();
        match played_out {
            Ok(()) => Ok(()),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::NotApplicable(why)) => {
                played.not_applicable = Some(why);
                Ok(())
            }
            Err(Stop::Cut) => Err(CaseFailure::runner("the case ended with the connection")),
        }
    }

    async fn play_with(&self, launcher: &Launcher<'_>) -> Result<(), Stop> {
        if launcher.case.resumption.is_some() {
            return Box::pin(resuming::play(launcher)).await;
        }
        let (run, end) = launcher.launch(launcher.case.rule)?;
        let played = self.play_at(&run, &launcher.parties, end).await;
        launcher.end(run).await;
        played
    }

    async fn play_at(&self, run: &Run<'_>, parties: &CaseParties, end: DuplexStream) -> Result<(), Stop> {
        let ours = run.ours();
        let key = parties.key(ours);
        let nonces = NonceSource::fixed(run.world.key(&format!("{ours}/nonces")).secret_bytes());
        let setup = Setup::new(ChannelKey::new(key), payout(&key))
            // Published: the same in every run.
            .key_reuse(KeyReuse::Allow)
            .observer(run.link.observer.clone())
            .opening_timeout(self.deadline)
            .nonces(run.case.cooperative.then_some(nonces));
        let side = OurSide {
            end,
            setup,
            coin: parties.coin.clone(),
            payer_payout: payout(&parties.payer),
        };
        match ours {
            Side::Payer => Box::pin(against_payee::play(run, side)).await,
            Side::Payee => Box::pin(against_payer::play(run, side)).await,
        }
    }
}

/// What a case leaves besides its verdict.
#[derive(Default)]
struct Played {
    not_applicable: Option<String>,
    stderr: String,
}

/// Starts the program of a case, once or several times.
pub(super) struct Launcher<'a> {
    command: &'a str,
    pub case: &'a Case,
    pub world: &'a World,
    pub parties: CaseParties,
    pub view: BitcoindChain,
    deadline: Duration,
    /// The folder that outlives the program.
    pub state: Option<PathBuf>,
    stderr: RefCell<String>,
}

impl<'a> Launcher<'a> {
    /// Beside the node's data, so that it goes with them, and stays with the evidence.
    fn state(case: &Case, world: &World) -> Result<Option<PathBuf>, CaseFailure> {
        let state = case.resumption.map(|_| world.node().data_dir().join("program"));
        if let Some(state) = &state {
            std::fs::create_dir_all(state).map_err(CaseFailure::runner)?;
        }
        Ok(state)
    }

    /// Starts the program with a new connection, to which the rule applies. Returns our end of it.
    pub fn launch(&self, rule: Option<InterferenceRule>) -> Result<(Run<'a>, DuplexStream), CaseFailure> {
        let (case, world) = (self.case, self.world);
        let assignment = Assignment {
            state: self.state.clone(),
            ..self.parties.assignment(case, world)
        };
        let assignment = serde_json::to_string(&assignment).map_err(CaseFailure::runner)?;
        world.say(format!("The {} is started: {}", case.program, self.command));
        let (program, pipes) = Program::start(self.command, &assignment).map_err(|error| {
            let expected = format!("`/bin/sh -c '{}'` to start", self.command);
            CaseFailure::new("start", expected, error.to_string())
        })?;
        let ours = case.program.peer();
        let setup = LinkSetup {
            side: ours,
            rule,
            forger: Forger::new(ChannelKey::new(self.parties.key(ours))),
            killer: program.killer(),
            recorder: world.recorder.clone(),
            deadline: self.deadline,
        };
        let (link, end) = ProgramLink::start(setup, pipes);
        let run = Run {
            case,
            world,
            view: self.view.clone(),
            link,
            program: RefCell::new(program),
            deadline: self.deadline,
            terms: self.parties.terms.clone(),
        };
        Ok((run, end))
    }

    /// Ends the program, if it still runs, and its connection.
    pub async fn end(&self, run: Run<'_>) {
        let Run { program, link, .. } = run;
        let stderr = program.into_inner().end().await;
        self.stderr.borrow_mut().push_str(&stderr);
        drop(link);
    }
}

async fn stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(POLL_INTERVAL).await;
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

/// The keys, the coin and the terms of a case.
pub(super) struct CaseParties {
    payer: SecretKey,
    payee: SecretKey,
    pub coin: Coin,
    pub terms: Terms,
}

impl CaseParties {
    fn new(case: &Case, world: &World) -> Result<Self, CaseFailure> {
        let (payer, payee) = (world.key("payer"), world.key("payee"));
        let coin = world.payer_coin(COIN, CoinKind::Segwit, ChannelId(1))?.coin;
        let terms = Terms {
            minimum_payment: MINIMUM_PAYMENT,
            ..terms(case.protocol, CAPACITY, world)?
        };
        world.name_everything(&terms, "", [public(&payer), public(&payee)], &coin);
        Ok(Self {
            payer,
            payee,
            coin,
            terms,
        })
    }

    pub const fn key(&self, side: Side) -> SecretKey {
        match side {
            Side::Payer => self.payer,
            Side::Payee => self.payee,
        }
    }

    fn assignment(&self, case: &Case, world: &World) -> Assignment {
        let key = self.key(case.program);
        let common = Assignment::new(case, world.node(), (key, payout(&key)));
        let sums = case.payments();
        let closes = match case.program {
            Side::Payer => Ending::ClosedByPayer,
            Side::Payee => Ending::ClosedByPayee,
        };
        let close_after = (case.ending == closes).then_some(sums.len());
        let sums: Vec<_> = sums.into_iter().map(Amount::to_sat).collect();
        match case.program {
            Side::Payee => Assignment {
                close_after,
                requests: (case.protocol == Protocol::Bond).then_some(sums),
                joint: case
                    .construction
                    .closes_with_one_key()
                    .then_some(case.cooperative),
                ..common
            },
            Side::Payer => Assignment {
                close_after,
                channel: Some(1),
                terms: Some(
                    TermNumbers::try_from(&self.terms).expect("the runner proposes feerates below 32 bits"),
                ),
                coin: Some((&self.coin).into()),
                payments: Some(sums),
                ..common
            },
        }
    }
}
