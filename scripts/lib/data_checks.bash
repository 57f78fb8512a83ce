# The checks of scripts/test-containers for backup, restore, import and what else can happen to the messages. To be sourced by it.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # variables that it shares

latest() { find backups -name '*.sql.gz' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2; }
# tamper NAME: a copy of the newest backup and its manifest.
tamper() { cp "$backup" "backups/$1"; sed "s/^dump=.*/dump=$1/" "$backup.manifest" >"backups/$1.manifest"; }
sign() { sed -i "s/^sha256=.*/sha256=$(sha256sum <"$1" | cut -d' ' -f1)/" "$1.manifest"; }
watch_for_passwords() {
    while [ -e "$work/watch" ]; do
        cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -aoF -f "secrets/$APP_NAME/db-password" -f "secrets/$APP_NAME/db-root-password" >>"$work/seen"
        sleep 0.02
    done
}

backups() {
    heading "backup and restore"
    board_is_up
    rm -rf backups
    : >"$work/seen"
    touch "$work/watch"
    watch_for_passwords &
    local watcher=$! rows before line
    bash -c 'sleep 2; true' canary "$(cat "secrets/$APP_NAME/db-password")" &
    ok "a password on a command line would be seen" soon test -s "$work/seen"
    wait $!
    sleep 0.2
    : >"$work/seen"
    start_load backup
    sleep 2
    cp "$work/acknowledged" "$work/before"
    ok "make backup under load" make backup
    sleep 0.5
    stop_load
    backup=$(latest)
    same "its mode, its manifest's and the folder's" "600 600 700" "$(stat -c %a "$backup" "$backup.manifest" backups | tr '\n' ' ' | sed 's/ $//')"
    echo 'DELETE FROM messages' | make -s db-shell >/dev/null 2>&1
    same "everything is deleted" 0 "$(query 'SELECT COUNT(*) FROM messages')"
    ok "one more message" form_post "after the disaster"
    refused "make restore asks" "CONFIRM=1" make restore FILE="$backup"
    : >"$work/pages"
    touch "$work/poll"
    (while [ -e "$work/poll" ]; do curl -s -o /dev/null --max-time 5 -w '%{http_code}\n' "$(url /)" >>"$work/pages"; sleep 0.02; done) &
    local poller=$!
    ok "make restore" make restore FILE="$backup" CONFIRM=1
    cp "$work/out" "$work/restored"
    rm -f "$work/poll"
    wait "$poller"
    same "the board answered all the while ($(wc -l <"$work/pages") pages)" 200 "$(sort -u "$work/pages")"
    ok "every message acknowledged before the backup is there, id and time ($(wc -l <"$work/before"))" found "$work/before"
    ok "it says how many are newer" grep -q "only there: 1\." "$work/restored"
    largest=$(query 'SELECT MAX(id) FROM messages_before_'"$(sed -n 's/.*in the table messages_before_\([0-9TZ]*\);.*/\1/p' "$work/restored")")
    ok "one more message" form_post "after the restore"
    ok "new ids go on above the old table's ($largest)" test "$(query 'SELECT MAX(id) FROM messages')" -gt "$largest"
    line=$(sed -n 's/^To go back: //p' "$work/restored")
    ok "the command to go back works" bash -c "$line"
    ok "it is as before" page_has "after the disaster"
    rm -f "$work/watch"
    wait "$watcher"
    same "no password was seen on a command line" "" "$(sort -u "$work/seen")"

    before=$(all_rows)
    tamper cut.sql.gz; truncate -s -20 backups/cut.sql.gz
    refused "a truncated dump is refused, with its bytes" "is cut off: it has [0-9]+ of [0-9]+ bytes" make restore FILE=backups/cut.sql.gz CONFIRM=1
    sign backups/cut.sql.gz
    refused "also when its checksum was made to fit" "not complete" make restore FILE=backups/cut.sql.gz CONFIRM=1
    tamper cut.sql.gz; gunzip -c "$backup" | head -n -1 | gzip >backups/cut.sql.gz; sign backups/cut.sql.gz
    refused "also when only the last line is missing" "not complete" make restore FILE=backups/cut.sql.gz CONFIRM=1
    tamper flip.sql.gz; printf '\x5a' | dd of=backups/flip.sql.gz bs=1 seek=$(($(stat -c %s "$backup") / 2)) conv=notrunc status=none
    refused "a flipped byte is refused" "damaged" make restore FILE=backups/flip.sql.gz CONFIRM=1
    tamper row.sql.gz; gunzip -c "$backup" | sed '0,/backup 1:/s//backup 0:/' | gzip >backups/row.sql.gz; sign backups/row.sql.gz
    refused "an altered row is refused" "does not fit the rows" make restore FILE=backups/row.sql.gz CONFIRM=1
    tamper other.sql.gz; sed -i 's/^database=.*/database=shop/' backups/other.sql.gz.manifest
    refused "a dump of another database is refused" "is of shop.messages" make restore FILE=backups/other.sql.gz CONFIRM=1
    tamper other.sql.gz; gunzip -c "$backup" | sed 's/Database: twotier$/Database: shop/' | gzip >backups/other.sql.gz; sign backups/other.sql.gz
    refused "also when its manifest says otherwise" "of another database" make restore FILE=backups/other.sql.gz CONFIRM=1
    rm "backups/other.sql.gz.manifest"
    refused "a dump without a manifest is refused" "no manifest" make restore FILE=backups/other.sql.gz CONFIRM=1
    same "nothing has changed" "$before" "$(all_rows)"
    rm -f backups/{cut,flip,row,other}.sql.gz*

    ok "make drill" make drill
    grep seconds "$work/out"
    refused "the drill fails when a text is altered" "DRILL FAILED" make drill DRILL_SQL="UPDATE messages SET message = CONCAT(message, ' ') ORDER BY id LIMIT 1"
    refused "... when a time is" "DRILL FAILED" make drill DRILL_SQL="UPDATE messages SET created_at = created_at + INTERVAL 1 MICROSECOND ORDER BY id LIMIT 1"
    refused "... when a row is missing" "DRILL FAILED" make drill DRILL_SQL="DELETE FROM messages ORDER BY id LIMIT 1"
    refused "... when there is one more" "DRILL FAILED" make drill DRILL_SQL="INSERT INTO messages (message) VALUES ('')"
    # shellcheck disable=SC2028 # the database's escapes
    echo "INSERT INTO messages (message) VALUES (CONCAT('\\\\ \\' \" % _ ', CHAR(0, 9, 10, 13, 26 USING utf8mb4), ' );INSERT INTO \`messages\` 日本 👩‍👩‍👧')), ('')" | make -s db-shell >/dev/null 2>&1
    ok "... and passes with all that a text can hold" make drill
    same "no throw-away database is left" "$before" "$(all_rows >/dev/null; echo "DELETE FROM messages WHERE message LIKE '%INSERT INTO%' OR message = ''" | make -s db-shell >/dev/null 2>&1; all_rows)"

    ok "BACKUP_KEEP=2" make backup BACKUP_KEEP=2
    same "two are left, with their manifests" "2 2" "$(find backups -name '*.gz' | wc -l) $(find backups -name '*.manifest' | wc -l)"
    rows=$(find backups -type f | sort)
    refused "a wrong BACKUP_KEEP is refused" "expected a number" make backup BACKUP_KEEP=0
    echo 'ALTER TABLE messages ADD COLUMN more INT' | make -s db-shell >/dev/null 2>&1
    refused "a table of another shape is refused" "other columns" make backup BACKUP_KEEP=1
    echo 'ALTER TABLE messages DROP COLUMN more' | make -s db-shell >/dev/null 2>&1
    podman stop -t 30 "$APP_NAME-mysql" >/dev/null 2>&1
    refused "a backup without its database fails" "are down" make backup BACKUP_KEEP=1
    podman start "$APP_NAME-mysql" >/dev/null 2>&1
    soon answers
    same "failed backups leave and remove nothing" "$rows" "$(find backups -type f | sort)"
}

