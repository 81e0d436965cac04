# shellcheck shell=bash
# What the scripts share. Sourced, never run.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rust_wanted=1.95

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need_root() {
    [ "$EUID" -eq 0 ] || die "this needs root, for namespaces and ptrace: sudo $0${*:+ $*}"
}

target_dir() { printf '%s\n' "${CARGO_TARGET_DIR:-$repo/target}"; }

# Prints the version of the cargo in directory $1 as 1.95.0, or fails.
cargo_version() {
    local words
    [ -x "$1/cargo" ] && [ -x "$1/rustc" ] || return 1
    words=$("$1/cargo" --version 2>/dev/null) || return 1
    words=${words#cargo }
    printf '%s\n' "${words%% *}"
}

at_least() { printf '%s\n%s\n' "$2" "$1" | sort --version-sort --check=quiet; }

# Puts a Rust that is new enough on PATH, or fails.
# sudo drops the user's ~/.cargo/bin from PATH, and rustup looks for its toolchains below HOME, which is then root's.
find_rust() {
    local home dir version homes=("${HOME:-/root}" /root)
    if [ "$EUID" -eq 0 ] && [ -n "${SUDO_USER:-}" ]; then
        home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
        homes+=("$home")
    fi
    if dir=$(command -v cargo) && version=$(cargo_version "${dir%/*}") && at_least "$version" "$rust_wanted"; then
        return 0
    fi
    for home in "${homes[@]}"; do
        dir=$home/.cargo/bin
        if version=$(RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup} cargo_version "$dir") &&
            at_least "$version" "$rust_wanted"; then
            export RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup} PATH=$dir:$PATH
            return 0
        fi
    done
    # Debian's package, behind an older one that comes first on PATH
    if version=$(cargo_version /usr/bin) && at_least "$version" "$rust_wanted"; then
        export PATH=/usr/bin:$PATH
        return 0
    fi
    return 1
}

# Built as root in somebody's checkout: give the files to whoever called sudo, so that their own builds go on working.
give_target_back() {
    if [ "$EUID" -eq 0 ] && [ -n "${SUDO_UID:-}" ] && [ -d "$repo/target" ]; then
        chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$repo/target"
    fi
}

# Prints when process $1 started, in clock ticks since boot: with the PID, it names one process for good.
# Fails when there is none, or only a zombie.
start_time() {
    local stat fields
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    # comm, in parentheses, may itself hold spaces and parentheses
    read -ra fields <<<"${stat##*) }"
    # it may end between being opened and read: then the file is empty
    [ "${#fields[@]}" -gt 19 ] || return 1
    [ "${fields[0]}" != Z ] || return 1
    printf '%s\n' "${fields[19]}"
}

# same_process PID START: is the process that start_time described still there?
same_process() { [ "$(start_time "$1")" = "$2" ]; }

# wait_until SECONDS COMMAND...: until COMMAND succeeds, looking every 20 ms.
wait_until() {
    local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
    shift
    until "$@"; do
        [ "${EPOCHREALTIME/[.,]/}" -lt "$end" ] || return 1
        sleep 0.02
    done
}
