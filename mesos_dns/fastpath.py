"""The table of ready answers that native workers serve from: filled on first use, emptied by what changes.

Python decides, the table remembers. What the responder has compiled is kept here under its question; a
change of an owner drops exactly the answers that were built from it. Besides, the table knows the hashes
of all names that exist, so the workers can tell by themselves that a name is absent, without keeping
anything for it: a stream of random names costs neither Python's time nor memory. Answers of others that
a resolver has cached are kept here as well, each for its lifetime, with TTLs that fall. Whatever the table
can't answer to the letter (an odd packet, a wildcard's zone, a name that may exist) comes back to Python.

Both sides give the same octets: `answer` below is the workers' code, and the tests hold it against
`Responder.respond`.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, TypeAlias

from mesos_dns.answer import Answer, negative_soa, ttl_places
from mesos_dns.config import DnsConfig
from mesos_dns.counters import TYPE_NAMES, Totals
from mesos_dns.names import ANY, PTR
from mesos_dns.reply import TURN_STEP
from mesos_dns.served import Zone
from mesos_dns.wire import reverse_address, split_labels
from mesos_dns.zone import EVERYTHING, ZoneView

if TYPE_CHECKING:
    from mesos_dns._native import Table

log = logging.getLogger(__name__)

TYPES = ("other", *TYPE_NAMES.values())
"""Labels of record types, in the order of native/reply.c."""
COOKIES = ("", "new", "valid", "invalid")
"""What a client's cookie is worth, in the order of native/cookie.h."""
KEPT_TYPES = frozenset(TYPE_NAMES)
"""Types whose absence is kept: clients ask for these. All others' would fill the table."""
MOST_WORKERS = 64
"""Workers that have a place in the desk (native/region.h), over all addresses."""
MOST_WANTED = 4096
"""Dropped answers that are remembered; what is beyond is made when somebody asks."""
CACHE_ZONE = "."
"""Under this zone answers out of a resolver's cache are counted."""
Network: TypeAlias = IPv4Network | IPv6Network
_NODATA, _CLUSTER, _AGED, _STALE = 8, 16, 32, 64
_IS_STALE, _IS_DUE = 1, 2
_NEGATIVE_ZONE, _CLUSTER_ZONE = 1, 2
_MOST_ZONES, _MOST_LABELS = 64, 34
_CACHE_LABEL = 1
_LONGEST = 0x7FFFFFFF
_ARPA = b"\x04arpa\0"


def native() -> Any:
    """The extension module, or None with a warning where it was not built."""
    try:
        from mesos_dns import _native
    except ImportError as error:
        log.warning("DNS answers come from Python, several times slower: the native extension is missing (%s)", error)
        return None
    return _native


def fast_path(
    config: DnsConfig,
    known_secrets: Sequence[bytes],
    allow: Sequence[Network] | None = None,
    prefetch: bool = False,
    pass_rate: int = 0,
) -> FastPath | None:
    """A new table where workers are wanted and the machine can have one; the log says why not. `allow`,
    `prefetch` and `pass_rate` as for `FastPath`."""
    if not config.workers or not config.listen or (module := native()) is None:
        return None
    if allow is not None and len(allow) > module.PREFIXES:
        log.warning(
            "DNS answers come from Python, several times slower: more than %d allowed networks", module.PREFIXES
        )
        return None
    try:
        return FastPath(config, known_secrets, module, allow, prefetch, pass_rate)
    except OSError as error:
        log.warning("DNS answers come from Python, several times slower: no shared memory (%s)", error)
        return None


