//! What a node says of itself.

use spilman::regtest::{Node, START_TIME};

#[test]
fn a_node_says_what_it_is_and_stops() {
    let node = Node::builder()
        .start_time(START_TIME + 5)
        .arg("-txindex=1")
        .start()
        .unwrap();
    assert_eq!(node.mock_time(), START_TIME + 5);
    assert!(node.version().unwrap() >= 280_000);
    assert!(node.subversion().unwrap().starts_with("/Satoshi:"));
    let folder = node.data_dir();
    assert!(folder.join("regtest/debug.log").exists());
    drop(node);
    assert!(!folder.exists(), "{}", folder.display());
}

#[test]
fn an_unknown_argument_is_named_at_once() {
    let error = Node::builder()
        .arg("-nonsense=1")
        .start()
        .unwrap_err()
        .to_string();
    assert!(error.contains("Invalid parameter -nonsense=1"), "{error}");
}
