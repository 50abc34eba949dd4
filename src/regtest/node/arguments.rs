//! The arguments of a node: those of the harness, those of a test, and those that cannot be.

use std::ffi::OsString;

use bitcoin::hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};

use crate::regtest::error::InvalidRequest;
use crate::regtest::policy::Policy;
use crate::regtest::transport::{RPC_PASSWORD, RPC_USER};

/// What every node gets, and what it is for.
const ARGUMENTS: &[&str] = &[
    "-regtest",
    "-txindex=0",
    // No peers, and no ports but that of RPC.
    "-connect=0",
    "-dnsseed=0",
    "-fixedseeds=0",
    "-discover=0",
    "-natpmp=0",
    "-listenonion=0",
    "-rpcbind=127.0.0.1",
    "-rpcallowip=127.0.0.1",
    // What is in the mempool gets mined.
    "-blockmintxfee=0",
    // On regtest, the whole block index would be checked with each block, and the whole mempool with each transaction:
    // that takes longer with each of them.
    "-checkblockindex=0",
    "-checkmempool=0",
    // The debug log is kept in its file, and need not be printed as well.
    "-printtoconsole=0",
    // electrs up to 0.11 needs a field that Core after 31 shows only on demand.
    "-deprecatedrpc=bip125",
];

/// Arguments of which every one counts, and without whose defaults the harness could not speak to the node, or nodes
/// with each other.
const ADDED_TO: &[&str] = &["-rpcauth", "-whitelist"];

const PORTS: &str = "the harness reserves the ports; see Node::rpc_address and Node::p2p_address";
const CHAIN: &str = "the harness supports regtest only";
const PASSWORD: &str = "it disables the cookie: log in as RPC_USER, or add a user with -rpcauth";
const DETACHES: &str = "the node would detach from the harness, which already starts it in the background";
const SAYS: &str = "the node would exit at once";
const REBUILDS: &str =
    "every start would rebuild the chain and answer before it is complete; use arg_once to pass it at \
                        the first start only";

/// Arguments that take the node away from the harness, by the name without dashes and without `no`, each with the
/// reason and the way to what is wanted.
const REFUSED: &[(&str, &str)] = &[
    ("chain", CHAIN),
    ("testnet", CHAIN),
    ("testnet4", CHAIN),
    ("signet", CHAIN),
    ("regtest", CHAIN),
    ("server", "the harness needs the RPC server"),
    (
        "stopatheight",
        "the node would exit while it receives its first blocks; use Node::stop to end it",
    ),
    ("stopafterblockimport", "the node would exit at once"),
    ("rpcport", PORTS),
    ("rpcbind", PORTS),
    ("listen", "use NodeBuilder::p2p"),
    ("rpcuser", PASSWORD),
    ("rpcpassword", PASSWORD),
    ("rpccookiefile", "see Node::cookie_file"),
    ("datadir", "the harness creates the folder; see Node::data_dir"),
    ("mocktime", "use NodeBuilder::start_time or Node::set_mock_time"),
    ("daemon", DETACHES),
    ("daemonwait", DETACHES),
    ("version", SAYS),
    ("help", SAYS),
    ("?", SAYS),
    ("h", SAYS),
    ("help-debug", SAYS),
];
/// The same, of what every start gets.
const REFUSED_AT_EVERY_START: &[(&str, &str)] = &[("reindex", REBUILDS), ("reindex-chainstate", REBUILDS)];

/// Refused with any other value, but these say what is so in any case.
const HARMLESS: &[&str] = &[
    "regtest",
    "regtest=1",
    "chain=regtest",
    "server",
    "server=1",
    "nodaemon",
    "daemon=0",
];

/// The arguments of every start, and of the first alone.
pub(super) fn check(every: &[String], once: &[String]) -> Result<(), InvalidRequest> {
    for argument in every {
        refuse(argument, REFUSED_AT_EVERY_START)?;
    }
    let all = every.iter().chain(once);
    all.into_iter().try_for_each(|argument| refuse(argument, REFUSED))
}

