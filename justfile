# Commands for contributors and CI. `just` lists the targets. CONTRIBUTING.md says which to run before a commit, a pull
# request or a release.

set shell := ["bash", "-euo", "pipefail", "-c"]

_list:
    @just --list --unsorted

# Format the code.
format:
    cargo fmt --all

# Check the format of the code.
format-check:
    cargo fmt --all -- --check

# Run clippy on all targets. Warnings are errors.
lint:
    cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

# Run the tests: unit tests, integration tests, doc tests, corpus of the fuzz targets.
test:
    cargo test --locked

# Test an application that uses another cryptography backend of jsonwebtoken. The application has its own lock file.
test-other-backend:
    CARGO_TARGET_DIR=target cargo test --locked --manifest-path tests/embed-other-backend/Cargo.toml

# Run each benchmark once, as a test, except the instruction counts.
bench-smoke:
    cargo test --locked --bench '*'

# Count the instructions per request, and compare with benches/instructions/instructions.txt. Needs valgrind and jq.
instructions:
    .ci/instructions

# Write the instruction counts to benches/instructions/instructions.txt. Needs valgrind and jq.
instructions-write:
    .ci/instructions --write

# Count how the cost of a request grows with users, revocations, issuers, routes and others, and write the table and the plots of docs/capacity.md. Needs valgrind.
growth *arguments:
    benches/instructions/growth {{arguments}}

# Run three gateways over Redis with random failures, and check that none accepts a revoked token: `just cluster-chaos 300`.
cluster-chaos revocations:
    CLUSTER_REVOCATIONS={{revocations}} cargo test --locked --test cluster_chaos -- --ignored --nocapture

# Run the program under a mixed load with broken clients and services, and check that its memory, file descriptors and threads do not grow: `just soak 60`.
soak seconds:
    SOAK_SECONDS={{seconds}} cargo test --locked --test soak -- --ignored --nocapture

# Run the nodes of a cluster in a simulation with random faults, once for each of `seeds` seeds.
simulate-nodes seeds:
    CLUSTER_SEEDS={{seeds}} cargo test --locked -p tower-passticket --all-features --lib no_revoked_token_is_accepted_after_the_success_of_its_revocation -- --nocapture

# Build the documentation with rustdoc. Warnings are errors.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --all-features

# Check links in documents, and citations in documents and comments.
links:
    docs/check-links

# Run the commands in the documents with the debug build. Run `just quick-start-debug` before. Needs python3, curl, git, openssl and redis-server.
document-commands:
    cargo build --locked --quiet --example axum --bin load-test
    docs/run-commands target/debug/passticket-proxy
    tests/tools/check.py target/debug/passticket-proxy

# Check the library without features and with single features, and the program with and without its default features.
features:
    for features in "" api proxy redis remote store tls serde,test-util; do \
        echo "--features '$features'"; \
        cargo clippy --quiet --locked -p tower-passticket --lib --features "$features" -- -D warnings; \
    done
    cargo clippy --quiet --locked -p passticket-proxy --bins -- -D warnings
    cargo clippy --quiet --locked -p passticket-proxy --bins --no-default-features -- -D warnings

# Check the dependency rules for crates, modules and files (docs/architecture.md#walls).
walls:
    .ci/walls
    .ci/trees

# Build the program in release mode, start its demo, and check that it answers.
quick-start:
    cargo build --release --locked --quiet --bin passticket-proxy
    .ci/starts target/release/passticket-proxy

# Build the program without optimization, as for the tests, start its demo, and check that it answers.
quick-start-debug:
    cargo test --no-run --locked --quiet
    .ci/starts target/debug/passticket-proxy

# Check that the demo answers as its OpenAPI description says. Run `just quick-start-debug` before. Needs python3.
schemathesis:
    .ci/schemathesis

# Check the token page of the demo in Chromium. Run `just quick-start-debug` before. Needs chromium, node and npm.
page-browser:
    .ci/page/run target/debug/passticket-proxy

# Write the pictures of the token page for the documents. Needs the same as `just page-browser`.
page-screenshots:
    .ci/page/screenshots target/debug/passticket-proxy docs/operating/images

# Run the main rows of the comparison with nginx and HAProxy in few rounds (three minutes). It prints the results.
compare-quick:
    .ci/compare --quick --as-cargo-builds

# Test the scripts of the comparison: verdicts, and no server is left behind after a kill. Needs python3 and nginx.
compare-test:
    benches/compare/test_comparison.py

# Run the whole comparison (twenty-five minutes) and write benches/compare/results.md.
compare *arguments:
    benches/compare/run {{arguments}}

# Send requests to a gateway at a constant rate, and report the latencies: `just load --help`, docs/operating/load-test.md.
[no-exit-message]
[positional-arguments]
load *arguments:
    @cargo run --release --locked --quiet -p load-test -- "$@"

# Build the program with profile-guided optimization: target/optimized/passticket-proxy (about nine minutes).
release:
    benches/optimize

# Write the man pages and completions of shells into target/package, and check them. Needs man-db.
manual:
    cargo run --quiet --locked --example manual -- target/package
    .ci/manual target/package

# Build the Debian package with the profile-guided program: target/debian/*.deb. Needs cargo-deb and cargo-cyclonedx.
deb *program:
    packaging/deb/build {{program}}

# Build the image of a container with the profile-guided program. Needs buildah and cargo-cyclonedx.
container *program:
    packaging/container/build {{program}}

# Write the list of the libraries in the program (SBOM, CycloneDX). Needs cargo-cyclonedx.
sbom file="target/passticket-proxy.cdx.json":
    mkdir -p target
    packaging/sbom {{file}}

# Check the manifests for Kubernetes. Run `just quick-start-debug` before. Needs python3.
manifests program="target/debug/passticket-proxy":
    #!/usr/bin/env bash
    set -euo pipefail
    source .ci/steps
    python_tools
    target/tools/bin/pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 PyYAML==6.0.4
    target/tools/bin/python .ci/manifests {{program}}

# Fuzz one target for a number of seconds: `just fuzz cookies 60`. See fuzz/README.md.
fuzz target seconds:
    fuzz/run {{target}} {{seconds}}

# Fuzz each target for a number of seconds.
fuzz-all seconds:
    for target in $(fuzz/run --list); do fuzz/run "$target" {{seconds}}; done

# Check licences, bans and sources of all dependencies, for all platforms. Needs cargo-deny.
deny:
    cargo fetch --locked
    cargo deny --offline --locked --all-features check bans licenses sources

# Check the dependencies for known vulnerabilities. Needs cargo-deny and its advisory database.
advisories:
    cargo deny --locked --all-features check advisories

# Build the book in target/book. Needs mdbook.
book:
    .ci/book

# Compare the public API with the text in tests/public-api. Needs cargo-public-api.
public-api:
    .ci/public-api

# Write the public API to tests/public-api.
public-api-write:
    .ci/public-api --write

# Compile with the lowest versions of direct dependencies that the manifests allow.
minimal-versions:
    .ci/minimal-versions

# Run the checks for a pull request (at most 22 minutes on two cores).
ci:
    .ci/run

# Run the additional checks before a release (more than an hour).
long:
    .ci/long
