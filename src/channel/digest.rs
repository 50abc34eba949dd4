use std::fmt;

use bitcoin::consensus::Encodable;
use bitcoin::hashes::{sha256, sha256d, Hash, HashEngine};
use bitcoin::secp256k1::Message;
use bitcoin::taproot::TapLeafHash;
use bitcoin::{
    Amount, EcdsaSighashType, Script, TapSighash, TapSighashType, Transaction, TxIn, TxOut, VarInt,
};

/// BIP 341's `spend_type`: `ext_flag` 1, no annex.
const TAPSCRIPT: u8 = 1 << 1;

/// BIP 342: keys of 32 bytes with BIP 340 signatures.
const KEY_VERSION: u8 = 0;

/// BIP 342: no `OP_CODESEPARATOR` was executed.
const NO_CODE_SEPARATOR: u32 = u32::MAX;

/// A signature hash with everything but the outputs already hashed.
///
/// All payments of a channel differ in their outputs only. With a template made once per channel, the digest of
/// a payment costs a few compressions of SHA-256, no allocation, and no transaction.
#[derive(Clone)]
pub(crate) struct DigestTemplate {
    /// The serialization before the outputs.
    prefix: sha256::HashEngine,
    suffix: Suffix,
}

/// The serialization after the outputs, which differs by algorithm.
#[derive(Clone)]
enum Suffix {
    /// Lock time and hash type.
    Legacy([u8; 8]),
    /// Lock time and hash type.
    SegwitV0([u8; 8]),
    /// Spend type, input index, leaf hash, key version and position of the last `OP_CODESEPARATOR`.
    Tapscript([u8; 42]),
}

impl DigestTemplate {
    /// Returns the original algorithm with `SIGHASH_ALL`, for the only input of `tx`, whose outputs do not matter.
    ///
    /// `script_code` must be without `OP_CODESEPARATOR`.
    pub fn legacy(tx: &Transaction, script_code: &Script) -> Self {
        let input = only_input(tx);
        let mut prefix = sha256d::Hash::engine();
        encode(&mut prefix, &tx.version);
        encode(&mut prefix, &VarInt::from(tx.input.len()));
        encode(&mut prefix, &input.previous_output);
        encode(&mut prefix, script_code);
        encode(&mut prefix, &input.sequence);
        Self {
            prefix,
            suffix: Suffix::Legacy(lock_and_type(tx)),
        }
    }

    /// BIP 143 with `SIGHASH_ALL`, for the only input of `tx`, which spends `value`. The outputs of `tx` do not
    /// matter.
    ///
    /// `script_code` must be without `OP_CODESEPARATOR`.
    pub fn segwit_v0(tx: &Transaction, script_code: &Script, value: Amount) -> Self {
        let input = only_input(tx);
        let mut prefix = sha256d::Hash::engine();
        encode(&mut prefix, &tx.version);
        encode(&mut prefix, &sha256_of(&input.previous_output).hash_again());
        encode(&mut prefix, &sha256_of(&input.sequence).hash_again());
        encode(&mut prefix, &input.previous_output);
        encode(&mut prefix, script_code);
        encode(&mut prefix, &value);
        encode(&mut prefix, &input.sequence);
        Self {
            prefix,
            suffix: Suffix::SegwitV0(lock_and_type(tx)),
        }
    }

    /// BIP 341 with `SIGHASH_DEFAULT` and BIP 342's extension, for the only input of `tx`, which spends `prevout`
    /// through `leaf`. The outputs of `tx` do not matter.
    ///
    /// The leaf's script must be without `OP_CODESEPARATOR`, and the witness without an annex.
    pub fn tapscript(tx: &Transaction, prevout: &TxOut, leaf: TapLeafHash) -> Self {
        const EPOCH: u8 = 0;
        let input = only_input(tx);
        let mut prefix = TapSighash::engine();
        prefix.input(&[EPOCH, TapSighashType::Default as u8]);
        encode(&mut prefix, &tx.version);
        encode(&mut prefix, &tx.lock_time);
        encode(&mut prefix, &sha256_of(&input.previous_output));
        encode(&mut prefix, &sha256_of(&prevout.value));
        encode(&mut prefix, &sha256_of(&prevout.script_pubkey));
        encode(&mut prefix, &sha256_of(&input.sequence));

        let mut suffix = [0; 42];
        suffix[0] = TAPSCRIPT;
        // Between them is the index of the input, which is 0.
        suffix[5..37].copy_from_slice(leaf.as_byte_array());
        suffix[37] = KEY_VERSION;
        suffix[38..].copy_from_slice(&NO_CODE_SEPARATOR.to_le_bytes());
        Self {
            prefix,
            suffix: Suffix::Tapscript(suffix),
        }
    }

