use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use super::*;

/// Folders of fake programs, and an environment that points into them.
struct World {
    root: tempfile::TempDir,
    variables: HashMap<&'static str, OsString>,
}

impl World {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            variables: HashMap::new(),
        }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    /// The file is written by another process: one that this process has open for writing, and with it every child
    /// that another test forks just then, cannot be executed.
    fn program(&self, relative: &str, script: &str) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let write = "printf '#!/bin/sh\n%s\n' \"$2\" >\"$1\" && chmod +x \"$1\"";
        let status = Command::new("/bin/sh")
            .args(["-c", write, "write"])
            .args([path.as_os_str(), script.as_ref()])
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        path
    }

    /// A program in the cache that calls itself as Bitcoin Core does.
    fn cached(&self, folder: &str, version: &str) -> PathBuf {
        self.program(
            &format!("cache/{folder}/bin/bitcoind"),
            &format!("echo 'Bitcoin Core daemon version v{version}-1a2b3c bitcoind'; echo 'Copyright'"),
        )
    }

    fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.variables.insert(name, value.into());
    }

    fn find(&self) -> Result<FoundBinary, BinaryError> {
        BITCOIND.find(&|name| self.variables.get(name).cloned(), None)
    }

    fn find_version(&self, version: &str) -> Result<FoundBinary, BinaryError> {
        BITCOIND.find_version(version, &|name| self.variables.get(name).cloned(), None)
    }
}

#[test]
fn precedence_is_variable_then_path_then_cache() {
    let mut world = World::new();
    let cached = world.program(
        "home/.cache/spilman/bitcoind-31.99/bin/bitcoind",
        "echo wrapped\necho version v1-cache\necho more",
    );
    world.set("HOME", world.path("home"));
    let found = world.find().unwrap();
    assert_eq!(
        found,
        FoundBinary {
            path: cached,
            source: BinarySource::Cache,
            version: "version v1-cache".into()
        }
    );

    let on_path = world.program("second/bitcoind", "echo version v1-path");
    world.set(
        "PATH",
        std::env::join_paths([world.path("first"), world.path("second")]).unwrap(),
    );
    let found = world.find().unwrap();
    assert_eq!(
        found,
        FoundBinary {
            path: on_path,
            source: BinarySource::Path,
            version: "version v1-path".into()
        }
    );

    let named = world.program("mine", "echo version v1-variable");
    world.set("BITCOIND_EXE", &named);
    let found = world.find().unwrap();
    assert_eq!(
        found,
        FoundBinary {
            path: named,
            source: BinarySource::Environment,
            version: "version v1-variable".into()
        }
    );
}

#[test]
fn cache_can_be_moved() {
    let mut world = World::new();
    world.program(
        "home/.cache/spilman/bitcoind-31.99/bin/bitcoind",
        "echo version v1-home",
    );
    world.program("xdg/spilman/bitcoind-31.99/bin/bitcoind", "echo version v1-xdg");
    world.program("own/bitcoind-31.99/bin/bitcoind", "echo version v1-own");
    for (name, folder, version) in [
        ("HOME", "home", "home"),
        ("XDG_CACHE_HOME", "xdg", "xdg"),
        ("SPILMAN_CACHE", "own", "own"),
    ] {
        world.set(name, world.path(folder));
        assert_eq!(world.find().unwrap().version, format!("version v1-{version}"));
    }
}

#[test]
fn a_variable_that_is_wrong_is_an_error_and_not_a_fall_through() {
    let mut world = World::new();
    world.program(
        "home/.cache/spilman/bitcoind-31.99/bin/bitcoind",
        "echo version v1-cache",
    );
    world.set("HOME", world.path("home"));
    let broken = world.program("broken", "echo 'no such library' >&2; exit 127");
    for path in [world.path("absent"), broken] {
        world.set("BITCOIND_EXE", &path);
        let message = world.find().unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("BITCOIND_EXE={} does not start: ", path.display())),
            "{message}"
        );
    }
    world.set("BITCOIND_EXE", "");
    assert_eq!(world.find().unwrap().source, BinarySource::Cache);
}

