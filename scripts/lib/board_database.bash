# The database that a command works on: that of the containers, or the private one of `make run`. To be sourced. `open_board`
# takes the lock of the board, and defines `sql`, `sql_as`, `dump` and `app_version`. `cleanup` registers a command that runs at
# exit. If both databases exist, TARGET=containers or TARGET=private selects one.
# shellcheck shell=bash
# shellcheck source=scripts/lib/containers.bash
source "$(dirname "${BASH_SOURCE[0]}")/containers.bash"
# shellcheck source=scripts/lib/progress.bash
source scripts/lib/progress.bash

# The name of the board's database in both servers.
NAME=twotier

# The state after an interrupt. Each command keeps it up to date.
LEFT_BEHIND="Nothing was changed."

# The commands to run at exit, the last registered first.
undo=()
cleanup() { undo=("$1" "${undo[@]}"); }
at_exit() {
    local status=$? command
    trap - EXIT
    trap '' INT TERM
    stop_progress
    for command in "${undo[@]}"; do eval "$command" || true; done
    case $status in 130 | 143) say "interrupted. $LEFT_BEHIND" ;; esac
    exit "$status"
}
trap at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

containers_run() {
    (find_compose) >/dev/null 2>&1 && find_compose && find_database_container && [ "$(state "$DATABASE")" = running ]
}
containers_exist() { (find_compose) >/dev/null 2>&1 && find_compose && volume_exists; }
# `make run` holds this lock while it runs.
private_runs() { [ -e data/lock ] && ! flock -n data/lock true; }

choose_target() {
    local name boards=()
    case ${TARGET:-} in
        containers | private) return ;;
        '') ;;
        *) die "TARGET=$TARGET: expected containers or private." ;;
    esac
    name=$(other_database)
    [ -z "$name" ] || die "$name is set, but this command works only on the databases of 'make up' (TARGET=containers) and
'make run' (TARGET=private). Use the tools of your own database instead, for example mysqldump --single-transaction."
    ! containers_run || boards+=(containers)
    ! private_runs || boards+=(private)
    if [ ${#boards[@]} = 0 ]; then
        ! containers_exist || boards+=(containers)
        [ ! -d data/mysql ] || boards+=(private)
    fi
    case ${#boards[@]} in
        0) die "there is no board '$APP_NAME': start one with 'make up' or 'make run'." ;;
        1) TARGET=${boards[0]} ;;
        *) die "there are two boards: set TARGET=containers ('make up') or TARGET=private ('make run')." ;;
    esac
}

# choose_board: sets TARGET, and BOARD, the name of the board in its backups.
choose_board() {
    choose_target
    BOARD=private
    [ "$TARGET" != containers ] || BOARD=$APP_NAME
}

# lock_board: takes the lock that lets one command at a time work on a board, and removes files that killed commands left.
lock_board() {
    umask 077
    mkdir -p backups
    chmod 700 backups
    exec 7>>"backups/.lock-$BOARD"
    if ! flock -n 7; then
        say "waiting, up to 10 minutes, for the command that works on the board '$BOARD': $(cat "backups/.lock-$BOARD")"
        flock -w "${LOCK_WAIT:-600}" 7 ||
            die "another command still works on the board '$BOARD': $(cat "backups/.lock-$BOARD"). Nothing was changed."
    fi
    echo "$(basename "$0"), process $$, since $(date -u +%H:%M:%SZ)" >"backups/.lock-$BOARD"
    cleanup ': >"backups/.lock-$BOARD"'
    rm -f "backups/.partial-$BOARD."*
    # Those of an older version do not name their board. Each backup takes less than a day.
    find backups -maxdepth 1 -regex 'backups/\.partial-[0-9]+\(\.manifest\)?' -mtime +0 -delete
}

# open_board: chooses the board, takes its lock, and opens its database.
open_board() {
    choose_board
    [ "$TARGET" != containers ] || { find_compose; check_folder; }
    lock_board
    "open_$TARGET"
    # The throw-away databases of killed commands.
    local old
    for old in $(sql "" <<<"SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '${NAME}\\_aside\\_%'"); do
        sql "" <<<"DROP DATABASE $old"
    done
}

# check_login FILE: reports in one sentence why the database refuses the password in FILE, or any other error.
check_login() {
    local error
    error=$(sql "" 2>&1 >/dev/null <<<"SELECT 1") && return
    case $error in
        *1045* | *'Access denied'*)
            die "the database of the board '$BOARD' refuses the password in $1. Restore the right file,
or set new passwords with 'make reset-passwords': no message is lost."
            ;;
        *) die "the database of the board '$BOARD' returned an error: $(tail -n 1 <<<"$error")" ;;
    esac
}

