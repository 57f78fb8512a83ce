# The containers of a board: their names, the compose tool, the engine, and the folder that owns the board. To be sourced. It
# changes to the top of the project and reads the settings. `find_compose` sets COMPOSE and ENGINE; `check_folder` refuses a board
# of another folder.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=scripts/lib/settings.bash
source scripts/lib/settings.bash
read_settings

export APP_NAME=${APP_NAME:-twotier}
[[ $APP_NAME =~ ^[a-z0-9][a-z0-9_-]*$ ]] || die "APP_NAME=$APP_NAME: expected lower-case letters, digits, - and _."
[ "$APP_NAME" != private ] || die "APP_NAME=private: this name belongs to the board of 'make run'. Choose another name."
PROJECT_FOLDER=$(pwd -P)
export PROJECT_FOLDER
export APP_IMAGE=${APP_IMAGE:-localhost/$APP_NAME}
export DATABASE_IMAGE=${DATABASE_IMAGE:-docker.io/library/mysql:9.7}
# shellcheck disable=SC2034 # used by the scripts that source this one
BACKEND=$APP_NAME-backend DATABASE=$APP_NAME-mysql VOLUME=$APP_NAME-data SECRETS=secrets/$APP_NAME IMAGE=$APP_IMAGE

# The compose files, with one for each optional part that a variable turns on.
PARTS=()
IFS=: read -ra COMPOSE_FILES <<<"${COMPOSE_FILE:-podman-compose.yml}"
for part in proxy monitoring; do
    name=${part^^}
    case ${!name:-0} in
        0) ;;
        1) PARTS+=("$part") COMPOSE_FILES+=("deploy/$part/$part.yml") ;;
        *) die "$name=${!name}: expected 1 or 0." ;;
    esac
done
unset part name

has_part() { [[ " ${PARTS[*]} " == *" $1 "* ]]; }

# part_containers PART: prints the names of the containers of a part.
part_containers() {
    case $1 in
        proxy) echo "$APP_NAME-proxy" ;;
        monitoring) printf '%s\n' "$APP_NAME"-{prometheus,alertmanager,grafana,node-exporter} ;;
    esac
}

find_compose() {
    local tool
    [ -z "${compose_words[*]-}" ] || return 0
    if [ -z "${COMPOSE:-}" ]; then
        for tool in podman-compose "podman compose" "docker compose" docker-compose; do
            # shellcheck disable=SC2086 # words
            command -v "${tool%% *}" >/dev/null && $tool version >/dev/null 2>&1 && COMPOSE=$tool && break
        done
        [ -n "${COMPOSE:-}" ] ||
            die "no compose tool found: install podman and podman-compose, or Docker with its compose plugin. Or set COMPOSE."
    fi
    read -ra compose_words <<<"$COMPOSE"
    [ -n "${TWOTIER_COMPOSE_CHECKED:-}" ] || "${compose_words[@]}" version >/dev/null 2>&1 ||
        die "COMPOSE=$COMPOSE: '$COMPOSE version' failed. Install it, or set COMPOSE to another compose tool."
    case $(basename "${compose_words[0]}") in
        docker*) ENGINE=${ENGINE:-docker} ;;
        *) ENGINE=${ENGINE:-podman} ;;
    esac
    command -v "$ENGINE" >/dev/null || die "$COMPOSE needs $ENGINE, which is not installed."
    [ -n "${TWOTIER_COMPOSE_CHECKED:-}" ] || "$ENGINE" info >/dev/null 2>&1 ||
        die "'$ENGINE info' failed: the engine is not running, or you have no permission to use it."
    export COMPOSE ENGINE TWOTIER_COMPOSE_CHECKED=1
    limit_open_files
}

# limit_open_files: Podman without root can't give a container more open files than the user may have.
limit_open_files() {
    local most
    most=$(ulimit -Hn)
    [ "$ENGINE" != podman ] || [ -n "${OPEN_FILES:-}" ] || [ "$most" = unlimited ] || [ "$most" -ge 16384 ] || export OPEN_FILES="$most"
}

