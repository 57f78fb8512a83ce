# The checks of scripts/test-containers for import, and for the private database of `make run`. To be sourced by it.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # variables that it shares

# flask_dump: prints a dump of the Flask app's database in the form of MySQL 5.7.
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

import_dump() {
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
    refused "a board with messages is not imported into unasked" "appended with new ids" make import FILE="$work/latin1.sql"
    refused "half a dump is refused" "not a complete dump" make import FILE="$work/short.sql" CONFIRM=1
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
    ok "a second one after it, from gzip and with Windows line ends" make import FILE="$work/emoji.sql.gz" CONFIRM=1
    same "with new ids, in the old order" "Hello||it's
👋|\\" "$(curl -fsS "$(url '/messages?after=7')" | python3 -c '
import json, sys
print("|".join(m["message"] for m in json.load(sys.stdin)["messages"]))')"
    ok "a message after all that" form_post "after the import"
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

# The data volume of the Flask app. Only a copy of it is read.
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
    ! "$ENGINE" image inspect docker.io/library/mariadb:11.8 >/dev/null 2>&1 ||
        refused "an image that did not write it" "holds the data of MySQL" make import VOLUME="$flask-data" IMAGE=docker.io/library/mariadb:11.8 CONFIRM=1
    ok "make import VOLUME=" make import VOLUME="$flask-data" CONFIRM=1
    same "its messages are on the board" "$((rows + 2))" "$(query 'SELECT COUNT(*) FROM messages')"
    ok "the newest of them" page_has "and more"
    same "the original is as it was" "$before" "$(volume_sum)"
    same "no copy is left" "" "$("$ENGINE" volume ls --format '{{.Name}}' | grep "$APP_NAME-import")"
    "$ENGINE" volume rm "$flask-data" >/dev/null
}
# flask_database: starts a database of the Flask app, with other names of user and database, in its own volume.
flask_database() {
    "$ENGINE" volume create "$flask-data" >/dev/null
    "$ENGINE" run -d --name "$flask" -v "$flask-data:/var/lib/mysql" -e MYSQL_ROOT_PASSWORD=root -e MYSQL_DATABASE=devops \
        -e MYSQL_USER=admin -e MYSQL_PASSWORD=admin "${DATABASE_IMAGE:-docker.io/library/mysql:9.7}" >/dev/null
    flask_sql() { "$ENGINE" exec -e MYSQL_PWD=admin "$flask" sh -c '"$(command -v mariadb || command -v mysql)" -h 127.0.0.1 -uadmin devops -e "$1"' sh "$1"; }
    ok "a database of the Flask app" eventually flask_sql "SELECT 1"
    ok "its messages" flask_sql "CREATE TABLE messages (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT); INSERT INTO messages (message) VALUES ('from flask'), ('and more')"
}

# The same commands on the private database of `make run`, stopped and running. The board is the binary of the image.
private_database() {
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
    refused "make run finds a port in use before it builds" "port $APP_PORT is in use.*PORT=$((APP_PORT + 1))" make run PORT="$APP_PORT"
    local APP_PORT
    APP_PORT=$(free_port)
    # The binary exists already.
    sed 's#scripts/build#true#' Makefile >"$work/Makefile"
    env --default-signal=INT setsid make -f "$work/Makefile" run PORT="$APP_PORT" >"$work/out" 2>&1 &
    runner=$!
    eventually grep -q "The board is at" "$work/out"
    kill -INT -- -$runner
    wait $runner 2>/dev/null
    says "make run prints its address" "The board is at http://127.0.0.1:$APP_PORT"
    says_not "Ctrl-C ends it without an error of make" '\*\*\*|error'
    PORT=$APP_PORT scripts/run >"$work/run.log" 2>&1 &
    runner=$!
    cp "$work/run.log" "$work/out"
    ok "make run's board" eventually answers
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
    flask_dump | sed 's/CHARACTERS/latin1/; s/TEXT/café/' >"$work/latin1.sql"
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
