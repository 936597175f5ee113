"""Reads master files (RFC 1035 §5) into record sets, strictly, line by line. Pure.

Three steps, each a function or class below:

    lines ─ entries() ─▶ words of one entry ─ _Reader ─▶ records ─ _Sets ─▶ record sets of one file

A fault costs the entry that has it and nothing else: it is noted with its line, and reading goes on
with the next line. Where a bad entry would have changed what later entries mean (an owner, an
$ORIGIN), entries that lean on it are refused too, because guessing would publish wrong names.

Kept from RFC 1035: parentheses, comments, quoted strings, escapes, blank owners, "@", class and TTL
in either order, $ORIGIN. From RFC 2308 §4: $TTL. From RFC 3597: CLASS1, TYPE123, \\# data. $INCLUDE is
refused: a file of records must not be able to read other files. There is no origin to begin with,
so names are absolute until $ORIGIN says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from mesos_dns.model import StaticRecords
from mesos_dns.sources import rdata as data
from mesos_dns.sources.rdata import Malformed

MAX_ENTRY = 1 << 19
"""Octets of the longest entry, its lines together: 64 KiB of data with every octet written \\DDD."""

MAX_SET = 65000
"""Octets that a record set may have on the wire, so that it fits into one message over TCP."""

MAX_RECORDS = 1_000_000
FAULTS_KEPT = 100

CNAME, SOA, DNAME = 5, 6, 39
SINGLE = {CNAME, SOA, DNAME}
"""Types of which an owner may have one record (RFC 2181 §10.1, RFC 1035 §5.2, RFC 6672 §2.4)."""

BESIDE_CNAME = {CNAME, 46, 47}
"""Types that may stand at the owner of a CNAME: itself, RRSIG, NSEC (RFC 4034 §3, §4)."""

_WORD = re.compile(
    r"""[ \t\r]*(?:
        (?P<end>;.*|$)
      | (?P<paren>[()])
      | "(?P<quoted>(?:[^"\\]|\\.)*+)"
      | (?P<word>(?:[^\x00-\x20\x7f;()"\\]|\\.)++)(?!")
    )""",
    re.VERBOSE | re.DOTALL,
)


class Fault(msgspec.Struct, frozen=True):
    """What was left out of a file, and why."""

    line: int
    text: str


class TooManyRecords(ValueError):
    """A file with more records than a file may have."""


class MasterFile(msgspec.Struct, frozen=True):
    """One file's record sets by (owner, type); `zone` is the SOA record's owner, "" without one.

    `faults` holds the first FAULTS_KEPT of `fault_count`.
    """

    zone: str
    sets: Mapping[tuple[str, int], StaticRecords]
    faults: tuple[Fault, ...]
    fault_count: int


class Entry(msgspec.Struct, frozen=True):
    """The words of one entry; `continues` = it begins with a blank, so it has the last owner.

    `fault` is not empty when the text could not be cut into words; `words` then holds what came before.
    """

    line: int
    words: list[str]
    continues: bool
    fault: str = ""


def parse(lines: Sequence[bytes], max_records: int = MAX_RECORDS) -> MasterFile:
    """Read a whole file. Raises TooManyRecords; every other fault is in the result."""
    reader = _Reader(_Sets(max_records))
    for entry in entries(lines):
        reader.take(entry)
    return reader.sets.done()


def entries(lines: Sequence[bytes]) -> Iterator[Entry]:
    """Cut a file into entries; one without words (a comment) is left out."""
    number = 0
    while number < len(lines):
        start = number
        words: list[str] = []
        fault, size, inside = "", 0, False
        while True:
            size += len(lines[number])
            try:
                if size > MAX_ENTRY:
                    raise Malformed(f"an entry of over {MAX_ENTRY} octets: expected one record")
                inside = _cut(lines[number], words, inside)
            except Malformed as error:
                fault, inside = str(error), False
            number += 1
            if not inside:
                break
            if number == len(lines):
                fault = 'a "(" without its ")"'
                break
        if fault:
            number = start + 1  # an entry that never ends must not take the following lines with it
        if words or fault:
            yield Entry(start + 1, words, lines[start][:1] in (b" ", b"\t"), fault)


def _cut(line: bytes, words: list[str], inside: bool) -> bool:
    """Append the words of one line; True while a parenthesis is open at its end."""
    text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
    at = 0
    while True:
        match = _WORD.match(text, at)
        if match is None:
            raise Malformed(_why_no_word(text, at))
        kind, at = match.lastgroup, match.end()
        if kind == "word":
            words.append(match["word"])
        elif kind == "quoted":
            words.append('"' + match["quoted"])
        elif kind == "end":
            return inside
        elif (match["paren"] == "(") is inside:
            raise Malformed('a second "(" before the ")"' if inside else 'a ")" without its "("')
        else:
            inside = not inside


def _why_no_word(text: str, at: int) -> str:
    rest = text[at : at + 1000].lstrip(" \t\r")
    if rest.startswith('"'):
        return "a quoted string that does not end on its line"
    first = re.split("[ \t]", rest, maxsplit=1)[0]
    if '"' in first:
        return f"a quotation mark inside {first[:40]!r}: expected a blank before it"
    return f"unexpected {first[:40]!r}: expected a word, a quoted string or a parenthesis"


class _Reader:
    """Gives entries their meaning: keeps origin, last owner and the TTLs, as RFC 1035 §5.1 wants."""

    def __init__(self, sets: _Sets) -> None:
        self.sets = sets
        self._origin: bytes | None = None
        self._owner: bytes | None = None
        self._default_ttl: int | None = None
        self._last_ttl: int | None = None

    def take(self, entry: Entry) -> None:
        """Read one entry; what is wrong with it is noted."""
        try:
            directive = entry.words[0] if entry.words and not entry.continues else ""
            if directive.startswith("$"):
                self._directive(directive.upper(), entry)
            else:
                self._record(entry)
        except Malformed as error:
            self.sets.fault(entry.line, str(error))

    def _directive(self, directive: str, entry: Entry) -> None:
        if directive not in ("$ORIGIN", "$TTL"):
            raise Malformed(f"{directive} is not read: expected $ORIGIN, $TTL or a record")
        origin = self._origin
        if directive == "$ORIGIN":
            self._origin = None  # until it is known again, relative names are refused
        _whole(entry)
        if len(entry.words) != 2:
            raise Malformed(f"{directive} with {len(entry.words) - 1} values: expected one")
        if directive == "$ORIGIN":
            self._origin = data.name(entry.words[1], origin)
        else:
            self._default_ttl = data.time(entry.words[1])

    def _record(self, entry: Entry) -> None:
        words = list(entry.words)
        if not entry.continues:
            self._owner = None
            if not words:
                raise Malformed(entry.fault)
            self._owner = data.name(words.pop(0), self._origin)
        _whole(entry)
        if self._owner is None:
            raise Malformed("a record without an owner: the line that it continues has none that is valid")
        ttl = _ttl_and_class(words)
        if not words:
            raise Malformed("a record without a type")
        rtype = data.type_number(words[0])
        wire = data.rdata(rtype, words[1:], self._origin)
        self.sets.add(entry.line, self._owner, rtype, self._ttl(ttl, rtype, wire), wire)

    def _ttl(self, stated: int | None, rtype: int, wire: bytes) -> int:
        """The TTL of a record: its own, $TTL, the last one stated, or the SOA record's minimum."""
        if stated is not None:
            self._last_ttl = stated
        elif self._default_ttl is not None:
            return self._default_ttl
        elif self._last_ttl is None:
            if rtype != SOA:
                raise Malformed("a record without a TTL: expected one, or $TTL before it")
            self._last_ttl = min(int.from_bytes(wire[-4:], "big"), data.MAX_TIME)
        return self._last_ttl


def _whole(entry: Entry) -> None:
    if entry.fault:
        raise Malformed(entry.fault)


def _ttl_and_class(words: list[str]) -> int | None:
    """Take TTL and class, in either order, from the front of `words`; the TTL, if there is one."""
    ttl: int | None = None
    has_class = False
    while words:
        word = words[0].upper()
        if ttl is None and word[:1].isdigit():
            ttl = data.time(words.pop(0))
        elif not has_class and word in ("IN", "CLASS1"):
            has_class = True
            words.pop(0)
        elif word in ("CH", "HS", "CS", "ANY", "NONE") or (word.startswith("CLASS") and word[5:].isdigit()):
            raise Malformed(f"class {words[0]!r}: expected IN")
        else:
            break
    return ttl


class _Set(msgspec.Struct):
    """A record set while it is read, with the line of its first record."""

    line: int
    ttl: int
    size: int
    rdata: dict[bytes, None]


class _Sets:
    """Gathers records into sets and keeps out what can't stand together in one file."""

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self._records = 0
        self._sets: dict[tuple[str, int], _Set] = {}
        self._has_cname: dict[str, bool] = {}
        self._zone: str | None = None
        self._faults: list[Fault] = []
        self._fault_count = 0

    def fault(self, line: int, text: str) -> None:
        """Note a fault."""
        self._fault_count += 1
        if len(self._faults) < FAULTS_KEPT:
            self._faults.append(Fault(line, text))

    def add(self, line: int, owner_wire: bytes, rtype: int, ttl: int, wire: bytes) -> None:
        """Add one record. Raises Malformed when it can't stand beside the others."""
        self._records += 1
        if self._records > self._max_records:
            raise TooManyRecords(f"more than {self._max_records} records")
        owner = _text(owner_wire)
        size = len(wire) + 12
        found = self._sets.get((owner, rtype))
        if found is not None:
            self._join(found, line, rtype, ttl, wire, size)
            return
        if rtype == SOA and owner == ".":
            raise Malformed("a SOA record at the root: expected a zone below it")
        if rtype == SOA and self._zone is not None:
            raise Malformed(f"a second SOA record: expected one in a file, it is {self._zone}'s")
        if size > MAX_SET:
            raise Malformed(f"data of {len(wire)} octets: expected a set of at most {MAX_SET}")
        if rtype not in BESIDE_CNAME - {CNAME} and self._has_cname.setdefault(owner, rtype == CNAME) != (
            rtype == CNAME
        ):
            raise Malformed(f"a CNAME record and other data at {owner} (RFC 1034 §3.6.2): the first one stays")
        if rtype == SOA:
            self._zone = owner
        self._sets[owner, rtype] = _Set(line, ttl, size, {wire: None})

    def _join(self, found: _Set, line: int, rtype: int, ttl: int, wire: bytes, size: int) -> None:
        if rtype in SINGLE and wire not in found.rdata:
            raise Malformed(f"a second {data.NAMES[rtype]} record at one owner: the one in line {found.line} stays")
        if found.size + size > MAX_SET:
            raise Malformed(f"a record set of over {MAX_SET} octets: no message could hold it")
        if ttl != found.ttl:
            found.ttl = min(ttl, found.ttl)
            self.fault(line, f"another TTL than in line {found.line} for the same set: {found.ttl} is used for all")
        if wire not in found.rdata:
            found.rdata[wire] = None
            found.size += size

    def done(self) -> MasterFile:
        """The file's record sets; those outside its zone, if it has one, are noted and left out."""
        zone = self._zone or ""
        sets = {}
        for (owner, rtype), found in self._sets.items():
            if zone and not within(owner, zone):
                self.fault(found.line, f"{owner} is outside the file's zone {zone}: expected a name in it")
                continue
            sets[owner, rtype] = StaticRecords(owner, rtype, found.ttl, tuple(found.rdata), zone)
        return MasterFile(zone, sets, tuple(self._faults), self._fault_count)


def within(owner: str, zone: str) -> bool:
    """True when an absolute lower-case name is the zone's apex or below it."""
    return owner == zone or owner.endswith("." + zone)


def _text(owner: bytes) -> str:
    """An owner in wire form as lower-case text with a final dot, as the model has it."""
    labels = []
    at = 0
    while length := owner[at]:
        labels.append(owner[at + 1 : at + 1 + length].lower())
        at += 1 + length
    if any(b"." in label for label in labels):
        raise Malformed("an owner with a dot inside a label: expected dots only between labels")
    try:
        return b".".join(labels).decode("utf-8") + "."
    except UnicodeDecodeError:
        raise Malformed("an owner that is no UTF-8 text") from None
