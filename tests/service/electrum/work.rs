//! A chain with less work than the last one that was believed.

use spilman::service::{Chain, ElectrumChain};

use super::server::{Server, World};
use super::{height, told, view};

/// 1. The server goes back: the tip and every view are errors that name both blocks.
/// 2. Another branch grows: an error while it has less work, believed from the height at which it has as much.
/// 3. What was believed last counts, also after a new connection.
#[tokio::test]
async fn a_server_that_goes_back_is_not_believed() {
    let server = Server::start(World::new(40));
    let chain = super::watched(&server);
    chain.tip().await.expect("the first chain");
    let last = server.world.lock().expect("whole").tip().block_hash();
    for depth in [1, 5, 30, 40] {
        server.change(|world| world.blocks.truncate(41 - depth));
        let (height, now) = {
            let world = server.world.lock().expect("whole");
            (world.height(), world.tip().block_hash())
        };
        let expected = format!(
            "switched from block {last} at height 40 to block {now} at height {height}, whose chain has less work"
        );
        let errors = [
            told(&chain.tip().await.expect_err("back")),
            told(&view(&chain, super::coin(0)).await.expect_err("back")),
        ];
        for error in errors {
            assert!(
                error.contains(&expected),
                "expected {expected:?}, found {error:?}"
            );
        }
    }
    server.cut();
    chain.tip().await.expect_err("also over another connection");
    let new = ElectrumChain::new(&server.address);
    assert_eq!(
        height(&new).await,
        0,
        "a view that believed nothing yet believes this"
    );
}

#[tokio::test]
async fn another_branch_is_believed_once_it_has_as_much_work() {
    for depth in [1_u32, 5, 11, 30] {
        let server = Server::start(World::new(40));
        let chain = ElectrumChain::new(&server.address);
        chain.tip().await.expect("the first chain");
        server.change(|world| {
            world.blocks.truncate(41 - depth as usize);
            world.mine(&[super::server::pay(super::coin(9), &bitcoin::ScriptBuf::new(), 1)]);
        });
        for height in 41 - depth..=45 {
            let tip = chain.tip().await.map(|tip| tip.height.to_consensus_u32());
            match tip {
                Ok(found) => assert!(found == height && height >= 40, "{depth}: {found}"),
                Err(error) => assert!(height < 40, "{depth} at {height}: {}", told(&error)),
            }
            server.change(|world| world.mine(&[]));
        }
    }
}

/// 1. A poll with an unchanged tip asks for no header, a new block is asked for alone, and many at once, too.
/// 2. A reorganisation is asked for as far back as what was believed.
#[tokio::test]
async fn headers_are_asked_for_once() {
    const CALL: &str = "blockchain.block.headers";
    let server = Server::start(World::new(40));
    let chain = ElectrumChain::new(&server.address);
    let heights = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = heights.clone();
    server.lie(move |_, call, params| {
        if call == CALL {
            seen.lock().expect("whole").push(params.clone());
        }
        None
    });
    chain.tip().await.expect("a tip");
    chain.tip().await.expect("the same");
    server.change(|world| world.mine(&[]));
    chain.tip().await.expect("one more");
    server.change(|world| (0..7).for_each(|_| world.mine(&[])));
    chain.tip().await.expect("seven more");
    server.change(|world| {
        world.blocks.truncate(47);
        world.mine(&[super::server::pay(super::coin(9), &bitcoin::ScriptBuf::new(), 1)]);
        (0..3).for_each(|_| world.mine(&[]));
    });
    chain.tip().await.expect("another branch");
    let asked = serde_json::json!([[30, 11], [41, 1], [42, 7], [49, 2], [30, 21]]);
    assert_eq!(serde_json::json!(*heights.lock().expect("whole")), asked);
}
