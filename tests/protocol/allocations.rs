//! A payment takes the same memory however many came before, and frees all of it. Decoding an untrusted message takes
//! memory proportional to its size, whatever counts it claims.

use crate::common::open::{open, payment};
use crate::pair::sent;
use allocation_counter::{measure, AllocationInfo};
use spilman::channel::{Construction, Event, Payee, Payer};
use spilman::transcript;
use spilman::wire::{self, MAX_MESSAGE};

/// One payment with all that follows: signed, checked and kept, acknowledged.
fn pay(payer: &mut Payer, payee: &mut Payee) {
    let payment = payment(payer);
    let accepted = sent(payee.apply(payment).expect("an honest payment"))
        .next()
        .expect("an answer");
    payer.apply(Event::Message(accepted)).expect("an honest answer");
}

#[test]
fn the_ten_thousandth_payment_allocates_what_the_second_did() {
    for construction in Construction::ALL {
        let (mut payer, mut payee) = open(construction);
        pay(&mut payer, &mut payee);
        let second = measure(|| pay(&mut payer, &mut payee));
        let between = measure(|| (3..10_000).for_each(|_| pay(&mut payer, &mut payee)));
        let last = measure(|| pay(&mut payer, &mut payee));

        assert_eq!(second, last, "{construction}: payment 2, and payment 10,000");
        assert_eq!(payee.paid().to_sat(), 10_000, "{construction}");
        assert_stays_nothing(construction, &between);
        // The lists of actions of the three steps, and what must be stored in two of them.
        assert_eq!(last.count_total, 5, "{construction}: {last:?}");
    }
}

fn assert_stays_nothing(construction: Construction, info: &AllocationInfo) {
    assert_eq!(
        (info.count_current, info.bytes_current),
        (0, 0),
        "{construction}: what stays of ten thousand payments"
    );
}

/// How many bytes of memory a byte of a message may take. The most take empty items of a witness: one byte each, and in
/// memory four more for its place, in a buffer that doubles.
const PER_BYTE: u64 = 12;
/// A constant allowance for errors and the like.
const ANYWAY: u64 = 1_024;

/// What decoding it takes at most at any time.
#[track_caller]
fn assert_takes_little(name: &str, message: &[u8]) {
    let most = ANYWAY + PER_BYTE * message.len() as u64;
    let info = measure(|| drop(wire::decode(message)));
    assert!(
        info.bytes_max <= most,
        "{name}: {} bytes made the decoder take {}",
        message.len(),
        info.bytes_max
    );
    assert_eq!(info.bytes_current, 0, "{name}: stays");
}

/// The heads of CBOR for bytes, and a transaction behind them: *funding* and *refund-request*.
fn messages(tx: &[u8]) -> [Vec<u8>; 2] {
    let length = u16::try_from(tx.len()).expect("a short one").to_be_bytes();
    [5, 2].map(|kind| [&[0x83, kind, 7, 0x59], &length[..], tx].concat())
}

/// Each number in a transaction that says how much follows, with what is before it.
fn counts() -> Vec<(&'static str, Vec<u8>)> {
    let version = [3, 0, 0, 0];
    let outpoint = [7; 36];
    let (segwit, one, none, sequence) = ([0, 1], [1], [0], [0xff; 4]);
    let input = [&version[..], &segwit, &one, &outpoint, &none, &sequence].concat();
    let items = [&input[..], &none].concat();
    vec![
        ("inputs", version.to_vec()),
        ("inputs behind the marker", [&version[..], &segwit].concat()),
        ("input script", [&version[..], &one, &outpoint].concat()),
        ("outputs", input.clone()),
        ("output script", [&input[..], &one, &[0; 8]].concat()),
        ("item", [&items[..], &one].concat()),
        ("items of a witness", items),
    ]
}

/// However large a number is, and however little follows: 59 bytes once took 16 MB.
#[test]
fn what_a_message_claims_takes_no_memory() {
    let claims = [
        &[0xfd, 0xff, 0xff][..],
        &[0xfe, 0x40, 0x42, 0x0f, 0],
        &[0xfe, 0xff, 0x08, 0x3d, 0],
        &[0xfe, 0xff, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xff; 9],
    ];
    for (name, before) in counts() {
        for claim in claims {
            for behind in [0, 1, 100, MAX_MESSAGE - 128] {
                let tx = [&before[..], claim, &vec![0; behind]].concat();
                for message in messages(&tx) {
                    assert!(wire::decode(&message).is_err(), "{name}: {claim:x?}");
                    assert_takes_little(&format!("{name} with {claim:x?}"), &message);
                }
                let most = ANYWAY + PER_BYTE * tx.len() as u64;
                let told = measure(|| drop(transcript::decode(&tx, &[])));
                assert!(told.bytes_max <= most, "{name}, as text: {told:?}");
            }
        }
    }
    // Of CBOR itself, bytes and elements.
    for head in [0x59, 0x5a, 0x5b, 0x99, 0x9a, 0x9b] {
        for message in [
            [&[0x83, 5, 7, head][..], &[0xff; 8]].concat(),
            [&[head][..], &[0xff; 8]].concat(),
        ] {
            assert_takes_little(&format!("{message:x?}"), &message);
        }
    }
}

/// A message that is what it claims, and as large as one can be: of inputs, of outputs, of items.
#[test]
fn the_largest_messages_take_memory_of_their_size() {
    let tx = |inputs: usize, outputs: usize, items: usize| {
        let (three, none) = ([3, 0, 0, 0], [0; 4]);
        let many = |count: usize| {
            let count = u16::try_from(count).expect("few");
            match u8::try_from(count) {
                Ok(count) if count < 0xfd => vec![count],
                _ => [&[0xfd][..], &count.to_le_bytes()].concat(),
            }
        };
        let (input, output) = ([7; 36].into_iter().chain([0; 5]), [0; 9]);
        let input = input.collect::<Vec<_>>().repeat(inputs);
        let witness = [many(items), vec![0; items]].concat().repeat(inputs);
        let segwit: &[u8] = if items > 0 { &[0, 1] } else { &[] };
        let witness = if items > 0 { witness } else { Vec::new() };
        [
            &three[..],
            segwit,
            &many(inputs),
            &input,
            &many(outputs),
            &output.repeat(outputs),
            &witness,
            &none,
        ]
        .concat()
    };
    for (name, tx) in [
        ("inputs", tx(98, 1, 0)),
        ("inputs with a witness", tx(94, 1, 1)),
        ("outputs", tx(1, 445, 0)),
        ("items", tx(1, 1, 4_000)),
    ] {
        for message in messages(&tx) {
            assert!(message.len() > MAX_MESSAGE - 60, "{name}: {}", message.len());
            assert!(
                wire::decode(&message).is_ok(),
                "{name}: {:?}",
                wire::decode(&message)
            );
            assert_takes_little(name, &message);
        }
    }
}
