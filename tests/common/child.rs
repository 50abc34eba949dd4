//! A test in a separate process: the same test program, told to run just this test.

use std::any::type_name;
use std::env;
use std::path::Path;
use std::process::Command;

/// Says to the child what to do.
pub const CHILD: &str = "SPILMAN_TEST_CHILD";

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

/// The name of a test as test programs list it.
pub fn name_of<T>(_test: T) -> &'static str {
    let path = type_name::<T>();
    path.split_once("::").expect("a function of this crate").1
}

/// The command that runs this test as a child.
pub fn child_of<T>(test: T, what: &str) -> Command {
    // Tests that a script runs in the background ignore Ctrl-C, and the child would inherit that.
    let mut command = Command::new("/usr/bin/env");
    command
        .arg("--default-signal=INT")
        .arg(env::current_exe().expect("this program"))
        .args(["--exact", name_of(test)])
        .env("RUST_TEST_THREADS", "2")
        .env(CHILD, what);
    command
}

/// Makes an executable script. A shell writes it: what this process had open for writing could not be executed as long
/// as another thread, forking, has it open ("text file busy").
pub fn write_program(path: &Path, script: &str) {
    let wrote = Command::new("/bin/sh")
        .args(["-c", r#"printf '%s' "$2" >"$1" && chmod 755 "$1""#, "sh"])
        .arg(path)
        .arg(script)
        .status();
    let wrote = wrote.expect("a shell");
    assert!(wrote.success(), "{}: {wrote}", path.display());
}

/// The command in separate namespaces, as their root, after what a shell does `before`; the next argument is its `$0`.
pub fn isolated(spaces: &[&str], before: &str, child: &Command) -> Command {
    let run = std::iter::once(child.get_program()).chain(child.get_args());
    let run: Vec<_> = run.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]).args(spaces);
    command.args(["sh", "-c", &format!("{before}exec {}", run.join(" "))]);
    command.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}
