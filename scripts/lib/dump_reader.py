#!/usr/bin/env python3
"""Reads the messages out of a dump of a MySQL or MariaDB database, as mysqldump, mariadb-dump, phpMyAdmin, Adminer and
mydumper write it, and prints SQL that loads them into a table `incoming`.

usage: dump_reader.py FILE-OR-FOLDER

  ZONE=+02:00   the time zone of times without a time zone in the dump (default UTC)
  FROM_DB=name  the database, if several databases in the dump have a table of messages
  WHOLE=1       import an incomplete dump, up to its last complete row

No statement of the dump is executed. The reader splits the dump as the server does: strings, identifiers, comments, DELIMITER.
It copies the values of the rows of a table `messages`, which must be literals, byte for byte, and converts times to UTC. It
names everything else in the dump on standard error, and ignores it. The exit status is 1 if it refuses the dump; the last line
has the reason.
"""
import os
import re
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from dump_rows import (CREATE_OTHER, CREATE_TABLE, INSERT, LITERAL, RESTORED, SAVED, SET_MODE, SET_NAMES, SET_ZONE, USE, Table, plain, tuples)
from dump_statements import Dump, Incomplete, Refused

# The number of bytes of rows in a printed statement.
BATCH = 500_000
# In these character sets the second byte of a character can look like a quote or a backslash.
UNSAFE = {"big5", "cp932", "gbk", "gb18030", "sjis"}
TIMES = ("created_at", "edited_at")


def say(text):
    print(text, file=sys.stderr, flush=True)


