//! What a refusal leaves as it was.

use spilman::channel::{Action, Event, Refusal, RefusalReason, SettlementTx};
use spilman::sim::{Network, Pair};

use crate::pair::{assert_spends, tip, Inspect, Side, HEIGHT, MTP};

/// Fails with every row that was not refused as it should, of those that were played.
pub fn assert_none(wrong: &[String], played: usize) {
    assert!(
        wrong.is_empty(),
        "{} of {played}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Both sides before a message that is refused.
pub struct Before {
    parties: String,
    but_nonce: String,
    held: Option<SettlementTx>,
}

impl Before {
    pub fn of<N>(pair: &Pair<N>) -> Self {
        Self {
            parties: parties(pair),
            but_nonce: pair.state(),
            held: pair.redeemable(),
        }
    }

    /// A refusal changes nothing, except that a nonce which has met a wrong answer is spent; and each side keeps its way
    /// out.
    pub fn assert_kept<N: Network>(self, pair: &mut Pair<N>, by: Side, refusal: &Refusal, at: &str) {
        let spent = refusal.reason() == RefusalReason::PartialSignatureWrong;
        let (after, before) = if spent {
            (pair.state(), &self.but_nonce)
        } else {
            (parties(pair), &self.parties)
        };
        assert!(after == *before, "{at}: {refusal}, and the state changed");
        let waits = |parties: &str| parties.contains("SecretNonce");
        let nonce = waits(&self.parties) && !spent;
        assert_eq!(waits(&parties(pair)), nonce, "{at}: {refusal}");
        assert_eq!(pair.redeemable(), self.held, "{at}: {refusal}");
        if let Some(held) = &self.held {
            assert_spends(pair.payee.params(), held.tx());
        }
        assert_spends(pair.payer.params(), pair.payer.refund().tx());
        self.assert_way_out(pair, by, at);
    }

    /// The payee settles what it held, the payer gets its refund, as if nothing had happened.
    fn assert_way_out<N: Network>(self, pair: &mut Pair<N>, by: Side, at: &str) {
        pair.tip = tip(HEIGHT + 5_000, MTP + 5_000 * 600);
        let view = pair.view(1_000, None);
        let actions = pair.tell(by, Event::Chain(view)).unwrap();
        let broadcast = actions.iter().find_map(|action| match action {
            Action::Broadcast { tx, .. } => Some(tx.clone()),
            _ => None,
        });
        let held = self.held.filter(|held| held.balance().is_enforceable());
        let expected = match by {
            Side::Payer => Some(pair.payer.refund().tx().clone()),
            Side::Payee => held.map(|held| held.tx().clone()),
        };
        assert_eq!(broadcast, expected, "{at}: what the {by:?} held before");
    }
}

fn parties<N>(pair: &Pair<N>) -> String {
    format!("{:?} {:?}", pair.payer, pair.payee)
}
