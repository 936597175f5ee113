# cython: language_level=3
"""The native half of the DNS server: the table of answers, and the loop that a worker runs (native/*.c).

Python fills the table here; `fastpath.py` says what it is for.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import fcntl
import os


cdef extern from "native/region.h":
    enum:
        MAX_ZONES, MAX_SECRETS, MAX_PREFIXES, MAX_WORKERS, COUNTERS, ZONE_LABELS, TYPE_LABELS, RCODE_LABELS, MAX_QUESTION
        ANSWER_AA, ANSWER_ROTATE, ANSWER_NODATA, ANSWER_CLUSTER, ANSWER_AGED, ANSWER_STALE
        COUNT_QUERIES, COUNT_ANSWERED, COUNT_PASSED, COUNT_OVERLOAD, COUNT_DROPPED, COUNT_TRUNCATED
        COUNT_LIMIT_DROPPED, COUNT_LIMIT_SLIPPED, COUNT_LIMIT_BADCOOKIE, COUNT_COOKIE_NEW, COUNT_COOKIE_VALID
        COUNT_COOKIE_INVALID, COUNT_SEND_ERRORS, COUNT_BATCHES, COUNT_STALE, COUNT_REFRESH, COUNT_PROHIBITED
        COUNT_HELD_BACK
        USED_READ
    ctypedef struct table_head:
        uint64_t size, seed
    ctypedef struct glue_set:
        uint16_t record, offset, owner_len, count
        uint32_t start
    ctypedef struct zone_entry:
        uint64_t names_hash
        uint16_t soa_len
        uint8_t origin_len, flags, label
        uint8_t origin[256]
        uint8_t soa[816]
    ctypedef struct prefix:
        uint8_t address[16]
        uint8_t address_len, bits
    ctypedef struct settings:
        uint16_t max_udp, header_flags
        uint8_t refuse_others, stale, cookies, secrets
        uint32_t rate, slip
        uint8_t limit_private, zones, prefetch, choosy
        uint32_t pass_rate, log_every, turn_step, prefixes
        prefix allow[80]
        uint8_t secret[4][16]
        zone_entry zone[1]
    ctypedef struct bucket:
        pass
    ctypedef struct worker_desk:
        uint64_t epoch, heartbeat
        uint64_t counts[24]
        uint64_t answers[34][16][24]
    ctypedef struct desk:
        worker_desk worker[64]
        bucket buckets[1]
        uint8_t used[1]
    ctypedef struct answer:
        uint32_t id
        uint8_t flags


cdef extern from "native/store.h":
    ctypedef struct store:
        pass
    ctypedef struct answer_parts:
        const uint8_t *key
        const uint8_t *wire
        const uint8_t *authority
        const uint8_t *needed
        const uint8_t *glue
        const uint32_t *offsets
        const glue_set *sets
        uint32_t key_len, wire_len, authority_len, needed_len, glue_len
        uint32_t count, authority_count, needed_count, glue_count, glue_sets
        uint32_t made, lifetime
        uint8_t rcode, flags, zone_label, zone
    ctypedef struct store_figures:
        uint64_t answers, memory, names, evicted, refused, flushed
    store *store_new(void *table, uint64_t size, desk *workers, uint64_t most, uint64_t seed, uint64_t factor)
    void store_free(store *s)
    bint store_put(store *s, const answer_parts *parts, const uint64_t *depends, uint32_t count)
    uint32_t store_touch_keys(store *s, uint64_t dependency, uint8_t *keys, uint32_t room, uint32_t *written)
    uint32_t store_touch(store *s, uint64_t dependency)
    bint store_was_read(store *s, const uint8_t *key, uint32_t key_len)
    void store_clear(store *s)
    bint store_enter(store *s, uint64_t below, const uint8_t *wire, uint32_t length)
    void store_leave(store *s, uint64_t below, const uint8_t *wire, uint32_t length)
    bint store_settings(store *s, const settings *now, uint32_t size)
    void store_figures_of(const store *s, store_figures *figures)
    void store_reclaim(store *s)


cdef extern from "native/reply.h":
    enum verdict:
        DROP, PASS, ANSWER
    enum form:
        WHOLE
    enum:
        READ_AHEAD, LARGEST_REPLY
    ctypedef struct query:
        verdict verdict
        const answer *found
        const uint8_t *client
        const uint8_t *cookie
        uint8_t client_len, cookie_len
    ctypedef struct context:
        const table_head *table
        const settings *settings
        uint32_t now, mono
        int stream
    void context_read(context *c, const table_head *table)
    void query_read(const context *c, query *q, const uint8_t *packet, uint32_t length)
    void query_find(const context *c, query *q)
    uint32_t query_reply(const context *c, const query *q, uint32_t turn, form how, uint8_t *out)
    bint answer_due(const context *c, const answer *a, desk *d)
    void query_labels(const query *q, uint32_t *zone, uint32_t *type, uint32_t *rcode)


cdef extern from "native/cookie.h":
    int cookie_check(const settings *s, const uint8_t *cookie, uint32_t length, const uint8_t *client,
                     uint32_t client_len, uint32_t now)


cdef extern from "native/limit.h":
    int limit_take(const settings *s, uint64_t seed, bucket *buckets, const uint8_t *name, uint32_t length,
                   const uint8_t *client, uint32_t client_len, int64_t now)


cdef extern from "native/loop.h":
    ctypedef struct handed:
        uint8_t kind, rcode
    ctypedef struct worker:
        const table_head *table
        desk *desk
        uint32_t number
        int socket, writer, wildcard
    int worker_confine(int writer_pid)
    int worker_run(const worker *w) nogil
    int handed_send(int socket, const handed *to, const uint8_t *packet, uint32_t length) nogil


cdef extern from "unistd.h":
    int c_close "close"(int fd)  # at the end of the process, when the module os is gone, too


cdef extern from "sys/mman.h":
    void *c_mmap "mmap"(void *address, size_t length, int protection, int flags, int fd, long offset)
    int c_munmap "munmap"(void *address, size_t length)
    enum:
        PROT_READ, PROT_WRITE, MAP_SHARED

HANDED_SIZE = sizeof(handed)
ZONES, SECRETS, WORKERS, PREFIXES = MAX_ZONES, MAX_SECRETS, MAX_WORKERS, MAX_PREFIXES
LABELS = ZONE_LABELS
COUNTS = {
    "queries": COUNT_QUERIES, "answered": COUNT_ANSWERED, "passed": COUNT_PASSED, "overload": COUNT_OVERLOAD,
    "dropped": COUNT_DROPPED, "truncated": COUNT_TRUNCATED, "limit_dropped": COUNT_LIMIT_DROPPED,
    "limit_slipped": COUNT_LIMIT_SLIPPED, "limit_badcookie": COUNT_LIMIT_BADCOOKIE,
    "cookie_new": COUNT_COOKIE_NEW, "cookie_valid": COUNT_COOKIE_VALID, "cookie_invalid": COUNT_COOKIE_INVALID,
    "send_errors": COUNT_SEND_ERRORS, "batches": COUNT_BATCHES,
    "stale": COUNT_STALE, "refresh": COUNT_REFRESH, "prohibited": COUNT_PROHIBITED,
    "held_back": COUNT_HELD_BACK,
}

cdef enum:
    STALE = 1, DUE = 2  # of Table.answer


SEAL_SIZE = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
SEAL_FUTURE_WRITE = 0x10  # Linux 5.1: whoever maps it from now on may only read


def seal(int fd, int seals):
    """Take rights away from all who have the file, also from those that inherit it; on a system without seals
    nothing happens."""
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except OSError:
        pass


cdef void *map_file(int fd, size_t size, bint writable) except NULL:
    cdef void *at = c_mmap(NULL, size, PROT_READ | (PROT_WRITE if writable else 0), MAP_SHARED, fd, 0)
    if <size_t>at == <size_t>-1:
        raise OSError(f"can't map {size} octets of shared memory")
    return at


cdef bytes _label(str part):
    """The octets that a question has for a label (wire.name_from_wire turned around); none has those of a text
    with other surrogates, but what stands above it in an owner exists all the same."""
    try:
        return part.replace("\udc2e", ".").encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return part.encode("utf-8", "surrogatepass")


cdef class Table:
    """The table and the desk, and the writer's side of both. `size` in octets; nobody can change it, and a worker
    that does what it should not can't write to the table.

    Raises OSError where the system gives no shared memory.
    """

    cdef store *store
    cdef table_head *table
    cdef desk *desk
    cdef size_t size, desk_size
    cdef readonly int table_fd, desk_fd
    cdef uint8_t *room
    cdef uint8_t *packet

    def __cinit__(self, uint64_t size, uint64_t seed, uint64_t factor):
        cdef uint64_t most = size // 128
        self.table_fd = self.desk_fd = -1
        self.size, self.desk_size = size, sizeof(desk) + most
        self.table_fd = os.memfd_create("pharos-table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.desk_fd = os.memfd_create("pharos-desk", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.table_fd, self.size)
        os.ftruncate(self.desk_fd, self.desk_size)
        self.table = <table_head *>map_file(self.table_fd, self.size, True)
        self.desk = <desk *>map_file(self.desk_fd, self.desk_size, True)
        seal(self.table_fd, SEAL_FUTURE_WRITE)
        for fd in (self.table_fd, self.desk_fd):
            seal(fd, SEAL_SIZE)
        self.store = store_new(self.table, size, self.desk, most, seed, factor)
        self.room = <uint8_t *>malloc(LARGEST_REPLY + 1)
        self.packet = <uint8_t *>malloc(65536 + READ_AHEAD)
        if self.store == NULL or self.room == NULL or self.packet == NULL:
            raise MemoryError

    def __dealloc__(self):
        store_free(self.store)
        free(self.room)
        free(self.packet)
        if self.table != NULL:
            c_munmap(self.table, self.size)
        if self.desk != NULL:
            c_munmap(self.desk, self.desk_size)
        for fd in (self.table_fd, self.desk_fd):
            if fd >= 0:
                c_close(fd)

    # --- answers -----------------------------------------------------------------------------------

    def put(self, bytes key, kept, depends, int flags, int zone_label, int zone, uint32_t made=0, uint32_t lifetime=0):
        """Keep an Answer under a question's key; False when there was no room.

        `depends` are hashable; `flags` are NODATA, CLUSTER, AGED and STALE. Of an AGED one, `zone` is an extended
        error, and it was `made` at this second of the monotonic clock, for a `lifetime` in seconds.
        """
        cdef answer_parts p
        cdef Py_ssize_t count = len(kept.offsets) - 1, sets = len(kept.glue), hangs = len(depends), i
        cdef bytes wire = kept.wire, authority = kept.authority, needed = kept.needed, glue = kept.glue_full
        cdef size_t room = (count + 1) * sizeof(uint32_t) + sets * sizeof(glue_set) + hangs * sizeof(uint64_t)
        cdef uint32_t start = 0
        cdef bint stored
        if flags & ANSWER_NODATA:
            authority = b""
        cdef uint64_t *hashes = <uint64_t *>malloc(room)
        if hashes == NULL:
            raise MemoryError
        try:
            memset(&p, 0, sizeof(p))
            offsets = <uint32_t *>(hashes + hangs)
            found = <glue_set *>(offsets + count + 1)
            for i in range(hangs):
                hashes[i] = <uint64_t><int64_t>hash(depends[i])
            for i in range(count + 1):
                offsets[i] = kept.offsets[i]
            for i in range(sets):
                each = kept.glue[i]
                rest = each.rest
                owner_len = len(each.owner)
                if each.offset > 65535 or each.index > 65535 or len(rest) > 65535:
                    return False
                found[i].record, found[i].offset = each.index, each.offset
                found[i].owner_len, found[i].count, found[i].start = owner_len, len(rest), start
                start += len(rest) * (owner_len + len(rest[0]))
            p.key, p.key_len = <const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)
            p.wire, p.wire_len = <const uint8_t *>PyBytes_AS_STRING(wire), PyBytes_GET_SIZE(wire)
            p.authority, p.authority_len = <const uint8_t *>PyBytes_AS_STRING(authority), PyBytes_GET_SIZE(authority)
            p.needed, p.needed_len = <const uint8_t *>PyBytes_AS_STRING(needed), PyBytes_GET_SIZE(needed)
            p.glue, p.glue_len = <const uint8_t *>PyBytes_AS_STRING(glue), PyBytes_GET_SIZE(glue)
            p.offsets, p.sets = offsets, found
            p.count, p.glue_sets, p.glue_count = count, sets, kept.glue_count
            p.authority_count = 0 if flags & ANSWER_NODATA else kept.authority_count
            p.needed_count = kept.needed_count
            p.rcode, p.zone_label, p.zone = kept.rcode, zone_label, zone
            p.made, p.lifetime = made, lifetime
            p.flags = flags | (ANSWER_AA if kept.aa and not flags & ANSWER_AGED else 0) | (ANSWER_ROTATE if kept.rotate else 0)
            stored = store_put(self.store, &p, hashes, hangs)
            return stored
        finally:
            free(hashes)

    def touch(self, dependency):
        """Drop every answer that hangs on a dependency; how many."""
        return store_touch(self.store, <uint64_t><int64_t>hash(dependency))

    def touch_read(self, dependency):
        """Drop every answer that hangs on a dependency; the keys of those that clients have read, or of many of them."""
        cdef uint32_t written, at = 0, size
        found = []
        store_touch_keys(self.store, <uint64_t><int64_t>hash(dependency), self.room, LARGEST_REPLY, &written)
        while at < written:
            size = self.room[at] << 8 | self.room[at + 1]
            found.append(PyBytes_FromStringAndSize(<char *>self.room + at + 2, size))
            at += 2 + size
        return found

    def was_read(self, bytes key):
        """Whether the answer of a question was read by clients since this was last asked."""
        return store_was_read(self.store, <const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))

    def clear(self):
        """Drop every answer."""
        store_clear(self.store)

    def reclaim(self):
        """Take back the memory of answers that no worker can see any more."""
        store_reclaim(self.store)

    # --- names -------------------------------------------------------------------------------------

    cdef int _wire(self, str owner, uint8_t *out) except -1:
        """A folded relative owner as labels; 0 for one that can't stand on the wire."""
        cdef bytes octets
        cdef Py_ssize_t size, start = 0
        for part in owner.split("."):
            octets = part.encode("ascii") if part.isascii() else _label(part)
            size = PyBytes_GET_SIZE(octets)
            if not 0 < size < 64 or start + size > 253:
                return 0
            out[start] = size
            memcpy(out + start + 1, PyBytes_AS_STRING(octets), size)
            start += size + 1
        return start

    def enter(self, uint64_t below, str owner):
        """Count a name that exists, relative to the apex `below`."""
        cdef uint8_t wire[256]
        cdef int size = self._wire(owner, wire)
        return size and store_enter(self.store, below, wire, size)

    def leave(self, uint64_t below, str owner):
        """The counterpart of `enter`."""
        cdef uint8_t wire[256]
        cdef int size = self._wire(owner, wire)
        if size:
            store_leave(self.store, below, wire, size)

    # --- settings ----------------------------------------------------------------------------------

    def configure(self, plain, list known_secrets, list zones, allow=None):
        """New settings: `plain` has the numbers by name; zones are (origin, soa, names hash, flags, label).

        `allow` are prefixes (packed address, bits); only their clients are answered. None: all are.
        """
        cdef size_t size = sizeof(settings) + len(zones) * sizeof(zone_entry)
        cdef settings *now
        cdef zone_entry *entry
        cdef bytes octets
        if len(zones) > MAX_ZONES or len(known_secrets) > MAX_SECRETS or len(allow or ()) > MAX_PREFIXES:
            raise ValueError("too many zones, secrets or prefixes")
        now = <settings *>malloc(size)
        if now == NULL:
            raise MemoryError
        try:
            memset(now, 0, size)
            now.max_udp, now.header_flags = plain["max_udp"], plain["header_flags"]
            now.refuse_others, now.stale, now.cookies = plain["refuse_others"], plain["stale"], plain["cookies"]
            now.rate, now.slip, now.limit_private = plain["rate"], plain["slip"], plain["limit_private"]
            now.pass_rate = plain.get("pass_rate", 0)
            now.log_every, now.secrets, now.zones = plain["log_every"], len(known_secrets), len(zones)
            now.turn_step, now.prefetch = plain.get("turn_step", 0), plain.get("prefetch", 0)
            now.choosy, now.prefixes = allow is not None, len(allow or ())
            for number, (octets, bits) in enumerate(allow or ()):
                if len(octets) not in (4, 16) or not 0 <= bits <= 8 * len(octets):
                    raise ValueError("no prefix of an address")
                memcpy(now.allow[number].address, PyBytes_AS_STRING(octets), len(octets))
                now.allow[number].address_len, now.allow[number].bits = len(octets), bits
            for number, octets in enumerate(known_secrets):
                if len(octets) != 16:
                    raise ValueError("a secret has 16 octets")
                memcpy(now.secret[number], PyBytes_AS_STRING(octets), 16)
            for number, (origin, soa, names_hash, flags, label) in enumerate(zones):
                entry = &now.zone[number]
                if len(origin) > 255 or len(soa) > 816 or label >= ZONE_LABELS:
                    raise ValueError("a zone's origin, SOA or label is too large")
                octets = origin
                memcpy(entry.origin, PyBytes_AS_STRING(octets), len(octets))
                entry.origin_len = len(octets)
                octets = soa
                memcpy(entry.soa, PyBytes_AS_STRING(octets), len(octets))
                entry.soa_len = len(octets)
                entry.names_hash, entry.flags, entry.label = names_hash, flags, label
            return store_settings(self.store, now, size)
        finally:
            free(now)

    # --- answering in this process -----------------------------------------------------------------

    def answer(self, bytes packet, bytes client, bint stream, uint32_t now, uint32_t turn, uint32_t mono=0):
        """(answer, zone label, type label, rcode, cookie, age) out of the table; None for what it does not hold.

        `cookie` is what the client's was worth: 0 for none, then new, valid, invalid. `age`: STALE where the answer
        is, DUE where its question is to be asked again, told once. `mono` is the second of the monotonic clock.
        Without regard to rate limits, as for TCP. The caller is the writer: nothing changes meanwhile.
        """
        cdef context c
        cdef query q
        cdef uint32_t size, zone, kind, rcode
        cdef int cookie, age = 0
        cdef Py_ssize_t length = PyBytes_GET_SIZE(packet)
        if length > 65535 or not self._read(&c, &q, packet, client, stream, now, mono):
            return None
        if q.found != NULL:
            if not self.desk.used[q.found.id]:
                self.desk.used[q.found.id] = USED_READ
            if q.found.flags & ANSWER_AGED:
                age = (STALE if q.found.flags & ANSWER_STALE else 0) | (DUE if answer_due(&c, q.found, self.desk) else 0)
        size = query_reply(&c, &q, turn, WHOLE, self.room)
        query_labels(&q, &zone, &kind, &rcode)
        cookie = cookie_check(c.settings, q.cookie, q.cookie_len, q.client, q.client_len, now)
        return PyBytes_FromStringAndSize(<char *>self.room, size), zone, kind, rcode, cookie, age

    cdef bint _read(self, context *c, query *q, bytes packet, bytes client, bint stream, uint32_t now, uint32_t mono):
        cdef Py_ssize_t length = PyBytes_GET_SIZE(packet)
        memcpy(self.packet, PyBytes_AS_STRING(packet), length)
        context_read(c, self.table)
        c.stream, c.now, c.mono = stream, now, mono
        q.client, q.client_len = <const uint8_t *>PyBytes_AS_STRING(client), min(PyBytes_GET_SIZE(client), 16)
        query_read(c, q, self.packet, length)
        if q.verdict == ANSWER:
            query_find(c, q)
        return q.verdict > PASS

    def limit(self, bytes name, bytes client, int64_t now):
        """What rate limiting says of one more answer (ratelimit.PASS, SLIP, DROP), in the workers' buckets."""
        cdef context c
        context_read(&c, self.table)
        return limit_take(c.settings, self.table.seed, self.desk.buckets, <const uint8_t *>PyBytes_AS_STRING(name),
                          PyBytes_GET_SIZE(name), <const uint8_t *>PyBytes_AS_STRING(client), PyBytes_GET_SIZE(client), now)

    # --- workers and figures -----------------------------------------------------------------------

    def heartbeat(self, uint32_t number):
        """A count that a worker keeps growing."""
        return self.desk.worker[number % MAX_WORKERS].heartbeat

    def release(self, uint32_t number):
        """Forget what a dead worker held."""
        self.desk.worker[number % MAX_WORKERS].epoch = 0

    def counts(self, uint32_t number):
        """The counters of one worker."""
        cdef worker_desk *w = &self.desk.worker[number % MAX_WORKERS]
        return {name: w.counts[at] for name, at in COUNTS.items()}

    def answers(self, uint32_t number):
        """[(zone label, type label, rcode, count)] of one worker, those above zero."""
        cdef worker_desk *w = &self.desk.worker[number % MAX_WORKERS]
        cdef uint32_t zone, kind, rcode
        found = []
        for zone in range(ZONE_LABELS):
            for kind in range(TYPE_LABELS):
                for rcode in range(RCODE_LABELS):
                    if w.answers[zone][kind][rcode]:
                        found.append((zone, kind, rcode, w.answers[zone][kind][rcode]))
        return found

    def figures(self):
        """What the table holds: answers, memory in octets, names, and counts of what had to go."""
        cdef store_figures f
        store_figures_of(self.store, &f)
        return f


