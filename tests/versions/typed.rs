//! Which typed calls of the client crate fail on which version, as the guide says.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, OutPoint, Transaction};
use spilman::regtest::bitcoincore_rpc::json::{
    BlockStatsFields, GetBlockTemplateCapabilities, GetBlockTemplateModes, GetBlockTemplateRules,
    ScanTxOutRequest,
};
use spilman::regtest::bitcoincore_rpc::{self, Client, RpcApi};
use spilman::regtest::{labelled_key, Cluster, Coin, CoinKind, Regtest};

use crate::{node, paying, sat, VERSIONS};

/// What a call is asked for.
struct Scene {
    block: BlockHash,
    /// In that block.
    mined: Transaction,
    coin: Coin,
    /// In the mempool, with a child.
    unconfirmed: Transaction,
    good: Transaction,
}

type Call = fn(&Client, &Scene) -> Result<(), bitcoincore_rpc::Error>;

/// All typed calls that need no wallet and change nothing.
const CALLS: &[(&str, Call)] = &[
    ("decode_raw_transaction", |c, s| {
        c.decode_raw_transaction(&s.mined, None).map(drop)
    }),
    ("derive_addresses", |c, _| {
        let key = labelled_key("spilman/test/payee").public_key(&bitcoin::secp256k1::Secp256k1::new());
        let descriptor = c.get_descriptor_info(&format!("wpkh({key})"))?.descriptor;
        c.derive_addresses(&descriptor, None).map(drop)
    }),
    ("estimate_smart_fee", |c, _| {
        c.estimate_smart_fee(2, None).map(drop)
    }),
    ("get_added_node_info", |c, _| {
        c.get_added_node_info(None).map(drop)
    }),
    ("get_best_block_hash", |c, _| c.get_best_block_hash().map(drop)),
    ("get_block", |c, s| c.get_block(&s.block).map(drop)),
    ("get_block_count", |c, _| c.get_block_count().map(drop)),
    ("get_block_filter", |c, s| c.get_block_filter(&s.block).map(drop)),
    ("get_block_hash", |c, _| c.get_block_hash(1).map(drop)),
    ("get_block_header", |c, s| c.get_block_header(&s.block).map(drop)),
    ("get_block_header_info", |c, s| {
        c.get_block_header_info(&s.block).map(drop)
    }),
    ("get_block_hex", |c, s| c.get_block_hex(&s.block).map(drop)),
    ("get_block_info", |c, s| c.get_block_info(&s.block).map(drop)),
    ("get_block_stats", |c, _| c.get_block_stats(102).map(drop)),
    ("get_block_stats_fields", |c, _| {
        c.get_block_stats_fields(102, &[BlockStatsFields::TotalFee])
            .map(drop)
    }),
    ("get_block_template", |c, _| {
        let rules = [GetBlockTemplateRules::SegWit];
        let none: [GetBlockTemplateCapabilities; 0] = [];
        c.get_block_template(GetBlockTemplateModes::Template, &rules, &none)
            .map(drop)
    }),
    ("get_blockchain_info", |c, _| c.get_blockchain_info().map(drop)),
    ("get_chain_tips", |c, _| c.get_chain_tips().map(drop)),
    ("get_connection_count", |c, _| c.get_connection_count().map(drop)),
    ("get_descriptor_info", |c, _| {
        c.get_descriptor_info("raw(51)").map(drop)
    }),
    ("get_difficulty", |c, _| c.get_difficulty().map(drop)),
    ("get_index_info", |c, _| c.get_index_info().map(drop)),
    ("get_mempool_entry", |c, s| {
        c.get_mempool_entry(&s.unconfirmed.compute_txid()).map(drop)
    }),
    ("get_mempool_info", |c, _| c.get_mempool_info().map(drop)),
    ("get_mining_info", |c, _| c.get_mining_info().map(drop)),
    ("get_net_totals", |c, _| c.get_net_totals().map(drop)),
    ("get_network_hash_ps", |c, _| {
        c.get_network_hash_ps(None, None).map(drop)
    }),
    ("get_network_info", |c, _| c.get_network_info().map(drop)),
    ("get_node_addresses", |c, _| c.get_node_addresses(None).map(drop)),
    ("get_peer_info", |c, _| c.get_peer_info().map(drop)),
    ("get_raw_mempool", |c, _| c.get_raw_mempool().map(drop)),
    ("get_raw_mempool_verbose", |c, _| {
        c.get_raw_mempool_verbose().map(drop)
    }),
    ("get_raw_transaction", |c, s| {
        c.get_raw_transaction(&s.mined.compute_txid(), None).map(drop)
    }),
    ("get_raw_transaction_hex", |c, s| {
        c.get_raw_transaction_hex(&s.unconfirmed.compute_txid(), None)
            .map(drop)
    }),
    ("get_raw_transaction_info", |c, s| {
        c.get_raw_transaction_info(&s.unconfirmed.compute_txid(), None)?;
        c.get_raw_transaction_info(&s.mined.compute_txid(), Some(&s.block))
            .map(drop)
    }),
    ("get_tx_out", |c, s| {
        let found = c.get_tx_out(&s.coin.outpoint.txid, 1, None)?;
        assert!(found.is_some());
        c.get_tx_out(&s.unconfirmed.compute_txid(), 1, Some(true))
            .map(drop)
    }),
    ("get_tx_out_proof", |c, s| {
        c.get_tx_out_proof(&[s.mined.compute_txid()], Some(&s.block))
            .map(drop)
    }),
    ("get_tx_out_set_info", |c, _| {
        c.get_tx_out_set_info(None, None, None).map(drop)
    }),
    ("list_banned", |c, _| c.list_banned().map(drop)),
    ("scan_tx_out_set_blocking", |c, s| {
        let script = s.coin.output.script_pubkey.to_hex_string();
        c.scan_tx_out_set_blocking(&[ScanTxOutRequest::Single(format!("raw({script})"))])
            .map(drop)
    }),
    ("test_mempool_accept", |c, s| {
        c.test_mempool_accept(&[serialize_hex(&s.good)])?;
        c.test_mempool_accept(&[serialize_hex(&s.mined)]).map(drop)
    }),
    ("uptime", |c, _| c.uptime().map(drop)),
    ("version", |c, _| c.version().map(drop)),
    ("wait_for_block", |c, s| c.wait_for_block(&s.block, 1).map(drop)),
    ("wait_for_new_block", |c, _| c.wait_for_new_block(1).map(drop)),
];

