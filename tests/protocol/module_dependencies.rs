//! Who may use whom. Reads every path in `src/`, in whatever form it is written, and compares the rooms it leads to with
//! the table below.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Ident, UseTree};

/// Each room, and the rooms that it may use.
#[rustfmt::skip]
const ROOMS: &[(&str, &[&str])] = &[
    ("channel", &[]),
    ("wire", &["channel"]),
    ("json", &["channel"]),
    ("transcript", &["channel", "wire", "json"]),
    ("sim", &["channel", "wire", "transcript"]),
    ("adversary", &["channel", "wire", "transcript"]),
    ("service", &["channel", "wire", "store"]),
    ("store", &["channel", "wire"]),
    ("regtest", &[]),
    ("guide", &[]),
    ("scenario", &["channel", "wire", "transcript", "store", "service", "regtest"]),
    ("fixtures", &["channel", "wire", "json", "transcript", "sim", "adversary", "regtest"]),
    ("conform", &["channel", "wire", "json", "transcript", "adversary", "store", "service", "regtest", "scenario"]),
];

/// The rooms that may tell one construction from another. The rest asks `Construction` what it can do.
const KNOW_CONSTRUCTIONS: &[&str] = &["channel", "adversary", "fixtures", "scenario", "cli"];

#[test]
fn every_module_depends_only_on_the_modules_listed_for_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    let mut rooms = BTreeSet::new();
    for file in rust_files(&src) {
        let relative = file.strip_prefix(&src).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let module = module_of(relative);
        rooms.extend(module.first().cloned());
        let found = faults_in(&module, &text);
        faults.extend(
            found
                .into_iter()
                .map(|fault| format!("src/{}: {fault}", relative.display())),
        );
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // A room that is missing from the table would go unchecked.
    rooms.remove("cli");
    let listed: BTreeSet<_> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, listed);
}

