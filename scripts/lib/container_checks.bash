# The checks of scripts/test-containers for the image and the containers. To be sourced by it.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # variables that it shares

# lifecycle [TITLE]: start, use, restart, stop and start again, with the compose tool in COMPOSE.
lifecycle() {
    heading "${1:-$COMPOSE}"
    ok "make up" make up
    tail -n 1 "$work/out"
    ok "a message by the form" form_post "first é 👋"
    ok "it is on the page" page_has "first é 👋"
    ok "make restart" make restart
    ok "it is still there" page_has "first é 👋"
    before=$(ids)
    ok "make up again" make up
    same "nothing was made anew" "$before" "$(ids)"
    ok "make down" make down
    ok "no container is left" test -z "$("$ENGINE" ps -aq --filter "label=com.docker.compose.project=$APP_NAME")"
    ok "make up on the same volume" make up
    ok "it is still there" page_has "first é 👋"
    ok "make ps shows both" bash -c 'make -s ps | grep -c -e "$APP_NAME-backend" -e "$APP_NAME-mysql" | grep -x 2'
    ok "make logs has both" bash -c 'make -s logs | cut -d" " -f1 | sort -u | tr "\n" " " | grep -x "backend mysql "'
    ok "make drill" make drill
    ok "the password is in no environment and in no command line of a container" no_password_in_inspect
    ok "the database has a name in the inner network" looked_up back
    refused "and none in the published one" "no such name" looked_up front
    ok "only the backend is published" test -z "$("$ENGINE" port "$APP_NAME-mysql")"
}
looked_up() {
    "$ENGINE" run --rm --network "$APP_NAME-$1" --entrypoint getent "${DATABASE_IMAGE:-docker.io/library/mysql:9.7}" hosts mysql ||
        { echo "no such name"; return 1; }
}
no_password_in_inspect() { ! "$ENGINE" inspect --type container "$APP_NAME-backend" "$APP_NAME-mysql" | grep -F -f "secrets/$APP_NAME/db-password" -f "secrets/$APP_NAME/db-root-password"; }

destroying() {
    refused "make destroy asks, with the number of messages" "CONFIRM=1" make destroy
    ok "make destroy" make destroy CONFIRM=1
    ok "the volume is gone" bash -c '! "$ENGINE" volume inspect "$APP_NAME-data"'
    ok "the networks are gone" bash -c '! "$ENGINE" network inspect "$APP_NAME-back"'
    ok "the passwords are gone" test ! -e "secrets/$APP_NAME"
}

measurements() {
    heading "figures"
    local start layer built
    start=$(date +%s.%N)
    ok "cold build" env NO_CACHE=1 make image
    cold=$(since "$start")
    layer=$(podman image inspect --format '{{.RootFS.Layers}}' "$APP_IMAGE")
    # Podman shares no layers between the formats, so this build compiles everything.
    ok "a second build, as an OCI image" env IMAGE_FORMAT=oci make image
    same "makes the same layer, bit for bit" "$layer" "$(podman image inspect --format '{{.RootFS.Layers}}' "$APP_IMAGE")"
    built=$(podman image inspect --format '{{.Id}}' "$APP_IMAGE")
    podman rmi "$APP_IMAGE" >/dev/null
    ok "the OCI image anew" env IMAGE_FORMAT=oci make image
    same "is the same image, bit for bit" "$built" "$(podman image inspect --format '{{.Id}}' "$APP_IMAGE")"
    start=$(date +%s.%N)
    ok "build with nothing changed" make image
    warm=$(since "$start")
    echo '// A change.' >>src/lib.rs
    start=$(date +%s.%N)
    ok "build with a changed source" make image
    changed=$(since "$start")
    sed -i '$d' src/lib.rs
    size=$(podman image inspect --format '{{.Size}}' "$APP_IMAGE")
    ok "the image is under 8 MB ($size bytes)" test "$size" -lt 8000000
    make image >/dev/null 2>&1
    start=$(date +%s.%N)
    ok "make up, first time" make up
    ok "the page" page_has "<form"
    first=$(since "$start")
    make down >/dev/null 2>&1
    start=$(date +%s.%N)
    ok "make up, next time" make up
    ok "the page" page_has "<form"
    next=$(since "$start")
}