class FastPath:
    """One table, for one zone view and one configuration; made before the view, so that it hears of every name.

    Clients in none of the networks `allow` (80 at most) are refused; None: all are answered. A client with an
    IPv4 address inside an IPv6 one counts as that. `prefetch`: workers tell of kept answers that will soon be too
    old. `pass_rate`: questions a second of one client that workers hand over, the rest is dropped; 0: no limit.
    Raises OSError where the system gives no shared memory.
    """

    def __init__(
        self,
        config: DnsConfig,
        known_secrets: Sequence[bytes],
        module: Any,
        allow: Sequence[Network] | None = None,
        prefetch: bool = False,
        pass_rate: int = 0,
    ) -> None:
        self.module = module
        self.table: Table = module.Table(config.answer_memory << 20, secrets.randbits(64), secrets.randbits(64) | 1)
        self.stale = False
        self.clock: Callable[[], float] = time.monotonic
        """Seconds; workers read the same clock."""
        self.due: Callable[[bytes], None] = lambda packet: None
        """Called with a question that was answered here out of what will soon be too old; workers tell themselves."""
        self.wanted: dict[bytes, None] = {}
        """Keys of answers that a change has dropped and that clients had read, so will ask for again."""
        self.workers = 0
        """How many workers count in the desk."""
        self._config = config
        self._secrets = list(known_secrets)
        self._allow = None if allow is None else [(each.network_address.packed, each.prefixlen) for each in allow]
        self._prefetch = prefetch
        self._pass_rate = pass_rate
        self._told: Counter[str] = Counter()
        self._view: ZoneView | None = None
        self._flags = 0
        self._foreign: tuple[bytes, ...] = ()
        self._forwarded: frozenset[bytes] = frozenset()
        self._refuse_others = self._foreign_first = False
        self._presences: dict[str, ZonePresence] = {}
        self._order: dict[bytes, int] = {}
        self._labels: dict[bytes, int] = {}
        self.zone_names: list[str] = ["", CACHE_ZONE]
        self._pushed: Any = None
        self._full = False
        self._left: list[tuple[int, str]] = []

    def presence(self, tag: str) -> ZonePresence:
        """Who hears of the names of a tag's zones."""
        found = self._presences.get(tag)
        if found is None:
            found = self._presences[tag] = ZonePresence(self)
        return found

    def attach(
        self, view: ZoneView, flags: int, foreign: Sequence[bytes], refuse_others: bool, foreign_first: bool = False
    ) -> None:
        """Serve a view. `flags` are set in every answer, `foreign` are zones that are forwarded, with `foreign_first`
        even where they are zones of ours. `refuse_others` says what becomes of names in no zone: REFUSED, or what
        Python says."""
        self._view, self._flags, self._refuse_others = view, flags, refuse_others
        self._foreign_first, self._forwarded = foreign_first, frozenset(foreign)
        self._foreign = (*foreign, _ARPA)  # an address may have a name that nobody has asked for yet
        self.refresh()

    def refresh(self) -> None:
        """Tell the workers what every answer hangs on, if it has changed: the zones, their serial, staleness, and
        which names have gone."""
        view = self._view
        if view is None:
            return
        self._forget_names()
        known = view.known()
        now = (view.serial, known, self.stale, tuple(view.zones), self._wildcards())
        if now == self._pushed:
            return
        if not known and self._pushed is not None and self._pushed[1]:
            self.table.clear()  # what was kept of absent types is a guess from now on
        zones = self._zones(view, known)
        whole = len(zones) <= _MOST_ZONES
        if self._configure(whole, zones if whole else []):
            self._pushed, self._full = now, False
            self._order = {zone[0]: number for number, zone in enumerate(zones)} if whole else {}
            return
        # Old settings would go on telling an old serial: better to be asked for everything, until the next try.
        self._configure(False, [])
        self._pushed, self._order = None, {}
        if not self._full:
            self._full = True
            log.error("the table of answers is full beyond use; raise [dns] answer_memory")

    def leave(self, below: int, name: str) -> None:
        """A name or mark has gone. The workers are told with `refresh`: what a change takes from one task and gives
        to the next is absent at no moment."""
        self._left.append((below, name))

    def retire(self) -> None:
        """Nothing is answered out of this table any more: another one has taken over, all is asked of Python."""
        if self._view is None:
            return
        self._view, self._foreign, self._refuse_others = None, (), False
        self.table.clear()
        self._configure(False, [])

    def close(self) -> None:
        """Give the memory back, whoever still holds this object; its workers have ended."""
        self._view = None
        if hasattr(self, "table"):
            del self.table

    def get(self, key: bytes) -> Answer | None:
        """None: questions that the table answers are answered before they are looked up."""
        return None

    def keep(self, key: bytes, answer: Answer) -> None:
        """Keep a positive answer, or that an owner has no records of a type."""
        zone = answer.zone
        label = self._label(zone) if zone is not None else 0
        cluster = _CLUSTER if answer.cluster else 0
        if answer.depends:
            self.table.put(key, answer, answer.depends, cluster, label, 0)
        elif answer.lasting and zone is not None and int.from_bytes(key[-4:-2], "big") in KEPT_TYPES:
            number = self._order.get(zone.wire)
            if number is not None and label:
                self.table.put(key, answer, answer.lasting, cluster | _NODATA, label, number)

    def keep_aged(self, key: bytes, answer: Answer, lifetime: int, *, stale: bool = False) -> bool:
        """Keep what others have answered, for `lifetime` seconds from now; whether it is kept.

        It goes out with TTLs that are lower by its age and without AA; `stale` says that it is given past its time
        (RFC 8767). Who does not ask for recursion (RD), or sends CD or DO, is left to Python, as is everybody
        once it is too old. Not kept: a name of our own zones, what is not made of whole records, and additional
        records. A pointer in a record may lead to the question, and, where `answer.rotate` is not set, to any record.
        """
        view, told = self._view, answer.extended_error or 0
        if view is None or lifetime <= 0 or answer.glue or answer.needed or told > 255 or not _is_whole(answer):
            return False
        address = _reverse_address(key)
        if self._is_ours(view, key, address):
            return False
        hangs = (("cache", key), *([("reverse", address.hex())] if address is not None else []))
        flags, made = _AGED | (_STALE if stale else 0), int(self.clock()) & 0xFFFFFFFF
        return self.table.put(key, answer, hangs, flags, _CACHE_LABEL, told, made, min(lifetime, _LONGEST))

    def forget_aged(self, key: bytes) -> bool:
        """Drop what `keep_aged` has kept of a question; whether there was any."""
        return self._view is not None and self.table.touch(("cache", key)) > 0

    def was_read(self, key: bytes) -> bool:
        """Whether clients were given what is kept of a question, since this was last asked."""
        return self._view is not None and self.table.was_read(key)

    def drop(self, tag: str, owner: str) -> None:
        """Drop every answer that was built from an owner (all, for the tag EVERYTHING)."""
        if tag == EVERYTHING:
            self.table.clear()
            self.wanted.clear()
        elif len(self.wanted) < MOST_WANTED:
            self.wanted.update(dict.fromkeys(self.table.touch_read((tag, owner))))
        else:
            self.table.touch((tag, owner))

    def answer(
        self, packet: bytes, client: bytes, stream: bool, now: int, turn: int
    ) -> tuple[bytes, str, str, int, str] | None:
        """(answer, zone, type, code, cookie) out of the table, whatever the client's rate; None: ask Python.

        `now` in seconds since 1970, `turn` the rotation, a share of 2**32.
        """
        mono = int(self.clock()) & 0xFFFFFFFF
        found = self.table.answer(packet, client, stream, now & 0xFFFFFFFF, turn, mono)
        if found is None:
            return None
        reply, zone, kind, rcode, cookie, age = found
        if age & _IS_STALE:
            self._told["stale"] += 1
        if age & _IS_DUE:
            self._told["refresh"] += 1
            self.due(packet)
        return reply, self.zone_names[zone], TYPES[kind], rcode, COOKIES[cookie]

    def check(self, bucket: bytes, client: bytes, now: int) -> int:
        """What the rate limit says of one more answer, in the buckets that the workers use (ratelimit.py)."""
        return self.table.limit(bucket, client, now)

    def totals(self) -> Totals:
        """What its workers have counted; "stale" and "refresh" also of what was answered here."""
        whole = Totals()
        whole.counts.update(self._told)
        for number in range(self.workers):
            counts = self.table.counts(number)
            whole.counts.update(counts)
            whole.queries[number] = counts["queries"]
            for zone, kind, rcode, count in self.table.answers(number):
                whole.answers[self.zone_names[zone], TYPES[kind], rcode] += count
        return whole

    def figures(self) -> dict[str, int]:
        """What the table holds: answers, memory (octets), names; evicted, refused and flushed so far."""
        return self.table.figures()

    def _forget_names(self) -> None:
        left, self._left = self._left, []
        for below, name in left:
            self.table.leave(below, name)

    def _is_ours(self, view: ZoneView, key: bytes, address: bytes | None) -> bool:
        """Whether a question is for our own zones or, being of an address that we know, where it points."""
        name, own = key[:-4], view.find(key[:-4])
        shortest = len(own.wire) + (not self._foreign_first) if own is not None else 1
        at = 0
        while len(name) - at >= shortest:
            if name[at:] in self._forwarded:
                return False
            at += 1 + name[at]
        if own is not None:
            return True
        points = int.from_bytes(key[-4:-2], "big") in (PTR, ANY)
        return points and address is not None and view.pointers.name(address) is not None

    def _configure(self, whole: bool, zones: list[tuple[bytes, bytes, int, int, int]]) -> bool:
        return self.table.configure(self._plain(whole), self._secrets, zones, self._allow)

    def _plain(self, whole: bool) -> dict[str, int]:
        """The settings that are numbers; `whole`: the table knows of all zones."""
        config = self._config
        return {
            "max_udp": config.max_udp_payload,
            "header_flags": self._flags,
            "refuse_others": self._refuse_others and whole,
            "stale": self.stale,
            "cookies": bool(self._secrets),
            "rate": config.rate_limit,
            "slip": config.rate_limit_slip,
            "limit_private": config.rate_limit_private,
            "log_every": config.query_log,
            "turn_step": TURN_STEP if config.rotate else 0,
            "prefetch": self._prefetch,
            "pass_rate": self._pass_rate,
        }

    def _wildcards(self) -> tuple[str, ...]:
        return tuple([tag for tag, presence in self._presences.items() if presence.wildcards])

    def _zones(self, view: ZoneView, known: bool) -> list[tuple[bytes, bytes, int, int, int]]:
        """(origin, SOA record, names hash, flags, label), the longest origin first."""
        found = {origin: (origin, b"", 0, 0, 0) for origin in self._foreign}
        for zone in view.zones.values():
            if self._foreign_first and zone.wire in found:
                continue
            presence = self.presence(zone.tag)
            certain = known and not zone.plain and not presence.wildcards
            flags = (_NEGATIVE_ZONE if certain else 0) | (0 if zone.plain else _CLUSTER_ZONE)
            soa = negative_soa(zone, view.serial)
            found[zone.wire] = (zone.wire, soa, presence.apex, flags, self._label(zone))
        return sorted(found.values(), key=lambda entry: -len(entry[0]))

    def _label(self, zone: Zone) -> int:
        """The number under which a zone's answers are counted; 0 once there are too many."""
        label = self._labels.get(zone.wire)
        if label is None:
            if len(self.zone_names) == _MOST_LABELS:
                return 0
            label = self._labels[zone.wire] = len(self.zone_names)
            self.zone_names.append(zone.origin)
        return label


