//! A payer and a payee on a node, without a wire between them, so that a test can come between any two steps.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::SecretKey;
use bitcoin::{Amount, FeeRate, OutPoint, Sequence, Transaction, TxOut};
use spilman::channel::{
    Action, ApplyError, ChannelParams, ChildTx, Construction, Envelope, Event, Message, SettlementTx,
    SpendRole,
};
use spilman::regtest::{Coin, CoinKind, RejectReason};
use spilman::sim::{Pair, PartySetup, SimError};
use spilman::transcript::Side;

use super::cast::Cast;
use super::pair::sent;
use super::relay::Relay;
use super::spend;

/// Both parties, and what came of what they did.
pub struct Channel {
    pub cast: Cast,
    pub pair: Pair<Relay>,
    /// What one side said and the other refused.
    pub refused: Vec<(Side, ApplyError)>,
}

impl Channel {
    pub fn funded(cast: Cast, pair: Pair<Relay>) -> Self {
        let refused = Vec::new();
        let mut channel = Self { cast, pair, refused };
        channel.run();
        channel.poll();
        channel
    }

    /// One side is told something; all that follows from it happens at once.
    pub fn tell(&mut self, side: Side, event: Event) -> Result<(), ApplyError> {
        let actions = self.pair.tell(side, event)?;
        self.pair.queue(side, actions);
        self.run();
        Ok(())
    }

    /// One side hears something that the other has not said.
    pub fn hear(&mut self, side: Side, message: Message) -> Result<(), ApplyError> {
        let envelope = Envelope {
            channel: self.pair.payee.params().id(),
            message,
        };
        self.tell(side, Event::Message(envelope))
    }

