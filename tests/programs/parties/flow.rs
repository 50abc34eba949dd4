use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::{json, Value};
use spilman::regtest::Regtest;

use super::{answer, mine_when_broadcast, open, Side, DEADLINE};
use crate::common::wait::until;
use crate::said;

/// Every command of a channel that ends well, through the death of its payee.
#[test]
fn a_channel_from_the_first_coin_to_the_settlement() {
    let chain = Regtest::start().expect("a node");
    let folder = tempfile::tempdir().expect("a folder");
    let (payer, payee) = (folder.path().join("payer"), folder.path().join("payee"));
    let (payer, payee) = (
        Side::new(&chain, "payer", &payer),
        Side::new(&chain, "payee", &payee),
    );
    let serving = payee.serve("127.0.0.1:0");
    let address = serving.address.clone();
    payer.give_coin(&chain, 200_000);
    let seed = payer.folder.join("seed");
    let mode = fs::metadata(&seed).expect("a seed").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let height = chain.tip().expect("a tip").height;
    let channel = open(&chain, &payer, &address, "100000");
    let paid = payer.ask(&["pay", "--more", "250", "--times", "4"]);
    assert_eq!(
        paid,
        json!({ "channel": channel, "paid": 1_000, "acknowledged": 1_000 })
    );
    // The total is the same however often it is asked for, and the beginning of the name is enough.
    for _ in 0..2 {
        let paid = payer.ask(&["pay", &channel[..6], "--total", "3000"]);
        assert_eq!(paid["acknowledged"], 3_000);
    }
    let status = &payee.ask(&["status"])[0];
    let expected = [
        ("stage", json!("open")),
        ("paid", json!(3_000)),
        ("capacity", json!(100_000)),
        // A day, less the closing margin.
        ("deadline", json!(height + 144 - 36)),
        ("connected", json!(false)),
    ];
    for (field, value) in expected {
        assert_eq!(status[field], value, "{field}");
    }

    serving.kill();
    let stored = &payee.ask(&["status"])[0];
    assert_eq!(
        (&stored["paid"], &stored["connected"]),
        (&json!(3_000), &Value::Null)
    );
    let serving = payee.serve(&address);
    orders(&payer, &channel);
    assert_eq!(payer.ask(&["status"])[0]["deadline"], height + 144);

    let closing = payer.begin(&["close"]);
    mine_when_broadcast(&chain, 6);
    let outcome = &answer(closing)["outcome"];
    assert_eq!(outcome["to_payee"], 5_000);
    // 94,740: what is left, less the fee of the one signature.
    assert_eq!(outcome["to_payer"], 94_740);
    until("the payee to see the sixth block", DEADLINE, || {
        let stage = payee.ask(&["status"])[0]["stage"].clone();
        (stage == "closed", stage)
    });
    let said = serving.end("TERM");
    assert!(said.contains("\"report\":\"closed\""), "{said}");
    assert_eq!(payee.ask(&["status"])[0]["stage"], "closed");
    payer.refuses(&["pay", &channel, "--total", "6000"], "is over");
}

/// Several commands in one process, answered in JSON.
fn orders(payer: &Side, channel: &str) {
    let mut child = payer.command(&["orders"]);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was built with this test");
    let mut stdin = child.stdin.take().expect("a pipe");
    writeln!(stdin, "pay {channel} --total 4000\npay --total 5000\nbuy").expect("it reads");
    drop(stdin);
    let (code, out, err) = said(&child.wait_with_output().expect("its end"));
    assert_eq!(code, Some(0), "{out}{err}");
    let mut answers: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    answers.sort_by_key(|answer| answer["order"].as_u64());
    let [first, second, third] = &answers[..] else {
        panic!("three answers: {out}");
    };
    // Both run at once: the first is acknowledged by the second, or before it.
    assert!(first["answer"]["acknowledged"].as_u64() >= Some(4_000), "{first}");
    assert_eq!(second["answer"]["acknowledged"], 5_000);
    assert!(third["error"].as_str().expect("text").contains("buy"), "{third}");
}

/// The payee is gone. On a new machine, with the seed and one file, the payer gets everything back.
#[test]
fn a_backup_and_the_seed_refund() {
    let chain = Regtest::start().expect("a node");
    let folder = tempfile::tempdir().expect("a folder");
    let (payer, payee) = (folder.path().join("payer"), folder.path().join("payee"));
    let (payer, payee) = (
        Side::new(&chain, "payer", &payer),
        Side::new(&chain, "payee", &payee),
    );
    let serving = payee.serve("127.0.0.1:0");
    payer.give_coin(&chain, 200_000);
    let channel = open(&chain, &payer, &serving.address, "100000");
    serving.kill();

    let file = folder.path().join("channel.refund");
    let file = file.to_str().expect("text");
    payer.ask(&["backup", file]);
    payer.refuses(&["backup", file], "choose another name");
    let own = fs::read_dir(payer.folder.join("channels")).expect("the folder");
    let mut own = own.map(|entry| entry.expect("an entry").path());
    let own = own.find(|path| path.extension().is_some_and(|end| end == "refund"));
    let own = fs::read(own.expect("written at the opening")).expect("a file");
    assert_eq!(own, fs::read(file).expect("a file"));

    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    fs::copy(payer.folder.join("seed"), elsewhere.join("seed")).expect("a copy");
    let elsewhere = Side::new(&chain, "payer", &elsewhere);
    let refunding = elsewhere.begin(&["refund", "--backup", file]);
    let lock = payer.ask(&["status"])[0]["deadline"].as_u64().expect("a height");
    let height = u64::from(chain.tip().expect("a tip").height);
    chain
        .mine(u32::try_from(lock - height).expect("few"))
        .expect("blocks");
    mine_when_broadcast(&chain, 1);
    let refunded = answer(refunding);
    assert_eq!(
        (&refunded["channel"], &refunded["refunded"]),
        (&json!(channel), &json!(true))
    );
    let to_payer = refunded["to_payer"].as_u64().expect("a sum");
    assert!((99_000..100_000).contains(&to_payer), "{to_payer}");

    // The first machine sees the same end.
    chain.mine(5).expect("blocks");
    let outcome = &payer.ask(&["refund"])["outcome"];
    assert_eq!(
        (&outcome["txid"], &outcome["to_payer"]),
        (&refunded["txid"], &json!(to_payer))
    );
}