    /// Returns what is signed when the transaction has these outputs, in this order.
    pub fn digest<'a>(&self, outputs: impl Iterator<Item = (Amount, &'a Script)> + Clone) -> Message {
        let mut engine = self.prefix.clone();
        Message::from_digest(match &self.suffix {
            Suffix::Legacy(suffix) => {
                encode(&mut engine, &VarInt::from(outputs.clone().count()));
                encode_outputs(&mut engine, outputs);
                engine.input(suffix);
                sha256d::Hash::from_engine(engine).to_byte_array()
            }
            Suffix::SegwitV0(suffix) => {
                engine.input(sha256_of_outputs(outputs).hash_again().as_byte_array());
                engine.input(suffix);
                sha256d::Hash::from_engine(engine).to_byte_array()
            }
            Suffix::Tapscript(suffix) => {
                engine.input(sha256_of_outputs(outputs).as_byte_array());
                engine.input(suffix);
                TapSighash::from_engine(engine).to_byte_array()
            }
        })
    }
}

impl fmt::Debug for DigestTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self.suffix {
            Suffix::Legacy(_) => "Legacy",
            Suffix::SegwitV0(_) => "SegwitV0",
            Suffix::Tapscript(_) => "Tapscript",
        };
        write!(f, "DigestTemplate({algorithm})")
    }
}

/// A channel's spends have one input. With a second one, the hashes made here would not match the transaction.
fn only_input(tx: &Transaction) -> &TxIn {
    let [input] = &tx.input[..] else {
        panic!(
            "a spend of the funding output must have 1 input, got {}",
            tx.input.len()
        );
    };
    input
}

fn lock_and_type(tx: &Transaction) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&tx.lock_time.to_consensus_u32().to_le_bytes());
    bytes[4..].copy_from_slice(&EcdsaSighashType::All.to_u32().to_le_bytes());
    bytes
}

fn encode(engine: &mut sha256::HashEngine, part: &(impl Encodable + ?Sized)) {
    part.consensus_encode(engine).expect("a hash takes any bytes");
}

fn sha256_of(part: &impl Encodable) -> sha256::Hash {
    let mut engine = sha256::Hash::engine();
    encode(&mut engine, part);
    sha256::Hash::from_engine(engine)
}

fn encode_outputs<'a>(engine: &mut sha256::HashEngine, outputs: impl Iterator<Item = (Amount, &'a Script)>) {
    for (value, script) in outputs {
        encode(engine, &value);
        encode(engine, script);
    }
}

