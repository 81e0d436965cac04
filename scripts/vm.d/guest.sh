# shellcheck shell=dash
# What a test can call. It runs on alpha, in busybox's shell; $host is the host's name.

# Where a push leaves what it says; whoever pushes beside others has one of its own.
scratch=/tmp

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
    else
        /vm/far "$(address_of "$_host")" "$*" </dev/null
    fi
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

# where_runs PID: each host on which it does: one of its threads is no zombie.
where_runs() {
    for _each in alpha beta; do
        on "$_each" "cat /proc/$1/task/*/status 2>/dev/null | while read -r key state rest; do
            [ \$key != State: ] || case \$state in [ZX]) ;; *) echo $_each; break ;; esac
        done"
    done
}

# start DIRECTORY PROGRAM...: starts a program on alpha, its own session's leader. Sets $pid.
start() {
    _dir=$1
    shift
    mkdir -p "$_dir"
    rm -f "$_dir/pid"
    (cd "$_dir" && exec setsid sh -c 'echo $$ >pid; exec "$@"' sh "$@" </dev/null >/dev/null 2>&1) &
    until_true 10 test -s "$_dir/pid" || fail "$1 does not start"
    pid=$(cat "$_dir/pid")
}

# copy FROM DIRECTORY: puts a directory's files at the same place on the other host, with the same times.
copy() {
    on "$1" "/usr/local/bin/tar -c -f - --format=posix -C / --warning=no-file-ignored '${2#/}' | /vm/far $(address_of "$(other "$1")") '/usr/local/bin/tar -x -p -f - -C /'"
}

# push FROM PID [OPTION...]: pushes a process to the other host. Its report is then in $scratch/report; fails when it has not moved.
push() {
    _from=$1 _pid=$2
    shift 2
    on "$_from" "migrate-cli push $_pid $(other "$_from") --json --pid keep $* 2>/tmp/push.$_pid || cat /tmp/push.$_pid; rm -f /tmp/push.$_pid" \
        >"$scratch/said"
    while read -r _line; do
        case "$_line" in *'"outcome":'*) echo "$_line" >"$scratch/report" ;; esac
    done <"$scratch/said"
    case "$(cat "$scratch/report")" in
        *'"outcome":"moved"'*) ;;
        *) cat "$scratch/said"; return 1 ;;
    esac
    _where=$(where_runs "$_pid")
    if [ "$_where" != "$(other "$_from")" ]; then
        echo "$_pid was moved to $(other "$_from"), and runs on: ${_where:-no host}"
        return 1
    fi
}

# report NAME: a value of the last report.
report() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p" "$scratch/report"; }