#[test]
fn what_does_not_start_elsewhere_is_passed_over_and_named() {
    let mut world = World::new();
    world.program("bin/bitcoind", "echo 'no such library' >&2; exit 127");
    world.set("PATH", world.path("bin"));
    world.set("HOME", world.path("home"));
    let message = world.find().unwrap_err().to_string();
    for part in [
        "no bitcoind found",
        "BITCOIND_EXE (not set)",
        "bin/bitcoind (--version ended with status 127: no such library)",
        "home/.cache/spilman/bitcoind-31.99/bin/bitcoind (No such file or directory",
        "run `ci/provision` in the spilman checkout, set BITCOIND_EXE, or put bitcoind on PATH, or enable the \
         `download` feature",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

/// The cache has three versions, and `BITCOIND_EXE` names a fourth program.
fn four_versions() -> (World, [PathBuf; 4]) {
    let mut world = World::new();
    let paths = [
        world.cached("bitcoind-28.99", "28.99.0"),
        world.cached("bitcoind-29.99", "29.99.0"),
        world.cached("bitcoind-31.99", "31.99.0"),
        world.program("mine", "echo 'Bitcoin Core version v29.1.0'"),
    ];
    world.set("SPILMAN_CACHE", world.path("cache"));
    world.set("BITCOIND_EXE", &paths[3]);
    (world, paths)
}

#[test]
fn a_version_is_found_by_what_the_program_says_of_itself() {
    let (world, [core_28, core_29, core_31, mine]) = four_versions();
    for (version, path, source) in [
        ("28", &core_28, BinarySource::Cache),
        ("28.99.0", &core_28, BinarySource::Cache),
        // Two are a 29: the variable comes first. Only one of them is 29.99.
        ("29", &mine, BinarySource::Environment),
        ("29.99", &core_29, BinarySource::Cache),
        ("31.99", &core_31, BinarySource::Cache),
    ] {
        let found = world.find_version(version).unwrap();
        assert_eq!((&found.path, found.source), (path, source), "{version}");
    }
}

#[test]
fn a_version_is_looked_for_in_every_folder_of_path() {
    let mut world = World::new();
    world.program("first/bitcoind", "echo 'Bitcoin Core daemon version v28.0.0'");
    let second = world.program("second/bitcoind", "echo 'Bitcoin Core daemon version v30.0.0'");
    let folders = [world.path("first"), world.path("second")];
    world.set("PATH", std::env::join_paths(folders).unwrap());
    let found = world.find_version("30").unwrap();
    assert_eq!((found.path, found.source), (second, BinarySource::Path));
}

#[test]
fn a_version_that_nobody_has_is_refused_with_what_was_found_and_where() {
    let (mut world, [_, core_29, core_31, mine]) = four_versions();
    std::fs::remove_dir_all(world.path("cache/bitcoind-28.99")).unwrap();
    let broken = world.program("broken", "echo 'no such library' >&2; exit 127");
    world.set("PATH", world.path("nowhere"));

    let message = world.find_version("28").unwrap_err().to_string();
    let says = |path: &PathBuf, what: &str| format!("{} ({what})", path.display());
    for part in [
        "no bitcoind 28 found; tried: ",
        &says(&mine, "Bitcoin Core version v29.1.0"),
        &says(&core_29, "Bitcoin Core daemon version v29.99.0-1a2b3c bitcoind"),
        &says(&core_31, "Bitcoin Core daemon version v31.99.0-1a2b3c bitcoind"),
        "run `ci/provision 28` in the spilman checkout, set BITCOIND_EXE",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }

    // What does not start is one more place looked at, also if the variable names it.
    world.set("BITCOIND_EXE", &broken);
    let message = world.find_version("28").unwrap_err().to_string();
    let part = says(&broken, "--version ended with status 127: no such library");
    assert!(message.contains(&part), "{part:?} is not in {message:?}");

    // Others cannot be built: neither a release, nor what is no version at all.
    for version in ["27", "29.2", "2", "twenty", ""] {
        let message = world.find_version(version).unwrap_err().to_string();
        assert!(!message.contains("run `ci/provision"), "{message}");
    }
}

#[test]
fn all_lists_every_program_that_starts() {
    let (mut world, [core_28, core_29, core_31, mine]) = four_versions();
    world.program("bin/bitcoind", "exit 1");
    world.set("PATH", world.path("bin"));
    let all = BITCOIND.all(&|name| world.variables.get(name).cloned(), None);
    let paths: Vec<_> = all.into_iter().map(|found| found.path).collect();
    assert_eq!(paths, [mine, core_28, core_29, core_31]);
}

#[test]
fn numbers_of_all_kinds_of_version_lines() {
    for (line, number) in [
        (
            "Bitcoin Core daemon version v31.99.0-unk bitcoind",
            Some("31.99.0"),
        ),
        ("Bitcoin Core version v28.0.0", Some("28.0.0")),
        ("Bitcoin Core daemon version v30.0.0rc1", Some("30.0.0")),
        ("v0.10.10", Some("0.10.10")),
        ("a separate version", None),
        ("", None),
    ] {
        assert_eq!(version::number_in(line), number, "{line}");
    }
}

#[test]
fn a_program_is_asked_once_until_it_changes() {
    let mut world = World::new();
    let counter = world.path("asked");
    let script = |version: &str| format!("echo asked >>'{}'; echo version {version}", counter.display());
    let path = world.program("mine", &script("v1"));
    world.set("BITCOIND_EXE", &path);
    for _ in 0..3 {
        assert_eq!(world.find().unwrap().version, "version v1");
    }
    assert_eq!(std::fs::read_to_string(&counter).unwrap(), "asked\n");

    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    world.program("mine", &script("v2"));
    let file = std::fs::File::open(&path).unwrap();
    file.set_modified(before + Duration::from_secs(1)).unwrap();
    assert_eq!(world.find().unwrap().version, "version v2");
}
