//! `spilman live`: three processes, each killed on the way.

use serde_json::Value;

use crate::spilman;

#[test]
fn no_acknowledged_payment_is_lost_when_each_process_is_killed() {
    let (code, out, err) = spilman(&[
        "live",
        "--payments",
        "60",
        "--kills",
        "6",
        "--channels",
        "2",
        "--seed",
        "5",
        "--json",
    ]);
    assert_eq!(code, Some(0), "{out}{err}");
    let books: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(books["acknowledged_payments"], 60);
    assert_eq!(books["lost"], 0);
    for process in ["node", "payee", "payer"] {
        assert_eq!(books["kills"][process], 2, "{process}");
    }
    let amid = books["amid"]["payment"].as_u64();
    assert!(amid > Some(0), "no kill hit a payment: {}", books["amid"]);
    let channels = books["channels"].as_object().expect("channels");
    let received = channels
        .values()
        .map(|channel| channel["received"].as_u64().expect("settled"));
    assert_eq!(received.sum::<u64>(), 60_000);
}

#[test]
fn a_folder_that_is_there_is_not_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, _, err) = spilman(&["live", "--data", folder.path().to_str().expect("text")]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("name a new folder"), "{err}");
}
