# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Debian packages: install what is missing, and only that.

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# ensure_packages NAME…: one apt run for the missing ones, none when nothing is missing.
ensure_packages() {
    local name missing=()
    for name in "$@"; do
        is_installed "$name" || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    echo "installing: ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive timeout 300 apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive timeout 600 \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# ensure_command COMMAND NAME…: installs the packages unless the command is there by any other way.
ensure_command() {
    local command=$1
    shift
    command -v "$command" >/dev/null || ensure_packages "$@"
}