class Reader:
    """Takes the messages out of the statements of all files."""

    def __init__(self, zone, database):
        self.zone, self.database = zone, database
        self.tables, self.left_out, self.found, self.rows = {}, {}, set(), 0
        self.notes, self.batch, self.size, self.names = set(), [], 0, "utf8mb4"
        self.printed_names = None
        self.began = self.reported = time.monotonic()

    def file(self, dump, database=""):
        """All statements of a file. What is missing is raised at the end, so that WHOLE=1 gets the rest."""
        self.here, self.names, self.dump_zone = database, "utf8mb4", None
        locked, started, saved = False, False, set()
        for statement in dump.statements():
            head = statement[:400]
            word = head.split(None, 1)[0].upper()
            if word in (b"INSERT", b"REPLACE"):
                self.insert(statement)
            elif word == b"CREATE":
                self.create(statement)
            elif word == b"USE":
                self.here = plain(USE.match(head)[1]) if USE.match(head) else self.here
            elif word == b"SET":
                if SET_MODE.search(head):
                    raise Refused("the dump was made with NO_BACKSLASH_ESCAPES: make it without that mode.")
                if match := SET_NAMES.match(head):
                    self.set_names(match[1].decode().lower())
                if match := SET_ZONE.search(head):
                    self.dump_zone = match[1].decode("utf-8", "replace")
                saved.update(name.upper() for name in SAVED.findall(head))
                if match := RESTORED.search(head):
                    saved.discard(match[1].upper())
            elif word == b"LOCK":
                locked = True
            elif word == b"UNLOCK":
                locked = False
            elif word in (b"START", b"BEGIN"):
                started = True
            elif word == b"COMMIT":
                started = False
        self.ending(dump, locked, started, saved)

    def ending(self, dump, locked, started, saved):
        first, last = dump.first_comment, dump.last_comment
        completed = last.startswith(b"-- Dump completed")
        # After an error about something other than a table, the dump continues.
        if dump.error and not completed:
            raise Incomplete(f"it ends with an error of the program that made it: {dump.error.decode('utf-8', 'replace')}")
        if dump.rest:
            if INSERT.match(dump.rest):
                self.insert(dump.rest, complete=False)
            raise Incomplete("it ends in the middle of a statement")
        if re.match(rb"-- (MySQL|MariaDB) dump ", first) and not completed:
            raise Incomplete("its last line, '-- Dump completed', is missing")
        if first.startswith(b"-- Adminer ") and not re.match(rb"-- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", last):
            raise Incomplete("its last line, with the time, is missing")
        if locked:
            raise Incomplete("its UNLOCK TABLES is missing")
        if started:
            raise Incomplete("its COMMIT is missing")
        if b"OLD_SQL_NOTES" in saved:
            raise Incomplete("its last statements, which restore the settings, are missing")

    def set_names(self, charset):
        if charset in UNSAFE:
            raise Refused(f"the dump is in the character set {charset}: make it with --default-character-set=utf8mb4.")
        self.names = charset

    def leave_out(self, kind, name):
        self.left_out.setdefault(kind, set()).add(name)

    def create(self, statement):
        if match := CREATE_TABLE.match(statement):
            name = plain(match[2])
            if name.lower() == "messages":
                self.tables[plain(match[1]) or self.here] = Table(statement, match.end())
            else:
                self.leave_out("table", name)
        elif match := CREATE_OTHER.match(statement[:2000]):
            self.leave_out(match[1].decode().lower(), plain(match[3]))

    def insert(self, statement, complete=True):
        match = INSERT.match(statement)
        if not match:
            return
        name, database = plain(match[2]), plain(match[1]) or self.here
        if name.lower() != "messages":
            self.leave_out("table", name)
            return
        if self.database and database != self.database:
            self.leave_out("table", f"{database}.{name}")
            return
        table = self.tables.get(database)
        columns = [plain(part).lower() for part in match[3].split(b",")] if match[3] else table and table.columns
        if not columns:
            raise Refused("its rows do not name their columns, and the CREATE TABLE of messages is missing: make the dump with the\n"
                          "structure of the table; a dump of mydumper is a folder, import that.")
        if not {"id", "message"} <= set(columns):
            raise Refused("its table messages has no columns id and message.")
        self.found.add(database)
        if len(self.found) > 1:
            raise Refused(f"it has a table of messages in several databases ({', '.join(sorted(self.found))}): set FROM_DB to one of them.")
        self.values(statement, match.end(), columns, table, complete)

    def values(self, statement, at, columns, table, complete):
        places = {name: columns.index(name) for name in ("id", "message", *TIMES) if name in columns}
        self.use_names(table)
        for values in tuples(statement, at):
            if values is None or len(values) != len(columns):
                if not complete and values is None:
                    return
                raise Refused(f"row {self.rows + 1} has {len(values or [])} values for {len(columns)} columns.")
            for name, place in places.items():
                if not LITERAL.fullmatch(values[place]):
                    raise Refused(f"row {self.rows + 1} has a value of {name} that is not a literal.")
            row = [values[places["id"]], values[places["message"]]]
            row += [self.time(values[places[name]], name, table) if name in places else b"NULL" for name in TIMES]
            self.row(b"(" + b",".join(row) + b")")

    def use_names(self, table):
        # Rows of a connection without a character set are in the character set of the column.
        names = self.names
        if names == "binary":
            names = (table and table.charset) or "utf8mb4"
            self.set_names(names)
            self.names = "binary"
        # utf8mb4 contains utf8, and some dumps name utf8 but contain utf8mb4.
        names = "utf8mb4" if names in ("utf8", "utf8mb3") else names
        if names != self.printed_names:
            self.flush()
            sys.stdout.buffer.write(b"SET NAMES " + names.encode() + b";\n")
            self.printed_names = names

    def time(self, literal, column, table):
        """The same moment as a literal in UTC."""
        if literal.upper() in (b"NULL", b"DEFAULT"):
            return b"NULL"
        kind = table.kinds.get(column, "timestamp") if table else "timestamp"
        text = literal.strip(b"'\"").decode("ascii", "replace")
        match = re.fullmatch(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d)(\.\d{1,6})?)?", text)
        if kind not in ("timestamp", "datetime", "date") or not match:
            self.notes.add(f"{column} is ignored in rows where it is not a time")
            return b"NULL"
        if text.startswith("0000-00-00"):
            return b"NULL"
        if kind == "timestamp" and self.dump_zone not in (None, "", "SYSTEM"):
            zone = self.dump_zone
        elif table and b"utc_timestamp" in table.defaults.get(column, b""):
            zone = "+00:00"
        else:
            zone = self.zone
            if zone is None:
                self.notes.add(f"the dump has no time zone for {column}: the times are read as UTC; ZONE=+02:00 sets another time zone")
                zone = "+00:00"
        fraction = (match[3] or "")
        moment = datetime.fromisoformat(f"{match[1]} {match[2] or '00:00:00'}")
        if offset := to_utc(moment, zone):
            moment -= offset
        return f"'{moment:%Y-%m-%d %H:%M:%S}{fraction}'".encode() if moment.year >= 1000 else b"NULL"

    def row(self, text):
        self.rows += 1
        self.batch.append(text)
        self.size += len(text)
        if self.size > BATCH:
            self.flush()

    def flush(self):
        if self.batch:
            sys.stdout.buffer.write(b"INSERT INTO incoming (id, message, created_at, edited_at) VALUES\n" + b",\n".join(self.batch) + b";\n")
        self.batch, self.size = [], 0
        self.progress()

    def progress(self):
        """On a terminal one line that changes, otherwise a line every 10 s."""
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if now - self.reported >= (1 if terminal else 10):
            self.reported = now
            print(f"importing: {self.rows} messages, {now - self.began:.0f} s", file=sys.stderr, end="\r" if terminal else "\n", flush=True)


