# The checks of scripts/test-containers for PROXY=1 and MONITORING=1. To be sourced by it.
# shellcheck shell=bash
# shellcheck disable=SC2154 # variables that it shares

# program_image IMAGE PROGRAM [ARGUMENT...]: makes an image of a program of this machine, its libraries and the templates of Debian's
# Alertmanager, for a machine that reaches no registry.
program_image() {
    local image=$1 program=$2 folder library words
    shift 2
    folder=$(mktemp -d "$work/image.XXXXXX")
    install -D "$program" "$folder/root/program"
    ldd "$program" 2>/dev/null | grep -oE '/[^ ]+' | while read -r library; do install -D "$library" "$folder/root$library"; done
    [ ! -d /usr/share/prometheus/alertmanager ] || install -D -t "$folder/root/usr/share/prometheus/alertmanager" /usr/share/prometheus/alertmanager/*.tmpl
    words=$(printf ', "%s"' "$@")
    printf 'FROM scratch\nCOPY root /\nENTRYPOINT ["/program"%s]\n' "${words%, \"\"}" >"$folder/Containerfile"
    "$ENGINE" build -q -t "$image" "$folder"
}

# find_image VARIABLE OFFICIAL PROGRAM [ARGUMENT...]: exports VARIABLE with the official image, or with one of a program of this machine.
find_image() {
    local variable=$1 official=$2 program name
    shift 2
    name=localhost/$APP_NAME-$(basename "$1")
    if "$ENGINE" image inspect "$official" >/dev/null 2>&1 || "$ENGINE" pull -q "$official" >/dev/null 2>&1; then
        export "$variable=$official"
    elif program=$(command -v "$1"); then
        program_image "$name" "$program" "${@:2}" >"$work/out" 2>&1 || { tail -n 3 "$work/out"; return 1; }
        part_images+=("$name")
        export "$variable=$name"
    else
        return 1
    fi
}

proxy_part() {
    heading "PROXY=1"
    local https http inside name=https://localhost part_images=()
    find_image PROXY_IMAGE docker.io/library/caddy:2 caddy run --config /etc/caddy/Caddyfile --adapter caddyfile ||
        { skip "PROXY=1: there is no image of Caddy, and no program caddy."; return; }
    https=$(free_port) http=$(free_port)
    export PUBLIC_URL=$name:$https/ PROXY_HTTP_PORT=$http
    through() { curl -sS --max-time 10 --cacert "$work/ca" "$@"; }
    refused "PROXY=1 takes no address without encryption" "expects https://" make up PROXY=1 PUBLIC_URL=http://localhost/
    board_is_up
    ok "make up PROXY=1" make up PROXY=1 ACCESS_LOG=combined
    says "it prints the address" "The board is at $name:$https/"
    says "... and what has changed" "change: PROXY is now 1"
    ok "make proxy-ca" bash -c "make -s proxy-ca >'$work/ca'"
    ok "the page, with the certificate checked" bash -c "$(declare -f through); work='$work'; through $name:$https/ | grep '<form'"
    same "the form" 303 "$(through -o /dev/null -w '%{http_code}' -H 'Accept: text/html' -H "Origin: $name:$https" -d new_message=x "$name:$https/submit")"
    same "a form of another origin" 403 "$(through -o /dev/null -w '%{http_code}' -H 'Accept: text/html' -H "Origin: https://evil.example" -d new_message=x "$name:$https/submit")"
    same "/metrics is not public" 404 "$(through -o /dev/null -w '%{http_code}' "$name:$https/metrics")"
    ok "... but for this machine it is" bash -c "curl -fsS http://127.0.0.1:$APP_PORT/metrics | grep twotier_ready"
    same "the board's own port is for this machine" "127.0.0.1:$APP_PORT" "$("$ENGINE" port "$APP_NAME-backend" 5000/tcp)"
    curl -fsS -o /dev/null -H 'X-Forwarded-For: 203.0.113.9' -H 'Forwarded: for=203.0.113.9' "$(url /)"
    through -o /dev/null -H 'X-Forwarded-For: 203.0.113.9' -H 'Forwarded: for=203.0.113.9' "$name:$https/"
    "$ENGINE" logs "$APP_NAME-backend" 2>/dev/null | grep '"GET / HTTP' >"$work/pages"
    ok "the access log has both requests" test "$(wc -l <"$work/pages")" -ge 2
    same "... with no forged address" "" "$(grep -F 203.0.113.9 "$work/pages")"
    inside=$("$ENGINE" inspect --type container --format "{{(index .NetworkSettings.Networks \"$APP_NAME-proxy\").IPAddress}}" "$APP_NAME-proxy")
    same "... nor that of the proxy ($inside)" "" "$(grep "^${inside:?} " "$work/pages")"
    before=$(ids)
    ok "make up again" make up PROXY=1 ACCESS_LOG=combined
    same "nothing was made anew" "$before" "$(ids)"
    ok "make ps shows the proxy" bash -c 'make -s ps | grep -- "$APP_NAME-proxy"'
    ok "make logs has it" bash -c 'make -s logs TAIL=1000 | grep "^proxy | "'
    ok "make restart restarts it" make restart
    says "... and prints the address" "The board is at $name:$https/"
    ok "make backup" make backup
    ok "make doctor" make doctor PROXY=1
    says "... names it" "$APP_NAME-proxy is running"
    ok "make up without it" make up
    says "... prints what has changed" "change: PROXY is now the default; it was 1"
    same "... and removes it" "" "$("$ENGINE" ps -aq --filter "name=$APP_NAME-proxy")"
    refused "make doctor PROXY=1 misses it" "there is no container $APP_NAME-proxy" make doctor PROXY=1
    ok "make up PROXY=1, below a path" make up PROXY=1 PUBLIC_URL="$name:$https/board/"
    ok "the CA is still the same" bash -c "$(declare -f through); work='$work'; through $name:$https/board/ | grep '<form'"
    ok "make destroy" make destroy CONFIRM=1
    same "the certificates are gone" "" "$("$ENGINE" volume ls -q | grep -x -- "$APP_NAME-proxy-data")"
    same "the networks are gone" "" "$("$ENGINE" network ls --format '{{.Name}}' | grep -xE -- "$APP_NAME-(proxy|edge)")"
    unset PUBLIC_URL PROXY_HTTP_PORT PROXY_IMAGE
    [ ${#part_images[@]} = 0 ] || "$ENGINE" rmi "${part_images[@]}" >/dev/null 2>&1
}

monitoring_part() {
    heading "MONITORING=1"
    local part_images=() port
    find_image PROMETHEUS_IMAGE docker.io/prom/prometheus:v3.5.0 prometheus &&
        find_image ALERTMANAGER_IMAGE docker.io/prom/alertmanager:v0.28.1 prometheus-alertmanager &&
        find_image NODE_EXPORTER_IMAGE docker.io/prom/node-exporter:v1.9.1 prometheus-node-exporter ||
        { skip "MONITORING=1: there are no images, and no programs, of Prometheus, Alertmanager and node_exporter."; return; }
    # Debian has no Grafana. A program that sleeps takes its place.
    find_image GRAFANA_IMAGE docker.io/grafana/grafana:12.1.1 sleep 10000
    port=$(free_port)
    PROMETHEUS_PORT=$port ALERTMANAGER_PORT=$(free_port) GRAFANA_PORT=$(free_port)
    export PROMETHEUS_PORT ALERTMANAGER_PORT GRAFANA_PORT
    board_is_up
    ok "make backup" make backup
    ok "make drill" make drill
    ok "make up MONITORING=1" make up MONITORING=1
    value_is() { curl -fsS --get "http://127.0.0.1:$port/api/v1/query" --data-urlencode "query=$1" | grep -F "\"$2\"]"; }
    ok "Prometheus scrapes the board" eventually value_is 'twotier_ready{job="twotier"}' 1
    ok "... and the metrics of backups" eventually value_is "count(twotier_backup_last_success_timestamp_seconds{board=\"$APP_NAME\"})" 1
    ok "... and loads the alerts" bash -c "curl -fsS http://127.0.0.1:$port/api/v1/rules | grep TwotierBackupTooOld"
    ok "... and knows Alertmanager" bash -c "curl -fsS http://127.0.0.1:$port/api/v1/alertmanagers | grep alertmanager:9093"
    ok "... which answers" eventually curl -fsS "http://127.0.0.1:$ALERTMANAGER_PORT/-/ready"
    same "no container was restarted" "0 0 0 0" "$("$ENGINE" inspect --type container --format '{{.RestartCount}}' "$APP_NAME"-{prometheus,alertmanager,grafana,node-exporter} | paste -sd ' ')"
    same "its port is for this machine" "127.0.0.1:$port" "$("$ENGINE" port "$APP_NAME-prometheus" 9090/tcp)"
    ok "make ps shows four more containers" bash -c 'make -s ps | grep -cE "$APP_NAME-(prometheus|alertmanager|grafana|node-exporter)" | grep -x 4'
    ok "make doctor" make doctor MONITORING=1
    ok "make down" make down
    same "no container is left" "" "$("$ENGINE" ps -aq --filter "label=com.docker.compose.project=$APP_NAME")"
    ok "make destroy" make destroy CONFIRM=1
    same "the metrics are gone" "" "$("$ENGINE" volume ls -q | grep -xE -- "$APP_NAME-(prometheus|grafana)-data")"
    unset PROMETHEUS_IMAGE ALERTMANAGER_IMAGE NODE_EXPORTER_IMAGE GRAFANA_IMAGE PROMETHEUS_PORT ALERTMANAGER_PORT GRAFANA_PORT
    [ ${#part_images[@]} = 0 ] || "$ENGINE" rmi "${part_images[@]}" >/dev/null 2>&1
}
