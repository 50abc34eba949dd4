//! How long a payment takes, beside the signature that the payer makes for it and the payee checks, by the same library
//! in the same process, in turns. `just bench-channel` writes the table.

mod bare;
#[path = "../common/mod.rs"]
mod common;
mod report;

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use bare::Bare;
use common::open::{open, payment, STEP};
use criterion::Criterion;
use report::{machine, publish, version_of};
use spilman::channel::{Construction, Event, Payee, Payer};

const SAMPLES: usize = 50;

/// Long enough that it does not matter what was in the caches before, short enough that both sides of a comparison see
/// the same machine.
const BLOCK: u32 = 16;

const MILLION: u32 = 1_000_000;

/// How long one took, and the other that it is compared with.
type Times = [Duration; 2];

struct Row {
    what: String,
    other: String,
    measured: Measured,
}

/// Medians.
struct Measured {
    times: Times,
    /// Of blocks that stand side by side.
    ratio: f64,
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    let mut beside_bare = Vec::new();
    for construction in [Construction::P2sh, Construction::P2wsh, Construction::Taproot] {
        beside_bare.extend(one_construction(&mut criterion, construction));
    }
    let old_and_new = old_and_new(&mut criterion, Construction::P2wsh);
    publish(&table(&beside_bare, &old_and_new));
}

fn one_construction(criterion: &mut Criterion, construction: Construction) -> [Row; 2] {
    let (mut payer, mut payee) = open(construction);
    let mut bare = Bare::new(construction);
    let sign = measure(criterion, &format!("{construction}/sign"), |blocks| {
        in_turns(blocks, |count| sign(&mut payer, count), |count| bare.sign(count))
    });
    let accept = measure(criterion, &format!("{construction}/accept"), |blocks| {
        let mut payments = payments(&mut payer, blocks * BLOCK);
        let accept = |count| accept(&mut payee, &mut payments, count);
        in_turns(blocks, accept, |count| bare.verify(count))
    });
    [
        Row {
            what: format!("`{construction}`: the payer signs a payment"),
            other: format!("{} sign", bare.scheme()),
            measured: sign,
        },
        Row {
            what: format!("`{construction}`: the payee accepts a payment"),
            other: format!("{} verify", bare.scheme()),
            measured: accept,
        },
    ]
}

/// A channel after a million payments, beside one that begins.
fn old_and_new(criterion: &mut Criterion, construction: Construction) -> [Row; 2] {
    let (mut new_payer, mut new_payee) = open(construction);
    let (mut payer, mut payee) = open(construction);
    eprintln!("a million payments");
    pay_a_million(&mut payer, &mut payee);
    assert_eq!(payee.paid(), STEP * u64::from(MILLION), "a million were accepted");
    let signing = measure(criterion, "million/sign", |blocks| {
        in_turns(
            blocks,
            |count| sign(&mut payer, count),
            |count| sign(&mut new_payer, count),
        )
    });
    let accepting = measure(criterion, "million/accept", |blocks| {
        let count = blocks * BLOCK;
        let (mut old, mut new) = (payments(&mut payer, count), payments(&mut new_payer, count));
        in_turns(
            blocks,
            |count| accept(&mut payee, &mut old, count),
            |count| accept(&mut new_payee, &mut new, count),
        )
    });
    let row = |what: &str, measured| Row {
        what: format!("`{construction}`: {what}"),
        other: String::new(),
        measured,
    };
    [
        row("the payer signs a payment", signing),
        row("the payee accepts a payment", accepting),
    ]
}

fn pay_a_million(payer: &mut Payer, payee: &mut Payee) {
    let (send, receive) = sync_channel(1_024);
    thread::scope(|scope| {
        scope.spawn(move || (0..MILLION).for_each(|_| send.send(payment(payer)).expect("the payee listens")));
        for payment in receive {
            payee.apply(payment).expect("an honest payment");
        }
    });
}

fn sign(payer: &mut Payer, count: u32) {
    for _ in 0..count {
        black_box(payer.apply(Event::Pay(STEP))).expect("there is enough left");
    }
}

