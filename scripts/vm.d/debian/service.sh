# shellcheck shell=dash
# What the tests of the service share.

# What runs, whichever way the two hosts are asked.
hosts_of() {
    for _each in alpha beta; do
        on "$_each" "grep -qs '^State:.[^ZX]' /proc/$1/status" && echo "$_each"
    done
}
count_on() { on "$1" "cat /tmp/ticking/count 2>/dev/null"; }
ticks_on() {
    _first=$(count_on "$1")
    until_true 20 counts_on "$1" "$_first"
}
counts_on() {
    _now=$(count_on "$1")
    [ -n "$_now" ] && [ "$_now" -gt "${2:-0}" ]
}

# on_one_host: it runs on exactly one host, is not stopped for ever, and is in nobody's service there. Sets $at.
is_on_one_host() {
    at=$(hosts_of "$pid")
    [ "$at" = alpha ] || [ "$at" = beta ]
}
on_one_host() {
    until_true 40 is_on_one_host || fail "$1: $pid runs on: ${at:-no host}"
    ticks_on "$at" || fail "$1: $pid does not go on on $at: $(on "$at" "grep State /proc/$pid/status; cat /tmp/ticking/count")"
}

# What journald has been sent may not be written yet.
journal() { on "$1" "journalctl --sync; journalctl --unit=migrate-agent --output=json --no-pager $2" 2>/dev/null; }

# field NAME: of the lines of the journal in the input.
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

active() { on "$1" 'test "$(systemctl is-active migrate-agent)" = active'; }

start_ticking() {
    for each in alpha beta; do on "$each" 'mkdir -p /tmp/ticking'; done
    start /tmp/ticking /vm/ticking /tmp/ticking/count
    until_true 20 test -s /tmp/ticking/count || fail "it does not tick"
}

# It was made by the agent, and has nothing of the unit's: not its group, nor a limit, nor a place in the file system of its own.
looks_like_home() {
    on "$at" "sed -n 's/^\(NoNewPrivs\|Seccomp\|CapBnd\|CapEff\|Uid\|Umask\|SigIgn\):/\1/p' /proc/$pid/status
        cat /proc/$pid/limits /proc/$pid/oom_score_adj
        test \$(readlink /proc/$pid/ns/mnt) = \$(readlink /proc/1/ns/mnt) && echo the mounts of all
        test \$(readlink /proc/$pid/ns/net) = \$(readlink /proc/1/ns/net) && echo the network of all"
}

# nothing_left HOST: no file, unit or state of the agent; but the scope in which what has moved here runs.
nothing_left() {
    _left=$(on "$1" 'find / -xdev \( -path /vm -o -path /subjects -o -path /results -o -path /tmp -o -path /var/log \) -prune -o \
            -name "*migrate*" -print
        find /run -name "*migrate*" -not -path "/run/systemd/transient/*" -not -path "/run/systemd/units/*"
        systemctl list-unit-files --no-legend --type=service --type=slice "migrate*"
        getent passwd migrate; getent group migrate')
    [ -z "$_left" ] || fail "left on $1: $_left"
}

# move FROM: to the other host. Where it has its file open just then it stays, because the hosts share none: then once more.
move() {
    for _try in 1 2 3 4 5; do
        push "$1" "$pid" >/tmp/not-moved && return
        grep -q 'which the process has open\|count: No such file' /tmp/not-moved || break
    done
    cat /tmp/not-moved
    fail "it does not move from $1; its count there: $(count_on "$(other "$1")")"
}

# A move that copies for some seconds, and whether it does; `since`: what now_on said before.
push_slowly() { on "$1" "migrate-cli push $pid $(other "$1") --json --bandwidth 1M" >/tmp/slow 2>&1; }
copies() { journal "$1" "MIGRATE_PID=$pid MIGRATE_PHASE=pre-copy --since=$since" | grep -q MESSAGE; }
# A second of which nothing has been logged before. (Behind a cursor, journalctl misses the first line that matches.)
now_on() { on "$1" 'sleep 1; date +@%s'; }
