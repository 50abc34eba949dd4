use std::cell::Cell;
use std::sync::Arc;

use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, CompressedPublicKey, FeeRate, PublicKey, ScriptBuf, Transaction, TxOut, Weight};
use miniscript::Descriptor;

use super::channel::Channel;
use super::error::ScenarioError;
use super::interceptor::{Interceptor, Rule};
use super::participant::Participant;
use super::party_chain::PartyChain;
use super::world::World;
use crate::channel::{ChannelId, ChannelKey, Limits, NonceSource, PayeeKey, PayerKey, Terms};
use crate::regtest::{change, Coin, CoinKind, InvalidRequest};
use crate::service::{wallet_fn, KeyReuse, Proposal, Setup};
use crate::transcript::{sat, Entry, Names, Side};

/// How a story opens a channel.
pub struct Plan {
    /// What the payer proposes.
    pub terms: Terms,
    /// What both sides agree to.
    pub limits: Limits,
    /// The coin that the payer locks.
    pub coin: PayerCoin,
    /// What the interceptor does to messages.
    pub rules: Vec<Rule>,
    /// Whether both sides store the channel in a file, from which they can restart.
    pub(super) stored: bool,
    /// The side that loses power instead of its first broadcast; only of a stored channel.
    pub(super) cut_at_broadcast: Option<Side>,
}

/// A coin of the payer, for one channel.
pub struct PayerCoin {
    pub(super) id: ChannelId,
    pub(crate) coin: Coin,
}

impl Plan {
    /// Default limits and an honest wire.
    #[must_use]
    pub fn new(terms: Terms, coin: PayerCoin) -> Self {
        Self {
            terms,
            limits: Limits::default(),
            coin,
            rules: Vec::new(),
            stored: false,
            cut_at_broadcast: None,
        }
    }
}

/// Prefixes the names of a second channel's keys and transactions with its number.
pub(super) fn label(id: ChannelId) -> String {
    if id == ChannelId(1) {
        String::new()
    } else {
        format!("day-{id}-")
    }
}

impl World {
    /// Makes a coin for the payer, in a separate block.
    pub fn payer_coin(
        &self,
        amount: Amount,
        kind: CoinKind,
        id: ChannelId,
    ) -> Result<PayerCoin, ScenarioError> {
        let coin = self
            .chain
            .fund_key(amount, kind, self.key(&format!("{}payer/coin", label(id))))?;
        self.recorder.output(coin.outpoint, coin.output.clone());
        let text = format!("owns a coin of {}", sat(coin.value()));
        self.recorder.add(Entry::Notice {
            by: Side::Payer.into(),
            text,
        });
        self.record_tip()?;
        Ok(PayerCoin { id, coin })
    }

    /// Lets both parties open a channel over a recorded wire.
    ///
    /// The parties may fail; [`Channel::payer`] and [`Channel::payee`] say so.
    ///
    /// # Errors
    /// If the node fails, or the parties do not become idle.
    pub async fn open(&self, plan: Plan) -> Result<Channel, ScenarioError> {
        if plan.stored {
            return self.open_stored(plan).await;
        }
        let Plan {
            terms,
            limits,
            coin: PayerCoin { id, coin },
            rules,
            ..
        } = plan;
        let label = label(id);
        let (payer_key, payee_key) = (
            self.key(&format!("{label}payer")),
            self.key(&format!("{label}payee")),
        );
        self.name_everything(&terms, &label, [public(&payer_key), public(&payee_key)], &coin);
        let (payer_chain, payee_chain) = (PartyChain::of(&self.chain)?, PartyChain::of(&self.chain)?);
        let (payer_end, payee_end, wire) = Interceptor::start(rules, self.recorder.clone(), "is gone");
        let setup = |side: Side, key: SecretKey| {
            let nonces = self.key(&format!("{label}{side}/nonces")).secret_bytes();
            Setup::new(ChannelKey::new(key), payout(&key))
                // Published: the same in every run.
                .key_reuse(KeyReuse::Allow)
                .limits(limits.clone())
                .observer(self.recorder.observer(side, &label))
                .nonces(Some(NonceSource::fixed(nonces)))
        };
        let feerate = terms.feerate;
        let wallet = wallet_fn(|output: &TxOut| fund(&coin, output, feerate, &payout(&payer_key)));
        let proposal = Proposal { id, terms };
        let opening = setup(Side::Payer, payer_key).open(payer_end, payer_chain.clone(), proposal, wallet);
        let accepting = setup(Side::Payee, payee_key).accept(payee_end, payee_chain.clone());
        let (payer, payee) = tokio::join!(opening, accepting);
        let channel = Channel {
            payer: Participant::new(Side::Payer, payer.map(|payer| Some(Arc::new(payer))), payer_chain),
            payee: Participant::new(Side::Payee, payee.map(|payee| Some(Arc::new(payee))), payee_chain),
            wire,
            recorder: self.recorder.clone(),
            label,
            coin,
            payments: Cell::new(0),
            machines: None,
        };
        channel.note_failures();
        channel.rest().await?;
        channel.see().await;
        Ok(channel)
    }

