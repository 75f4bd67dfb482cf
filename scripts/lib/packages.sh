# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Debian packages: install what is missing, and only that.

# sudo may ask for a password where somebody sits who can type it.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Asks nothing, ends in bounded time, and waits for another apt run: a new machine is often updating itself.
apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive timeout 900 apt-get -qq -o DPkg::Lock::Timeout=300 "$@"
}

# ensure_packages NAME…: one apt run for the missing ones, none when nothing is missing.
ensure_packages() {
    local name missing=()
    for name in "$@"; do
        is_installed "$name" || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if ! as_root true 2>/dev/null; then
        echo "Some Debian packages are missing, and installing them needs root or sudo. Let an administrator run:" >&2
        echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
        return 1
    fi
    echo "installing: ${missing[*]}"
    apt_get update || echo "apt-get update failed; going on with the package lists that are here" >&2
    apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# unless_command COMMAND NAME: the package's name, unless the command is there by any other way.
unless_command() {
    command -v "$1" >/dev/null || echo "$2"
}
