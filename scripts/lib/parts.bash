# The optional parts of a board in containers: the proxy of PROXY=1, and the monitoring of MONITORING=1. Sets the variables of their
# compose files, and the settings of the board that follow from them. To be sourced after container_settings.bash.
# shellcheck shell=bash

# check_parts: checks the variables of the parts before anything is built or started.
check_parts() {
    ! has_part proxy || check_proxy
    ! has_part monitoring || check_monitoring
}

# prepare_parts: creates what the compose files of the parts expect.
prepare_parts() {
    ! has_part proxy || prepare_proxy
}

# is_port NUMBER: checks a port that is published.
is_port() { [[ $1 =~ ^[0-9]{1,5}$ ]] && ((10#$1 >= 1 && 10#$1 <= 65535)); }

# check_free PORT CONTAINER ADVICE: exits with an error if another program than the container has the port.
check_free() {
    [ "$(state "$2")" != running ] || return 0
    # shellcheck disable=SC2016 # meant for the inner shell
    ! timeout 2 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1"' connect "$1" 2>/dev/null ||
        die "port $1 is in use by another program. Stop that program, or choose another port: $3"
}

# check_proxy: takes the names, the port and the path of the proxy from PUBLIC_URL. The board's own port is for this machine only.
check_proxy() {
    local url urls host form='^https://([a-zA-Z0-9.-]+)(:([0-9]+))?(/[a-zA-Z0-9._~/-]*)?$' port path found=
    [ -n "${PUBLIC_URL:-}${PUBLIC_URL_FILE:-}" ] || export PUBLIC_URL=https://localhost/
    IFS=', ' read -ra urls <<<"$(setting PUBLIC_URL)"
    BOARD_SITES=
    for url in "${urls[@]}"; do
        [[ $url =~ $form ]] || die "PUBLIC_URL=$url: PROXY=1 expects https://NAME, with :PORT and /PATH/ if you like."
        host=${BASH_REMATCH[1]} port=${BASH_REMATCH[3]:-443} path=${BASH_REMATCH[4]%/}
        is_port "$port" || die "PUBLIC_URL=$url: expected a port from 1 to 65535."
        [ "${found:-$port$path}" = "$port$path" ] || die "PUBLIC_URL: PROXY=1 expects the same port and path in each URL."
        found=$port$path
        BOARD_SITES+=${BOARD_SITES:+, }https://$host:$port
    done
    is_port "${PROXY_HTTP_PORT:-80}" || die "PROXY_HTTP_PORT=$PROXY_HTTP_PORT: expected a port from 1 to 65535."
    check_free "$port" "$APP_NAME-proxy" "PUBLIC_URL=https://localhost:8443/"
    check_free "${PROXY_HTTP_PORT:-80}" "$APP_NAME-proxy" "PROXY_HTTP_PORT=8080"
    export BOARD_SITES BOARD_PATH=$path PROXY_PORT=$port PROXY_PUBLISH=$PUBLISH PUBLISH=127.0.0.1
}

# prepare_proxy: creates the network of proxy and board, and lets the board trust its addresses.
prepare_proxy() {
    local network=$APP_NAME-proxy subnet
    "$ENGINE" network inspect "$network" >/dev/null 2>&1 ||
        quietly "$ENGINE" network create --internal --label "com.docker.compose.project=$APP_NAME" "$network" ||
        die "'$ENGINE network create $network' failed."
    subnet=$("$ENGINE" network inspect "$network" | grep -oiE '"subnet": *"[^"]+"' | cut -d '"' -f 4 | paste -sd ,)
    [ -n "$subnet" ] || die "the network $network has no addresses: remove it with '$ENGINE network rm $network'."
    export TRUSTED_PROXIES=${TRUSTED_PROXIES:+$TRUSTED_PROXIES,}$subnet
}

# check_monitoring: checks the ports, and exports the folder with the metrics of backups.
check_monitoring() {
    local name
    for name in PROMETHEUS ALERTMANAGER GRAFANA; do
        local port=${name}_PORT default
        case $name in PROMETHEUS) default=9090 ;; ALERTMANAGER) default=9093 ;; GRAFANA) default=3000 ;; esac
        is_port "${!port:-$default}" || die "$port=${!port}: expected a port from 1 to 65535."
        check_free "${!port:-$default}" "$APP_NAME-${name,,}" "$port=$((${!port:-$default} + 1))"
    done
    # The folder must exist before it is mounted. `make backup` writes into it.
    [ -d "${METRICS_DIR:-backups}" ] || { mkdir -p "${METRICS_DIR:-backups}" && chmod 700 "${METRICS_DIR:-backups}"; }
    METRICS_FOLDER=$(cd "${METRICS_DIR:-backups}" && pwd -P)
    export METRICS_FOLDER
}
