//! The documented stories and the attacks, each played by two real parties on a separate node.
//!
//! ```
//! use spilman::scenario;
//! use spilman::transcript::timeline;
//!
//! let scenario = scenario::find("p2sh/example-7/session-end").expect("it is in the list");
//! let transcript = scenario.run(spilman::regtest::NodeBuilder::default())?;
//! assert!(timeline(&transcript).contains("capacity 10 BTC"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every key is the SHA-256 of `spilman/<scenario>/<label>`, with the labels `payer` (K1), `payee` (K2) and
//! `payer/coin`; those of a second channel begin with `day-2-`. Signatures are RFC 6979, time starts at a constant
//! and the blocks are built here, so every run of a scenario gives the same bytes.
//!
//! Your own story is an async function over a [`World`]:
//!
//! ```
//! use bitcoin::Amount;
//! use spilman::channel::{Capacity, ChannelId, Protocol, Terms};
//! use spilman::regtest::{CoinKind, NodeBuilder};
//! use spilman::scenario::{Plan, Play, Scenario, ScenarioError, World};
//! use spilman::transcript::Side;
//!
//! async fn pay_once(world: &mut World) -> Result<(), ScenarioError> {
//!     let coin = world.payer_coin(Amount::from_sat(250_000), CoinKind::Segwit, ChannelId(1))?;
//!     let capacity = Capacity::new(Amount::from_sat(200_000)).expect("within the limit");
//!     let terms = Terms::with(Protocol::Example7, world.construction(), capacity, world.tip()?);
//!     let terms = terms.expect("a day ahead");
//!     let channel = world.open(Plan::new(terms, coin)).await?;
//!     world.mine(3, &[&channel]).await?;
//!     channel.pay(Amount::from_sat(5_000)).await?;
//!     channel.close(Side::Payee).await?;
//!     world.was_taken("payment-1")
//! }
//!
//! let story: Play = Box::new(|world| Box::pin(pay_once(world)));
//! let scenario = Scenario::new(Protocol::Example7, "pay-once", "One payment", story);
//! scenario.run(NodeBuilder::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bond;
mod channel;
mod closing;
mod error;
mod example7;
mod interceptor;
mod locks;
mod malleate;
mod participant;
mod party_chain;
mod plan;
mod recorder;
mod script_refund;
mod stepped;
mod story;
mod turns;
mod vanish;
mod world;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bitcoin::Network;
use thiserror::Error;

pub use channel::Channel;
pub use error::ScenarioError;
pub use interceptor::{Effect, Rule};
pub use party_chain::ChainSource;
pub use plan::{PayerCoin, Plan};
pub use world::World;

use crate::channel::{Construction, Protocol};
use crate::regtest::{NodeBuilder, Policy};
use crate::transcript::{Names, Transcript, Unit};
#[cfg(feature = "conform")]
pub(crate) use plan::{fund, payout};
pub(crate) use recorder::Recorder;
#[cfg(feature = "conform")]
pub(crate) use turns::terms;
#[cfg(feature = "conform")]
pub(crate) use vanish::{skip as skip_before, STAGES};

/// A story, played in its own world.
pub type Play = Box<dyn for<'w> Fn(&'w mut World) -> Playing<'w> + Send + Sync>;
/// A story that is being played.
pub type Playing<'w> = Pin<Box<dyn Future<Output = Result<(), ScenarioError>> + 'w>>;

/// A story: who does what on which chain, and its required end.
pub struct Scenario {
    name: String,
    story: String,
    protocol: Protocol,
    construction: Construction,
    summary: String,
    unit: Unit,
    policy: Policy,
    watch: ChainSource,
    play: Play,
}

impl Scenario {
    /// Creates a new story, to be [run](Scenario::run) like the others, on [`Construction::P2sh`].
    #[must_use]
    pub fn new(protocol: Protocol, name: &str, summary: &str, play: Play) -> Self {
        Self {
            story: name.to_owned(),
            name: full_name(Construction::P2sh, protocol, name),
            protocol,
            construction: Construction::P2sh,
            summary: summary.to_owned(),
            unit: Unit::Satoshi,
            policy: Policy::default(),
            watch: ChainSource::default(),
            play,
        }
    }

    /// The same story on another construction.
    #[must_use]
    pub fn on(self, construction: Construction) -> Self {
        Self {
            name: full_name(construction, self.protocol, &self.story),
            construction,
            ..self
        }
    }

