# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A run of named steps. One that fails is remembered and the run goes on, so that one run tells everything.

FAILED_STEPS=()

# step NAME COMMAND…: the command bounds its own time.
step() {
    local name=$1 began=$SECONDS code
    shift
    printf '\n== %s\n' "$name"
    "$@"
    code=$?
    if [ $code -eq 0 ]; then
        printf '== %s: ok, %d s\n' "$name" $((SECONDS - began))
    else
        printf '== %s: FAILED with %d after %d s\n' "$name" $code $((SECONDS - began))
        FAILED_STEPS+=("$name")
    fi
    return $code
}
