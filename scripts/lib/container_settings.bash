# The settings of the program as a compose file, .compose/NAME/settings.yml. All compose tools read YAML in the same way, but
# not environment files. To be sourced after containers.bash.
# shellcheck shell=bash

# in_yaml TEXT: as a quoted string, in which $ stands for itself.
in_yaml() {
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/\\t} text=${text//$'\r'/\\r}
    printf '"%s"' "${text//\$/\$\$}"
}

# setting NAME: its value, from NAME or from the file that NAME_FILE names.
setting() {
    local file=$1_FILE
    if [ -n "${!file:-}" ]; then
        [ -z "${!1:-}" ] || die "$1 and $file are both set; set one of them."
        [ -r "${!file}" ] || die "$file=${!file}: there is no such file that can be read."
        cat "${!file}"
    else
        printf '%s' "${!1:-}"
    fi
}

# container_settings: NAME=VALUE of what the board in the container gets, each ended by a zero byte.
container_settings() {
    local name value
    for name in "${PROGRAM_SETTINGS[@]}"; do
        case $name in
            # What podman-compose.yml sets itself.
            MYSQL_HOST | MYSQL_PORT | MYSQL_USER | MYSQL_DB | MYSQL_DATABASE | MYSQL_PASSWORD | DATABASE_URL | BIND | PORT | ADMIN_TOKEN) continue ;;
        esac
        value=$(setting "$name") || exit
        [ -z "$value" ] || printf '%s=%s\0' "$name" "$value"
    done
}

write_container_settings() {
    local name token pair file=.compose/$APP_NAME/settings.yml
    for name in MYSQL_USER MYSQL_DB MYSQL_DATABASE MYSQL_PASSWORD MYSQL_PORT; do
        [ -z "${!name:-}" ] || say "note: $name is not used: the containers have a database of their own."
    done
    [ -z "${PORT:-}${BIND:-}" ] || say "note: PORT and BIND are for 'make run'; the port and address of the containers are APP_PORT and PUBLISH."
    token=$(setting ADMIN_TOKEN) || exit
    if [ -n "$token" ] && [ "$token" != "$(cat "$SECRETS/admin-token")" ]; then
        printf '%s' "$token" >"$SECRETS/admin-token"
        say "note: ADMIN_TOKEN is now in $SECRETS/admin-token, and stays there; an empty file turns editing off."
    fi
    mkdir -p ".compose/$APP_NAME"
    chmod 700 .compose
    container_settings >"$file.settings" || exit
    {
        echo "# Written by 'make up' from the environment and .env."
        echo "services:"
        echo "  backend:"
        if [ -s "$file.settings" ]; then
            echo "    environment:"
            while IFS= read -r -d '' pair; do
                printf '      %s: %s\n' "${pair%%=*}" "$(in_yaml "${pair#*=}")"
            done <"$file.settings"
        else
            echo "    environment: {}"
        fi
    } >"$file"
}

# check_settings: asks the program in the image, before a running board makes room for one that would not start.
check_settings() {
    local pair output status=0 options=(-e MYSQL_HOST=127.0.0.1 -e MYSQL_USER=x -e MYSQL_DB=x)
    while IFS= read -r -d '' pair; do options+=(-e "$pair"); done <".compose/$APP_NAME/settings.yml.settings"
    # Status 2 is about settings. Without a network, and so without a database, the rest of the check fails.
    output=$(timeout 20 "$ENGINE" run --rm --network none --read-only "${options[@]}" "$IMAGE" check 2>&1) || status=$?
    [ $status != 2 ] || { grep -i '^error' <<<"$output" >&2 || say "$output"; die "the board would not start with these settings; nothing was changed."; }
}

# print_changes: what is different on the running board.
print_changes() {
    local name old new environment
    environment=$("$ENGINE" inspect --type container --format '{{range .Config.Env}}{{println .}}{{end}}' "$BACKEND" 2>/dev/null) || return 0
    for name in "${PROGRAM_SETTINGS[@]}"; do
        case $name in MYSQL_* | DATABASE_URL | BIND | PORT | ADMIN_TOKEN) continue ;; esac
        old=$(sed -n "s/^$name=//p" <<<"$environment" | head -n 1)
        new=$(setting "$name")
        print_change "$name" "$old" "${new%%$'\n'*}"
    done
    old=$("$ENGINE" port "$BACKEND" 5000/tcp 2>/dev/null | head -n 1)
    new=${PUBLISH:-0.0.0.0}:$APP_PORT
    [ "$APP_PORT" = 0 ] || print_change "address" "$old" "$new"
    print_change DATABASE_IMAGE "$("$ENGINE" inspect --type container --format '{{.Config.Image}}' "$DATABASE" 2>/dev/null || true)" "$DATABASE_IMAGE"
}
print_change() { [ "$2" = "$3" ] || say "change: $1 is now ${3:-the default}; it was ${2:-the default}"; }
