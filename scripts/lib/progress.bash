# Prints the progress of a long step to standard error: on a terminal one line that changes, otherwise a line every 10 s. To be
# sourced.
# shellcheck shell=bash

progress_pid=

# start_progress TEXT [FUNCTION]: prints TEXT, the output of FUNCTION, and the seconds, until stop_progress.
start_progress() {
    (
        trap - EXIT INT TERM
        # This process must not hold the locks of the command.
        exec 7>&- 8>&-
        began=$SECONDS next=10
        detail() { [ -z "$1" ] || printf '%s, ' "$("$1")"; }
        while sleep 0.5; do
            passed=$((SECONDS - began))
            if [ -t 2 ]; then
                ((passed < 1)) || printf '\r\033[K%s: %s%s s' "$1" "$(detail "${2:-}")" "$passed" >&2
            elif ((passed >= next)); then
                printf '%s: %s%s s\n' "$1" "$(detail "${2:-}")" "$passed" >&2
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