# A dump as MySQL 5.7 writes it of the Flask app's database.
flask_dump() {
    cat <<'SQL'
-- MySQL dump 10.13  Distrib 5.7.44, for Linux (x86_64)
--
-- Host: localhost    Database: devops
-- ------------------------------------------------------
-- Server version	5.7.44
/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET NAMES utf8mb4 */;
/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;
SET @@SESSION.SQL_LOG_BIN= 0;
SET @@GLOBAL.GTID_PURGED='3E11FA47-71CA-11E1-9E33-C80AA9429562:1-23,
4E11FA47-71CA-11E1-9E33-C80AA9429562:1-5';
CREATE DATABASE /*!32312 IF NOT EXISTS*/ `devops` /*!40100 DEFAULT CHARACTER SET latin1 */;
USE `devops`;
DROP TABLE IF EXISTS `messages`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8 */;
CREATE TABLE `messages` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `message` text,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=8 DEFAULT CHARSET=CHARACTERS;
/*!40101 SET character_set_client = @saved_cs_client */;
LOCK TABLES `messages` WRITE;
/*!40000 ALTER TABLE `messages` DISABLE KEYS */;
INSERT INTO `messages` VALUES (1,'Hello'),(2,NULL),(4,'it\'s\nTEXT'),(7,'\\');
/*!40000 ALTER TABLE `messages` ENABLE KEYS */;
UNLOCK TABLES;
SET @@SESSION.SQL_LOG_BIN = @MYSQLDUMP_TEMP_LOG_BIN;
/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */;
-- Dump completed on 2024-01-02  3:04:05
SQL
}

