# shellcheck shell=dash
# What a test can call. It runs on alpha, in busybox's shell; $host is the host's name.

address_of() { case "$1" in alpha) echo 10.77.0.1 ;; *) echo 10.77.0.2 ;; esac; }
other() { case "$1" in alpha) echo beta ;; *) echo alpha ;; esac; }

fail() {
    echo "FAILED: $*"
    exit 1
}

# on HOST COMMAND...: runs a line of shell there. Prints its output, and ends with its exit status (255: the host did not answer).
on() {
    _host=$1
    shift
    if [ "$_host" = "$host" ]; then
        (eval "$*") </dev/null
        return
    fi
    printf '%s\n' "$*" | nc -w 20 "$(address_of "$_host")" 7000 >"/tmp/on.$$" 2>/dev/null
    # The last line is the exit status; before it is a newline that ended the output if nothing else did.
    sed '$d' "/tmp/on.$$" | sed '${/^$/d}'
    _status=$(tail -n 1 "/tmp/on.$$")
    rm -f "/tmp/on.$$"
    case "$_status" in
        'status '*) return "${_status#status }" ;;
        *) return 255 ;;
    esac
}

# until_true SECONDS COMMAND...: until COMMAND succeeds.
until_true() {
    _left=$(($1 * 20))
    shift
    until "$@"; do
        [ "$_left" -gt 0 ] || return 1
        _left=$((_left - 1))
        usleep 50000
    done
}

agent_ready() { on "$1" 'test -S /run/migrate/agent.sock && netstat -ltn | grep -q ":7070 "'; }
file_there() { on "$1" "test -e '$2'"; }
runs_on() { on "$1" "grep -qs '^State:.[^ZX]' /proc/$2/status"; }

# start DIRECTORY PROGRAM...: starts a program on alpha, its own session's leader. Sets $pid.
start() {
    mkdir -p "$1"
    (cd "$1" && exec setsid sh -c 'echo $$ >pid; exec "$@"' sh "$2" "$3" </dev/null >/dev/null 2>&1) &
    until_true 10 test -s "$1/pid" || fail "$2 does not start"
    pid=$(cat "$1/pid")
}

# copy FROM DIRECTORY: puts a directory's files at the same place on the other host.
copy() {
    _to=$(other "$1")
    on "$1" "tar -c -f - -C / '${2#/}' | nc -w 20 $(address_of "$_to") 7001"
}

# push FROM PID [OPTION...]: pushes a process to the other host. Its report is then in /tmp/report; fails when it has not moved.
push() {
    _from=$1 _pid=$2
    shift 2
    on "$_from" "migrate-cli push $_pid $(other "$_from") --json --pid keep $* 2>/tmp/push.err || cat /tmp/push.err" >/tmp/said
    tail -n 1 /tmp/said >/tmp/report
    if ! grep -q '"outcome": *"moved"' /tmp/said; then
        cat /tmp/said
        return 1
    fi
    grep '"outcome"' /tmp/said >/tmp/report
    if ! runs_on "$(other "$_from")" "$_pid"; then
        echo "$_pid was moved and is not there"
        return 1
    fi
    if runs_on "$_from" "$_pid"; then
        echo "$_pid was moved and still runs here too"
        return 1
    fi
}

# report NAME: a value of the last report.
report() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p" /tmp/report; }
