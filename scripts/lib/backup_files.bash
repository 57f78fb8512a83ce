# The files of a backup: the dump and its manifest; how they are checked, loaded and compared. To be sourced after
# board_database.bash.
# shellcheck shell=bash

# The start of each row of a dump. A table with other columns is not a board's.
PREFIX='INSERT INTO `messages` (`id`, `message`, `created_at`, `edited_at`, `submit_key`) VALUES ('

# dumped_rows FILE: prints the rows of a dump, one per line, without the statement around them. No message can start a line,
# because a dump writes a line feed as two characters.
dumped_rows() {
    gunzip -c "$1" | LC_ALL=C awk -v prefix="$PREFIX" '
        index($0, prefix) == 1 && substr($0, length($0) - 1) == ");" {
            print substr($0, length(prefix) + 1, length($0) - length(prefix) - 2); next
        }
        /^INSERT/ { exit 3 }'
}

# stored_rows DATABASE: prints the rows of a table in the same form; the server formats them.
stored_rows() { sql "$1" --raw --quick <scripts/lib/table_rows.sql; }

# summary: prints "COUNT LARGEST-ID SHA256" of the rows on standard input, which are in the order of their ids.
summary() {
    local counts sum
    counts=$(mktemp)
    sum=$(LC_ALL=C awk -F , -v counts="$counts" '
        { print; last = $1 }
        END { print NR, NR ? last : 0 >counts }' | sha256sum | cut -d ' ' -f 1) || { rm -f "$counts"; return 1; }
    echo "$(cat "$counts") $sum"
    rm -f "$counts"
}

complete() { gzip -t "$1" 2>/dev/null && [[ $(gunzip -c "$1" | tail -n 1) == '-- Dump completed'* ]]; }

# manifest FILE NAME: prints a value of the manifest of a dump.
manifest() { sed -n "s/^$2=//p" "$1.manifest"; }

# board_of FILE: prints the board of a backup, or nothing for a backup of an older version, which did not store it.
board_of() { manifest "$1" board; }

# check_backup FILE: exits with an error unless FILE is a complete backup of a board's table.
check_backup() {
    local file=$1 bytes wanted
    [ -f "$file" ] || die "there is no file $file."
    [ -f "$file.manifest" ] || die "$file has no manifest ($file.manifest), so nothing proves that it is complete. If it is a backup, copy
its manifest too. If it is a dump of another program, add its messages with 'make import FILE=$file'."
    [ "$(manifest "$file" format)" = 1 ] || die "$file.manifest has a format that this version does not know."
    [ "$(manifest "$file" database).$(manifest "$file" table)" = "$NAME.messages" ] ||
        die "$file is of $(manifest "$file" database).$(manifest "$file" table), not of $NAME.messages."
    bytes=$(wc -c <"$file") wanted=$(manifest "$file" bytes)
    ((bytes >= ${wanted:-0})) || die "$file is cut off: it has $bytes of $wanted bytes."
    [ "$(sha256sum <"$file" | cut -d ' ' -f 1)" = "$(manifest "$file" sha256)" ] ||
        die "$file is damaged: its sha256 differs from that in its manifest."
    start_progress "checking $file"
    complete "$file" || die "$file is not complete: its last line is missing."
    gunzip -c "$file" | awk -v want="Database: $NAME" '/^-- Host: / { found = substr($0, length($0) - length(want) + 1) == want }
        END { exit !found }' || die "$file is of another database."
    [ "$(dumped_rows "$file" | summary)" = "$(manifest_summary "$file")" ] ||
        die "$file.manifest does not match the rows in $file."
    stop_progress
}

manifest_summary() { echo "$(manifest "$1" rows) $(manifest "$1" largest_id) $(manifest "$1" rows_sha256)"; }

# load FILE DATABASE: loads the rows of a dump into a new table that message.sql creates, so a dump of MySQL fits MariaDB, and the
# other way round. A statement has many rows, because one row per statement takes ten times as long.
load() {
    local file=$1 database=$2 kind total counter
    total=$(manifest "$file" rows) counter=$(mktemp)
    cleanup "rm -f '$counter'"
    loaded() { echo "$(tail -n 1 "$counter" | grep . || echo 0) of $total messages"; }
    start_progress "loading" loaded
    kind=$(gunzip -c "$file" | sed -n 's/^  `message` //p')
    {
        cat message.sql
        # A board that was the Flask app's may have NULL messages, or a wider column.
        case $kind in
            "text NOT NULL"*) ;;
            mediumtext* | longtext*) echo "ALTER TABLE messages MODIFY message ${kind%% *} CHARACTER SET utf8mb4 NULL;" ;;
            *) echo "ALTER TABLE messages MODIFY message TEXT CHARACTER SET utf8mb4 NULL;" ;;
        esac
        echo "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO';"
        dumped_rows "$file" | LC_ALL=C awk -v prefix="${PREFIX%(}" -v counter="$counter" '
            { printf "%s(%s)", size ? ",\n" : prefix, $0; size += length($0) + 1 }
            size > 500000 { print ";"; size = 0; print NR >counter; close(counter) }
            END { if (size) print ";" }'
    } | sql "$database" --binary-mode || { stop_progress; return 1; }
    stop_progress
}

