# The checks of scripts/test-containers for several boards, folders, and passwords. To be sourced by it.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # variables that it shares

backups_named() { grep -lx "board=$1" backups/*.manifest 2>/dev/null | LC_ALL=C sort; }

# A command on one board never changes another board of the same folder.
two_boards() {
    heading "two boards in one folder"
    local second=$APP_NAME-two port before
    board_is_up
    port=$(free_port)
    on_second() { env -u APP_IMAGE APP_NAME="$second" APP_PORT="$port" "$@"; }
    ok "a message on the first" form_post "the first board's"
    ok "two backups of the first" bash -c 'make backup && make backup'
    before=$(backups_named "$APP_NAME")
    ok "the second board" on_second make up
    ok "a message on the second" env APP_PORT="$port" bash -c 'curl -fsS "http://127.0.0.1:$APP_PORT/submit" -d new_message=second'
    ok "a backup of the second" on_second make backup
    ok "BACKUP_KEEP=1 of the second" on_second make backup BACKUP_KEEP=1
    same "the second has one backup" 1 "$(backups_named "$second" | wc -l)"
    same "the first has all of its backups" "$before" "$(backups_named "$APP_NAME")"
    ok "both have passwords of their own" bash -c '! cmp -s "secrets/$1/db-password" "secrets/$2/db-password"' bash "$APP_NAME" "$second"
    ok "both have an image of their own" on_second bash -c '"$ENGINE" image inspect "localhost/$APP_NAME"'
    refused "a restore of the other board's file asks, and names both" "OF ANOTHER BOARD: '$second', not '$APP_NAME'" \
        make restore FILE="$(backups_named "$second" | head -n 1 | sed 's/.manifest$//')"
    refused "KEEP_NEWER=1 does not mix two boards" "the same id means different messages" \
        make restore KEEP_NEWER=1 CONFIRM=1 FILE="$(backups_named "$second" | head -n 1 | sed 's/.manifest$//')"
    (exec 7>>"backups/.lock-$APP_NAME"; flock 7; on_second timeout 60 make backup) >"$work/out" 2>&1
    same "a lock of the first does not stop the second" 0 $?
    refused "make destroy of the second names its messages and its last backup" "WITH ITS 1 MESSAGE .*" on_second make destroy
    says "... with its age" "backups/$second-.* is [0-9]* seconds old and has 1 message"
    ok "make destroy of the second" on_second make destroy CONFIRM=1
    refused "its image is gone" "" "$ENGINE" image inspect "localhost/$second"
    same "the first has all of its backups" "$before" "$(backups_named "$APP_NAME")"
    ok "the first has its passwords" test -s "secrets/$APP_NAME/db-password"
    ok "the first has its image" "$ENGINE" image inspect "$APP_IMAGE"
    ok "make restart of the first" make restart
    ok "its message is there" page_has "the first board&#39;s"
    ok "the second's backups stay" test -n "$(backups_named "$second")"

    # Passwords and backups of an older version, which do not have the name of the board.
    mv "secrets/$APP_NAME" "$work/own" && cp -p "$work/own"/* secrets/
    ok "the passwords of an older version are adopted" bash -c 'make up 2>&1 | grep "copied the passwords of an older version"'
    ok "its message is there" page_has "the first board&#39;s"
    rm -f secrets/db-password secrets/db-root-password secrets/admin-token
    sed -i '/^board=/d' backups/*.manifest
    ok "the backups of an older version are adopted" bash -c 'make backup 2>&1 | grep "backups of an older version now belong"'
    same "all of them" "" "$(grep -L "^board=$APP_NAME" backups/*.manifest)"
    rm -rf backups "$work/own"
}

# Commands from another folder are refused.
foreign_folder() {
    heading "another folder"
    local target other="$work/other folder"
    board_is_up
    copy_project "$other"
    for target in up down restart backup "restore FILE=x" drill "import FILE=Makefile" destroy reset-passwords prune; do
        # shellcheck disable=SC2086 # a target and its variables
        refused "make $target" "belongs to the folder $PWD, but this is $other" env -C "$other" make $target CONFIRM=1
    done
    ok "nothing has happened to the board" answers
    ok "FORCE=1 acts on it all the same" env -C "$other" make restart FORCE=1
    ok "make down" make down
    refused "also while it is down, by its volume" "belongs to the folder" env -C "$other" make up
    ok "make up in its own folder, which has a blank" make up
    rm -rf "$other"
}

# Lost, changed and foreign passwords never cost a message.
passwords() {
    heading "passwords"
    local flask=$APP_NAME-flask old port
    board_is_up
    ok "a message" form_post "kept by a new password"
    old=$(cat "secrets/$APP_NAME/db-password")
    ok "make reset-passwords, as a change from time to time" make reset-passwords
    ok "the password is another one" test "$old" != "$(cat "secrets/$APP_NAME/db-password")"
    ok "the message is there" page_has "kept by a new password"
    ok "make backup with the new password" make backup
    rm -rf "secrets/$APP_NAME"
    refused "lost passwords are explained" "make reset-passwords.*no message is lost" make up
    says_not "... without advice to delete" "destroy|remove|delete"
    ok "make reset-passwords" make reset-passwords
    ok "the message is there" page_has "kept by a new password"
    make down >/dev/null 2>&1
    cp -a "secrets/$APP_NAME" "$work/own"
    echo wrong >"secrets/$APP_NAME/db-password"
    refused "a changed password is explained" "made with another password" make up
    says "... with the way out" "make reset-passwords"
    says_not "... without advice to delete" "destroy|delete"
    ok "... and nothing runs on" test -z "$("$ENGINE" ps -q --filter "label=com.docker.compose.project=$APP_NAME")"
    ok "make reset-passwords while it is down" make reset-passwords
    ok "make up" make up
    ok "the message is there" page_has "kept by a new password"
    cp "secrets/$APP_NAME/db-root-password" "$work/root"
    make down >/dev/null 2>&1
    echo wrong >"secrets/$APP_NAME/db-root-password"
    make up >/dev/null 2>&1
    refused "a wrong root password is one sentence of make backup" "refuses the password in secrets/$APP_NAME/db-root-password" make backup
    says_not "... and no line of the client" "ERROR 1045"
    cp "$work/root" "secrets/$APP_NAME/db-root-password"
    ok "with the right one" make up
    rm -rf "$work/own"

    # The volume of the Flask app has other names of user and database.
    port=$(free_port)
    on_flask() { env -u APP_IMAGE APP_NAME="$flask" APP_PORT="$port" "$@"; }
    flask_database
    refused "make reset-passwords while it runs" "in use by the container $flask" on_flask make reset-passwords CONFIRM=1
    "$ENGINE" stop -t 30 "$flask" >/dev/null 2>&1
    "$ENGINE" rm -v "$flask" >/dev/null
    refused "make up on that volume names the way" "make reset-passwords" on_flask make up
    refused "make reset-passwords asks before a table moves" "The 2 messages are in the database 'devops'" on_flask make reset-passwords
    ok "make reset-passwords" on_flask make reset-passwords CONFIRM=1
    ok "make up" on_flask make up
    same "its messages are on the board" "and more,from flask" "$(curl -fsS "http://127.0.0.1:$port/messages" | python3 -c '
import json, sys
print(",".join(m["message"] for m in json.load(sys.stdin)["messages"]))')"
    on_flask make destroy CONFIRM=1 >/dev/null 2>&1
}

# A database that is killed during its first start.
interrupted_first_start() {
    heading "an interrupted first start"
    local half=$APP_NAME-half moment
    # While it creates the files, and before it creates the accounts.
    for moment in "Initializing database files" "Starting temporary server"; do
        "$ENGINE" volume create "$half-data" >/dev/null
        env APP_NAME="$half" make -s secrets >/dev/null 2>&1
        "$ENGINE" run -d --name "$half" -v "$half-data:/var/lib/mysql" -e MYSQL_ROOT_PASSWORD=root -e MYSQL_ROOT_HOST=localhost \
            -e MYSQL_DATABASE=twotier "${DATABASE_IMAGE:-docker.io/library/mysql:9.7}" >/dev/null
        eventually bash -c '"$ENGINE" logs "$1" 2>&1 | grep -q "$2"' bash "$half" "$moment"
        [ "$moment" != "Initializing database files" ] || eventually "$ENGINE" exec "$half" sh -c 'test -s /var/lib/mysql/ibdata1'
        "$ENGINE" kill "$half" >/dev/null 2>&1
        "$ENGINE" rm "$half" >/dev/null
        refused "killed at '$moment': it is called an interrupted first start" "first start of the database was interrupted" \
            env APP_NAME="$half" APP_PORT="$(free_port)" make up
        says_not "... without a word about a password" "password"
        refused "make destroy says that it has no message" "WITH ITS 0 MESSAGES" env APP_NAME="$half" make destroy
        ok "make destroy" env APP_NAME="$half" make destroy CONFIRM=1
    done
    "$ENGINE" rmi "localhost/$half" >/dev/null 2>&1
}
