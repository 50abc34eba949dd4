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
//! `payer/coin`; those of a second channel begin with `day-2-`. Where both sides store the channel, their seeds are made in
//! this way from `payer/seed` and `payee/seed`, and what they would draw at random from labels such as `payee/hello-1`. A
//! scenario that leaves the transactions of another one ([`Scenario::leaves_what`]) has the keys of that. Signatures are RFC
//! 6979, time starts at a constant and the blocks are built here, so every run of a scenario gives the same bytes.
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
//!     world.was_accepted("payment-1")
//! }
//!
//! let story: Play = Box::new(|world| Box::pin(pay_once(world)));
//! let scenario = Scenario::new(Protocol::Example7, "pay-once", "One payment", story);
//! scenario.run(NodeBuilder::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod catalogue;
mod channel;
mod disk;
mod error;
mod interceptor;
mod machine;
mod openings;
mod participant;
mod party_chain;
mod plan;
mod recorder;
mod reorganise;
mod restarts;
#[allow(clippy::module_inception)] // the module has the name of its type
mod scenario;
mod steps;
mod stories;
mod world;

pub use catalogue::{all, find};
pub use channel::Channel;
pub use error::ScenarioError;
pub use interceptor::{Effect, Rule};
pub use party_chain::ChainSource;
pub use plan::{PayerCoin, Plan};
pub use scenario::{Play, Playing, Scenario, ScenarioFailure};
pub use world::World;

#[cfg(feature = "conform")]
pub(crate) use plan::{fund, payout, public};
#[cfg(feature = "conform")]
pub(crate) use recorder::Recorder;
#[cfg(feature = "conform")]
pub(crate) use steps::terms;
#[cfg(feature = "conform")]
pub(crate) use stories::vanish::{skip as skip_before, STAGES};
