# The checks of scripts/test-containers for backup and restore. To be sourced by it.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # variables that it shares

latest() { find backups -name '*.sql.gz' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2; }
# tamper NAME: copies the newest backup and its manifest.
tamper() { cp "$backup" "backups/$1"; sed "s/^dump=.*/dump=$1/" "$backup.manifest" >"backups/$1.manifest"; }
sign() { sed -i "s/^sha256=.*/sha256=$(sha256sum <"$1" | cut -d' ' -f1)/; s/^bytes=.*/bytes=$(wc -c <"$1")/" "$1.manifest"; }
watch_for_passwords() {
    while [ -e "$work/watch" ]; do
        cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -aoF -f "secrets/$APP_NAME/db-password" -f "secrets/$APP_NAME/db-root-password" >>"$work/seen"
        sleep 0.02
    done
}

backup_and_restore() {
    heading "backup and restore"
    board_is_up
    rm -rf backups
    : >"$work/seen"
    touch "$work/watch"
    watch_for_passwords &
    local watcher=$! rows before line
    bash -c 'sleep 2; true' canary "$(cat "secrets/$APP_NAME/db-password")" &
    ok "a password on a command line would be seen" eventually test -s "$work/seen"
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
    largest=$(query 'SELECT MAX(id) FROM messages_before_'"$(sed -n 's/.*in the table messages_before_\([0-9TZ]*\)\..*/\1/p' "$work/restored")")
    ok "one more message" form_post "after the restore"
    ok "new ids go on above the old table's ($largest)" test "$(query 'SELECT MAX(id) FROM messages')" -gt "$largest"
    line=$(sed -n 's/^To undo the restore: //p' "$work/restored")
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
    refused "an altered row is refused" "does not match the rows" make restore FILE=backups/row.sql.gz CONFIRM=1
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
    refused "a table of another shape is refused" "does not have the columns of a board" make backup BACKUP_KEEP=1
    echo 'ALTER TABLE messages DROP COLUMN more' | make -s db-shell >/dev/null 2>&1
    echo 'RENAME TABLE messages TO elsewhere' | make -s db-shell >/dev/null 2>&1
    refused "a database without a table is refused" "has no table messages: start the board once" make backup BACKUP_KEEP=1
    echo 'RENAME TABLE elsewhere TO messages' | make -s db-shell >/dev/null 2>&1
    podman stop -t 30 "$APP_NAME-mysql" >/dev/null 2>&1
    refused "a backup without its database fails" "are down" make backup BACKUP_KEEP=1
    podman start "$APP_NAME-mysql" >/dev/null 2>&1
    eventually answers
    same "failed backups leave and remove nothing" "$rows" "$(find backups -type f | sort)"
}

# Messages that are newer than a backup, replaced tables, and files of killed commands.
newer_messages() {
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
    ok "the command that copies them works" bash -c "$(sed -n 's/^To copy them to the board: //p' "$work/out")"
    same "they are the same" "$(cat "$work/newest")" "$(curl -fsS "$(url '/messages?limit=2')")"

    same "metrics of the last good backup" "1" "$(grep -c "^twotier_backup_last_success_timestamp_seconds{board=\"$APP_NAME\"} [0-9]*$" "backups/$APP_NAME-backup.prom")"
    ! command -v promtool >/dev/null || ok "promtool takes each file" bash -ec 'for file in backups/*.prom; do promtool check metrics <"$file"; done'
    # The signal of Ctrl-C.
    env --default-signal=INT setsid scripts/backup >"$work/out" 2>&1 &
    local interrupted=$!
    eventually grep -q "^using" "$work/out"
    kill -INT $interrupted
    wait $interrupted
    local status=$?
    says "Ctrl-C of a backup says what it left" "interrupted. (Nothing was written|The backup .* is complete)"
    same "... and fails" 130 $status
    same "... and leaves no partial file" "" "$(find backups -name '.partial-*')"

    # A killed backup leaves a partial file; the next backup removes it.
    # The dump waits for this lock, so the backup is killed in the middle of the dump.
    (echo "LOCK TABLES messages WRITE; DO SLEEP(20)" | make -s db-shell >/dev/null 2>&1) &
    sleep 2
    setsid scripts/backup >"$work/killed" 2>&1 &
    local killed=$!
    eventually bash -c 'ls backups/.partial-*'
    (timeout 60 make backup >"$work/waiting" 2>&1; echo $? >>"$work/waiting") &
    local waiting=$!
    ok "a second backup waits, and names the first" eventually grep -q "waiting, up to 10 minutes, for .*: backup, process $killed, since" "$work/waiting"
    kill -9 -- -$killed
    ok "the partial file is listed" bash -c 'make -s backups | grep -F .partial-'
    wait $waiting
    same "the second backup is then made" 0 "$(tail -n 1 "$work/waiting")"
    same "and the partial file is gone" "" "$(find backups -name '.partial-*')"
    (exec 7>>"backups/.lock-$APP_NAME"; flock 7; LOCK_WAIT=1 make backup) >"$work/out" 2>&1
    says "a backup that waited too long says so" "another command still works on the board '$APP_NAME'"

    ok "the tables that restores replaced are listed" bash -c 'test "$(make -s backups | grep -c ^messages_before_)" -ge 2'
    ok "new ones are not removed" bash -c 'make prune 2>&1 | grep "there is nothing to remove"'
    refused "make prune asks, with what only they hold" "messages_before_.* that are nowhere else" make prune TABLE_KEEP_DAYS=0
    ok "make prune" make prune TABLE_KEEP_DAYS=0 CONFIRM=1
    same "they are gone" 0 "$(make -s backups 2>/dev/null | grep -c ^messages_before_)"
    mv "$backup.manifest" "$work/manifest"
    refused "a file without a manifest is explained in one sentence" "has no manifest .*so nothing proves" make restore FILE="$backup" CONFIRM=1
    mv "$work/manifest" "$backup.manifest"
}