# quietly COMMAND...: runs the command, and prints its output only after a failure.
quietly() {
    local output
    output=$("$@" 2>&1 </dev/null) || { say "$output"; return 1; }
}

# state CONTAINER: prints running, exited, ... or nothing if there is no such container.
state() { "$ENGINE" inspect --type container --format '{{.State.Status}}' "$1" 2>/dev/null || true; }

# containers [FILTER...]: prints the names of the board's containers, by the label that every compose tool sets.
containers() {
    local filters=(--filter "label=com.docker.compose.project=$APP_NAME") filter
    for filter in "$@"; do filters+=(--filter "$filter"); done
    "$ENGINE" ps -a "${filters[@]}" --format '{{.Names}}'
}

# find_database_container: sets DATABASE to a running database of the board, if there is one. A cluster has several.
find_database_container() {
    [ "$(state "$DATABASE")" != running ] || return 0
    local name
    name=$(containers label=twotier.role=database status=running | head -n 1)
    [ -z "$name" ] || DATABASE=$name
}

volume_exists() { "$ENGINE" volume inspect "${1:-$VOLUME}" >/dev/null 2>&1; }

# volume_files [VOLUME]: prints the names of the files in a volume of a database, two folders deep, without empty files.
volume_files() {
    "$ENGINE" run --rm --network none -v "${1:-$VOLUME}:/volume:ro" --entrypoint find "$DATABASE_IMAGE" \
        /volume -mindepth 1 -maxdepth 2 -size +0 -printf '%P\n' 2>/dev/null
}

# volume_kind FILES: prints MariaDB, MySQL, or nothing when the files are neither's, or incomplete.
volume_kind() {
    case $'\n'$1$'\n' in
        *$'\n'aria_log_control$'\n'*) echo MariaDB ;;
        *$'\n'mysql.ibd$'\n'*) echo MySQL ;;
    esac
}
image_kind() { case $1 in *maria*) echo MariaDB ;; *) echo MySQL ;; esac; }

# holds_messages FILES: succeeds if a table of messages is among the files. Without such a table, no message can be lost.
holds_messages() { grep -qE '/messages[^/]*\.(ibd|frm|MYD|MAD)$' <<<"$1"; }

say_interrupted() {
    die "the first start of the database was interrupted, so the volume $VOLUME has no table of messages.
'make destroy' removes the volume, and 'make up' then starts again."
}

label() { # label TYPE NAME LABEL
    local format="{{index .Config.Labels \"$3\"}}" value
    [ "$1" != volume ] || format="{{index .Labels \"$3\"}}"
    if [ "$1" = volume ]; then value=$("$ENGINE" volume inspect --format "$format" "$2" 2>/dev/null); else
        value=$("$ENGINE" inspect --type container --format "$format" "$2" 2>/dev/null); fi || value=
    [ "$value" = '<no value>' ] || echo "$value"
}