fn accept(payee: &mut Payee, payments: &mut impl Iterator<Item = Event>, count: u32) {
    for payment in payments.take(count as usize) {
        black_box(payee.apply(payment)).expect("an honest payment");
    }
}

fn payments(payer: &mut Payer, count: u32) -> impl Iterator<Item = Event> {
    let payments: Vec<Event> = (0..count).map(|_| payment(payer)).collect();
    payments.into_iter()
}

/// Criterion decides how much work is done, and shows its own statistics of the first side.
fn measure(criterion: &mut Criterion, name: &str, mut work: impl FnMut(u32) -> Vec<Times>) -> Measured {
    let mut samples: Vec<Vec<Times>> = Vec::new();
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|iters| {
            let iters = u32::try_from(iters).expect("a few seconds' work");
            let done = iters.next_multiple_of(BLOCK);
            let blocks = work(done / BLOCK);
            let sum: Duration = blocks.iter().map(|[one, _]| *one).sum();
            samples.push(blocks);
            sum * iters / done
        });
    });
    // What comes before is the warming up.
    let blocks = samples[samples.len() - SAMPLES..].concat();
    let time = |side: usize| median(blocks.iter().map(|times| times[side]).collect(), Ord::cmp) / BLOCK;
    let ratio = |[one, other]: &Times| one.as_secs_f64() / other.as_secs_f64();
    Measured {
        times: [time(0), time(1)],
        ratio: median(blocks.iter().map(ratio).collect(), f64::total_cmp),
    }
}

fn median<T: Copy>(mut all: Vec<T>, order: impl FnMut(&T, &T) -> Ordering) -> T {
    all.sort_unstable_by(order);
    all[all.len() / 2]
}

/// So many blocks of the one and of the other, in turns; who comes first changes every time.
fn in_turns(blocks: u32, mut one: impl FnMut(u32), mut other: impl FnMut(u32)) -> Vec<Times> {
    let pair = |turn: u32| {
        let mut times = [Duration::ZERO; 2];
        let order = if turn.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for side in order {
            let begin = Instant::now();
            if side == 0 {
                one(BLOCK);
            } else {
                other(BLOCK);
            }
            times[side] = begin.elapsed();
        }
        times
    };
    (0..blocks).map(pair).collect()
}

fn table(beside_bare: &[Row], old_and_new: &[Row]) -> String {
    let mut text = String::from("# A payment beside the signature in it\n\n");
    let _ = writeln!(
        text,
        "Medians, and medians of the ratios of neighbours: both sides alternating in one process, {BLOCK} of the one and \
         {BLOCK} of\nthe other. `just bench-channel` measures again and rewrites this file.\n"
    );
    let _ = writeln!(text, "- machine: {}", machine());
    let _ = writeln!(
        text,
        "- crates: spilman {}, bitcoin {}, secp256k1 {}\n",
        env!("CARGO_PKG_VERSION"),
        version_of("bitcoin"),
        version_of("secp256k1")
    );
    text.push_str(
        "A payment begins as a wish to pay, or as a message, and ends as the actions to carry out. The bare library has \
         its\ndigest, key and parsed signature at hand.\n\n\
         | what | spilman | bare `secp256k1` | ratio |\n|---|--:|--:|--:|\n",
    );
    for Row {
        what,
        other,
        measured,
    } in beside_bare
    {
        let [ours, theirs] = measured.times.map(micros);
        let _ = writeln!(
            text,
            "| {what} | {ours} | {other} {theirs} | {:.3} |",
            measured.ratio
        );
    }
    text.push_str(
        "\nWhat a payment costs does not depend on how many came before: on one channel a million payments were made.\n\
         Rows are measured one after another: compare within a row, not between rows.\n\n\
         | what | after 1,000,000 | after none | ratio |\n|---|--:|--:|--:|\n",
    );
    for Row { what, measured, .. } in old_and_new {
        let [old, new] = measured.times.map(micros);
        let _ = writeln!(text, "| {what} | {old} | {new} | {:.3} |", measured.ratio);
    }
    text
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}
