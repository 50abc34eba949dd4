//! Coins of the seed: one address (BIP 84), for a node without a wallet.

use anyhow::{bail, Result};
use bitcoin::bip32::{DerivationPath, Xpriv};
use bitcoin::secp256k1::{All, Message, Secp256k1};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    absolute, ecdsa, transaction, Address, Amount, CompressedPublicKey, FeeRate, Network, OutPoint,
    PrivateKey, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
};
use spilman::transcript::sat;

/// The first receiving address of the first account of a test network: a wallet finds it from the seed.
const PATH: &str = "m/84'/1'/0'/0/0";
/// The longest witness of an input: a signature and a key.
const WITNESS: [&[u8]; 2] = [&[0; 72], &[0; 33]];

pub struct Wallet {
    secp: Secp256k1<All>,
    key: PrivateKey,
    pub address: Address,
}

/// A coin of the wallet.
#[derive(Debug, Clone, Copy)]
pub struct Coin {
    pub outpoint: OutPoint,
    pub value: Amount,
}

impl Wallet {
    pub fn of_seed(seed: &[u8; 32], network: Network) -> Result<Self> {
        let secp = Secp256k1::new();
        let path: DerivationPath = PATH.parse()?;
        let key = Xpriv::new_master(network, seed)?
            .derive_priv(&secp, &path)?
            .to_priv();
        let address = Address::p2wpkh(&CompressedPublicKey::from_private_key(&secp, &key)?, network);
        Ok(Self { secp, key, address })
    }

    pub fn script(&self) -> ScriptBuf {
        self.address.script_pubkey()
    }

    /// Pays an output, and the change back to the address. Of the coins that pay alone it spends the smallest, so that the
    /// others remain; without such a coin, the largest ones.
    pub fn pay(&self, mut coins: Vec<Coin>, output: &TxOut, feerate: FeeRate) -> Result<Transaction> {
        coins.sort_by_key(|coin| coin.value);
        for coin in &coins {
            if let Some(tx) = self.spend(&[*coin], output, feerate)? {
                return Ok(tx);
            }
        }
        coins.reverse();
        for count in 2..=coins.len() {
            if let Some(tx) = self.spend(&coins[..count], output, feerate)? {
                return Ok(tx);
            }
        }
        let has: Amount = coins.iter().map(|coin| coin.value).sum();
        bail!(
            "{} in {} confirmed coin{} at {} do not pay for {} and the fee: send more there, and wait for a confirmation",
            sat(has),
            coins.len(),
            if coins.len() == 1 { "" } else { "s" },
            self.address,
            sat(output.value)
        )
    }

    /// `None` if the coins do not suffice.
    fn spend(&self, coins: &[Coin], output: &TxOut, feerate: FeeRate) -> Result<Option<Transaction>> {
        let has: Amount = coins.iter().map(|coin| coin.value).sum();
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&WITNESS),
        };
        let change = TxOut {
            value: Amount::ZERO,
            script_pubkey: self.script(),
        };
        let mut tx = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output: vec![output.clone(), change],
        };
        let fee = |tx: &Transaction| feerate.fee_vb(tx.vsize() as u64);
        let left = |tx: &Transaction| has.checked_sub(output.value)?.checked_sub(fee(tx)?);
        let dust = tx.output[1].script_pubkey.minimal_non_dust();
        if let Some(change) = left(&tx).filter(|left| *left >= dust) {
            tx.output[1].value = change;
        } else {
            tx.output.truncate(1);
            if left(&tx).is_none() {
                return Ok(None);
            }
        }
        self.sign(&mut tx, coins)?;
        Ok(Some(tx))
    }

    fn sign(&self, tx: &mut Transaction, coins: &[Coin]) -> Result<()> {
        let script = self.script();
        for (index, coin) in coins.iter().enumerate() {
            let hash = SighashCache::new(&*tx).p2wpkh_signature_hash(
                index,
                &script,
                coin.value,
                EcdsaSighashType::All,
            )?;
            let signature = ecdsa::Signature {
                signature: self.secp.sign_ecdsa(&Message::from(hash), &self.key.inner),
                sighash_type: EcdsaSighashType::All,
            };
            tx.input[index].witness = Witness::p2wpkh(&signature, &self.key.public_key(&self.secp).inner);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wallet() -> Wallet {
        Wallet::of_seed(&[7; 32], Network::Regtest).unwrap()
    }

    fn coins(values: &[u64]) -> Vec<Coin> {
        let coin = |(vout, value): (u32, &u64)| Coin {
            outpoint: OutPoint {
                vout,
                ..OutPoint::null()
            },
            value: Amount::from_sat(*value),
        };
        (0..).zip(values).map(coin).collect()
    }

    /// The coins that are spent for 50,000 sat, and the change.
    fn pays(values: &[u64]) -> Option<(Vec<u32>, Option<u64>)> {
        let output = TxOut {
            value: Amount::from_sat(50_000),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51; 34]),
        };
        let rate = FeeRate::from_sat_per_vb(2).unwrap();
        let tx = wallet().pay(coins(values), &output, rate).ok()?;
        assert_eq!(tx.output[0], output);
        let spent: Vec<_> = tx.input.iter().map(|input| input.previous_output.vout).collect();
        let has: u64 = spent.iter().map(|vout| values[*vout as usize]).sum();
        let fee = has - tx.output.iter().map(|output| output.value.to_sat()).sum::<u64>();
        let least = 2 * tx.vsize() as u64;
        assert!((least..least + 600).contains(&fee), "a fee of {fee} for {least}");
        Some((spent, tx.output.get(1).map(|change| change.value.to_sat())))
    }

    /// Computed with Python's `hmac` and Bitcoin Core's `deriveaddresses`.
    #[test]
    fn the_address_is_the_one_of_bip_84() {
        let expected = "bcrt1q72xweewm4uvlkgzevmewy0dk3mmpymgrn6d2h0";
        assert_eq!(wallet().address.to_string(), expected);
    }

    #[test]
    fn the_smallest_coin_that_pays_is_spent() {
        assert_eq!(pays(&[900_000, 60_000, 10_000]), Some((vec![1], Some(9_694))));
        // What would be dust is left to the fee.
        assert_eq!(pays(&[900_000, 50_400]), Some((vec![1], None)));
        // No coin pays alone, so that the largest do.
        assert_eq!(pays(&[1_000, 30_000, 40_000]).unwrap().0, [2, 1]);
        assert_eq!(pays(&[30_000, 20_100]), None);
        assert_eq!(pays(&[]), None);
    }
}
