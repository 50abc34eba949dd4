//! The catalogue of dishonest messages against the library's own two sides: each is refused with the reason that it
//! names, wherever it applies, and the honest message in its place is accepted.

mod talk;

use std::collections::HashSet;

use spilman::adversary::Forgery;
use spilman::transcript::Side;

use self::talk::{play, Verdict};
use crate::pair::channels;
use crate::refusal_keeps_state::assert_none;

pub fn catalogue() -> impl Iterator<Item = &'static Forgery> {
    Forgery::all().iter().chain(Forgery::unpublished())
}

#[test]
fn every_dishonest_message_is_refused_for_its_reason() {
    let mut wrong = Vec::new();
    let mut played = 0;
    for forgery in catalogue() {
        let mut applies = 0;
        for case in channels() {
            let terms = &case.terms;
            if !forgery.applies(terms.protocol, terms.construction) {
                continue;
            }
            applies += 1;
            let (verdict, words) = play(&case, Some(forgery));
            let right = matches!(&verdict, Verdict::Refused(reason, text)
                if *reason == forgery.reason && words.iter().all(|word| text.contains(word)));
            if !right || words.is_empty() {
                let (id, reason, case) = (forgery.id, forgery.reason, case.name());
                wrong.push(format!("{id} ({case}): {verdict:?}, not {reason} {words:?}"));
            }
        }
        assert_ne!(applies, 0, "{} applies nowhere", forgery.id);
        played += applies;
    }
    assert_none(&wrong, played);
}

/// Otherwise a message could be refused for what was wrong with the conversation.
#[test]
fn the_conversation_passes_without_it() {
    for case in channels() {
        assert_eq!(play(&case, None).0, Verdict::Closed, "{}", case.name());
    }
}

#[test]
fn ids_are_unique_and_both_sides_lie() {
    let ids: HashSet<_> = catalogue().map(|forgery| forgery.id).collect();
    assert_eq!(ids.len(), catalogue().count());
    let from = |side| {
        Forgery::all()
            .iter()
            .filter(|forgery| forgery.position.from == side)
            .count()
    };
    assert!(from(Side::Payer) >= 45, "{}", from(Side::Payer));
    assert!(from(Side::Payee) >= 15, "{}", from(Side::Payee));
}