# owner_folder: prints the folder from which the board was started, or nothing if it is unknown.
owner_folder() {
    local name folder
    for name in $(containers); do
        folder=$(label container "$name" twotier.folder)
        [[ $folder == /* ]] || folder=$(label container "$name" com.docker.compose.project.working_dir)
        folder=${folder%/.compose/"$APP_NAME"}
        [ -z "$folder" ] || { echo "$folder"; return; }
    done
    label volume "$VOLUME" twotier.folder
}

check_folder() {
    local owner
    owner=$(owner_folder)
    [ -n "$owner" ] && ! [ "$owner" -ef . ] || return 0
    if [ "${FORCE:-}" = 1 ]; then
        say "note: the board '$APP_NAME' belongs to the folder $owner; FORCE=1 overrides the check."
    elif [ ! -d "$owner" ]; then
        say "note: the board '$APP_NAME' was started from $owner, which no longer exists."
    else
        die "the board '$APP_NAME' belongs to the folder $owner, but this is $PROJECT_FOLDER. Run the command there,
choose another name (APP_NAME=...), or set FORCE=1 to act on that board."
    fi
}

# adopt_secrets: copies the passwords of an older version, which all boards of the folder shared, to this board.
adopt_secrets() {
    local name
    [ ! -d "$SECRETS" ] && [ -f secrets/db-password ] && [ -f secrets/db-root-password ] || return 0
    mkdir -p "$SECRETS.new"
    for name in db-password db-root-password admin-token; do
        [ ! -f "secrets/$name" ] || cp -p "secrets/$name" "$SECRETS.new/"
    done
    mv "$SECRETS.new" "$SECRETS"
    say "note: copied the passwords of an older version from secrets/ to $SECRETS/."
}

# confirm QUESTION: continues after the answer yes on the terminal, or with CONFIRM=1.
confirm() {
    local answer
    [ "${CONFIRM:-}" != 1 ] || { say "$1"; return; }
    [ -t 0 ] || die "$1 There is no terminal to ask: CONFIRM=1 answers yes. Nothing was changed."
    read -rp "$1 [y/N] " answer
    [[ $answer =~ ^[yY] ]] || die "nothing was changed."
}

random_password() { od -An -N20 -tx1 /dev/urandom | tr -d ' \n'; }

# pull_image IMAGE: fetches a missing image, with the progress of the engine.
pull_image() {
    "$ENGINE" image inspect "$1" >/dev/null 2>&1 || {
        say "fetching the image $1"
        "$ENGINE" pull "$1" >&2 || die "the image $1 was not found."
    }
}

# other_database: prints the variable that names a database of the user. `mysql` is the database of the containers.
other_database() {
    local name
    for name in MYSQL_HOST_FILE DATABASE_URL DATABASE_URL_FILE; do
        [ -z "${!name:-}" ] || { echo $name; return; }
    done
    [ -z "${MYSQL_HOST:-}" ] || [[ ,${MYSQL_HOST// /}, =~ ,mysql(:[0-9]+)?, ]] || echo MYSQL_HOST
}

compose() {
    local arguments=(-p "$APP_NAME") file
    # The compose tool must not read .env: in podman-compose 1.0.3, .env wins over the environment.
    case $(basename "${compose_words[0]}") in docker*) arguments+=(--project-directory "$PROJECT_FOLDER" --env-file /dev/null) ;; esac
    # podman-compose reads .env from the folder of the first file, and there is none in that folder.
    for file in ".compose/$APP_NAME/settings.yml" "${COMPOSE_FILES[@]}"; do arguments+=(-f "$file"); done
    (unset COMPOSE_FILE; "${compose_words[@]}" "${arguments[@]}" "$@")
}

# check_address: checks APP_PORT and PUBLISH, and exports them in the form that podman-compose.yml needs.
check_address() {
    local port=${APP_PORT:-5000} address=${PUBLISH:-0.0.0.0} names=PUBLISH ipv4='^[0-9]+(\.[0-9]+){3}$' ipv6='^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$'
    # APP_PORT may contain the address too: 127.0.0.1:5000.
    if [[ $port == *:* ]]; then
        [ -z "${PUBLISH:-}" ] || die "APP_PORT=$APP_PORT and PUBLISH=$PUBLISH both name an address; set one of them."
        names=APP_PORT address=${port%:*} port=${port##*:}
    fi
    [[ $port =~ ^[0-9]{1,5}$ ]] && ((10#$port <= 65535)) || die "APP_PORT=$APP_PORT: expected a port from 0 to 65535, like 5000."
    address=${address#[} address=${address%]}
    [[ $address =~ $ipv4 || $address =~ $ipv6 ]] || die "$names=${!names}: expected an address of this machine, like 127.0.0.1."
    [[ $address != *:* ]] || address="[$address]"
    export APP_PORT=$((10#$port)) PUBLISH=$address
}

# local_address: prints the address of the board for clients on this machine.
local_address() {
    case $PUBLISH in
        0.0.0.0) echo 127.0.0.1 ;;
        '[::]') echo ::1 ;;
        *) tr -d '[]' <<<"$PUBLISH" ;;
    esac
}

# messages_of NUMBER: prints '1 message' or 'NUMBER messages'.
messages_of() { if [ "$1" = 1 ]; then echo "1 message"; else echo "$1 messages"; fi; }
