# Each gate is what CI runs. Without `just`, run the scripts in ci/ directly.

# Show the recipes
default:
    @just --list

# Get a real bitcoind and electrs, and all that the checks need
provision:
    ci/provision --gates --verifiers
    ci/provision --kernel

# Tell the three documented stories, and one on Taproot, on a real node
demo *args:
    ci/demo {{ args }}

# Run every check, or the named ones: just test lint clippy
test *gates:
    ci/test {{ gates }}

# Check formatting, spelling, shell scripts and the workflow
lint:
    ci/test lint

# Check for lints, warnings denied
clippy:
    ci/test clippy

# Build the documentation, warnings denied, and run its examples
docs:
    ci/test docs

# Build the package without features, and with each feature alone; the harness must bring no channels
core:
    ci/test core

# Check licences, sources and bans of the dependencies, and of those of the kernel's judge
deny:
    ci/test deny

# Play every scenario, and the harness's tests, on three versions of Bitcoin Core, and compare the snapshots
matrix:
    ci/test matrix

# Run the tests on a real node, each in a separate process, and compare the snapshots
tests:
    ci/test tests

# Write the fixtures anew, compare the bytes, and check them on a real node
fixtures:
    ci/test fixtures

# Let the Python and the JavaScript verifier check every fixture, and notice 500 changed bytes
verify:
    ci/test verify

# Let Bitcoin Core's own consensus code judge the transactions of the fixtures
kernel:
    ci/test kernel

# Play a part of the conformance cases with the example payee, and with this crate's own payer
conform:
    ci/test conform

# Look for tests that fail now and then: the whole suite so many times, with 2 and with 8 threads
soak runs="20":
    ci/soak {{ runs }}

# Run scenarios: just run --all
run *args: provision
    cargo run --locked --quiet --features cli -- run {{ args }}

# Write the reference fixtures anew: git diff shows what changed
write-fixtures *args: provision
    cargo run --locked --quiet --features cli -- fixtures write {{ args }}

# Rebuild the reference fixtures and replay them on a real node
check-fixtures *args: provision
    cargo run --locked --quiet --features cli -- fixtures check {{ args }}

# Pay a thousand times between two processes, and kill node, payee and payer on the way
live *args: provision
    cargo run --locked --quiet --features cli -- live {{ args }}

# Kill them so many times, with several channels: just kills 1000 --seed 7
kills count="1000" *args: provision
    cargo run --locked --quiet --features cli -- live --kills {{ count }} --payments $(({{ count }} * 5)) --channels 4 {{ args }}

# Say which programs were found where, and what is missing
doctor:
    cargo run --locked --quiet --features cli -- doctor

# Run the tests, then look at each snapshot that changed and accept or reject it
review: provision
    #!/usr/bin/env bash
    set -euo pipefail
    . ci/lib.sh
    use_gate_tools
    cargo insta test --features cli --review --unreferenced=warn --test-runner cargo-test --lib --bins --tests --examples

# Play what every construction puts on chain, and write the table of weights
weights: provision
    WRITE_WEIGHTS=1 cargo test --locked --features cli --test node weights::the_table

# Measure the harness beside the crates under it, and write the table
bench-harness: provision
    cargo bench --locked --features cli --bench harness -- --write tests/bench/harness.md

# Measure payments beside the bare signatures and verifications in them, and write the table (two minutes)
bench-channel:
    cargo bench --locked --features cli --bench channel -- --write tests/bench/channel.md

# Measure a payee's service beside the verifications in it, and write the table (two minutes)
bench-service:
    cargo bench --locked --features cli --bench service -- --write tests/bench/service.md