    /// Sets the unit of its transcript's amounts.
    #[must_use]
    pub fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    /// Sets what its node relays.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Sets how its parties see the chain. The story and its output are the same either way.
    #[must_use]
    pub fn watch(self, watch: ChainSource) -> Self {
        Self { watch, ..self }
    }

    /// Returns its unique name: the construction, the protocol, the story, with a slash after each.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the conversation.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns what the funding output is made of.
    pub const fn construction(&self) -> Construction {
        self.construction
    }

    /// One line.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// Plays the story on a fresh node, and checks every step. `node` may name another `bitcoind`; the scenario sets the
    /// policy.
    ///
    /// Blocks the calling thread for a fraction of a second, and must not be called from async code.
    ///
    /// # Errors
    /// If a result differs from the story; the transcript up to that point is kept.
    pub fn run(&self, node: NodeBuilder) -> Result<Transcript, ScenarioFailure> {
        let recorder = Recorder::new(self.blank());
        let result = self.play(node.policy(self.policy), &recorder);
        let transcript = recorder.transcript();
        match result {
            Ok(()) => Ok(transcript),
            Err((error, evidence)) => Err(ScenarioFailure {
                name: self.name.clone(),
                error,
                transcript: Box::new(transcript),
                evidence,
            }),
        }
    }

    /// With an error comes where its evidence is kept; there is none if there was no node.
    fn play(&self, node: NodeBuilder, recorder: &Recorder) -> Result<(), (ScenarioError, Evidence)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| (ScenarioError::Runtime(error), None))?;
        let world = World::start(node, self.watch, recorder.clone(), &self.name, self.construction);
        let mut world = world.map_err(|error| (error, None))?;
        let played = runtime.block_on((self.play)(&mut world));
        played.map_err(|error| {
            world.attach_transcript();
            (
                error,
                Some(world.node().keep_evidence().map_err(|lost| lost.to_string())),
            )
        })
    }

    fn blank(&self) -> Transcript {
        Transcript {
            scenario: self.name.clone(),
            summary: self.summary.clone(),
            protocol: self.protocol,
            construction: self.construction,
            unit: self.unit,
            network: Network::Regtest,
            entries: Vec::new(),
            transactions: Vec::new(),
            names: Names::default(),
        }
    }
}

fn full_name(construction: Construction, protocol: Protocol, story: &str) -> String {
    format!("{construction}/{protocol}/{story}")
}

/// A scenario whose result differs from its story.
#[derive(Debug, Error)]
#[error("{name}: {error}{}", last_line(evidence.as_ref()))]
pub struct ScenarioFailure {
    name: String,
    #[source]
    error: ScenarioError,
    transcript: Box<Transcript>,
    evidence: Evidence,
}

/// The folder, or why it could not be written; none if there was no node.
type Evidence = Option<Result<PathBuf, String>>;

fn last_line(evidence: Option<&Result<PathBuf, String>>) -> String {
    match evidence {
        None => String::new(),
        Some(Ok(folder)) => format!("\nevidence: {}", folder.display()),
        Some(Err(lost)) => format!("\n{lost}"),
    }
}

impl ScenarioFailure {
    /// Returns what happened up to the failure.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Returns the folder with the [evidence](crate::regtest::Node::keep_evidence): the transcript up to the failure,
    /// and what the node had to say.
    pub fn evidence(&self) -> Option<&Path> {
        self.evidence.as_ref()?.as_deref().ok()
    }
}

/// Every scenario, construction by construction, and on each protocol by protocol.
#[must_use]
pub fn all() -> Vec<Scenario> {
    Construction::ALL.into_iter().flat_map(all_on).collect()
}

fn all_on(construction: Construction) -> Vec<Scenario> {
    let mut all = Vec::new();
    for protocol in Protocol::ALL {
        if !construction.runs(protocol) {
            continue;
        }
        all.extend(match protocol {
            Protocol::SteppedLocktime => stepped::scenarios(construction),
            Protocol::Example7 => example7::scenarios(construction),
            Protocol::Bond => bond::scenarios(construction),
        });
        all.extend(vanish::scenarios(protocol, construction));
    }
    all
}

/// Returns the scenario of that name.
#[must_use]
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

/// Boxes a story's future; stories are plain async functions.
macro_rules! play {
    ($story:path) => {
        |world| Box::pin($story(world))
    };
}
use play;
