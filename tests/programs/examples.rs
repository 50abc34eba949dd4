//! Every program in `examples/` runs to its end. Each asserts what it shows, so it can fail.

#[path = "../../examples/channel.rs"]
mod channel;
#[path = "../../examples/fixture.rs"]
mod fixture;
#[path = "../../examples/lock.rs"]
mod lock;
#[path = "../../examples/refund.rs"]
mod refund;
#[path = "../../examples/reorg.rs"]
mod reorg;
#[path = "../../examples/restart.rs"]
mod restart;
#[path = "../../examples/tcp.rs"]
mod tcp;
#[path = "../../examples/transcript.rs"]
mod transcript;

use std::collections::BTreeSet;
use std::fs;

macro_rules! runs {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                $name::main().expect("it runs to its end");
            }
        )*

        #[test]
        fn no_example_is_left_out() {
            let run: BTreeSet<_> = [$(concat!(stringify!($name), ".rs")),*].map(str::to_owned).into();
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
            let files = fs::read_dir(folder).expect("the folder");
            let files: BTreeSet<_> = files
                .map(|file| file.expect("an entry").file_name().into_string().expect("a name"))
                .collect();
            assert_eq!(run, files);
        }
    };
}

runs!(channel, fixture, lock, refund, reorg, restart, tcp, transcript);