def to_utc(moment, zone):
    """How far a wall clock of this zone is ahead of UTC at that moment."""
    if match := re.fullmatch(r"([+-])(\d{1,2}):(\d\d)", zone):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return -offset if match[1] == "-" else offset
    if zone.upper() in ("UTC", "Z"):
        return None
    try:
        from zoneinfo import ZoneInfo
        return moment.replace(tzinfo=ZoneInfo(zone)).utcoffset()
    except (ImportError, KeyError, ValueError, OSError):
        raise Refused(f"the time zone {zone} is unknown: set ZONE to an offset like +02:00.") from None


def files_of(path):
    """The files of a dump, and the database that the name of each says: a folder is one of mydumper."""
    if not path.is_dir():
        return [(path, "")], None
    if (path / "metadata.partial").exists() or not (path / "metadata").exists():
        problem = "its file metadata is missing, which mydumper writes at the end"
    else:
        problem = None if b"inished dump at" in (path / "metadata").read_bytes() else "its file metadata does not say that the dump finished"
    names = sorted(p for p in path.iterdir() if re.search(r"\.sql(\.gz|\.zst)?$", p.name))
    if any(re.search(r"\.(dat|csv)(\.gz|\.zst)?$", p.name) for p in path.iterdir()):
        raise Refused("its rows are in files of LOAD DATA: make the dump with statements (mydumper --format=...).")
    skipped = re.compile(r"-schema-(triggers|post|view|create)\.sql|-schema-sequence\.sql")
    schemas = [p for p in names if re.search(r"-schema\.sql", p.name)]
    rows = [p for p in names if p not in schemas and not skipped.search(p.name)]
    return [(p, p.name.split(".")[0]) for p in schemas + rows], problem


def read(path, reader):
    files, problem = files_of(path)
    problems = [problem] if problem else []
    for each, database in files:
        try:
            reader.file(Dump(each), database)
        except Incomplete as error:
            problems.append(str(error))
    if problems and os.environ.get("WHOLE") != "1":
        raise Incomplete(f"{path} is not a complete dump: {problems[0]}. Set WHOLE=1 to import the rows that it has.")
    for problem in problems:
        say(f"note: the dump is not complete: {problem}; WHOLE=1 imports the rows that it has")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.split("\n\n")[1])
    path, zone = Path(sys.argv[1]), os.environ.get("ZONE") or None
    reader = Reader(zone, os.environ.get("FROM_DB", ""))
    sys.stdout.buffer.write(b"SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO';\n"
                            b"CREATE TABLE incoming (id BIGINT, message LONGTEXT CHARACTER SET utf8mb4, created_at DATETIME(6), edited_at DATETIME(6)) "
                            b"ENGINE = InnoDB;\n")
    try:
        if zone:
            to_utc(datetime(2000, 1, 1), zone)
        read(path, reader)
        reader.flush()
        for kind, names in reader.left_out.items():
            say(f"ignored: {kind} {', '.join(sorted(names))}")
        for note in sorted(reader.notes):
            say(f"note: {note}")
        if not reader.found and not any({"id", "message"} <= set(t.columns) for t in reader.tables.values()):
            raise Refused(f"{path} has no table messages with the columns id and message.")
        sys.stdout.buffer.flush()
    except Refused as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
