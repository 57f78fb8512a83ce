"""The statements of a dump: unpacks a file, and splits it like the server does, at the delimiter, outside of quotes and comments.
Never changes a byte of what is in quotes, and knows nothing of tables."""
import bz2
import gzip
import lzma
import re
import zipfile
import zlib

CHUNK = 1 << 20


class Refused(Exception):
    """Why the dump is not taken."""


class Incomplete(Refused):
    """What is missing; WHOLE=1 overrides it."""


def opened(path):
    """A stream of the dump's bytes, unpacked."""
    with open(path, "rb") as file:
        magic = file.read(6)
    if magic[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Refused(f"{path} is UTF-16, as a redirection in PowerShell writes it: first run\n"
                      f"iconv -f UTF-16 -t UTF-8 {path} > dump.sql")
    if magic == b"<?xml ":
        raise Refused(f"{path} is XML: make the dump without --xml.")
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(path)
    if magic[:3] == b"BZh":
        return bz2.open(path)
    if magic == b"\xfd7zXZ\x00":
        return lzma.open(path)
    if magic[:4] == b"\x28\xb5\x2f\xfd":
        raise Refused(f"{path} is packed with zstd: unpack it first, with zstd -d.")
    if magic[:4] == b"PK\x03\x04":
        archive = zipfile.ZipFile(path)
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise Refused(f"{path} has {len(names)} files in it: unpack it, and import one of them.")
        return archive.open(names[0])
    return open(path, "rb")


def chunks(path):
    try:
        with opened(path) as stream:
            while data := stream.read(CHUNK):
                yield data
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise Incomplete(f"its packed data is cut off or damaged ({error})") from None


STRING = rb"'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'|\"[^\"\\]*(?:(?:\\.|\"\")[^\"\\]*)*\""
IDENTIFIER = rb"`[^`]*(?:``[^`]*)*`"
COMMENT = rb"--(?=[\s])[^\n]*\n?|#[^\n]*\n?|/\*(?!M?!).*?\*/"
# Comments that servers run: only their ends are dropped. This version is one that no server has.
NEVER_RUN = rb"/\*M?!999999.*?\*/"
CONDITIONAL = rb"/\*M?![0-9]*|\*/"
# What a client said on standard error, when that went into the file too.
NOISE = re.compile(rb"(?:mysql|mariadb|mysqldump|mariadb-dump|mydumper)(?:\.exe)?: ?[^\n]*\n?|(?:Warning|Enter password): ?[^\n]*\n?", re.I)
FAILED = re.compile(rb"(?:mysqldump|mariadb-dump|mydumper)(?:\.exe)?: (?!\[?Warning|Deprecated|Note)[^\n]*", re.I)
DELIMITER = re.compile(rb"DELIMITER[ \t]+(\S+)[^\n]*\n?", re.I)


def token_pattern(delimiter):
    first = re.escape(delimiter[:1])
    return re.compile(rb"(?P<end>" + re.escape(delimiter) + rb")|(?P<never>" + NEVER_RUN + rb")|(?P<comment>" + COMMENT
                      + rb")|(?P<conditional>" + CONDITIONAL + rb")|(?P<text>" + STRING + rb"|" + IDENTIFIER
                      + rb"|[^'\"`#/*\-" + first + rb"]+)|(?P<open>['\"`]|/\*)|(?P<other>.)", re.S)


class Dump:
    """The statements of one file, and what its comments say."""

    def __init__(self, path):
        self.path = path
        self.first_comment = self.last_comment = b""
        self.error = b""
        self.rest = b""

    def statements(self):
        """Each statement without comments; then, in `rest`, what follows the last one."""
        source, buffer, at, parts, delimiter = chunks(self.path), b"", 0, [], b";"
        token, ended, first = token_pattern(delimiter), False, True
        while True:
            # A token may go on in the next chunk, so one that reaches the end of the buffer is read again.
            match = token.match(buffer, at)
            if not ended and (match is None or match.end() + 80 > len(buffer) or match.lastgroup == "open"):
                data = next(source, None)
                ended = data is None
                buffer, at = buffer[at:] + (data or b""), 0
                if first:
                    buffer, first = buffer.removeprefix(b"\xef\xbb\xbf"), False
                continue
            if match is None:
                break
            kind = match.lastgroup
            if kind == "text" and not parts:
                # Between statements there may also be lines that are no SQL.
                start = at + len(buffer[at:match.end()]) - len(buffer[at:match.end()].lstrip())
                line = DELIMITER.match(buffer, start)
                if line:
                    delimiter = line[1]
                    token, at = token_pattern(delimiter), line.end()
                    continue
                line = NOISE.match(buffer, start)
                if line:
                    if FAILED.match(line[0]):
                        self.error = line[0].strip()
                    at = line.end()
                    continue
            at = match.end()
            if kind == "end":
                statement, parts = b"".join(parts).strip(), []
                if statement:
                    yield statement
            elif kind in ("comment", "conditional", "never"):
                text = match[0].strip()
                if kind == "comment" and text.strip(b"-# "):
                    self.first_comment = self.first_comment or text
                    self.last_comment = text
                # All of these separate words like a blank.
                if parts:
                    parts.append(b" ")
            elif kind == "open":
                parts.append(buffer[match.start():])
                break
            elif kind in ("text", "other") and (parts or match[0].strip()):
                parts.append(match[0])
        self.rest = b"".join(parts).strip()
