//! A message taken apart into the items of its array, and put together again.

use minicbor::{Decoder, Encoder};

const HONEST: &str = "an honest message is an array of whole items";

/// Changes the items and counts them anew.
pub(super) fn items(message: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut items = split(message);
    change(&mut items);
    let count = u64::try_from(items.len()).expect("a message has few items");
    *message = encoded(|e| drop(e.array(count).map(drop)));
    message.extend(items.concat());
}

/// Puts something else in an item's place.
pub(super) fn item(message: &mut Vec<u8>, index: usize, item: Vec<u8>) {
    items(message, |items| items[index] = item);
}

/// Changes the inside of a byte string.
pub(super) fn string(message: &mut Vec<u8>, index: usize, change: impl FnOnce(&mut Vec<u8>)) {
    items(message, |items| {
        let mut inside = Decoder::new(&items[index]).bytes().expect(HONEST).to_vec();
        change(&mut inside);
        items[index] = bytes(&inside);
    });
}

pub(super) fn number(value: u64) -> Vec<u8> {
    encoded(|e| drop(e.u64(value).map(drop)))
}

pub(super) fn bytes(value: &[u8]) -> Vec<u8> {
    encoded(|e| drop(e.bytes(value).map(drop)))
}

fn encoded(write: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder);
    encoder.into_writer()
}

fn split(message: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new(message);
    let count = decoder.array().expect(HONEST).expect(HONEST);
    let mut items = Vec::new();
    for _ in 0..count {
        let from = decoder.position();
        decoder.skip().expect(HONEST);
        items.push(message[from..decoder.position()].to_vec());
    }
    items
}
