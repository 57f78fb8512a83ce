# A temporary database server on a volume that no container uses, without network and passwords. To be sourced after
# board_database.bash. `start_volume_server` defines `sql` and `dump`.
# shellcheck shell=bash

# volume_users VOLUME: prints the running containers that use the volume.
volume_users() { "$ENGINE" ps --filter "volume=$1" --format '{{.Names}}' | grep -vx -- "twotier-volume-$$" || true; }

# start_volume_server VOLUME IMAGE
start_volume_server() {
    local volume=$1 image=$2 end=$((SECONDS + 180)) users
    users=$(volume_users "$volume")
    [ -z "$users" ] || die "the volume $volume is in use by the container ${users//$'\n'/, }: stop that container first."
    SERVER=twotier-volume-$$
    cleanup '"$ENGINE" rm -f -v "$SERVER" >/dev/null 2>&1'
    quietly "$ENGINE" run -d --name "$SERVER" --network none -v "$volume:/var/lib/mysql" "$image" \
        --skip-grant-tables --skip-networking --performance-schema=OFF || die "the image $image did not start."
    start_progress "starting a temporary database on the volume $volume"
    until client=$("$ENGINE" exec "$SERVER" sh -c 'c=$(command -v mariadb || command -v mysql) && "$c" -uroot -e "SELECT 1" >/dev/null && echo "$c"' 2>/dev/null); do
        if [ "$(state "$SERVER")" != running ] || ((SECONDS > end)); then
            "$ENGINE" logs "$SERVER" 2>&1 | grep -iE 'error' | tail -n 3 >&2 || true
            stop_progress
            return 1
        fi
        sleep 0.3
    done
    stop_progress
    sql() {
        local database=$1
        shift
        "$ENGINE" exec -i "$SERVER" "$client" --user=root --default-character-set=utf8mb4 -N -B "$@" ${database:+"$database"} 7>&-
    }
    dump() {
        local dumper=${client%mariadb}
        if [ "$dumper" = "$client" ]; then dumper=${client}dump; else dumper=${client}-dump; fi
        "$ENGINE" exec -i "$SERVER" "$dumper" --user=root "$@" </dev/null 7>&-
    }
}

# stop_volume_server: stops the server cleanly, so that its files are complete.
stop_volume_server() { "$ENGINE" stop -t 60 "$SERVER" >/dev/null 2>&1; "$ENGINE" rm -f -v "$SERVER" >/dev/null 2>&1 || true; }

# databases_with_messages: prints the databases that have a table of messages.
databases_with_messages() {
    sql "" <<<"SELECT table_schema FROM information_schema.tables WHERE table_name = 'messages' AND table_type = 'BASE TABLE'
        AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') AND table_schema NOT LIKE '${NAME}\\_aside\\_%' ORDER BY 1"
}
