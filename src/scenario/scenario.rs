use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bitcoin::Network;
use thiserror::Error;

use super::error::ScenarioError;
use super::party_chain::ChainSource;
use super::recorder::Recorder;
use super::world::World;
use crate::channel::{Construction, Protocol};
use crate::regtest::{NodeBuilder, Policy};
use crate::transcript::{Names, Transcript, Unit};

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
    like: Option<String>,
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
            like: None,
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

    /// Gives it the keys of another story of this protocol and construction, whose transactions it leaves.
    #[must_use]
    pub fn like(self, story: &str) -> Self {
        let like = Some(story.to_owned());
        Self { like, ..self }
    }

    /// Returns the name of the scenario whose keys it has and whose transactions it leaves, if it has one. Only the
    /// signature of a cooperative close, which takes fresh nonces, may differ.
    pub fn leaves_what(&self) -> Option<String> {
        let like = self.like.as_ref()?;
        Some(full_name(self.construction, self.protocol, like))
    }

    /// Returns its unique name: `construction/protocol/story`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the protocol.
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
        let keys_of = self.leaves_what().unwrap_or_else(|| self.name.clone());
        let world = World::start(node, self.watch, recorder.clone(), &keys_of, self.construction);
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
