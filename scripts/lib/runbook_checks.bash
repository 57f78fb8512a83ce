# The check of scripts/test-containers that runs each command of the runbook in docs/operations.md. To be sourced by it.
# shellcheck shell=bash
# shellcheck disable=SC2154 # variables that it shares

# runbook_commands: prints the commands in the last cells of the runbook's tables, one per line.
runbook_commands() {
    awk '/^## / { inside = $0 == "## Runbook" } inside && /^\|/' docs/operations.md | sed 's/\\|/\x01/g' | awk -F '|' '{
        cell = $4
        while (match(cell, /`[^`]+`/)) {
            print substr(cell, RSTART + 1, RLENGTH - 2)
            cell = substr(cell, RSTART + RLENGTH)
        }
    }' | tr '\001' '|' | grep -E '^(make|podman|curl|echo|cat) '
}

# here COMMAND: prints it with the names of the board of the tests.
here() {
    local command=$1 backup
    backup=$(latest)
    command=${command//localhost:5000/127.0.0.1:$APP_PORT} command=${command//podman /$ENGINE }
    command=${command//twotier-backend/$APP_NAME-backend} command=${command//twotier-mysql/$APP_NAME-mysql}
    command=${command//localhost\/twotier/$APP_IMAGE} command=${command//.lock-twotier/.lock-$APP_NAME}
    command=${command//backups\/NAME.sql.gz/$backup} command=${command//APP_PORT=5001/APP_PORT=$(free_port)}
    command=${command//messages\/ID/messages\/$message_id} command=${command//REQUEST-ID/$request_id}
    echo "${command/#curl /curl -fsS }"
}

runbook() {
    heading "the runbook"
    local command message_id request_id ADMIN_TOKEN
    # `make doctor` fails without a backup.
    board_is_up
    ok "make backup" make backup
    same "the runbook has commands" yes "$([ "$(runbook_commands | wc -l)" -ge 30 ] && echo yes)"
    while IFS= read -r command; do
        # The previous command may have left another port, other settings, or no board.
        make up >"$work/out" 2>&1 </dev/null || bad "make up before: $command"
        request_id=listens
        message_id=$(curl -fsS "$(url /messages)" -H 'Content-Type: application/json' -d '{"message": "for the runbook"}' | grep -oE '"id":[0-9]+' | cut -d : -f 2)
        ADMIN_TOKEN=$(cat "secrets/$APP_NAME/admin-token")
        export ADMIN_TOKEN
        case $command in make*) unset ADMIN_TOKEN ;; esac
        ok "$command" env CONFIRM=1 bash -o pipefail -c "$(here "$command")"
        unset ADMIN_TOKEN
    done < <(runbook_commands)
    # One of them gave the board a token.
    : >"secrets/$APP_NAME/admin-token"
}