fn scene(cluster: &mut Cluster) -> Scene {
    let guest = cluster.node(1).unwrap().p2p_address().unwrap().to_string();
    let chain = cluster.chain_mut(0).unwrap();
    let coin = chain.fund(sat(100_000), CoinKind::Segwit).unwrap();
    let other = chain.fund(sat(100_000), CoinKind::Legacy).unwrap();
    let third = chain.fund(sat(100_000), CoinKind::Legacy).unwrap();
    let tip = chain.tip().unwrap();
    let unconfirmed = other.spend(paying(&other, 1_000)).unwrap();
    chain.node().submit(&unconfirmed).unwrap().expect_accepted();
    let link = Coin {
        outpoint: OutPoint::new(unconfirmed.compute_txid(), 0),
        output: unconfirmed.output[0].clone(),
        key: labelled_key("spilman/test/payee"),
        kind: CoinKind::Segwit,
        funding: unconfirmed.clone(),
    };
    let child = link.spend(paying(&link, 1_000)).unwrap();
    chain.node().submit(&child).unwrap().expect_accepted();
    // A branch that was left, a node that was added, and one that is banned.
    chain.reorg(1).apply().unwrap();
    let client = chain.node().client();
    client.add_node(&guest).unwrap();
    client.add_ban("10.0.0.1", 1_000, false).unwrap();
    Scene {
        block: chain.node().block_hash_at(tip.height).unwrap(),
        mined: third.funding.clone(),
        good: third.spend(paying(&third, 1_000)).unwrap(),
        coin,
        unconfirmed,
    }
}

/// What the guide's table says of each call: the versions on which it fails.
fn in_the_guide() -> BTreeMap<String, BTreeSet<String>> {
    let guide = include_str!("../../src/regtest/guide.md");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `RpcApi::"));
    let rows = rows.map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let call = cells.next().unwrap().trim_end_matches('`').to_owned();
        let versions = cells
            .next()
            .unwrap()
            .split(',')
            .map(|version| version.trim().to_owned());
        (call, versions.collect())
    });
    rows.collect()
}

#[test]
fn the_guide_lists_the_typed_calls_that_fail() {
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    let mut why = Vec::new();
    for version in VERSIONS {
        let node = node(version).arg("-txindex=1").arg("-blockfilterindex=1");
        let each = Regtest::builder().node(node);
        let mut cluster = Cluster::builder().each(each).start().unwrap();
        let scene = scene(&mut cluster);
        cluster.wait_for_same_mempool().unwrap();
        let client = cluster.node(0).unwrap().client();
        for (call, ask) in CALLS {
            if let Err(error) = ask(client, &scene) {
                found
                    .entry((*call).to_owned())
                    .or_default()
                    .insert(version.to_owned());
                why.push(format!("{call} on {version}: {error}"));
            }
        }
    }
    assert_eq!(found, in_the_guide(), "\n{}", why.join("\n"));
}
