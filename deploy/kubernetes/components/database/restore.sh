#!/usr/bin/env bash
# Replaces all messages with those of $BACKUPS/$FILE, or of the newest backup, while the board is in use. The replaced table is
# kept as messages_before_TIME. Until the exchange of the two tables, which is one statement, nothing of the board changes.
set -euo pipefail

die() { echo "error: $*" >&2; exit 1; }
MYSQL_PWD=$(cat "$MYSQL_PASSWORD_FILE")
export MYSQL_PWD
client=$(command -v mariadb || command -v mysql)
sql() {
    "$client" --no-defaults --host="$MYSQL_HOST" --port="${MYSQL_PORT:-3306}" --user="$MYSQL_USER" \
        --default-character-set=utf8mb4 -N -B "$MYSQL_DB"
}

cd "$BACKUPS"
file=${FILE:-$(find . -maxdepth 1 -name 'twotier-*.sql.gz' | sort -r | head -n 1)}
[ -n "$file" ] || die "there is no backup."
file=$(basename "$file")
sha256sum --check --quiet "$file.sha256" || die "$file differs from its checksum; nothing was changed."

time=$(date -u +%Y%m%dT%H%M%SZ)
new=messages_restored_$time old=messages_before_$time
sql <<<"CREATE TABLE $new LIKE messages"
trap 'sql <<<"DROP TABLE IF EXISTS $new"' EXIT
# Only the rows are used. Each is one line, because the dump escapes line ends in texts.
{
    echo "START TRANSACTION;"
    gzip -cd "$file" | sed -n "s/^INSERT INTO \`messages\` /INSERT INTO $new /p"
    echo "COMMIT;"
} | sql
expected=$(gzip -cd "$file" | grep -c '^INSERT INTO ' || true)
rows=$(sql <<<"SELECT COUNT(*) FROM $new")
[ "$rows" = "$expected" ] || die "$rows rows were loaded, and $file has $expected; nothing was changed."
# No id is used twice, so links and live pages stay right.
next=$(sql <<<"SELECT GREATEST(COALESCE((SELECT MAX(id) FROM messages), 0), COALESCE((SELECT MAX(id) FROM $new), 0)) + 1")
sql <<<"ALTER TABLE $new AUTO_INCREMENT = $next; RENAME TABLE messages TO $old, $new TO messages"
echo "restored $rows messages of $file. The replaced messages are in the table $old."
