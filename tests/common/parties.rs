//! A payer and a payee as services on any connection, on one node.

use std::time::Duration;

use bitcoin::TxOut;
use spilman::channel::{ChannelId, ChannelKey, SettlementTx, Stage};
use spilman::regtest::Regtest;
use spilman::service::{
    wallet_fn, BitcoindChain, Chain, Handle, KeyReuse, OpenError, PayeeHandle, PayerHandle, Proposal, Setup,
    Status,
};
use spilman::sim::PartySetup;
use tokio::io::{AsyncRead, AsyncWrite};

use super::cast::Cast;

/// Far more than anything here takes.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub struct Parties {
    pub payer: PayerHandle,
    pub payee: PayeeHandle,
    chains: [BitcoindChain; 2],
}

pub fn view(chain: &Regtest) -> BitcoindChain {
    BitcoindChain::when_announced(chain.node().new_client())
}

/// Every test uses the same keys.
pub fn setup(party: &PartySetup) -> Setup {
    Setup::new(ChannelKey::new(party.secret), party.payout.clone())
        .key_reuse(KeyReuse::Allow)
        .limits(party.limits.clone())
}

pub async fn open_payer<IO, C>(io: IO, cast: &Cast, view: C) -> Result<PayerHandle, OpenError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Chain,
{
    let setup = setup(&cast.setup.payer);
    let wallet = wallet_fn(|output: &TxOut| cast.coin.spend(vec![output.clone()]));
    setup
        .open(
            io,
            view,
            Proposal {
                id: ChannelId(1),
                terms: cast.setup.terms.clone(),
            },
            wallet,
        )
        .await
}

pub async fn open_payee<IO, C>(io: IO, cast: &Cast, view: C) -> Result<PayeeHandle, OpenError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: Chain,
{
    setup(&cast.setup.payee).accept(io, view).await
}

impl Parties {
    pub async fn open<A, B>(chain: &Regtest, cast: &Cast, (payer, payee): (A, B)) -> Self
    where
        A: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        B: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let chains = [view(chain), view(chain)];
        let (payer, payee) = tokio::join!(
            open_payer(payer, cast, chains[0].clone()),
            open_payee(payee, cast, chains[1].clone())
        );
        Self {
            payer: payer.expect("the payer opens"),
            payee: payee.expect("the payee opens"),
            chains,
        }
    }

    /// The same, and the channel is open: three blocks have been mined, and both have heard of them.
    pub async fn ready<A, B>(chain: &Regtest, cast: &Cast, connection: (A, B)) -> Self
    where
        A: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        B: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let parties = Self::open(chain, cast, connection).await;
        chain.mine(3).expect("blocks");
        parties.poll().await;
        opens(&parties.payer).await;
        parties
    }

    /// The latest payment that the payee holds.
    pub async fn payment(&self) -> SettlementTx {
        redeemable(&self.payee).await
    }

    /// Both poll the chain, and have acted on what they saw.
    pub async fn poll(&self) {
        self.poll_as_payer().await;
        poll(&self.payee, &self.chains[1]).await;
    }

    pub async fn poll_as_payer(&self) {
        poll(&self.payer, &self.chains[0]).await;
    }

    pub fn stages(&self) -> [Stage; 2] {
        [
            self.payer.status().borrow().stage,
            self.payee.status().borrow().stage,
        ]
    }
}

async fn poll<S>(side: &Handle<S>, chain: &BitcoindChain) {
    chain.announce();
    let serial = chain.announced();
    until(side, "has looked at the chain", |status| {
        status.seen >= serial || status.outcome.is_some()
    })
    .await;
}

/// Waits until the payer has the payee's word that payments count.
pub async fn opens(payer: &PayerHandle) {
    until(payer, "is ready to pay", |status| status.stage == Stage::Open).await;
}

pub async fn redeemable(payee: &PayeeHandle) -> SettlementTx {
    payee.redeemable().await.expect("running").expect("a payment")
}

/// Waits for a party; a timeout says for what, and what was there instead.
pub async fn until<S>(side: &Handle<S>, what: &str, condition: impl FnMut(&Status) -> bool) {
    let mut status = side.status();
    let waited = tokio::time::timeout(DEADLINE, status.wait_for(condition))
        .await
        .map(|seen| seen.is_ok());
    assert_eq!(
        waited,
        Ok(true),
        "waited for a party that {what}; last seen: {:?}",
        side.status().borrow()
    );
}