class ZonePresence:
    """Hears of a zone's names and marks (presence.Presence), and tells the table: of those that come at once."""

    def __init__(self, path: FastPath) -> None:
        self._path = path
        self.apex = secrets.randbits(64)
        self._marks = ~self.apex & 0xFFFFFFFFFFFFFFFF
        self.wildcards = 0
        """Owners with a label "*": below them, no name is certainly absent."""

    def enter(self, owner: str) -> None:
        """An owner has got its first record."""
        self.wildcards += _has_star(owner)
        self._path.table.enter(self.apex, owner)

    def leave(self, owner: str) -> None:
        """An owner has lost its last record."""
        self.wildcards -= _has_star(owner)
        self._path.leave(self.apex, owner)

    def enter_mark(self, mark: str) -> None:
        """A task's canonical names have come."""
        self._path.table.enter(self._marks, mark)

    def leave_mark(self, mark: str) -> None:
        """They have gone."""
        self._path.leave(self._marks, mark)


def _is_whole(answer: Answer) -> bool:
    try:
        counts = len(ttl_places(answer.wire)), len(ttl_places(answer.authority))
    except ValueError:
        return False
    return counts == (len(answer.offsets) - 1, answer.authority_count)


def _reverse_address(key: bytes) -> bytes | None:
    return reverse_address(split_labels(key[:-4])) if key.endswith(_ARPA, 0, -4) else None


def _has_star(owner: str) -> bool:
    return "*" in owner and "*" in owner.split(".")
