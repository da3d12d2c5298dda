# Everything that a contributor or CI runs. `just` lists the targets; CONTRIBUTING.md says when to use which.

set shell := ["bash", "-euo", "pipefail", "-c"]

release_benches := "--bench instructions --bench load --bench minimal_proxy --bench make_revocations"

_list:
    @just --list --unsorted

# Format the code.
format:
    cargo fmt --all

# Fail where the code is not formatted.
format-check:
    cargo fmt --all -- --check

# Clippy on all targets, warnings denied.
lint:
    cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
    # The bench needs a runner of its own and is no target of `--all-targets`.
    cargo clippy --locked --all-features --bench instructions -- -D warnings

# The README's test command: unit tests, tests from outside, doc tests, corpus of the fuzz targets.
test:
    cargo test --locked

# An application that uses the other backend of jsonwebtoken, with a lock file of its own.
test-other-backend:
    CARGO_TARGET_DIR=target cargo test --locked --manifest-path tests/embed-other-backend/Cargo.toml

# Each bench once, as a test.
bench-smoke:
    cargo test --locked --benches

# Instructions of the hot path against benches/instructions.txt. Needs valgrind and jq.
instructions:
    .ci/instructions

# Rustdoc, warnings denied.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --all-features

# Links and citations in documents and comments.
links:
    docs/check-links

# Each feature of the library alone, the core with its tests, and the program with its own features only.
features:
    for features in api proxy remote store tls serde test-util full; do \
        echo "--features $features"; \
        cargo clippy --quiet --locked -p tower-passticket --lib --features "$features" -- -D warnings; \
    done
    cargo clippy --quiet --locked -p tower-passticket --lib -- -D warnings
    cargo clippy --quiet --locked -p tower-passticket --tests -- -D warnings
    cargo clippy --quiet --locked -p passticket-proxy --bins -- -D warnings

# The walls between crates, rooms and files (docs/architecture.md).
walls:
    .ci/walls
    .ci/trees

# All that the next steps need in release mode. In one build, because together the program and the benches
# get the same features of their dependencies, which otherwise compile twice.
release-programs:
    cargo build --release --locked --bin passticket-proxy {{release_benches}}

# The program in release mode answers as the README says.
quick-start: release-programs
    .ci/starts target/release/passticket-proxy

# The demo answers as its OpenAPI description says. Needs python3.
schemathesis:
    .ci/schemathesis

# A short comparison with nginx, HAProxy and a minimal proxy; machines differ, so no ratio is judged.
compare-quick:
    .ci/compare --quick --as-cargo-builds

# The whole comparison (twenty minutes): writes benches/compare/results.md.
compare *arguments:
    benches/compare/run {{arguments}}

# The profile-guided program to operate: target/optimized/passticket-proxy (about nine minutes).
release:
    benches/optimize

# Fuzz one target for some seconds: `just fuzz cookies 60`. See fuzz/README.md.
fuzz target seconds:
    fuzz/run {{target}} {{seconds}}

# Fuzz each target for some seconds.
fuzz-all seconds:
    for target in $(fuzz/run --list); do fuzz/run "$target" {{seconds}}; done

# Licences, bans and sources of all dependencies, offline. Needs cargo-deny.
deny:
    cargo deny --offline --locked --all-features check bans licenses sources

# Known vulnerabilities of dependencies. Needs cargo-deny and its advisory database.
advisories:
    cargo deny --locked --all-features check advisories

# The book: target/book. Needs mdbook.
book:
    .ci/book

# The public API against the committed text. Needs cargo-public-api.
public-api:
    .ci/public-api

# Writes the committed text of the public API anew.
public-api-write:
    .ci/public-api --write

# The lowest versions that Cargo.toml allows compile.
minimal-versions:
    .ci/minimal-versions

# What CI runs for each change (at most 22 minutes on two cores).
ci:
    .ci/run

# What runs before a release.
long:
    .ci/long