    /// Whatever is refused is noted, and the rest goes on.
    fn run(&mut self) {
        while !self.pair.pending().is_empty() {
            match self.pair.step() {
                Ok(()) => {}
                Err(SimError::Refused { by, refusal, .. }) => self.refused.push((by, refusal.into())),
                Err(SimError::Apply { side, error }) => self.refused.push((side, error)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Both poll the chain, the payee first.
    pub fn poll(&mut self) {
        for side in [Side::Payee, Side::Payer] {
            self.poll_as(side);
        }
    }

    pub fn poll_as(&mut self, side: Side) {
        let outpoint = self.outpoint();
        let seen = Event::Chain(self.pair.network.view(outpoint));
        self.tell(side, seen).expect("what a node says is never refused");
    }

    pub fn outpoint(&self) -> OutPoint {
        self.pair.payee.funding().outpoint()
    }

    pub fn params(&self) -> &ChannelParams {
        self.pair.payee.params()
    }

    pub fn party(&self, side: Side) -> &PartySetup {
        match side {
            Side::Payer => &self.cast.setup.payer,
            Side::Payee => &self.cast.setup.payee,
        }
    }

    /// The payer's secret, and the payee's.
    pub fn keys(&self) -> [SecretKey; 2] {
        [Side::Payer, Side::Payee].map(|side| self.party(side).secret)
    }

    pub fn construction(&self) -> Construction {
        self.params().terms().construction
    }

    /// The payer signs a payment of this much more, which is still on its way.
    pub fn sign(&mut self, more: Amount) -> Envelope {
        let told = self.pair.tell(Side::Payer, Event::Pay(more));
        let actions = told.expect("the payer can pay");
        sent(actions).next().expect("a payment is sent")
    }

    /// The payee hears this, and does not answer yet.
    pub fn receive(&mut self, message: Envelope) -> Result<Vec<Action>, ApplyError> {
        self.pair.tell(Side::Payee, Event::Message(message))
    }

    /// A payment that goes well, as the payee would broadcast it.
    pub fn pay(&mut self, more: Amount) -> SettlementTx {
        self.tell(Side::Payer, Event::Pay(more))
            .expect("the payer can pay");
        let at = self.construction();
        assert_eq!(self.refused, [], "{at}: {more}");
        assert_eq!(self.pair.payee.paid(), self.pair.payer.paid(), "{at}");
        self.redeemable()
    }

    /// The latest payment, as the payee would broadcast it.
    pub fn redeemable(&self) -> SettlementTx {
        let redeemable = self.pair.payee.redeemable().expect("completed");
        redeemable.expect("a payment is held")
    }

    /// The payee asks the payer for a settlement at this feerate, and broadcasts it.
    pub fn close_at(&mut self, feerate: FeeRate) -> SettlementTx {
        self.tell(Side::Payee, Event::CloseAt(feerate))
            .expect("it can be asked for");
        assert_eq!(self.refused, [], "{}", self.construction());
        self.pair.payee.settlement().expect("the payer answers").clone()
    }

    /// The last transaction of this role was accepted, or rejected for this reason.
    #[track_caller]
    pub fn assert_answer(&self, role: SpendRole, expected: Option<RejectReason>) {
        let (at, broadcasts) = (self.construction(), &self.pair.network.broadcasts);
        assert_eq!(self.answer(role), expected, "{at}: {broadcasts:?}");
    }

    /// What the last transaction of this role was answered.
    #[track_caller]
    pub fn answer(&self, role: SpendRole) -> Option<RejectReason> {
        let mut answers = self.pair.network.broadcasts.iter().rev();
        let last = answers.find(|(its, ..)| *its == role);
        last.unwrap_or_else(|| panic!("no {} was broadcast", role.name()))
            .2
    }

    /// What the funding output's value leaves over.
    pub fn fee(&self, tx: &Transaction) -> Amount {
        let paid_out: Amount = tx.output.iter().map(|output| output.value).sum();
        self.params().terms().capacity.to_amount() - paid_out
    }

    /// An output of a spend, with the key that spends it.
    pub fn coin(&self, side: Side, parent: &Transaction) -> Coin {
        let party = self.party(side);
        let (key, script) = (party.secret, &party.payout);
        let mut outputs = (0..).zip(&parent.output);
        let (vout, output) = outputs
            .find(|(_, output)| output.script_pubkey == *script)
            .unwrap_or_else(|| panic!("nothing for the {side:?} in {parent:?}"));
        Coin {
            outpoint: OutPoint::new(parent.compute_txid(), vout),
            output: output.clone(),
            key,
            kind: if script.is_p2pkh() {
                CoinKind::Legacy
            } else {
                CoinKind::Segwit
            },
            funding: parent.clone(),
        }
    }

    /// What the wallet of a side does with a child of the side's output.
    pub fn sign_child(&self, side: Side, child: &ChildTx, parent: &Transaction) -> Transaction {
        let coin = self.coin(side, parent);
        assert_eq!(child.prevout(), &coin.output);
        let mut tx = child.unsigned().clone();
        coin.sign(&mut tx).expect("it spends the coin");
        tx
    }

    /// Signatures of both over whatever this is, payer's first.
    pub fn signatures(&self, tx: &Transaction) -> [Vec<u8>; 2] {
        self.keys().map(|key| spend::sign(self.params(), tx, &key))
    }

    /// Both sign whatever this is.
    pub fn both_sign(&self, tx: Transaction) -> Transaction {
        let signatures = self.signatures(&tx);
        spend::finish(self.params(), tx, signatures)
    }

    /// The latest payment, unsigned.
    pub fn payment(&self) -> Transaction {
        spend::stripped(self.redeemable().tx())
    }

    /// The refund with these two fields, as the payer can sign it: alone where the script lets it.
    pub fn refund(&self, lock: LockTime, sequence: Sequence) -> Transaction {
        let output = vec![self.to_payer(self.params().refund_amount())];
        let tx = spend::unsigned(self.outpoint(), lock, sequence, output);
        if !self.params().terms().construction.has_script_refund() {
            return self.both_sign(tx);
        }
        let signature = spend::sign_refund(self.params(), &tx, &self.keys()[0]);
        spend::finish_refund(self.params(), tx, signature)
    }

    pub fn to_payer(&self, value: Amount) -> TxOut {
        TxOut {
            value,
            script_pubkey: self.cast.setup.payer.payout.clone(),
        }
    }

    pub fn to_payee(&self, value: Amount) -> TxOut {
        TxOut {
            value,
            script_pubkey: self.cast.setup.payee.payout.clone(),
        }
    }
}