fn sha256_of_outputs<'a>(outputs: impl Iterator<Item = (Amount, &'a Script)>) -> sha256::Hash {
    let mut engine = sha256::Hash::engine();
    encode_outputs(&mut engine, outputs);
    sha256::Hash::from_engine(engine)
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::consensus::encode::deserialize_hex;
    use bitcoin::sighash::{Prevouts, SighashCache};
    use bitcoin::transaction::Version;
    use bitcoin::{OutPoint, ScriptBuf, Sequence, Txid, Witness};
    use proptest::prelude::*;

    use super::*;

    fn outputs(tx: &Transaction) -> impl Iterator<Item = (Amount, &Script)> + Clone {
        tx.output
            .iter()
            .map(|output| (output.value, &*output.script_pubkey))
    }

    /// Script lengths beside those where the length of the length changes, too.
    fn script() -> impl Strategy<Value = ScriptBuf> {
        prop_oneof![Just(0_usize), Just(22), Just(252), Just(253), 0_usize..=600]
            .prop_flat_map(|len| prop::collection::vec(any::<u8>(), len))
            .prop_map(ScriptBuf::from_bytes)
    }

    prop_compose! {
        fn txout()(value in any::<u64>(), script_pubkey in script()) -> TxOut {
            TxOut { value: Amount::from_sat(value), script_pubkey }
        }
    }

    prop_compose! {
        fn spend()(
            version in 2..=3,
            lock_time in any::<u32>(),
            txid in any::<[u8; 32]>(),
            vout in any::<u32>(),
            sequence in any::<u32>(),
            output in prop::collection::vec(txout(), 0..=3),
        ) -> Transaction {
            Transaction {
                version: Version(version),
                lock_time: LockTime::from_consensus(lock_time),
                input: vec![TxIn {
                    previous_output: OutPoint::new(Txid::from_byte_array(txid), vout),
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence(sequence),
                    witness: Witness::new(),
                }],
                output,
            }
        }
    }

    /// The same spend with other outputs and already signed: what a template must not look at.
    fn another(tx: &Transaction, output: Vec<TxOut>) -> Transaction {
        let mut other = Transaction { output, ..tx.clone() };
        other.input[0].script_sig = ScriptBuf::from_bytes(vec![1; 3]);
        other.input[0].witness = Witness::from_slice(&[[2; 64]]);
        other
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_digest_without_a_transaction_is_the_one_of_the_transaction(
            tx in spend(),
            before in prop::collection::vec(txout(), 0..=3),
            prevout in txout(),
            script_code in script(),
            leaf in any::<[u8; 32]>(),
        ) {
            let template_tx = another(&tx, before);
            let leaf = TapLeafHash::from_byte_array(leaf);
            let mut cache = SighashCache::new(&tx);

            let all = EcdsaSighashType::All;
            let expected = cache.legacy_signature_hash(0, &script_code, all.to_u32()).unwrap();
            let template = DigestTemplate::legacy(&template_tx, &script_code);
            prop_assert_eq!(template.digest(outputs(&tx)), expected.into(), "{:?}", template);

            let expected = cache.p2wsh_signature_hash(0, &script_code, prevout.value, all).unwrap();
            let template = DigestTemplate::segwit_v0(&template_tx, &script_code, prevout.value);
            prop_assert_eq!(template.digest(outputs(&tx)), expected.into(), "{:?}", template);

            let prevouts = Prevouts::All(std::slice::from_ref(&prevout));
            let default = TapSighashType::Default;
            let expected = cache.taproot_script_spend_signature_hash(0, &prevouts, leaf, default).unwrap();
            let template = DigestTemplate::tapscript(&template_tx, &prevout, leaf);
            prop_assert_eq!(template.digest(outputs(&tx)), expected.into(), "{:?}", template);
        }
    }

    /// The two examples of BIP 143 with one input and `SIGHASH_ALL`. (Those of BIP 341 spend nine inputs through
    /// their keys.)
    #[test]
    fn the_examples_of_bip_143_come_out() {
        struct DigestExample {
            name: &'static str,
            unsigned: &'static str,
            script_code: &'static str,
            sat: u64,
            sighash: &'static str,
        }
        let examples = [
            DigestExample {
                name: "P2SH-P2WPKH",
                unsigned: "0100000001db6b1b20aa0fd7b23880be2ecbd4a98130974cf4748fb66092ac4d3ceb1a547701\
                    00000000feffffff02b8b4eb0b000000001976a914a457b684d7f0d539a46a45bbc043f35b59d0d96388ac\
                    0008af2f000000001976a914fd270b1ee6abcaea97fea7ad0402e8bd8ad6d77c88ac92040000",
                script_code: "76a91479091972186c449eb1ded22b78e40d009bdf008988ac",
                sat: 1_000_000_000,
                sighash: "64f3b0f4dd2bb3aa1ce8566d220cc74dda9df97d8490cc81d89d735c92e59fb6",
            },
            DigestExample {
                name: "P2SH-P2WSH",
                unsigned: "010000000136641869ca081e70f394c6948e8af409e18b619df2ed74aa106c1ca29787b96e01\
                    00000000ffffffff0200e9a435000000001976a914389ffce9cd9ae88dcc0631e88a821ffdbe9bfe2688ac\
                    c0832f05000000001976a9147480a33f950689af511e6e84c138dbbd3c3ee41588ac00000000",
                script_code: "56210307b8ae49ac90a048e9b53357a2354b3334e9c8bee813ecb98e99a7e07e8c3ba32103\
                    b28f0c28bfab54554ae8c658ac5c3e0ce6e79ad336331f78c428dd43eea8449b21034b8113d703413d5776\
                    1b8b9781957b8c0ac1dfe69f492580ca4195f50376ba4a21033400f6afecb833092a9a21cfdf1ed1376e58\
                    c5d1f47de74683123987e967a8f42103a6d48b1131e94ba04d9737d61acdaa1322008af9602b3b14862c07\
                    a1789aac162102d8b661b0b3302ee2f162b09e07a55ad5dfbe673a9f01d9f0c19617681024306b56ae",
                sat: 987_654_321,
                sighash: "185c0be5263dce5b4bb50a047973c1b6272bfbd0103a89444597dc40b248ee7c",
            },
        ];
        for DigestExample {
            name,
            unsigned,
            script_code,
            sat,
            sighash,
        } in examples
        {
            let tx: Transaction = deserialize_hex(unsigned).unwrap();
            let script_code = ScriptBuf::from_hex(script_code).unwrap();
            let template = DigestTemplate::segwit_v0(&tx, &script_code, Amount::from_sat(sat));
            assert_eq!(template.digest(outputs(&tx)).to_string(), sighash, "{name}");
        }
    }

    #[test]
    #[should_panic(expected = "must have 1 input, got 2")]
    fn a_second_input_is_a_mistake_of_the_caller() {
        let input = vec![TxIn::default(), TxIn::default()];
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input,
            output: Vec::new(),
        };
        let _ = DigestTemplate::legacy(&tx, Script::new());
    }
}