def confine(int writer_pid):
    """Give up every privilege, and end with the process `writer_pid`. Raises OSError."""
    cdef int result = worker_confine(writer_pid)
    if result:
        raise OSError(result, os.strerror(result))


def work(int table_fd, int desk_fd, uint32_t number, int socket, int writer, bint wildcard, bytes ready):
    """A worker's whole life: 0 when told to end by SIGTERM or left alone, or the errno that ended it.

    Says `ready` to the writer first. Raises OSError, ValueError.
    """
    cdef worker w
    cdef int result
    if number >= MAX_WORKERS:
        raise ValueError(f"worker {number} of at most {MAX_WORKERS}")
    w.table = <const table_head *>map_file(table_fd, os.fstat(table_fd).st_size, False)
    w.desk = <desk *>map_file(desk_fd, os.fstat(desk_fd).st_size, True)
    w.number, w.socket, w.writer, w.wildcard = number, socket, writer, wildcard
    os.write(writer, ready)
    with nogil:
        result = worker_run(&w)
    return result


def send(int socket, bytes to, bytes packet):
    """Send an answer where a worker's message says; 0, or errno."""
    if PyBytes_GET_SIZE(to) < <Py_ssize_t>sizeof(handed):
        raise ValueError("not a worker's message")
    return handed_send(socket, <const handed *>PyBytes_AS_STRING(to), <const uint8_t *>PyBytes_AS_STRING(packet),
                       PyBytes_GET_SIZE(packet))
