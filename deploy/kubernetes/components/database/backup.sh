#!/usr/bin/env bash
# Writes $BACKUPS/twotier-TIME.sql.gz and its checksum while the board is in use, and keeps the newest $BACKUP_KEEP of them. The
# dump has the form of `make backup`, so `make import` reads it. It runs in the image of the database.
set -euo pipefail
umask 077

MYSQL_PWD=$(cat "$MYSQL_PASSWORD_FILE")
export MYSQL_PWD
dumper=$(command -v mariadb-dump || command -v mysqldump)
options=(--no-defaults --host="$MYSQL_HOST" --port="${MYSQL_PORT:-3306}" --user="$MYSQL_USER" --single-transaction --quick
    --no-tablespaces --hex-blob --default-character-set=utf8mb4 --skip-extended-insert --complete-insert)
case $dumper in *mysqldump) options+=(--set-gtid-purged=OFF) ;; esac

cd "$BACKUPS"
# Those of killed jobs. Two jobs never run at the same time.
rm -f .partial-*
file=twotier-$(date -u +%Y%m%dT%H%M%SZ).sql.gz
# MariaDB's first line turns on its sandbox mode. Other clients reject it.
"$dumper" "${options[@]}" --where="1 ORDER BY id" "$MYSQL_DB" messages | sed '1{/enable the sandbox mode/d}' | gzip >".partial-$file"
gzip -cd ".partial-$file" | tail -n 1 | grep -q '^-- Dump completed' || { echo "error: the dump is not complete; nothing was written." >&2; exit 1; }
sha256sum <".partial-$file" | sed "s/-\$/$file/" >"$file.sha256"
sync ".partial-$file" "$file.sha256"
mv ".partial-$file" "$file"
echo "backed up $(gzip -cd "$file" | grep -c '^INSERT INTO ' || true) messages to $file, $(wc -c <"$file") bytes"

find . -maxdepth 1 -name 'twotier-*.sql.gz' | sort -r | tail -n "+$((BACKUP_KEEP + 1))" | while read -r old; do
    rm -f "$old" "$old.sha256"
    echo "removed $old"
done