fn refuse(argument: &str, refused: &[(&str, &'static str)]) -> Result<(), InvalidRequest> {
    let refusal = |reason| InvalidRequest::Argument {
        argument: argument.to_owned(),
        reason,
    };
    let Some(name) = argument
        .strip_prefix('-')
        .map(|name| name.strip_prefix('-').unwrap_or(name))
    else {
        return Err(refusal("an argument of bitcoind must begin with a dash"));
    };
    if HARMLESS.contains(&name) {
        return Ok(());
    }
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    if name.is_empty() {
        return Err(refusal("everything after it would be ignored"));
    }
    let positive = name.strip_prefix("no").unwrap_or(name);
    if name != positive && ADDED_TO.iter().any(|added| added[1..] == *positive) {
        return Err(refusal("it would lock out the harness or the other nodes"));
    }
    match refused
        .iter()
        .find(|(known, _)| *known == name || *known == positive)
    {
        Some((_, reason)) => Err(refusal(reason)),
        None => Ok(()),
    }
}

/// The defaults, unless a test has its own of the same name, and those of the test.
pub(super) fn lasting(own: &[String], p2p: bool, policy: Policy) -> Vec<OsString> {
    let mut all: Vec<String> = ARGUMENTS.iter().map(ToString::to_string).collect();
    all.push(format!("-rpcauth={}", rpc_auth()));
    if p2p {
        all.push("-whitelist=noban,in,out@127.0.0.1".to_owned());
        // No peer has been silent for long; only the clock has jumped.
        all.push("-peertimeout=999999999".to_owned());
    }
    all.extend(policy.arguments());
    all.retain(|default| {
        let name = name_of(default);
        ADDED_TO.contains(&name.as_str()) || !own.iter().any(|own| name_of(own) == name)
    });
    all.iter().chain(own).map(OsString::from).collect()
}

/// The user, a salt, and the salted hash of the password, as `-rpcauth` takes it.
fn rpc_auth() -> String {
    const SALT: &str = "73616c74";
    let mut engine = HmacEngine::<sha256::Hash>::new(SALT.as_bytes());
    engine.input(RPC_PASSWORD.as_bytes());
    format!("{RPC_USER}:{SALT}${}", Hmac::<sha256::Hash>::from_engine(engine))
}

/// The name with one dash and without `no`, as it begins a default.
fn name_of(argument: &str) -> String {
    let name = argument.split_once('=').map_or(argument, |(name, _)| name);
    let bare = name.trim_start_matches('-');
    format!("-{}", bare.strip_prefix("no").unwrap_or(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(own: &[&str]) -> Vec<String> {
        let own: Vec<_> = own.iter().map(ToString::to_string).collect();
        let all = lasting(&own, false, Policy::free());
        all.into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect()
    }

    #[test]
    fn an_argument_replaces_a_default() {
        let own = [
            "-txindex=1",
            "-dustrelayfee=0.1",
            "-debug=net",
            "-debug=rpc",
            "-rpcauth=alice:73616c74$00",
            "--nodiscover",
        ];
        let all = of(&own);
        for own in own {
            assert!(all.contains(&own.to_owned()), "{own} in {all:?}");
        }
        for replaced in ["-txindex=0", "-dustrelayfee=0", "-discover=0"] {
            assert!(!all.contains(&replaced.to_owned()), "{replaced} in {all:?}");
        }
        assert!(all.contains(&"-minrelaytxfee=0".to_owned()));
        for several in ["-debug", "-rpcauth"] {
            let count = all.iter().filter(|argument| name_of(argument) == several).count();
            assert_eq!(count, 2, "{several} in {all:?}");
        }
    }

    #[test]
    fn what_takes_the_node_away_is_refused_by_name() {
        let refused = |every: &str, once: &str| {
            let list = |argument: &str| Vec::from_iter((!argument.is_empty()).then(|| argument.to_owned()));
            check(&list(every), &list(once))
                .err()
                .map(|error| error.to_string())
        };
        for argument in [
            "-server=0",
            "-noserver",
            "--server=0",
            "-rpcport=1",
            "-rpcbind=0.0.0.0",
            "-listen=1",
            "-nolisten",
            "-chain=main",
            "-noregtest",
            "-signet",
            "-datadir=/x",
            "-mocktime=0",
            "-daemon",
            "-rpcpassword=x",
            "-norpccookiefile",
            "-version",
            "-norpcauth",
            "-nowhitelist",
            "-stopatheight=5",
            "-?",
            "-",
            "--",
            "txindex=1",
        ] {
            for error in [refused(argument, ""), refused("", argument)] {
                let error = error.unwrap_or_else(|| panic!("{argument} is not refused"));
                assert!(error.contains(&format!("the argument {argument:?}: ")), "{error}");
            }
        }
        assert!(refused("-reindex", "").unwrap().contains("arg_once"));
        for argument in [
            "-debug=net",
            "-nodebug",
            "-bind=127.0.0.1:1",
            "-regtest",
            "-server=1",
        ] {
            assert_eq!(refused(argument, argument), None);
        }
        assert_eq!(refused("", "-reindex"), None);
    }

    /// Otherwise a chain takes the longer for each block the longer it is.
    #[test]
    fn whole_states_are_checked_only_on_demand() {
        for (own, other) in [
            ("-checkblockindex=1", "-checkmempool=0"),
            ("-checkmempool=5", "-checkblockindex=0"),
        ] {
            let all = of(&[own]);
            let checks: Vec<_> = all
                .iter()
                .filter(|argument| argument.starts_with("-check"))
                .collect();
            assert_eq!(checks, [other, own]);
        }
    }
}
