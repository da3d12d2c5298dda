#!/usr/bin/env bash
# Checks the demo against its own OpenAPI description. The tool schemathesis makes and sends the requests.
#
#     crates/passticket-proxy/tests/schemathesis.sh [PROGRAM]
#
# Every response must match the description, and no response may be a server error. The exit code is 0 only if
# no run found a problem. All connections are on the loopback interface.
#
# Environment variables:
#     SCHEMATHESIS  the schemathesis program to use instead of the one on the PATH
#     EXAMPLES      the number of requests for each operation in each run
#     SEED          the seed of the random requests
set -euo pipefail
program=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/debug/passticket-proxy}")
schemathesis=${SCHEMATHESIS:-schemathesis}
checks=not_a_server_error,status_code_conformance,content_type_conformance
checks+=,response_headers_conformance,response_schema_conformance
checks+=,unsupported_method,allow_header_conformance

directory=$(mktemp -d)
demo=
stop_demo() {
    if [[ -n $demo ]]; then
        kill "$demo" 2>/dev/null || true
        wait "$demo" 2>/dev/null || true
        demo=
    fi
}
finish() {
    local status=$?
    stop_demo
    if ((status)) && [[ -f $directory/err ]]; then
        printf '\nlast lines of the demo log:\n' >&2
        tail -n 40 "$directory/err" >&2
    fi
    rm -rf "$directory"
}
trap finish EXIT
cd "$directory"
# OpenAPI documents leave OPTIONS out. Each path answers it with 204 and `Allow`.
cat >schemathesis.toml <<'EOF'
[phases.coverage]
unexpected-methods = ["get", "put", "post", "delete", "patch", "trace", "query"]
EOF

# Runs schemathesis against a new demo. Arguments: the name of the run, then more arguments for
# schemathesis. The word TOKEN in these arguments stands for a login token.
run() {
    local name=$1
    shift
    printf '\n--- %s (%ss)\n' "$name" "$SECONDS"
    # The previous run may have revoked tokens, so start a new demo.
    stop_demo
    rm -rf data out
    RUST_LOG=tower_passticket=debug "$program" serve --demo --port 0 --data-dir data >out 2>err &
    demo=$!
    for _ in $(seq 300); do
        grep -q application/health out && break
        kill -0 "$demo" 2>/dev/null || break
        sleep 0.1
    done
    if ! grep -q application/health out; then
        echo "the demo did not start:" >&2
        cat out err >&2
        return 1
    fi
    local url
    url=$(grep -o 'https://localhost:[0-9]*' out | head -n 1)/gateway/api/v1/auth
    token=$(curl -fsS --noproxy '*' --cacert data/certs/ca.pem --cert data/certs/USER.pem \
        --key data/certs/USER.key -c - -o /dev/null -X POST "$url/login" |
        awk '$6 == "apimlAuthenticationToken" { print $7 }')
    [[ -n $token ]]
    NO_PROXY='*' "$schemathesis" run "$url/openapi.json" --tls-verify data/certs/ca.pem \
        --phases examples,coverage,fuzzing --checks "$checks" --continue-on-failure \
        --workers 1 --seed "${SEED:-20261121}" --max-examples "${EXAMPLES:-10}" \
        --generation-database none --request-timeout 30 --no-color --warnings off \
        "${@//TOKEN/$token}"
    # The demo must still run.
    kill -0 "$demo"
}

run "with a password" --auth USER:validPassword
# Without arguments, schemathesis sends random credentials.
run "with random credentials"
# Excludes the operations that revoke the login token, because the other requests need it.
run "with a certificate and a login token" --header "Authorization: Bearer TOKEN" \
    --request-cert data/certs/USER.pem --request-cert-key data/certs/USER.key \
    --exclude-path-regex '/(logout|refresh)$'
printf '\nschemathesis found no problem (%ss)\n' "$SECONDS"
