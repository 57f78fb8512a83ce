# The database that a command works on: the containers' or the private one of `make run`. To be sourced; has find_board, and
# then `sql`, `dump` and `cleanup`. TARGET=containers or TARGET=private decides where both are there.
# shellcheck shell=bash
# shellcheck source=scripts/lib/containers.bash
source "$(dirname "${BASH_SOURCE[0]}")/containers.bash"

# The name of the database, in both.
NAME=twotier

# Undone at the end, last things first.
undo=()
cleanup() { undo=("$1" "${undo[@]}"); }
at_exit() {
    local status=$? command
    trap - EXIT
    for command in "${undo[@]}"; do eval "$command" || true; done
    exit "$status"
}
trap at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

containers_run() { (find_compose) >/dev/null 2>&1 && find_compose && [ "$(state "$DATABASE")" = running ]; }
containers_exist() { (find_compose) >/dev/null 2>&1 && find_compose && volume_exists; }
# `make run` holds this lock as long as it runs.
private_runs() { [ -e data/lock ] && ! flock -n data/lock true; }

choose_target() {
    local name found=()
    case ${TARGET:-} in
        containers | private) return ;;
        '') ;;
        *) die "TARGET=$TARGET: expected containers or private" ;;
    esac
    for name in MYSQL_HOST MYSQL_HOST_FILE DATABASE_URL DATABASE_URL_FILE; do
        [ -z "${!name:-}" ] || die "$name is set, but this is only for the databases of 'make up' and 'make run' (TARGET=containers
or TARGET=private): back up a database of your own with its own tools, for example mysqldump --single-transaction."
    done
    ! containers_run || found+=(containers)
    ! private_runs || found+=(private)
    if [ ${#found[@]} = 0 ]; then
        ! containers_exist || found+=(containers)
        [ ! -d data/mysql ] || found+=(private)
    fi
    case ${#found[@]} in
        0) die "there is no board yet: start one with 'make up' or 'make run'." ;;
        1) TARGET=${found[0]} ;;
        *) die "there are two boards: say TARGET=containers or TARGET=private (the one of 'make run')." ;;
    esac
}

# Opens the database, alone among the commands that do.
find_board() {
    umask 077
    mkdir -p backups
    chmod 700 backups
    exec 7>backups/.lock
    flock -n 7 || die "another backup, restore, drill or import is at work."
    choose_target
    "open_$TARGET"
    # What a command left behind that was killed.
    local old
    for old in $(sql "" <<<"SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '${NAME}\\_aside\\_%'"); do
        sql "" <<<"DROP DATABASE $old"
    done
}

open_containers() {
    find_compose
    [ "$(state "$DATABASE")" = running ] || die "the containers are down: 'make up' starts them."
    say "using the database of the containers ($DATABASE)"
    in_container() {
        # The password goes from the secret to the client without being on any command line.
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
}

open_private() {
    client=$(command -v mariadb || command -v mysql) || client=
    dumper=$(command -v mariadb-dump || command -v mysqldump) || dumper=
    [ -n "$client$dumper" ] || die "the programs mariadb and mariadb-dump (or mysql and mysqldump) are not installed."
    [ -d data/mysql ] || die "there is no private database in ./data yet: 'make run' makes it."
    exec 8>data/lock
    if flock -n 8; then
        say "using the private database in ./data, started for the while"
        cleanup 'scripts/database stop data 7>&- 8>&-'
        scripts/database start data 7>&- 8>&-
    else
        say "using the private database in ./data, which 'make run' has started"
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
}

# aside KIND: makes a throw-away database, which goes away at the end, and leaves its name in ASIDE.
aside() {
    ASIDE=${NAME}_aside_$1_$(date -u +%Y%m%d%H%M%S)_$$
    cleanup "sql '' <<<'DROP DATABASE IF EXISTS $ASIDE'"
    sql "" <<<"CREATE DATABASE $ASIDE CHARACTER SET utf8mb4"
}
