//! The table in `src/channel/weights.md`, made from transactions that a node accepted. `just weights` writes it;
//! otherwise the test compares.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use bitcoin::script::Instruction;
use bitcoin::{Amount, FeeRate, ScriptBuf, Transaction, TxOut};
use spilman::channel::{Capacity, ChannelId, Construction, Protocol, SpendRole, Terms};
use spilman::regtest::{labelled_key, CoinKind, Lock, NodeBuilder, Regtest};
use spilman::scenario::{Channel, Plan, Play, Scenario, ScenarioError, World};
use spilman::transcript::{timeline, Entry, Side, Transcript};

#[test]
fn the_table_is_what_a_node_accepted() {
    let payment = on_chain_payment();
    let channels: Vec<_> = Construction::ALL.into_iter().map(Costs::measure).collect();
    let table = table(&channels, &payment);

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/channel/weights.md");
    if env::var_os("WRITE_WEIGHTS").is_some() {
        fs::write(&file, &table).expect("the table can be written");
    }
    let committed = fs::read_to_string(&file).expect("the table is there");
    assert!(
        committed == table,
        "{} is not what was measured (`just weights` writes it):\n{table}",
        file.display()
    );
}

/// What one channel puts on chain.
struct Costs {
    construction: Construction,
    funding: Transaction,
    settlement: Transaction,
    unilateral: Transaction,
    refund: Transaction,
}

impl Costs {
    fn measure(construction: Construction) -> Self {
        let together = play(construction, "together", || {
            Box::new(|w| Box::pin(close_together(w)))
        });
        let payee = play(construction, "payee-alone", || {
            Box::new(|w| Box::pin(payee_closes_alone(w)))
        });
        let payer = play(construction, "payer-alone", || {
            Box::new(|w| Box::pin(payer_refunds(w)))
        });
        Self {
            construction,
            funding: mined(&together, SpendRole::Funding),
            settlement: mined(&together, SpendRole::Settlement),
            unilateral: mined(&payee, SpendRole::Settlement),
            refund: mined(&payer, SpendRole::Refund),
        }
    }
}

fn play(construction: Construction, story: &str, play: impl Fn() -> Play) -> Transcript {
    let story = Scenario::new(Protocol::Example7, story, "What a channel puts on chain", play());
    match story.on(construction).run(NodeBuilder::default()) {
        Ok(transcript) => transcript,
        Err(failure) => panic!("{}\n{failure}", timeline(failure.transcript())),
    }
}

/// The transaction that was broadcast in this role, and is in a block.
fn mined(transcript: &Transcript, wanted: SpendRole) -> Transaction {
    let name = transcript.entries.iter().find_map(|entry| match entry {
        Entry::Broadcast {
            role,
            name,
            rejected: None,
            ..
        } if *role == wanted => Some(name),
        _ => None,
    });
    let name = name.unwrap_or_else(|| panic!("no {} was accepted:\n{}", wanted.name(), timeline(transcript)));
    let in_block = |entry: &Entry| matches!(entry, Entry::Block { names, .. } if names.contains(name));
    assert!(
        transcript.entries.iter().any(in_block),
        "{name} is in no block:\n{}",
        timeline(transcript)
    );
    transcript.decoded(name).expect("it was recorded")
}

async fn open_and_pay(world: &World) -> Result<Channel, ScenarioError> {
    let (capacity, id) = (Amount::from_sat(1_000_000), ChannelId(1));
    let coin = world.payer_coin(capacity + Amount::from_sat(50_000), CoinKind::Segwit, id)?;
    let capacity = Capacity::new(capacity).expect("within the limit");
    let terms = Terms::with(Protocol::Example7, world.construction(), capacity, world.tip()?);
    let channel = world.open(Plan::new(terms.expect("a day ahead"), coin)).await?;
    world.mine(3, &[&channel]).await?;
    channel.pay(Amount::from_sat(400_000)).await?;
    Ok(channel)
}

async fn close_together(world: &World) -> Result<(), ScenarioError> {
    let channel = open_and_pay(world).await?;
    channel.close(Side::Payer).await?;
    world.mine(1, &[&channel]).await
}

async fn payee_closes_alone(world: &World) -> Result<(), ScenarioError> {
    let channel = open_and_pay(world).await?;
    channel.vanish(Side::Payer).await?;
    let base = world.funding_parent(channel.funding()?)?;
    let settle_from = channel.params()?.terms().settle_from(base).expect("it has begun");
    world.make_final(settle_from.to_lock_time(), &[&channel]).await?;
    world.mine(1, &[&channel]).await
}

async fn payer_refunds(world: &World) -> Result<(), ScenarioError> {
    let channel = open_and_pay(world).await?;
    channel.vanish(Side::Payee).await?;
    let lock = Lock::from(&world.recorded("refund")?);
    world.make_final(lock, &[&channel]).await?;
    world.mine(1, &[&channel]).await
}

