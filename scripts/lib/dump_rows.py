"""What a statement of a dump says: the names, the columns of a CREATE TABLE, and the literals of the rows of an INSERT."""
import re

from dump_statements import IDENTIFIER, STRING

NAME = rb"(`(?:[^`]|``)+`|\"(?:[^\"]|\"\")+\"|[\w$\x80-\xff]+)"
TABLE = rb"(?:" + NAME + rb"\s*\.\s*)?" + NAME
INSERT = re.compile(rb"(?:INSERT|REPLACE)\s+(?:(?:LOW_PRIORITY|DELAYED|HIGH_PRIORITY|IGNORE)\s+)*(?:INTO\s+)?" + TABLE
                    + rb"\s*(?:\(([^()]*)\)\s*)?VALUES?\s*(?=\()", re.I)
CREATE_TABLE = re.compile(rb"CREATE\s+(?:TEMPORARY\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?" + TABLE + rb"\s*\(", re.I)
CREATE_OTHER = re.compile(rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:ALGORITHM\s*=\s*\w+\s+)?(?:DEFINER\s*=\s*\S+\s+)?(?:SQL\s+SECURITY\s+\w+\s+)?"
                          rb"(?:AGGREGATE\s+)?(VIEW|TRIGGER|PROCEDURE|FUNCTION|EVENT)\s+(?:IF\s+NOT\s+EXISTS\s+)?" + TABLE, re.I)
USE = re.compile(rb"USE\s+" + NAME, re.I)
SET_NAMES = re.compile(rb"SET\s+NAMES\s+['\"]?(\w+)", re.I)
SET_ZONE = re.compile(rb"(?:SET|,)\s*(?:SESSION\s+|@@(?:SESSION\.)?)?TIME_ZONE\s*=\s*['\"]([^'\"]*)['\"]", re.I)
SET_MODE = re.compile(rb"SQL_MODE\s*=\s*'[^']*NO_BACKSLASH_ESCAPES", re.I)
SAVED = re.compile(rb"@(OLD_\w+)\s*=\s*@@", re.I)
RESTORED = re.compile(rb"\w+\s*=\s*@(OLD_\w+)\s*$", re.I)
COLUMN = re.compile(rb"\s*(`(?:[^`]|``)+`|\"(?:[^\"]|\"\")+\"|(?!(?:PRIMARY|KEY|UNIQUE|INDEX|CONSTRAINT|FULLTEXT|SPATIAL|FOREIGN|CHECK|PERIOD)\b)[\w$\x80-\xff]+)"
                    rb"\s+(\w+)", re.I)
CHARSET = re.compile(rb"(?:CHARACTER\s+SET|CHARSET)\s*=?\s*['\"]?(\w+)", re.I)
COLLATE = re.compile(rb"COLLATE\s*=?\s*['\"]?([a-z0-9]+)(?:_|\b)", re.I)
PIECE = re.compile(STRING + rb"|" + IDENTIFIER + rb"|[^'\"`(),]+|[(),]", re.S)
LITERAL = re.compile(rb"(?:_\w+\s*)?(?:" + STRING + rb")|(?:_\w+\s*)?0x[0-9a-f]*|(?:_\w+\s*)?[xb]'[0-9a-f]*'|[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
                     rb"|NULL|DEFAULT|CONVERT\s*\(\s*(?:0x[0-9a-f]+|" + STRING + rb")\s+USING\s+\w+\s*\)", re.I | re.S)


def plain(name):
    """An identifier without its quotes."""
    if not name:
        return ""
    text = name.decode("utf-8", "replace").strip()
    return text[1:-1].replace(text[0] * 2, text[0]) if text[:1] in '`"' else text


def split_list(text):
    """The parts of a list, at its commas that are in no quotes and no parentheses, up to its closing parenthesis; and the rest."""
    parts, part, depth = [], [], 0
    for match in PIECE.finditer(text):
        piece = match[0]
        if piece == b"(":
            depth += 1
        elif piece == b")":
            if depth == 0:
                parts.append(b"".join(part))
                return parts, text[match.end():]
            depth -= 1
        elif piece == b"," and depth == 0:
            parts.append(b"".join(part))
            part = []
            continue
        part.append(piece)
    return None, b""


class Table:
    """What a CREATE TABLE says of the columns."""

    def __init__(self, statement, start):
        definitions, options = split_list(statement[start:])
        self.columns, self.kinds, self.defaults, charsets = [], {}, {}, {}
        for definition in definitions or []:
            match = COLUMN.match(definition)
            if match and not re.search(rb"GENERATED\s+ALWAYS|\bAS\s*\(", definition, re.I):
                name = plain(match[1]).lower()
                self.columns.append(name)
                self.kinds[name] = match[2].decode().lower()
                self.defaults[name] = definition.lower()
                charsets[name] = CHARSET.search(definition) or COLLATE.search(definition)
        found = charsets.get("message") or CHARSET.search(options) or COLLATE.search(options)
        self.charset = found[1].decode().lower() if found else ""


TUPLE_PIECE = re.compile(rb"(?P<value>(?:_\w+\s*)?(?:" + STRING + rb"))|(?P<mark>[(),])|(?P<blank>\s+)|(?P<word>[^\s'\"(),]+)", re.S)


def tuples(statement, at):
    """The values of each row; None for a row that breaks off."""
    end = len(statement)
    while at < end:
        values, value, depth = [], [], 0
        while True:
            match = TUPLE_PIECE.match(statement, at)
            if not match:
                yield None
                return
            at, piece = match.end(), match[0]
            if match.lastgroup == "mark":
                if piece == b"(":
                    depth += 1
                    if depth == 1:
                        continue
                elif piece == b")":
                    depth -= 1
                    if depth == 0:
                        values.append(b"".join(value).strip())
                        break
                elif depth == 1:
                    values.append(b"".join(value).strip())
                    value = []
                    continue
            value.append(piece)
        yield values
        rest = re.compile(rb"\s*,\s*(?=\()").match(statement, at)
        if not rest:
            # Nothing, or ON DUPLICATE KEY UPDATE.
            return
        at = rest.end()