# compare FILE DATABASE: compares a copy with the manifest, prints each difference, and fails if there is one.
compare() {
    local file=$1 rows largest sum found_rows found_largest found_sum status=0
    read -r rows largest sum < <(manifest_summary "$file")
    start_progress "comparing the copy with the manifest"
    read -r found_rows found_largest found_sum < <(stored_rows "$2" | summary)
    stop_progress
    [ "$rows" = "$found_rows" ] || { say "rows: $rows in the manifest, $found_rows in the copy"; status=1; }
    [ "$largest" = "$found_largest" ] || { say "largest id: $largest in the manifest, $found_largest in the copy"; status=1; }
    [ "$sum" = "$found_sum" ] || { say "checksum of all rows: $sum in the manifest, $found_sum in the copy"; status=1; }
    return $status
}

# backups_of BOARD: prints the backups of a board, the newest first. The manifest decides, because files can be renamed.
backups_of() {
    local file
    for file in backups/*.sql.gz; do
        [ -f "$file.manifest" ] && [ "$(board_of "$file")" = "$1" ] || continue
        echo "$(manifest "$file" made_at) $file"
    done | LC_ALL=C sort -r | cut -d ' ' -f 2-
}

# boards_here: prints the names of the boards of this folder.
boards_here() {
    local volume name folder
    [ ! -d data/mysql ] || echo private
    (find_compose) >/dev/null 2>&1 || return 0
    find_compose
    for volume in $("$ENGINE" volume ls --filter label=com.docker.compose.project --format '{{.Name}}'); do
        name=$(label volume "$volume" com.docker.compose.project)
        [ "$volume" = "$name-data" ] || continue
        folder=$(APP_NAME=$name VOLUME=$volume owner_folder)
        if [ -z "$folder" ] || [ "$folder" -ef . ]; then echo "$name"; fi
    done
}

# adopt_backups: writes the board into the manifests of an older version, which did not have it, if this folder has one board.
adopt_backups() {
    local file old=()
    for file in backups/*.sql.gz; do
        [ ! -f "$file.manifest" ] || [ -n "$(board_of "$file")" ] || old+=("$file")
    done
    # shellcheck disable=SC2153 # set by choose_board
    [ ${#old[@]} != 0 ] && [ "$(boards_here)" = "$BOARD" ] || return 0
    for file in "${old[@]}"; do
        sed "2i board=$BOARD" "$file.manifest" >"backups/.partial-$BOARD.manifest"
        mv "backups/.partial-$BOARD.manifest" "$file.manifest"
    done
    say "note: ${#old[@]} backups of an older version now belong to the board '$BOARD'."
}

# write_metrics KIND TIME "NAME VALUE"...: writes the metrics of the last successful backup or drill of the board, for the
# textfile collector of node_exporter.
write_metrics() {
    local kind=$1 time=$2 folder=${METRICS_DIR:-backups} pair name
    shift 2
    for pair in "timestamp_seconds $time" "$@"; do
        name=twotier_${kind}_last_success_${pair% *}
        printf '# HELP %s The last successful %s of the board: %s.\n# TYPE %s gauge\n%s{board="%s"} %s\n' \
            "$name" "$kind" "${pair% *}" "$name" "$name" "$BOARD" "${pair#* }"
    done >"$folder/.$BOARD-$kind.$$" && chmod 644 "$folder/.$BOARD-$kind.$$" && mv "$folder/.$BOARD-$kind.$$" "$folder/$BOARD-$kind.prom" ||
        say "note: the metrics were not written to METRICS_DIR=$folder."
}
