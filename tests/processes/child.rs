//! A test in a process of its own: the same test program, told to run just this test.

use std::env;
use std::process::Command;

/// Says to the child what to do.
const CHILD: &str = "SPILMAN_TEST_CHILD";

/// In a child, does what it was made for; otherwise this is the parent.
pub fn is_child(live: impl FnOnce(&str)) -> bool {
    match env::var(CHILD) {
        Ok(what) => {
            live(&what);
            true
        }
        Err(_) => false,
    }
}

/// The command that runs this test as a child.
pub fn child_of(test: &str, what: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args(["--exact", test, "--test-threads", "2"])
        .env(CHILD, what)
        .env_remove("NEXTEST_TEST_NAME");
    command
}
