# Progress of a long step on standard error: on a terminal one line that changes, otherwise a line every 10 s. To be sourced.
# shellcheck shell=bash

progress_pid=

# start_progress TEXT FUNCTION: until stop_progress, prints TEXT, what FUNCTION prints, and the seconds.
start_progress() {
    (
        trap - EXIT INT TERM
        # The locks belong to the command alone.
        exec 7>&- 8>&-
        began=$SECONDS next=10
        while sleep 0.5; do
            passed=$((SECONDS - began))
            if [ -t 2 ]; then
                ((passed < 1)) || printf '\r\033[K%s: %s, %s s' "$1" "$("$2")" "$passed" >&2
            elif ((passed >= next)); then
                printf '%s: %s, %s s\n' "$1" "$("$2")" "$passed" >&2
                next=$((passed + 10))
            fi
        done
    ) &
    progress_pid=$!
}

stop_progress() {
    [ -n "$progress_pid" ] || return 0
    kill "$progress_pid" 2>/dev/null || true
    wait "$progress_pid" 2>/dev/null || true
    progress_pid=
    [ ! -t 2 ] || printf '\r\033[K' >&2
}

# megabytes FILE: its size.
megabytes() { echo "$(($(stat -c %s "$1" 2>/dev/null || echo 0) / 1000000)) MB"; }
