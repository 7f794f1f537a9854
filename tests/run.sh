#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The one test command: installs what is missing, builds, and runs every test that needs no GPU;
# then the unit and fuzz tests again under AddressSanitizer and UndefinedBehaviorSanitizer. Ends
# with ctest's closing lines; fails if any part failed.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=slurm/env.sh
. slurm/env.sh

summary=()
n_failed=0

# Configures, builds and tests one preset; notes how it ended and goes on.
check() {
    local preset=$1 log=build/$1.ctest.log
    if ! { cmake --preset "$preset" "-DPython3_EXECUTABLE=$PWD/.venv/bin/python" &&
        cmake --build --preset "$preset"; }; then
        summary+=("$preset: the build failed")
        n_failed=$((n_failed + 1))
        return 0
    fi
    ctest --preset "$preset" 2>&1 | tee "$log" || n_failed=$((n_failed + 1))
    summary+=("$preset:" "$(sed -n '/^[0-9]*% tests passed/,$p' "$log")")
}

set -o pipefail
ssmq_env_lock
ssmq_env_tools run test
# Tests of a real Slurm and of two hosts are for root alone, and are left out without.
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    ssmq_env_tools cluster
    export SSMQ_REQUIRE_CLUSTER=1
fi
ssmq_env_venv
ssmq_env_unlock
check dev
check asan

printf '\n'
printf '%s\n' "${summary[@]}"
[ "$n_failed" -eq 0 ]