open_containers() {
    find_compose
    check_folder
    find_database_container
    [ "$(state "$DATABASE")" = running ] || die "the containers are down: 'make up' starts them."
    say "using the database of the containers ($DATABASE)"
    in_container() {
        # The client reads the password from the secret, so that no command line has it.
        "$ENGINE" exec -i "$DATABASE" sh -c 'MYSQL_PWD=$(cat /run/secrets/db-root-password) exec "$@"' sh "$@" 7>&-
    }
    client=$(in_container sh -c 'command -v mariadb || command -v mysql' </dev/null)
    dumper=${client%mariadb}
    if [ "$dumper" = "$client" ]; then dumper=${client}dump; else dumper=${client}-dump; fi
    sql() {
        local database=$1
        shift
        in_container "$client" --user=root --default-character-set=utf8mb4 -N -B "$@" ${database:+"$database"}
    }
    # sql_as ACCOUNT PASSWORD DATABASE [OPTION...]
    sql_as() {
        local account=$1 password=$2 database=$3
        shift 3
        MYSQL_PWD=$password "$ENGINE" exec -i -e MYSQL_PWD "$DATABASE" "$client" --user="$account" \
            --default-character-set=utf8mb4 "$@" "$database" 7>&-
    }
    dump() { in_container "$dumper" --user=root "$@" </dev/null; }
    app_version() { "$ENGINE" exec "$BACKEND" /twotier --version 2>/dev/null; }
    check_login "$SECRETS/db-root-password"
}

open_private() {
    client=$(command -v mariadb || command -v mysql) || client=
    dumper=$(command -v mariadb-dump || command -v mysqldump) || dumper=
    [ -n "$client" ] && [ -n "$dumper" ] ||
        die "the programs mariadb and mariadb-dump (or mysql and mysqldump) are not installed."
    [ -d data/mysql ] || die "there is no private database in ./data: 'make run' creates it."
    exec 8>data/lock
    if flock -n 8; then
        say "using the private database in ./data; it runs only during this command"
        cleanup 'scripts/database stop data 7>&- 8>&-'
        scripts/database start data 7>&- 8>&-
    else
        say "using the private database in ./data of the running 'make run'"
        exec 8>&-
    fi
    port=$(cat data/port)
    sql() {
        local database=$1
        shift
        MYSQL_PWD=$(cat data/admin-password) "$client" --no-defaults --protocol=TCP --host=127.0.0.1 --port="$port" --user=admin \
            --default-character-set=utf8mb4 -N -B "$@" ${database:+"$database"}
    }
    sql_as() {
        local account=$1 password=$2 database=$3
        shift 3
        MYSQL_PWD=$password "$client" --no-defaults --protocol=TCP --host=127.0.0.1 --port="$port" --user="$account" \
            --default-character-set=utf8mb4 "$@" "$database"
    }
    dump() {
        MYSQL_PWD=$(cat data/admin-password) "$dumper" --no-defaults --protocol=TCP --host=127.0.0.1 --port="$port" --user=admin "$@"
    }
    app_version() { "${CARGO_TARGET_DIR:-target}/release/twotier" --version 2>/dev/null; }
    check_login data/admin-password
}

# create_throw_away KIND: creates a database that is dropped at exit, and sets THROW_AWAY to its name.
create_throw_away() {
    THROW_AWAY=${NAME}_aside_$1_$(date -u +%Y%m%d%H%M%S)_$$
    cleanup "sql '' <<<'DROP DATABASE IF EXISTS $THROW_AWAY'"
    sql "" <<<"CREATE DATABASE $THROW_AWAY CHARACTER SET utf8mb4"
}

# table_time TABLE: prints when a restore replaced the table, from its name.
table_time() { sed -E 's/.*_(....)(..)(..)T(..)(..)(..)Z$/\1-\2-\3T\4:\5:\6Z/' <<<"$1"; }

# replaced_tables: prints each table that a restore replaced, and the number of messages that are only there.
replaced_tables() {
    local table
    sql "$NAME" <message.sql
    for table in $(sql "" <<<"SELECT table_name FROM information_schema.tables WHERE table_schema = '$NAME'
        AND table_name REGEXP '^messages_before_[0-9]{8}T[0-9]{6}Z$' ORDER BY table_name"); do
        printf '%s %s\n' "$table" "$(sql "$NAME" <<<"SELECT COUNT(*) FROM $table a WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = a.id)")"
    done
}

# age SECONDS: prints it in seconds, minutes, hours or days.
age() {
    if (($1 < 120)); then echo "$1 seconds"; elif (($1 < 7200)); then echo "$(($1 / 60)) minutes"; elif (($1 < 172800)); then
        echo "$(($1 / 3600)) hours"; else echo "$(($1 / 86400)) days"; fi
}