# Another label makes another image of the same layer, so this compiles nothing.
labels() {
    heading "labels of the image"
    ok "make image" make image SOURCE_URL=https://git.example/twotier
    ok "each label has a value" bash -c 'for each in title version created documentation licenses source url; do
        test -n "$("$ENGINE" image inspect --format "{{index .Config.Labels \"org.opencontainers.image.$each\"}}" "$APP_IMAGE")" || { echo "no $each"; exit 1; }; done'
    same "the source is SOURCE_URL" https://git.example/twotier "$("$ENGINE" image inspect --format '{{index .Config.Labels "org.opencontainers.image.source"}}' "$APP_IMAGE")"
}

since() { awk -v from="$1" -v to="$(date +%s.%N)" 'BEGIN { printf "%.1f", to - from }'; }

crashes() {
    heading "trouble"
    board_is_up
    refused "another database on the same volume is explained" "holds the data of MySQL" env DATABASE_IMAGE=docker.io/library/mariadb:11.8 make up
    ok "the right one again" make up

    start_load kill
    local board
    board=$(pid_of "$APP_NAME-backend")
    sleep 1
    ok "the database is killed under load" kill_hard "$APP_NAME-mysql"
    sleep 1
    ok "it comes back, and the board with it" eventually answers
    sleep 2
    stop_load
    same "without a restart of the board" "$board" "$(pid_of "$APP_NAME-backend")"
    ok "every acknowledged message is there ($(wc -l <"$work/acknowledged"))" found "$work/acknowledged"
    ok "the board is killed" kill_hard "$APP_NAME-backend"
    sleep 0.5
    ok "the engine starts it again" eventually answers
    ok "as a new process" test "$(pid_of "$APP_NAME-backend")" != "$board"
}

hardening() {
    heading "inside the backend"
    board_is_up
    local pid status
    pid=$(pid_of "$APP_NAME-backend")
    status=/proc/$pid/status
    same "uid and gid" "65532 65532" "$(awk '/^Uid/ { u = $2 } /^Gid/ { g = $2 } END { print u, g }' "$status")"
    same "capabilities" "0000000000000000" "$(awk '/^Cap/ { print $2 }' "$status" | sort -u)"
    same "open files" "16384" "$(awk '/^Max open files/ { print $4 }' "/proc/$pid/limits")"
    same "no new privileges" "1" "$(awk '/^NoNewPrivs/ { print $2 }' "$status")"
    refused "no shell" "not found|no such file" podman exec "$APP_NAME-backend" sh -c true
    local container files
    container=$(podman create "$APP_IMAGE")
    files=$(podman export "$container" | tar -tv | awk '/^-/ && $3 > 0 { print $NF }')
    podman rm "$container" >/dev/null
    same "one file in the image" "twotier" "$files"
    if root; then
        # With a slash at the end, because it is a symbolic link.
        as_board find "/proc/$pid/root/" \( -path "/proc/$pid/root/proc" -o -path "/proc/$pid/root/sys" \) -prune -o \
            \( -type d -o -type f \) \( -path "/proc/$pid/root/twotier" -o -writable \) -printf '%P\n' >"$work/found" 2>"$work/out"
        same "nothing writable, among all that there is" "twotier" "$(cat "$work/found")"
    else
        skip "what is writable inside: only root can see it from outside."
    fi
    ok "healthcheck exits 0" podman exec "$APP_NAME-backend" /twotier healthcheck
    podman stop -t 30 "$APP_NAME-mysql" >/dev/null 2>&1
    podman exec "$APP_NAME-backend" /twotier healthcheck >"$work/out" 2>&1
    same "healthcheck exits 1 without the database" 1 $?
    ok "alive all the same" podman exec "$APP_NAME-backend" /twotier healthcheck --live
    podman start "$APP_NAME-mysql" >/dev/null 2>&1
    ok "and 0 again" eventually podman exec "$APP_NAME-backend" /twotier healthcheck
}
as_board() { setpriv --reuid=65532 --regid=65532 --clear-groups "$@"; }

# By hand.
by_hand() {
    heading "by hand"
    local board=$APP_NAME-hand
    ok "the image" make image
    ok "a network" podman network create "$board"
    ok "a database" podman run -d --name "$board-mysql" --network "$board" --network-alias mysql -e MYSQL_ROOT_PASSWORD=secret \
        -e MYSQL_DATABASE=devops -e MYSQL_USER=board -e MYSQL_PASSWORD=secret2 docker.io/library/mysql:9.7
    ok "the board" podman run -d --name "$board" --network "$board" -p "$APP_PORT:5000" -e MYSQL_HOST=mysql \
        -e MYSQL_USER=board -e MYSQL_PASSWORD=secret2 -e MYSQL_DB=devops --read-only --cap-drop ALL "$APP_IMAGE"
    ok "it gets ready by itself" eventually answers
    ok "a message by the form" form_post "by hand"
    ok "it is on the page" page_has "by hand"
    as_root() { podman exec -e MYSQL_PWD=secret "$board-mysql" mysql -uroot -N "$@"; }
    same "its account's way to log in" caching_sha2_password "$(as_root -e "SELECT plugin FROM mysql.user WHERE user = 'board'")"
    local mode login=(podman run --rm --network "$board" -e MYSQL_HOST=mysql -e MYSQL_USER=board -e MYSQL_PASSWORD=secret2 -e MYSQL_DB=devops)
    for mode in disabled required; do
        # Empties the cache of logins: the next login takes the long way, and the one after it the short one.
        as_root -e 'FLUSH PRIVILEGES'
        ok "the long way, MYSQL_SSL_MODE=$mode" "${login[@]}" -e MYSQL_SSL_MODE=$mode "$APP_IMAGE" check
        ok "the short way, MYSQL_SSL_MODE=$mode" "${login[@]}" -e MYSQL_SSL_MODE=$mode "$APP_IMAGE" check
    done
    podman rm -f -v -t 5 "$board" "$board-mysql" >/dev/null 2>&1
    podman network rm "$board" >/dev/null 2>&1
}

# .env reaches all scripts and the container. It is parsed, never executed. The environment wins.
dotenv() {
    heading ".env"
    local port title='It'\''s $5 & "x" \ #1'
    board_is_up
    port=$(free_port)
    has_setting() { "$ENGINE" inspect --type container --format '{{range .Config.Env}}{{println .}}{{end}}' "$APP_NAME-backend" | grep -Fx -- "$1"; }
    cat >.env <<ENV
# A comment.
APP_PORT = $port   # the port
export PAGE_TITLE="It's \\\$5 & \\"x\\" \\\\ #1"
LOG_LEVEL='debug'
RATE_LIMIT=70
MAX_MESSAGE_CHARS=\$(touch executed)
APP_PROT=1
ENV
    before=$(ids)
    refused "a value that the board refuses" "MAX_MESSAGE_CHARS=.*touch executed" env -u APP_PORT make up
    says "a misspelt name is noted" "line 7: APP_PROT is not a variable"
    ok "nothing in it was executed" test ! -e executed
    same "the running board goes on" "$before" "$(ids)"
    sed -i '/MAX_MESSAGE/d; /PROT/d' .env
    ok "make up" env -u APP_PORT make up
    ok "on the port of .env" bash -c "curl -fsS http://127.0.0.1:$port/readyz"
    ok "with a title of all kinds of characters" has_setting "PAGE_TITLE=$title"
    ok "... on the page" bash -c "curl -fsS http://127.0.0.1:$port/ | grep -F '&amp; '"
    ok "with a setting that the compose file does not name" has_setting RATE_LIMIT=70
    ok "and one in quotes" has_setting LOG_LEVEL=debug
    ok "make up with a value of the environment" env -u APP_PORT make up RATE_LIMIT=60
    says "what changes is printed" "change: RATE_LIMIT is now 60; it was 70"
    ok "it wins" has_setting RATE_LIMIT=60
    ok "the next plain make up prints that it goes back" bash -c 'env -u APP_PORT make up 2>&1 | grep "change: RATE_LIMIT is now 70; it was 60"'
    echo "APP_NAME=$APP_NAME" >>.env
    ok "make ps finds the board of .env" bash -c 'env -u APP_NAME make -s ps | grep -c "$APP_NAME-" | grep -x 2'
    echo 'PAGE_TITLE="open' >.env
    refused "a quote that is not closed is named with its line" ".env, line 1: the quote" make up
    echo 'MYSQL_PASWORD secret' >.env
    refused "a line without = is named" ".env, line 1: expected NAME=VALUE" make ps
    rm .env
    refused "a database of one's own is refused" "DATABASE_URL is set" make up DATABASE_URL=mysql://a:b@c/d
    ok "make up as before" make up
}

# Errors are found before anything is built, and a failed start leaves no container.
failed_start() {
    heading "a failed start"
    local two=$APP_NAME-failed port
    board_is_up
    port=$(free_port)
    on_two() { env -u APP_IMAGE APP_NAME="$two" APP_PORT="$port" "$@"; }
    nothing_runs() { [ -z "$("$ENGINE" ps -aq --filter "label=com.docker.compose.project=$two")" ]; }
    refused "a port in use is named" "port $APP_PORT is in use" on_two env APP_PORT="$APP_PORT" make up
    refused "a port that is none" "APP_PORT=5000:5001: expected" on_two make up APP_PORT=5000:5001
    refused "a port that is too large" "APP_PORT=70000: expected" on_two make up APP_PORT=70000
    refused "an address that is none" "PUBLISH=everywhere: expected" on_two make up PUBLISH=everywhere
    refused "a compose tool that is none" "COMPOSE=foo" on_two make up COMPOSE=foo
    refused "a compose file that is none" "there is no file missing.yml" on_two make up COMPOSE_FILE=podman-compose.yml:missing.yml
    refused "before an image is built" "" "$ENGINE" image inspect "localhost/$two"
    refused "an image that is none" "the image localhost/nothing:here was not found" on_two make up DATABASE_IMAGE=localhost/nothing:here
    ok "nothing runs" nothing_runs
    refused "a setting that the board refuses" "MAX_CONNECTIONS=many" on_two make up MAX_CONNECTIONS=many
    ok "nothing runs" nothing_runs
    env -u APP_IMAGE --default-signal=INT APP_NAME="$two" APP_PORT="$port" setsid scripts/up >"$work/out" 2>&1 &
    local interrupted=$! status
    eventually grep -q "is up to date" "$work/out"
    kill -INT -- -$interrupted
    wait $interrupted
    status=$?
    says "Ctrl-C of make up says what it left" "interrupted. Some containers may be running: .*make down"
    same "... and fails" 130 $status
    ok "... which make down stops" on_two make down
    ok "nothing runs" nothing_runs
    [ "$ENGINE" != podman ] || same "Podman gives no more open files than the user may have" 8000 \
        "$(bash -c 'ulimit -n 8000 && source scripts/lib/containers.bash && find_compose && echo "${OPEN_FILES:-}"')"
    ok "PUBLISH=127.0.0.1" on_two make up PUBLISH=127.0.0.1
    says_not "it is not called open to the network" "open to the network"
    same "it is published there alone" "127.0.0.1:$port" "$("$ENGINE" port "$two-backend" 5000/tcp)"
    ok "without it, it is called so" bash -c 'make up 2>&1 | grep "open to the network"'
    on_two make destroy CONFIRM=1 >/dev/null 2>&1
}

# Further compose files: each command acts on every container of the board.
compose_files() {
    heading "parts"
    board_is_up
    cat >part.yml <<PART
services:
  sidecar:
    container_name: $APP_NAME-sidecar
    image: ${DATABASE_IMAGE:-docker.io/library/mysql:9.7}
    entrypoint: ["sh", "-c", "echo the sidecar is here; sleep 1000"]
    networks: [back]
    # Otherwise the image creates an anonymous volume.
    tmpfs: [/var/lib/mysql]
    labels:
      twotier.role: sidecar
PART
    ok "make up with a further compose file" make up COMPOSE_FILE=podman-compose.yml:part.yml
    ok "make ps shows its container" bash -c 'make -s ps | grep -- "$APP_NAME-sidecar"'
    ok "make logs has it" bash -c 'make -s logs | grep "^sidecar | the sidecar is here"'
    ok "make restart restarts it" make restart
    ok "it is up" test "$("$ENGINE" inspect --type container --format '{{.State.Status}}' "$APP_NAME-sidecar")" = running
    ok "make down" make down
    same "no container is left" "" "$("$ENGINE" ps -aq --filter "label=com.docker.compose.project=$APP_NAME")"
    rm part.yml
    ok "make up without it" make up
    # The database under another name, like a node of a cluster.
    "$ENGINE" rename "$APP_NAME-mysql" "$APP_NAME-node2"
    ok "make backup finds the database that runs" make backup
    ok "make drill too" make drill
    "$ENGINE" rename "$APP_NAME-node2" "$APP_NAME-mysql"
    ok "make logs is in the order of time" bash -c 'FOLLOW=0 make -s logs TAIL=1000 | grep -oE "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}" | LC_ALL=C sort -c'
}

doctor() {
    heading "make doctor"
    board_is_up
    rm -rf backups
    refused "a missing backup is named" "PROBLEM: there is no backup" make doctor
    says "... beside what the board itself says" "twotier check, inside $APP_NAME-backend"
    ok "make backup" make backup
    ok "make doctor" make doctor
    says "... without a problem" "^no problem found"
    mv "secrets/$APP_NAME/db-root-password" "$work/root"
    refused "a missing password is named" "db-root-password is missing" make doctor
    mv "$work/root" "secrets/$APP_NAME/db-root-password"
    ok "the health check of the image" "$ENGINE" exec "$APP_NAME-backend" /twotier healthcheck --live
    same "... is in the image" "true" "$("$ENGINE" inspect --type container --format '{{if .Config.Healthcheck}}true{{end}}' "$APP_NAME-backend")"
    ! [ "$ENGINE" = podman ] || { podman healthcheck run "$APP_NAME-backend" >/dev/null 2>&1; ok "make ps shows it healthy" bash -c 'make -s ps | grep "$APP_NAME-backend.*(healthy)"'; }
}
