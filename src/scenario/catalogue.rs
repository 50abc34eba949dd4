//! Every story on one page: its name, its one-line summary, and the constructions that it is played on.

use super::scenario::{Playing, Scenario};
use super::stories::{bond, closing, durable, example7, locks, restart, script_refund, stepped, vanish};
use super::world::World;
use crate::channel::{Construction, Protocol};
use crate::regtest::Policy;
use crate::transcript::Unit;

/// A story, as listed in the tables below.
struct Story {
    name: &'static str,
    on: fn(Construction) -> bool,
    summary: &'static str,
    play: for<'w> fn(&'w mut World) -> Playing<'w>,
}

/// Each story: name, constructions, function; and on a separate line, the summary.
macro_rules! stories {
    ($($name:literal, $on:path, $story:path:
       $summary:literal)*) => {
        &[$(Story { name: $name, on: $on, summary: $summary, play: |world| Box::pin($story(world)) }),*]
    };
}

#[rustfmt::skip]
const STEPPED_LOCKTIME: &[Story] = stories! {
    "settled", always, stepped::settled:
        "The article's seven steps: 1,000 satoshi, payments of 100 satoshi, settled together"
    "payer-gone", always, stepped::payer_gone:
        "The payer vanishes; the payee redeems the last payment at its own lock, and not one block before"
    "payee-gone", always, stepped::payee_gone:
        "The payee vanishes; the payer gets its refund at the refund's lock, and not one block before"
    "late-payee", always, stepped::late_payee:
        "The payee sleeps past the refund's lock: the refund wins the race"
    "race-won-by-payee", always, stepped::race_won_by_payee:
        "Both locks have passed: the payee's payment is first in the mempool"
    "ordinary-fees", always, stepped::ordinary_fees:
        "The same seven steps with ordinary amounts and fees under a node's default policy"
    "payment-by-time", always, locks::stepped_payment_by_time:
        "Both locks are times: the payee redeems when its own has passed, and not one second before"
    "refund-by-time", always, locks::stepped_refund_by_time:
        "Both locks are times: the payer gets its refund when its own has passed, and not one second before"
};

#[rustfmt::skip]
const EXAMPLE_7: &[Story] = stories! {
    "session-end", closes_with_two_keys, example7::session_end:
        "10 BTC, three payments, and the payee closes when the session ends"
    "closed-together", Construction::closes_with_one_key, closing::closed_together:
        "10 BTC, three payments, and a cooperative close with one signature, like an ordinary payment"
    "payer-closes-together", Construction::closes_with_one_key, closing::payer_closes_together:
        "The payer asks first; the close is the same single signature"
    "higher-feerate", always, closing::higher_feerate:
        "The agreed feerate is now too low: both settle at a higher one, out of the payer's change"
    "near-expiry", always, example7::near_expiry:
        "The session lasts until the closing margin: the payee closes there, and not one block before"
    "refund-by-time", always, locks::example7_refund_by_time:
        "The refund's lock is a time: it is final once the median time is past it, and not one block before"
    "lifetime-from-confirmation", Construction::has_relative_lock, locks::lifetime_from_confirmation:
        "T1 waits for ten blocks in the mempool, and the refund's lock moves by just as many"
    "bad-refund-signature", is_co_signed, example7::bad_refund_signature:
        "The signature over T2 is wrong: the payer aborts; nothing is on chain, nothing is lost"
    "payee-gone-before-t1", is_co_signed, example7::payee_gone_before_t1:
        "The payee vanishes instead of signing T2; T1 is never broadcast"
    "payee-gone-with-t1", Construction::has_script_refund, script_refund::payee_gone_with_t1:
        "The payee vanishes with T1 and never broadcasts it; the payer spends its coin, and T1 is void"
    "payee-sits-on-t1", always, example7::payee_sits_on_t1:
        "The payee accepts T1 and never broadcasts it: the payer does after six blocks, and gets everything back with T2"
    "payee-gone-after-t1", always, example7::payee_gone_after_t1:
        "The payee broadcasts T1 and vanishes; the payer waits for T2's lock"
    "payee-gone-mid-session", always, example7::payee_gone_mid_session:
        "The payee vanishes with payments; the payer waits for T2's lock and gets everything"
    "payer-gone-mid-session", always, example7::payer_gone_mid_session:
        "The payer vanishes; the payee closes at the closing margin with the last T3"
    "unused", closes_with_two_keys, example7::unused:
        "Nothing was paid: the payee gives everything back at once, with the first T3"
    "unused-closed-together", Construction::closes_with_one_key, closing::unused_closed_together:
        "Nothing was paid: both give everything back at once, with one signature"
    "malleated", Construction::has_script_refund, script_refund::malleated:
        "A legacy T1 is mined malleated: T3 is void, and the payer signs T2 again"
    "payee-with-an-older-copy", is_taproot, durable::older_copy_of_the_payee:
        "The payee restarts from a copy that lacks two payments: the payer notices, and sends the latest again"
    "payer-with-an-older-copy", is_taproot, durable::older_copy_of_the_payer:
        "The payer restarts from a copy that lacks two payments: the payee shows it the latest, and the payer goes on from it"
    "two-payee-processes", is_taproot, durable::two_processes:
        "A second payee process cannot open the file while the first runs; when that has ended, it goes on with the channel"
    "payee-with-a-full-disk", is_taproot, durable::full_disk_of_the_payee:
        "A payment cannot be stored: the payee acknowledges no more, and settles at the closing margin with all that it has"
    "payer-with-a-full-disk", is_taproot, durable::full_disk_of_the_payer:
        "A payment cannot be stored: the payer does not send it, and gets its refund at the lock"
    "reorganisation-while-down", is_taproot_or_relative, durable::reorganisation:
        "T1, then the settlement, falls out of the chain while the payee is down: it goes on from what the chain has then"
    "payee-down-past-the-margin", is_taproot_or_relative, durable::past_the_margin:
        "The payee is down when the closing margin begins, and back before the lock: it settles at once"
    "payee-down-past-the-lock", is_taproot_or_relative, durable::past_the_lock:
        "The payee is down until the lock has passed: the payer has its refund, and the payments are lost"
};