/// What the payer's wallet would do instead: spend its coin to the payee, and the rest back to itself.
fn on_chain_payment() -> Transaction {
    // Without a fee the coin, and with it the length of the signature, stays the one of the table.
    let chain = Regtest::builder().faucet_feerate(FeeRate::ZERO).start();
    let chain = chain.expect("a chain");
    let key = |label: &str| labelled_key(&format!("spilman/weights/{label}"));
    let coin = chain.fund_key(Amount::from_sat(1_050_000), CoinKind::Segwit, key("payer"));
    let coin = coin.expect("a coin");
    let output = |sat, script_pubkey: ScriptBuf| TxOut {
        value: Amount::from_sat(sat),
        script_pubkey,
    };
    let outputs = vec![
        output(400_000, CoinKind::Segwit.script(&key("payee"))),
        output(649_000, CoinKind::Segwit.script(&key("change"))),
    ];
    let tx = coin.spend(outputs).expect("both fit in the coin");
    let block = &chain.mine_exactly(std::slice::from_ref(&tx)).expect("a block");
    assert_eq!(block.txids, [tx.compute_txid()], "the payment is in the block");
    tx
}

const HEAD: &str = "\
# What a channel puts on chain

Measured on transactions that a node has put into blocks, between P2WPKH payouts; the funding transaction has one P2WPKH
input and a P2WPKH change. `just weights` makes this page, and a test compares it. Weights are in weight units; a virtual
byte is four of them, rounded up; the fee at so many sat/vB is for the virtual bytes, in satoshi. An ECDSA signature has,
with its hash type, 71 or 72 bytes, as it happens, so that one more or less moves two transactions of the same form apart
by a weight unit in a witness, and by four in P2SH. A Schnorr signature has 64.

| construction | transaction | signatures | weight | vsize | 1 sat/vB | 10 sat/vB |
|---|---|--:|--:|--:|--:|--:|
";

fn table(channels: &[Costs], payment: &Transaction) -> String {
    let mut text = HEAD.to_owned();
    for costs in channels {
        for (what, tx) in [
            ("funding", &costs.funding),
            ("settlement by both", &costs.settlement),
            ("settlement by the payee alone", &costs.unilateral),
            ("refund", &costs.refund),
        ] {
            row(&mut text, &format!("`{}`", costs.construction), what, tx);
        }
    }
    row(&mut text, "none", "one P2WPKH payment", payment);
    let _ = write!(
        text,
        "\nA channel is two transactions, whatever is paid. The payer could also pay n times on chain, each time with the \
         change\nof the time before, {} vB each. The channel costs less, at any feerate:\n\n\
         | construction | closed by both | costs less from | closed by the payee alone | costs less from |\n\
         |---|--:|--:|--:|--:|\n",
        payment.vsize()
    );
    for costs in channels {
        let both = costs.funding.vsize() + costs.settlement.vsize();
        let alone = costs.funding.vsize() + costs.unilateral.vsize();
        let _ = writeln!(
            text,
            "| `{}` | {both} vB | n = {} | {alone} vB | n = {} |",
            costs.construction,
            wins_from(both, payment),
            wins_from(alone, payment)
        );
    }
    text
}

fn row(text: &mut String, construction: &str, what: &str, tx: &Transaction) {
    let fee = |sat_per_vb| {
        let feerate = FeeRate::from_sat_per_vb(sat_per_vb).expect("a small number");
        let fee = feerate.fee_vb(tx.vsize() as u64).expect("a small number");
        fee.to_sat()
    };
    let _ = writeln!(
        text,
        "| {construction} | {what} | {} | {} | {} | {} | {} |",
        signatures(tx),
        tx.weight().to_wu(),
        tx.vsize(),
        fee(1),
        fee(10)
    );
}

/// The least number of payments that need more than this many virtual bytes.
fn wins_from(vsize: usize, payment: &Transaction) -> usize {
    vsize / payment.vsize() + 1
}

/// The sizes of the signatures in the only input.
fn signatures(tx: &Transaction) -> String {
    let [input] = &tx.input[..] else {
        panic!("one input, and not {}", tx.input.len());
    };
    let pushed = input.script_sig.instructions().filter_map(|push| match push {
        Ok(Instruction::PushBytes(bytes)) => Some(bytes.as_bytes()),
        _ => None,
    });
    let is_signature = |item: &&[u8]| item.len() == 64 || bitcoin::ecdsa::Signature::from_slice(item).is_ok();
    let sizes = pushed.chain(input.witness.iter()).filter(is_signature);
    sizes
        .map(|item| item.len().to_string())
        .collect::<Vec<_>>()
        .join(" + ")
}
