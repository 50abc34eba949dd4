//! Human names of keys, scripts and transactions.

use std::collections::BTreeMap;

use bitcoin::{PublicKey, Script, ScriptBuf, Txid};

/// Human names of keys, scripts and transactions; names never change what is decoded.
#[derive(Debug, Clone, Default)]
pub struct Names {
    keys: BTreeMap<PublicKey, String>,
    scripts: BTreeMap<ScriptBuf, String>,
    derived: BTreeMap<ScriptBuf, String>,
    redeem_scripts: BTreeMap<ScriptBuf, ScriptBuf>,
    txids: BTreeMap<Txid, String>,
}

impl Names {
    /// Names a public key, and with it the P2PKH and P2WPKH scripts of that key.
    pub fn key(&mut self, key: impl Into<PublicKey>, name: &str) -> &mut Self {
        let key = key.into();
        self.derived.insert(
            ScriptBuf::new_p2pkh(&key.pubkey_hash()),
            format!("the hash of {name}"),
        );
        if let Ok(hash) = key.wpubkey_hash() {
            let program = ScriptBuf::new_p2wpkh(&hash);
            self.derived
                .insert(program.to_p2sh(), format!("the nested hash of {name}"));
            self.derived.insert(program, format!("the hash of {name}"));
        }
        self.keys.insert(key, name.to_owned());
        self
    }

    /// Names an output script (a `scriptPubKey`).
    pub fn script(&mut self, script: &Script, name: &str) -> &mut Self {
        self.scripts.insert(script.to_owned(), name.to_owned());
        self
    }

    /// Names a redeem or witness script, and with it the P2SH, P2WSH and nested outputs that hash it.
    ///
    /// Such an output is then shown together with the script behind its hash.
    pub fn redeem_script(&mut self, script: &Script, name: &str) -> &mut Self {
        for output in [script.to_p2sh(), script.to_p2wsh(), script.to_p2wsh().to_p2sh()] {
            self.derived.insert(output.clone(), name.to_owned());
            self.redeem_scripts.insert(output, script.to_owned());
        }
        self
    }

    /// Names a transaction.
    pub fn txid(&mut self, txid: Txid, name: &str) -> &mut Self {
        self.txids.insert(txid, name.to_owned());
        self
    }

    /// The name of a key, if it has one.
    #[must_use]
    pub fn name_of_key(&self, key: &PublicKey) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// The name of an output script: its own, or the one it has from a named key or redeem script.
    #[must_use]
    pub fn name_of_script(&self, script: &Script) -> Option<&str> {
        self.scripts
            .get(script)
            .or_else(|| self.derived.get(script))
            .map(String::as_str)
    }

    /// The script that hashes to this output script, if it was named.
    #[must_use]
    pub fn redeem_script_of(&self, output: &Script) -> Option<&Script> {
        self.redeem_scripts.get(output).map(ScriptBuf::as_script)
    }

    /// The name of a transaction, if it has one.
    #[must_use]
    pub fn name_of_txid(&self, txid: Txid) -> Option<&str> {
        self.txids.get(&txid).map(String::as_str)
    }

    /// The name of a key, or its hex where it has none.
    pub(super) fn show_key(&self, key: &PublicKey) -> String {
        self.name_of_key(key)
            .map_or_else(|| key.to_string(), str::to_owned)
    }
}
