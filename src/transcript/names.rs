//! Human names of keys, scripts and transactions.

use std::collections::BTreeMap;

use bitcoin::taproot::TapTree;
use bitcoin::{PublicKey, Script, ScriptBuf, Txid, XOnlyPublicKey};

use super::keys::{ScriptKey, SECP};

/// Human names of keys, scripts and transactions; names never change what is decoded.
#[derive(Debug, Clone, Default)]
pub struct Names {
    keys: BTreeMap<PublicKey, String>,
    x_only_keys: BTreeMap<XOnlyPublicKey, String>,
    scripts: BTreeMap<ScriptBuf, String>,
    derived: BTreeMap<ScriptBuf, String>,
    redeem_scripts: BTreeMap<ScriptBuf, ScriptBuf>,
    leaves: BTreeMap<ScriptBuf, String>,
    taproots: BTreeMap<ScriptBuf, (XOnlyPublicKey, TapTree)>,
    txids: BTreeMap<Txid, String>,
}

impl Names {
    /// Names a public key, and with it its x-only form and the P2PKH and P2WPKH scripts of that key.
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
        self.x_only_key(key.inner.x_only_public_key().0, name)
    }

    /// Names a key that is used in its x-only form alone (BIP 340), such as an internal key.
    pub fn x_only_key(&mut self, key: XOnlyPublicKey, name: &str) -> &mut Self {
        self.x_only_keys.insert(key, name.to_owned());
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

    /// Names a Taproot output with these leaves, and its output key with it (BIP 341).
    ///
    /// Such an output is then shown together with its internal key and its leaves.
    pub fn taproot(&mut self, internal_key: XOnlyPublicKey, leaves: &TapTree, name: &str) -> &mut Self {
        let output = ScriptBuf::new_p2tr(&*SECP, internal_key, Some(leaves.root_hash()));
        if let Ok(key) = XOnlyPublicKey::from_slice(&output.as_bytes()[2..]) {
            self.x_only_key(key, &format!("output key of {name}"));
        }
        self.derived.insert(output.clone(), name.to_owned());
        self.taproots.insert(output, (internal_key, leaves.clone()));
        self
    }

    /// Names a leaf of a Taproot output by its script.
    pub fn leaf(&mut self, script: &Script, name: &str) -> &mut Self {
        self.leaves.insert(script.to_owned(), name.to_owned());
        self
    }

    /// Names a transaction.
    pub fn txid(&mut self, txid: Txid, name: &str) -> &mut Self {
        self.txids.insert(txid, name.to_owned());
        self
    }

    /// Returns the name of a key, if it has one.
    pub fn name_of_key(&self, key: &PublicKey) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// Returns the name of an x-only key, if it has one; it may come from a full key.
    pub fn name_of_x_only_key(&self, key: &XOnlyPublicKey) -> Option<&str> {
        self.x_only_keys.get(key).map(String::as_str)
    }

    /// Returns the name of an output script: its own, or the one it has from a named key, redeem script or Taproot
    /// tree.
    pub fn name_of_script(&self, script: &Script) -> Option<&str> {
        self.scripts
            .get(script)
            .or_else(|| self.derived.get(script))
            .map(String::as_str)
    }

    /// Returns the script that hashes to this output script, if it was named.
    pub fn redeem_script_of(&self, output: &Script) -> Option<&Script> {
        self.redeem_scripts.get(output).map(ScriptBuf::as_script)
    }

    /// Returns the internal key and the leaves behind this Taproot output, if they were named.
    pub fn taproot_of(&self, output: &Script) -> Option<(XOnlyPublicKey, &TapTree)> {
        self.taproots.get(output).map(|(key, leaves)| (*key, leaves))
    }

    /// Returns the name of a leaf script, if it has one.
    pub fn name_of_leaf(&self, script: &Script) -> Option<&str> {
        self.leaves.get(script).map(String::as_str)
    }

    /// Returns the name of a transaction, if it has one.
    pub fn name_of_txid(&self, txid: Txid) -> Option<&str> {
        self.txids.get(&txid).map(String::as_str)
    }

    pub(super) fn find_key(&self, key: &ScriptKey) -> Option<&str> {
        match key {
            ScriptKey::Full(key) => self.name_of_key(key),
            ScriptKey::XOnly(key) => self.name_of_x_only_key(key),
        }
    }

    /// Returns the name of a key, or its hex if it has no name.
    pub(super) fn show_key(&self, key: &ScriptKey) -> String {
        self.find_key(key).map_or_else(|| key.to_string(), str::to_owned)
    }
}
