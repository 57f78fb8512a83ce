# The container engine and the compose tool. To be sourced; names the containers, changes to the top of the project, and has
# find_compose, which sets COMPOSE and ENGINE. What the environment says of both is taken.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# What podman-compose.yml takes from the environment. An empty variable means unset; podman-compose 1.0.3 does not know that.
VARIABLES=(APP_NAME APP_PORT APP_IMAGE DATABASE_IMAGE PAGE_TITLE MAX_MESSAGE_CHARS TRUSTED_PROXIES LOG_LEVEL)
for name in "${VARIABLES[@]}"; do
    [ -n "${!name:-}" ] || unset "$name"
done
export APP_NAME=${APP_NAME:-twotier}
[[ $APP_NAME =~ ^[a-z0-9][a-z0-9_-]*$ ]] || die "APP_NAME=$APP_NAME: expected small letters, digits, - and _"
# shellcheck disable=SC2034 # used by the scripts that source this one
BACKEND=$APP_NAME-backend DATABASE=$APP_NAME-mysql VOLUME=$APP_NAME-data IMAGE=${APP_IMAGE:-localhost/twotier}

find_compose() {
    local tool
    [ -z "${tool_words[*]-}" ] || return 0
    if [ -z "${COMPOSE:-}" ]; then
        for tool in podman-compose "podman compose" "docker compose" docker-compose; do
            # shellcheck disable=SC2086 # words
            command -v "${tool%% *}" >/dev/null && $tool version >/dev/null 2>&1 && COMPOSE=$tool && break
        done
    fi
    [ -n "${COMPOSE:-}" ] ||
        die "no compose tool found: install podman and podman-compose (or Docker with its compose plugin), or set COMPOSE."
    read -ra tool_words <<<"$COMPOSE"
    case $(basename "${tool_words[0]}") in
        docker*) ENGINE=${ENGINE:-docker} ;;
        *) ENGINE=${ENGINE:-podman} ;;
    esac
    command -v "$ENGINE" >/dev/null || die "$COMPOSE needs $ENGINE, which is not installed."
    "$ENGINE" info >/dev/null 2>&1 || die "'$ENGINE info' fails: is the engine running, and may you use it?"
    export COMPOSE ENGINE
}

# quietly COMMAND...: its output only when it fails.
quietly() {
    local output
    output=$("$@" 2>&1 </dev/null) || { say "$output"; return 1; }
}

compose() { "${tool_words[@]}" -p "$APP_NAME" -f podman-compose.yml "$@"; }

# state CONTAINER: running, exited, ... or nothing when there is no such container.
state() { "$ENGINE" inspect --type container --format '{{.State.Status}}' "$1" 2>/dev/null || true; }

volume_exists() { "$ENGINE" volume inspect "$VOLUME" >/dev/null 2>&1; }

# confirm QUESTION: yes from a person, or CONFIRM=1.
confirm() {
    local answer
    [ "${CONFIRM:-}" = 1 ] && return
    [ -t 0 ] || die "$1 Nobody is there to answer: set CONFIRM=1 for yes. Nothing was changed."
    read -rp "$1 [y/N] " answer
    [[ $answer =~ ^[yY] ]] || die "nothing was changed."
}