    pub(crate) fn name_everything(&self, terms: &Terms, label: &str, [k1, k2]: [PublicKey; 2], coin: &Coin) {
        self.recorder.edit(|transcript| {
            let names = &mut transcript.names;
            names
                .key(k1, &format!("{label}payer key K1"))
                .key(k2, &format!("{label}payee key K2"));
            names
                .script(&payout_to(k1), "payer")
                .script(&payout_to(k2), "payee");
            names.key(coin.public_key(), &format!("{label}payer's coin key"));
            names.script(&coin.output.script_pubkey, &format!("{label}payer's coin"));
            name_channel(names, terms, label, [k1, k2]);
            names.txid(coin.outpoint.txid, &format!("{label}payer's coin"));
        });
    }
}

/// Names the funding output and what its spends reveal; invalid terms have nothing to name.
fn name_channel(names: &mut Names, terms: &Terms, label: &str, [k1, k2]: [PublicKey; 2]) {
    let (k1, k2) = (PayerKey::new(k1.inner), PayeeKey::new(k2.inner));
    let (Ok(descriptor), Ok(scripts)) = (terms.descriptor(k1, k2), terms.revealed_scripts(k1, k2)) else {
        return;
    };
    let tree = match &descriptor {
        Descriptor::Tr(output) => output.spend_info().to_tap_tree().map(|tree| (output, tree)),
        _ => None,
    };
    if let Some((output, leaves)) = &tree {
        let key = output.spend_info().internal_key();
        names
            .x_only_key(key, &format!("{label}MuSig2 of K1 and K2"))
            .taproot(key, leaves, &format!("{label}channel"));
    }
    for (what, script) in scripts {
        let name = format!("{label}{what}");
        if tree.is_some() {
            names.leaf(&script, &name);
        } else {
            names.redeem_script(&script, &name);
        }
    }
}

/// P2WPKH of a channel key: the documents' "goes to K1" and "goes to K2".
pub(crate) fn payout(key: &SecretKey) -> ScriptBuf {
    payout_to(public(key))
}

pub(super) fn payout_to(key: PublicKey) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&CompressedPublicKey(key.inner).wpubkey_hash())
}

pub(crate) fn public(key: &SecretKey) -> PublicKey {
    PublicKey::new(ChannelKey::new(*key).public_key())
}

/// The payer's wallet: one coin in, the channel's output and the change out.
pub(crate) fn fund(
    coin: &Coin,
    output: &TxOut,
    feerate: FeeRate,
    back: &ScriptBuf,
) -> Result<Transaction, InvalidRequest> {
    let coins = std::slice::from_ref(coin);
    if coin.value() == output.value {
        return coin.spend(vec![output.clone()]);
    }
    let outputs = |fee| {
        let change = change(coins, std::slice::from_ref(output), fee, back.clone())?;
        Ok(vec![output.clone(), change])
    };
    let draft = coin.spend(outputs(Amount::ZERO)?)?;
    // The real signature may be a byte longer than the draft's.
    let weight = draft.weight() + Weight::from_non_witness_data_size(1);
    let fee = feerate.fee_wu(weight).unwrap_or(Amount::MAX);
    coin.spend(outputs(fee)?)
}