#[rustfmt::skip]
const BOND: &[Story] = stories! {
    "two-days", always, bond::two_days:
        "A day's posts are paid and settled; the next day gets a new channel"
    "before-the-lock", always, bond::before_the_lock:
        "Neither side closes: the payee settles six hours before the 24 hours are over"
    "late-payee", always, bond::late_payee:
        "The payee sleeps past the 24 hours: the refund takes everything, although work was paid for"
    "median-time", always, bond::median_time:
        "The clock has passed the 24 hours, but the median of the last 11 blocks has not: the refund waits"
    "malleated", always, bond::malleated:
        "A legacy bond is mined malleated, under another id: the refund spends an output that does not exist"
    "malleated-segwit", always, bond::malleated_segwit:
        "The same attempt on a bond with segwit inputs has no effect"
    "refund-by-height", always, locks::bond_refund_by_height:
        "The lock is a height instead of a time: the refund is final at it, and not one block before"
};

const fn always(_: Construction) -> bool {
    true
}

/// Where the payee signs the refund before the payer releases the funding transaction.
const fn is_co_signed(construction: Construction) -> bool {
    !construction.has_script_refund()
}

/// Where closing takes a signature from each side.
const fn closes_with_two_keys(construction: Construction) -> bool {
    !construction.closes_with_one_key()
}

/// What follows from the store and not from the construction is told once.
const fn is_taproot(construction: Construction) -> bool {
    matches!(construction, Construction::Taproot)
}

/// A relative lock begins anew in another block.
const fn is_taproot_or_relative(construction: Construction) -> bool {
    is_taproot(construction) || construction.has_relative_lock()
}

/// Returns every scenario, by construction, then by protocol.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let constructions = Construction::ALL.into_iter();
    let pairs = constructions.flat_map(|construction| Protocol::ALL.map(|protocol| (protocol, construction)));
    let pairs = pairs.filter(|(protocol, construction)| construction.runs(*protocol));
    pairs
        .flat_map(|(protocol, construction)| of(protocol, construction))
        .collect()
}

/// Returns the scenario of that name.
#[must_use]
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name() == name)
}

fn of(protocol: Protocol, construction: Construction) -> Vec<Scenario> {
    let stories = match protocol {
        Protocol::SteppedLocktime => STEPPED_LOCKTIME,
        Protocol::Example7 => EXAMPLE_7,
        Protocol::Bond => BOND,
    };
    let told = stories.iter().filter(|story| (story.on)(construction));
    let told = told.map(|story| Scenario::new(protocol, story.name, story.summary, Box::new(story.play)));
    told.chain(vanish::scenarios(protocol, construction))
        .chain(restart::scenarios(protocol, construction))
        .map(|scenario| in_its_currency(scenario.on(construction)))
        .collect()
}

/// Sets the unit of the document, and for the article a policy that relays its amounts, which are below dust.
fn in_its_currency(scenario: Scenario) -> Scenario {
    match scenario.protocol() {
        Protocol::SteppedLocktime if scenario.name().ends_with("/ordinary-fees") => scenario,
        Protocol::SteppedLocktime => scenario.policy(Policy::free()),
        Protocol::Example7 => scenario.unit(Unit::Bitcoin),
        Protocol::Bond => scenario.unit(Unit::Millidash),
    }
}