/// Each way of writing the same forbidden dependency.
#[test]
fn no_form_of_a_path_gets_past() {
    for text in [
        "use crate::regtest::Node;",
        "use crate::{channel::Tip, regtest::Node};",
        "use {crate::{regtest as harness}};",
        "use super::super::regtest::Node;",
        "use super::super::{regtest, channel};",
        "fn f() { crate::regtest::labelled_key(\"\"); }",
        "type N = super::super::regtest::Node;",
        "mod inner { fn f(_: super::super::super::regtest::Node) {} }",
        "fn f() { println!(\"{}\", crate::regtest::RPC_USER); }",
        "macro_rules! m { () => { $crate::regtest::RPC_USER } }",
        "pub use crate::channel::Tip;",
        "use crate as root;",
        "use super::super as root;",
        "use crate::*;",
        "use super::super::*;",
        "extern crate self as own;",
        "fn f() { Construction::Taproot; }",
        "use crate::channel::Construction::Taproot;",
        "use crate::channel::Construction as Kind;",
        "use crate::channel::Construction::*;",
    ] {
        let faults = faults_in(&["service".to_owned(), "open".to_owned()], text);
        assert!(!faults.is_empty(), "passed: {text}");
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// `a/b.rs` and `a/b/mod.rs` are both `[a, b]`; `lib.rs` and `main.rs` are the root.
fn module_of(relative: &Path) -> Vec<String> {
    let without = relative.with_extension("");
    let mut module: Vec<_> = without
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}

fn faults_in(module: &[String], text: &str) -> Vec<String> {
    let Some(room) = module.first().filter(|room| *room != "cli") else {
        return Vec::new();
    };
    let mut house = House {
        room: room.clone(),
        module: module.to_vec(),
        faults: Vec::new(),
    };
    house.visit_file(&syn::parse_file(text).unwrap());
    house.faults
}

struct House {
    room: String,
    module: Vec<String>,
    faults: Vec<String>,
}

impl House {
    /// Where a path leads, seen from the root of the crate; `None` if it stays in this module or leaves the crate.
    fn resolve(&self, segments: &[String]) -> Option<Vec<String>> {
        let mut at = match segments.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                name => at.push(name.to_owned()),
            }
        }
        Some(at)
    }

    fn check(&mut self, segments: &[String]) {
        let written = segments.join("::");
        self.check_construction(segments);
        let Some(target) = self.resolve(segments) else {
            return;
        };
        match target.first().map(String::as_str) {
            None | Some("*") => self
                .faults
                .push(format!("`{written}` hides which room it leads to")),
            Some(room) => {
                let may_use = ROOMS.iter().find(|(name, _)| *name == self.room);
                let may_use = may_use.is_some_and(|(_, others)| others.contains(&room));
                let is_room = room == "cli" || ROOMS.iter().any(|(name, _)| *name == room);
                if is_room && room != self.room && !may_use {
                    self.faults
                        .push(format!("`{written}`: {} must not use {room}", self.room));
                }
            }
        }
    }

    fn check_construction(&mut self, segments: &[String]) {
        let variant = segments.iter().position(|segment| segment == "Construction");
        let variant = variant.and_then(|at| segments.get(at + 1));
        let is_variant =
            |name: &String| name == "*" || name.chars().any(char::is_lowercase) && starts_upper(name);
        if variant.is_some_and(is_variant) && !KNOW_CONSTRUCTIONS.contains(&self.room.as_str()) {
            let written = segments.join("::");
            self.faults.push(format!(
                "`{written}`: only channel/construction tells constructions apart"
            ));
        }
    }

    fn check_use(&mut self, prefix: &[String], tree: &UseTree, is_public: bool) {
        let with = |ident: &Ident| [prefix, &[ident.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.check_use(&with(&path.ident), &path.tree, is_public),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.check_use(prefix, tree, is_public);
                }
            }
            UseTree::Name(name) => self.check_leaf(&with(&name.ident), is_public),
            UseTree::Glob(_) => self.check_leaf(&[prefix, &["*".to_owned()]].concat(), is_public),
            UseTree::Rename(rename) => {
                if rename.ident == "Construction" {
                    self.faults.push("`Construction` has one name".to_owned());
                }
                self.check_leaf(&with(&rename.ident), is_public);
            }
        }
    }

    /// Another room's things are not handed on under this room's name.
    fn check_leaf(&mut self, segments: &[String], is_public: bool) {
        self.check(segments);
        let target = self.resolve(segments).unwrap_or_default();
        let from = target
            .first()
            .filter(|room| ROOMS.iter().any(|(name, _)| name == room));
        if is_public && from.is_some_and(|room| *room != self.room) {
            let written = segments.join("::");
            self.faults
                .push(format!("`pub use {written}` hands on what is another room's"));
        }
    }

    /// Paths in a macro's input are tokens.
    fn check_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if path.is_empty() || colons == 2 => {
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => colons += 1,
                // `pub(crate)` leads nowhere.
                TokenTree::Group(_) if path == ["pub"] => path.clear(),
                other => {
                    self.check(&std::mem::take(&mut path));
                    colons = 0;
                    match other {
                        TokenTree::Group(group) => self.check_tokens(group.stream()),
                        TokenTree::Ident(ident) => path.push(ident.to_string()),
                        TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                    }
                }
            }
        }
        self.check(&path);
    }
}

fn starts_upper(name: &str) -> bool {
    name.chars().next().is_some_and(char::is_uppercase)
}

impl<'ast> Visit<'ast> for House {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_public = !matches!(item.vis, syn::Visibility::Inherited);
        self.check_use(&[], &item.tree, is_public);
    }

    fn visit_item_extern_crate(&mut self, _: &'ast syn::ItemExternCrate) {
        self.faults
            .push("`extern crate` gives the crate a second name".to_owned());
    }

    /// `pub(crate)` and its like lead nowhere.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.check(&segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.check_tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}