imports() {
    heading "import"
    board_is_up
    local before
    flask_dump | sed 's/CHARACTERS/latin1/; s/TEXT/café/' >"$work/latin1.sql"
    flask_dump | sed 's/CHARACTERS/utf8mb4/; s/TEXT/👋/; s/$/\r/' | gzip >"$work/emoji.sql.gz"
    flask_dump | sed 's/CHARACTERS/latin1/; s/^DROP TABLE.*/DROP TABLE IF EXISTS twotier.messages;/' >"$work/evil.sql"
    flask_dump | sed 's/CHARACTERS/latin1/; /^-- Dump completed/d' >"$work/short.sql"
    flask_dump | sed 's/CHARACTERS/latin1/; s/`messages`/`guests`/' >"$work/guests.sql"
    echo "INSERT INTO messages (message) VALUES ('there already')" | make -s db-shell >/dev/null 2>&1
    before=$(all_rows)
    refused "a board with messages is not imported into unasked" "come after them, with new ids" make import FILE="$work/latin1.sql"
    refused "half a dump is refused" "not a whole dump" make import FILE="$work/short.sql" CONFIRM=1
    refused "a dump without the table is refused" "no table messages" make import FILE="$work/guests.sql" CONFIRM=1
    iconv -f UTF-8 -t UTF-16 "$work/latin1.sql" >"$work/utf16.sql"
    refused "a dump in UTF-16 is explained" "UTF-16" make import FILE="$work/utf16.sql" CONFIRM=1
    same "nothing has changed" "$before" "$(all_rows)"
    echo 'DELETE FROM messages' | make -s db-shell >/dev/null 2>&1
    ok "into an empty board" make import FILE="$work/latin1.sql"
    same "with the old ids, NULL as empty, no times" "1,Hello,0|2,,0|4,it's
café,0|7,\\,0" "$(curl -fsS "$(url '/messages?after=0')" | python3 -c '
import json, sys
print("|".join("%d,%s,%d" % (m["id"], m["message"], m["created_at"] is not None) for m in json.load(sys.stdin)["messages"]))')"
    ok "a second one behind it, from gzip and with Windows line ends" make import FILE="$work/emoji.sql.gz" CONFIRM=1
    same "with new ids, in the old order" "Hello||it's
👋|\\" "$(curl -fsS "$(url '/messages?after=7')" | python3 -c '
import json, sys
print("|".join(m["message"] for m in json.load(sys.stdin)["messages"]))')"
    ok "a message behind all that" form_post "after the import"
    ok "make drill" make drill
    before=$(query 'SELECT COUNT(*) FROM messages')
    ok "a dump that drops the board's table adds its messages" make import FILE="$work/evil.sql" CONFIRM=1
    same "and drops nothing" $((before + 4)) "$(query 'SELECT COUNT(*) FROM messages')"
    ok "a dump of this database, as its own program writes it" bash -c '"$ENGINE" exec "$APP_NAME-mysql" sh -c '\''MYSQL_PWD=$(cat /run/secrets/db-root-password) mysqldump -uroot twotier'\'' >"$1" 2>&1' bash "$work/own.sql"
    before=$(curl -fsS "$(url '/messages?limit=200')" | sed 's/"id":[0-9]*,//g')
    echo 'DELETE FROM messages' | make -s db-shell >/dev/null 2>&1
    ok "make import of it" make import FILE="$work/own.sql"
    same "the same texts and times" "$before" "$(curl -fsS "$(url '/messages?limit=200')" | sed 's/"id":[0-9]*,//g')"
}

# The data volume of the Flask app: only a copy of it is read.
import_volume() {
    heading "import of a volume"
    local flask=$APP_NAME-flask before rows
    board_is_up
    flask_database
    refused "make import while it runs" "in use by the container $flask" make import VOLUME="$flask-data" CONFIRM=1
    "$ENGINE" stop -t 30 "$flask" >/dev/null 2>&1
    "$ENGINE" rm -v "$flask" >/dev/null
    volume_sum() { "$ENGINE" run --rm -v "$flask-data:/volume:ro" --entrypoint sh docker.io/library/mysql:9.7 -c 'find /volume -type f | sort | xargs -d "\n" sha256sum | sha256sum'; }
    before=$(volume_sum) rows=$(query 'SELECT COUNT(*) FROM messages')
    refused "a volume that is none" "there is no volume $APP_NAME-none" make import VOLUME="$APP_NAME-none"
    refused "an image that did not write it" "holds the data of MySQL" make import VOLUME="$flask-data" IMAGE=docker.io/library/mariadb:11.8 CONFIRM=1
    ok "make import VOLUME=" make import VOLUME="$flask-data" CONFIRM=1
    same "its messages are on the board" "$((rows + 2))" "$(query 'SELECT COUNT(*) FROM messages')"
    ok "the newest of them" page_has "and more"
    same "the original is as it was" "$before" "$(volume_sum)"
    same "no copy is left" "" "$("$ENGINE" volume ls --format '{{.Name}}' | grep "$APP_NAME-import")"
    "$ENGINE" volume rm "$flask-data" >/dev/null
}
# A database of the Flask app, with other names of user and database, in a volume of its own.
flask_database() {
    "$ENGINE" volume create "$flask-data" >/dev/null
    "$ENGINE" run -d --name "$flask" -v "$flask-data:/var/lib/mysql" -e MYSQL_ROOT_PASSWORD=root -e MYSQL_DATABASE=devops \
        -e MYSQL_USER=admin -e MYSQL_PASSWORD=admin docker.io/library/mysql:9.7 >/dev/null
    flask_sql() { "$ENGINE" exec -e MYSQL_PWD=admin "$flask" mysql -h 127.0.0.1 -uadmin devops -e "$1"; }
    ok "a database of the Flask app" soon flask_sql "SELECT 1"
    ok "its messages" flask_sql "CREATE TABLE messages (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT); INSERT INTO messages (message) VALUES ('from flask'), ('and more')"
}

# The same commands on the private database of `make run`, stopped and running; the board is the image's binary.
private() {
    heading "the private database"
    local container runner backup
    mkdir -p "$work/target/release"
    container=$(podman create "$APP_IMAGE")
    podman cp "$container:/twotier" "$work/target/release/twotier"
    podman rm "$container" >/dev/null
    export CARGO_TARGET_DIR=$work/target TARGET=private
    refused "before there is one, it says so" "no private database" make backup
    backup=$(latest)
    ok "the database starts" bash -c 'scripts/database start data && scripts/database stop data'
    ok "a backup of the containers goes in while it is stopped" make restore FILE="$backup" CONFIRM=1
    ok "make drill while it is stopped" make drill
    ok "it is stopped again" bash -c '! kill -0 "$(cat data/pid)" 2>/dev/null'
    local APP_PORT
    APP_PORT=$(free_port)
    PORT=$APP_PORT scripts/run >"$work/run.log" 2>&1 &
    runner=$!
    cp "$work/run.log" "$work/out"
    ok "make run's board" soon answers
    start_load private
    sleep 1
    cp "$work/acknowledged" "$work/before"
    ok "make backup while it runs" make backup
    stop_load
    backup=$(latest)
    echo 'DELETE FROM messages' | make -s db-shell >/dev/null 2>&1
    ok "make restore while it runs" make restore FILE="$backup" CONFIRM=1
    ok "every message acknowledged before the backup is there ($(wc -l <"$work/before"))" found "$work/before"
    ok "make drill while it runs" make drill
    refused "the drill fails when a row is altered" "DRILL FAILED" make drill DRILL_SQL="UPDATE messages SET edited_at = NOW() ORDER BY id LIMIT 1"
    echo 'DELETE FROM messages' | make -s db-shell >/dev/null 2>&1
    ok "make import while it runs" make import FILE="$work/latin1.sql"
    ok "it is on the page" page_has "café"
    refused "with two boards running it asks which" "two boards" env -u TARGET make drill
    kill "$runner"
    wait "$runner"
    unset TARGET CARGO_TARGET_DIR
    refused "a database of one's own is not touched" "MYSQL_HOST is set" env MYSQL_HOST=db.example make backup
    ok "the private database goes into the containers" make restore FILE="$backup" TARGET=containers CONFIRM=1
    ok "make drill there" make drill TARGET=containers
    rm -rf data
}

backups_named() { grep -lx "board=$1" backups/*.manifest 2>/dev/null | LC_ALL=C sort; }

# Two boards in one folder never touch what belongs to the other.
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
    refused "KEEP_NEWER=1 does not mix two boards" "ids do not belong together" \
        make restore KEEP_NEWER=1 CONFIRM=1 FILE="$(backups_named "$second" | head -n 1 | sed 's/.manifest$//')"
    (exec 7>>"backups/.lock-$APP_NAME"; flock 7; on_second timeout 60 make backup) >"$work/out" 2>&1
    same "a lock of the first does not stop the second" 0 $?
    refused "make destroy of the second names its messages and its last backup" "WITH ITS 1 MESSAGE .*" on_second make destroy
    says "... with its age" "backups/$second-.* is [0-9]* seconds old and has 1 message"
    ok "make destroy of the second" on_second make destroy CONFIRM=1
    same "the first has all of its backups" "$before" "$(backups_named "$APP_NAME")"
    ok "the first has its passwords" test -s "secrets/$APP_NAME/db-password"
    ok "the first has its image" "$ENGINE" image inspect "$APP_IMAGE"
    ok "make restart of the first" make restart
    ok "its message is there" page_has "the first board&#39;s"
    ok "the second's backups stay" test -n "$(backups_named "$second")"

    # What an older version left: passwords and backups without a board's name.
    mv "secrets/$APP_NAME" "$work/own" && cp -p "$work/own"/* secrets/
    ok "the passwords of an older version are adopted" bash -c 'make up 2>&1 | grep "has a copy of the passwords"'
    ok "its message is there" page_has "the first board&#39;s"
    rm -f secrets/db-password secrets/db-root-password secrets/admin-token
    sed -i '/^board=/d' backups/*.manifest
    ok "the backups of an older version are adopted" bash -c 'make backup 2>&1 | grep "backups of an older version are now noted"'
    same "all of them" "" "$(grep -L "^board=$APP_NAME" backups/*.manifest)"
    rm -rf backups "$work/own"
}

# A command from another folder is refused, because the board belongs to the folder that started it.
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

# Lost, changed and foreign passwords, and no message is lost.
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

    # The volume of the Flask app: other names of user and database.
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

# A database that is killed during its very first start.
interrupted() {
    heading "an interrupted first start"
    local half=$APP_NAME-half seconds
    for seconds in 0.5 2; do
        "$ENGINE" volume create "$half-data" >/dev/null
        env APP_NAME="$half" make -s secrets >/dev/null 2>&1
        "$ENGINE" run -d --name "$half" -v "$half-data:/var/lib/mysql" -e MYSQL_ROOT_PASSWORD=root -e MYSQL_ROOT_HOST=localhost \
            -e MYSQL_DATABASE=twotier "${DATABASE_IMAGE:-docker.io/library/mysql:9.7}" >/dev/null
        sleep "$seconds"
        "$ENGINE" kill "$half" >/dev/null 2>&1
        "$ENGINE" rm "$half" >/dev/null
        refused "killed after $seconds s: it is called an interrupted first start" "first start of the database was interrupted" \
            env APP_NAME="$half" APP_PORT="$(free_port)" make up
        says_not "... without a word about a password" "password"
        refused "make destroy says that it has no message" "WITH ITS 0 MESSAGES" env APP_NAME="$half" make destroy
        ok "make destroy" env APP_NAME="$half" make destroy CONFIRM=1
    done
    "$ENGINE" rmi "localhost/$half" >/dev/null 2>&1
}

# Messages that are newer than a backup, and what restores and killed commands leave.
restore_newer() {
    heading "newer messages, and what is left"
    local backup rows
    board_is_up
    ok "a message" form_post "older than the backup"
    ok "make backup" make backup
    backup=$(latest)
    rows=$(query 'SELECT COUNT(*) FROM messages')
    ok "two messages" bash -c 'curl -fsS "http://127.0.0.1:$APP_PORT/submit" -d new_message="newer%20one" && curl -fsS "http://127.0.0.1:$APP_PORT/messages" -H "Idempotency-Key: newer" -d message=two'
    curl -fsS "$(url '/messages?limit=2')" >"$work/newest"
    echo "DELETE FROM messages WHERE message = 'older than the backup'" | make -s db-shell >/dev/null 2>&1
    ok "make restore KEEP_NEWER=1" make restore FILE="$backup" KEEP_NEWER=1 CONFIRM=1
    says "it says how many are kept" "kept: 2\."
    same "they are the same, with ids and times" "$(cat "$work/newest")" "$(curl -fsS "$(url '/messages?limit=2')")"
    same "and all others are back" $((rows + 2)) "$(query 'SELECT COUNT(*) FROM messages')"
    ok "their keys are known" bash -c 'curl -fsS -D - "http://127.0.0.1:$APP_PORT/messages" -H "Idempotency-Key: newer" -d message=two | grep -i "idempotency-replayed: true"'
    ok "make restore without it" make restore FILE="$backup" CONFIRM=1
    ok "the command that brings them along works" bash -c "$(sed -n 's/^To bring them along now: //p' "$work/out")"
    same "they are the same" "$(cat "$work/newest")" "$(curl -fsS "$(url '/messages?limit=2')")"

    same "metrics of the last good backup" "1" "$(grep -c "^twotier_backup_last_success_timestamp_seconds{board=\"$APP_NAME\"} [0-9]*$" "backups/$APP_NAME-backup.prom")"
    ! command -v promtool >/dev/null || ok "promtool takes them" bash -c 'cat backups/*.prom | promtool check metrics'
    # What Ctrl-C sends, to a backup and to a restore that waits for its answer.
    env --default-signal=INT setsid scripts/backup >"$work/out" 2>&1 &
    local interrupted=$!
    soon grep -q "^using" "$work/out"
    kill -INT $interrupted
    wait $interrupted
    local status=$?
    says "Ctrl-C of a backup says what it left" "interrupted. (Nothing was written|The backup .* is complete)"
    same "... and fails" 130 $status
    same "... and leaves no partial file" "" "$(find backups -name '.partial-*')"

    # A backup that is killed leaves a partial file; the next one removes it.
    # The dump waits for this lock, so that the backup is killed in the middle of it.
    (echo "LOCK TABLES messages WRITE; DO SLEEP(20)" | make -s db-shell >/dev/null 2>&1) &
    sleep 2
    setsid scripts/backup >"$work/killed" 2>&1 &
    local killed=$!
    soon bash -c 'ls backups/.partial-*'
    (timeout 60 make backup >"$work/waiting" 2>&1; echo $? >>"$work/waiting") &
    local waiting=$!
    ok "a second backup waits, and names the first" soon grep -q "waiting, up to 10 minutes, for .*: backup, process $killed, since" "$work/waiting"
    kill -9 -- -$killed
    ok "the partial file is listed" bash -c 'make -s backups | grep -F .partial-'
    wait $waiting
    same "the second backup is then made" 0 "$(tail -n 1 "$work/waiting")"
    same "and the partial file is gone" "" "$(find backups -name '.partial-*')"
    (exec 7>>"backups/.lock-$APP_NAME"; flock 7; LOCK_WAIT=1 make backup) >"$work/out" 2>&1
    says "a backup that waited too long says so" "another command still works on the board '$APP_NAME'"

    ok "the tables that restores put aside are listed" bash -c 'test "$(make -s backups | grep -c ^messages_before_)" -ge 2'
    ok "new ones are not removed" bash -c 'make prune 2>&1 | grep "there is nothing to remove"'
    refused "make prune asks, with what only they hold" "messages_before_.* that are only there" make prune TABLE_KEEP_DAYS=0
    ok "make prune" make prune TABLE_KEEP_DAYS=0 CONFIRM=1
    same "they are gone" 0 "$(make -s backups 2>/dev/null | grep -c ^messages_before_)"
    mv "$backup.manifest" "$work/manifest"
    refused "a file without a manifest is explained in one sentence" "has no manifest .*if it is a backup" make restore FILE="$backup" CONFIRM=1
    mv "$work/manifest" "$backup.manifest"
}
