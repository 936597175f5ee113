# cython: boundscheck=False, wraparound=False
"""Which rule a request meets: hash tables in place of lists of rules, made once for each host that changes.

    host ─▶ Host: by name, else "*.…" the longest first, else "NAME:", else "" ─▶
    path ─▶ the first rule of auth, of redirects, of routes ─▶ one Decision

A host is found by one look-up for its name and one for each length of wildcard that the table has. Of its rules the
first that matches is found without asking each: all prefixes of a list are in one table, the path is hashed once from
its beginning to its end, and looked up wherever a prefix of that length may end. So the cost depends on the path, not
on the number of rules. What the three lists yield is put together once, in a Decision that all such requests share.

Hashes are polynomials over 2^61 - 1 at a random point, not wholly reduced: whoever chooses hosts and paths, or the
rules, can't choose collisions. Nothing that clients send is ever remembered here.

The files lookup_*.pxi are parts of this one.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from posix.mman cimport MADV_HUGEPAGE, madvise
from posix.stdlib cimport posix_memalign

from lb7._balance cimport Cluster

import os

from lb7.allowed import allowed
from lb7.credentials import credentials
from lb7.paths import begins, matched_path, matched_prefix

cdef extern from *:
    """
    #include <stdint.h>
    #define MERSENNE ((UINT64_C(1) << 61) - 1)
    static inline uint64_t mix(uint64_t hash, uint64_t word, uint64_t point)
    {
        unsigned __int128 sum = (unsigned __int128)hash * point + word;
        return ((uint64_t)sum & MERSENNE) + (uint64_t)(sum >> 61); /* below 2^62 + 2, as the point is below 2^60 */
    }
    """
    uint64_t mix(uint64_t hash, uint64_t word, uint64_t point) noexcept nogil

cdef extern from "native/words64.h" nogil:
    uint64_t part64(const uint8_t*, size_t) noexcept
    uint64_t lowered64(uint64_t) noexcept
    bint is_lowered(const uint8_t*, const uint8_t*, size_t) noexcept

cdef enum:
    BEGIN = 1       # a prefix of any path
    BORDER = 2      # a prefix up to the end of a segment
    WHOLE = 4       # the path itself
    WORD = 7        # octets that are hashed at once: with fewer bits than the prime
    MOST_NAME = 260 # octets of a host name with port that wildcards are searched for
    LINE = 64       # octets that are read at once
    HUGE = 1 << 21  # octets of a large page

cdef uint32_t NEVER = 0xFFFFFFFF

cdef uint64_t point = int.from_bytes(os.urandom(8), "little") % ((1 << 60) - 2) + 2

cdef uint8_t[256] odd   # octets that make another form of the path likely
for _octet in range(256):
    odd[_octet] = _octet in b"%;\\/"


include "lookup_rules.pxi"
include "lookup_forms.pxi"


# --- decisions ------------------------------------------------------------------------------------


cdef bytes field_value(str text):
    """What a label puts into a header, or None: nothing, or octets that would end the line (RFC 9110 §5.5)."""
    cdef bytes octets = text.encode("utf-8", "replace")
    if not octets or any(octet < 32 and octet != 9 or octet == 127 for octet in octets):
        return None
    return octets


cdef class Decision:
    pass


cdef Decision decision_of(object auth, object redirect, Cluster cluster):
    cdef Decision self = Decision.__new__(Decision)
    self.auth = auth
    self.redirect = redirect
    self.cluster = cluster
    self.plain = auth is None and redirect is None
    if cluster is None:
        return self
    spec = self.spec = cluster.spec
    if spec.allow:
        self.allow = allowed(spec.allow)
    value = field_value(spec.hsts)
    if value is not None:
        self.hsts = b"Strict-Transport-Security: " + value + b"\r\n"
    value = field_value(spec.host)
    if value is not None:
        self.host_line = b"Host: " + value + b"\r\n"
    self.strip_path = field_value(spec.strip_path)
    self.location = field_value(spec.location)
    self.sticky = field_value(spec.sticky)
    self.root_redirect = field_value(spec.root_redirect)
    if spec.root_redirect_hosts:
        self.root_hosts = frozenset([host.lower().encode("utf-8", "replace") for host in spec.root_redirect_hosts])
    self.plain = self.plain and self.allow is None and self.hsts is None and self.host_line is None and (
        self.strip_path is None and self.location is None and self.sticky is None and self.root_redirect is None
    )
    return self


cdef Decision AMBIGUOUS = decision_of(None, None, None)
AMBIGUOUS.ambiguous = True
AMBIGUOUS.plain = False


cdef Decision SERVED_BY_NOBODY = decision_of(None, None, None)


cdef Decision served_by(Cluster cluster):
    """What rules say that do nothing but lead to a cluster; of all hosts the same, as one for each leaves the caches."""
    if cluster is None:
        return SERVED_BY_NOBODY
    cdef Decision found = cluster.decision
    if found is None or found.spec is not cluster.spec:
        found = cluster.decision = decision_of(None, None, cluster)
    return found


cdef inline bint is_current(Decision decision) noexcept:
    """Whether its cluster still is what it was."""
    return decision.cluster is None or decision.cluster.spec is decision.spec


cdef Decision renewed(Decision decision):
    """The same for what the cluster is now."""
    if decision.auth is None and decision.redirect is None:
        return served_by(decision.cluster)
    return decision_of(decision.auth, decision.redirect, decision.cluster)


cdef class Host:
    cdef Decision decision(self, uint64_t auth, uint64_t redirect, uint64_t route):
        cdef Decision served
        if auth == 0 and redirect == 0:
            served = <Decision>self.served[route]
            if served is None or not is_current(served):
                served = self.served[route] = served_by(self.clusters[route])
            return served
        key = (auth * len(self.redirects) + redirect) * len(self.clusters) + route
        cdef Decision found = self.decisions.get(key)
        if found is None:
            found = self.decisions[key] = decision_of(self.auths[auth], self.redirects[redirect], self.clusters[route])
        elif not is_current(found):
            found = self.decisions[key] = renewed(found)
        return found

    cdef Decision by_path(self, const uint8_t* path, Py_ssize_t length):
        return self.decision(self.auth.first(path, length), self.redirect.first(path, length),
                             self.route.first(path, length))

    cdef Decision by_forms(self, const uint8_t* path, Py_ssize_t length):
        """By the matched form of a path, unless its readings differ in who may pass."""
        if length == 0:
            return self.by_path(b"/", 1)
        cdef uint8_t* matched = room(2 * length)
        cdef uint8_t* literal = matched + length
        cdef bint dots = False
        cdef Py_ssize_t matched_length = resolved(path, length, matched, &dots)
        if self.guarded:
            length = decoded(path, length, literal)
            if dots or self.auth.rule(literal, length) != self.auth.rule(matched, matched_length):
                return AMBIGUOUS
        return self.by_path(matched, matched_length)


cdef tuple prefixes_of(rule, Py_ssize_t number, bint exact):
    """The prefixes of a rule for FirstMatch; None: every path matches."""
    cdef list found = []
    only = getattr(rule, "only_path", "")
    paths = rule.paths if exact else [prefix if plain_prefix(prefix.prefix) else matched_prefix(prefix)
                                      for prefix in rule.paths]
    if only:
        only = only if exact else matched_path(only)
        if paths and not any(begins(only, prefix) for prefix in paths):
            return ()
        return ((number, WHOLE, octets_of(only, exact), False),)
    if not paths:
        return None
    for prefix in paths:
        text = prefix.prefix
        kind = BORDER if prefix.whole and text and not text.endswith("/") else BEGIN
        found.append((number, kind, octets_of(text, exact), prefix.ignore_case))
    return tuple(found)


cdef bint plain_prefix(str text):
    cdef bytes octets
    if not text.isascii():
        return False
    octets = text.encode("ascii")
    return not is_odd(<const uint8_t*>PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets))


cdef bytes octets_of(str text, bint exact):
    """A character of a form (lb7/paths.py) is an octet."""
    return text.encode("utf-8", "replace") if exact else text.encode("latin-1")


cdef int number_of(object value, list values, dict numbers) except -1:
    """The place of a value in `values`, where equal ones are once and None is the first."""
    if value is None:
        return 0
    key = id(value)
    found = numbers.get(key)
    if found is None:
        found = numbers[key] = len(values)
        values.append(value)
    return found


cdef FirstMatch first_match(tuple rules, list said, bint exact, list values):
    """`said`: what each rule says, or None."""
    cdef list prefixes = [], numbers = []
    cdef dict known = {}
    cdef Py_ssize_t number
    for number in range(len(rules)):
        numbers.append(number_of(said[number], values, known))
        found = prefixes_of(rules[number], number, exact)
        if found is None:
            return FirstMatch(prefixes, numbers, number)   # those behind it are never reached
        prefixes.extend(found)
    return FirstMatch(prefixes, numbers, None)


cdef Host host_from(bytes name, rules, clusters, bint exact):
    cdef Host self = Host.__new__(Host)
    self.name = name
    self.decisions = {}
    self.auths, self.redirects, self.clusters = [None], [None], [None]
    self.auth = first_match(rules.auth, [credentials(rule) for rule in rules.auth], exact, self.auths)
    says = {rule: rule for rule in rules.redirects if rule.https or rule.location}
    self.redirect = first_match(rules.redirects, [says.get(rule) for rule in rules.redirects], exact, self.redirects)
    serving = [clusters.get(rule.cluster) for rule in rules.routes]
    self.route = first_match(rules.routes, serving, exact, self.clusters)
    self.served = [None] * len(self.clusters)
    self.guarded = any([rule.paths for rule in rules.auth])
    if not (self.guarded or self.redirect.by_path or self.route.by_path):
        self.only = self.by_path(b"/", 1)
        self.auths = self.redirects = self.clusters = self.served = self.decisions = None
        self.auth = self.redirect = self.route = None
    return self


# --- hosts ----------------------------------------------------------------------------------------


cdef uint64_t hashed(const uint8_t* octets, Py_ssize_t length, bint star) noexcept nogil:
    """The hash of octets in lower case, with "*" before them if asked: the same as if it stood there."""
    cdef uint64_t hash = 0
    cdef Py_ssize_t left
    if not star and length > 0 and octets[0] == c"*":
        octets += 1
        length -= 1
        star = True
    if star:
        hash = c"*"
    left = length
    while left >= WORD:
        hash = mix(hash, lowered64(part64(octets, WORD)), point)
        octets += WORD
        left -= WORD
    return last_mixed(hash, lowered64(part64(octets, left)), length)


cdef inline uint64_t last_mixed(uint64_t hash, uint64_t rest, uint64_t length) noexcept nogil:
    """The hash of octets whose whole words are in it. The length is for those that differ by octets 0 at their end."""
    return mix(mix(hash, rest, point), length, point)


cdef bint has_capitals(const uint8_t* octets, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(length):
        if c"A" <= octets[i] <= c"Z":
            return True
    return False


cdef host_slot* empty_slots(size_t count) except NULL:
    """Slots to be freed, each in a cache line of its own; many in large pages, whose addresses are found sooner."""
    cdef size_t size = count * sizeof(host_slot)
    cdef void* slots = NULL
    if posix_memalign(&slots, LINE if size < HUGE else HUGE, size):
        raise MemoryError
    if size >= HUGE:
        madvise(slots, size, MADV_HUGEPAGE)
    memset(slots, 0, size)
    return <host_slot*>slots


cdef inline bint is_named(host_slot* slot, const uint8_t* octets, Py_ssize_t length, bint star) noexcept:
    """Whether these octets are the name of its host, in any case; with "*" before them if asked."""
    cdef const uint8_t* name = slot.start
    if slot.length != <size_t>(length + star) or star and name[0] != c"*":
        return False
    if slot.length > START:
        name = <const uint8_t*>PyBytes_AS_STRING((<Host>slot.host).name)
    return is_lowered(octets, name + star, length)


cdef class Table:
    def __cinit__(self, str name, bint exact_host=False, bint exact_path=False, bint exact_case=False):
        """`exact_host`: a port or a last dot belongs to the name, and "NAME:" stands for any port. `exact_path`: paths
        are compared as they stand, else in the form of lb7/paths.py. `exact_case`: names with capitals are others."""
        self.name = name
        self.exact_case = exact_case
        self.exact_host = exact_host
        self.exact_path = exact_path
        self.hosts = {}
        self.mask = 7
        self.slots = empty_slots(self.mask + 1)

    def __dealloc__(self):
        free(self.slots)

    def __len__(self):
        return len(self.hosts) + (self.others is not None)

    def put(self, str host, rules, clusters):
        """Take the rules of a host in place of those it had. A cluster that `clusters` does not have answers 503."""
        cdef Host made = host_from(host.encode("utf-8", "replace").lower(), rules, clusters, self.exact_path)
        self.drop(host)
        if not made.name:
            self.others = made
            return
        self.hosts[made.name] = made
        self.count_kinds(made.name, 1)
        if 2 * <size_t>len(self.hosts) > self.mask:
            self.grow()
        else:
            self.insert(made)

    def drop(self, str host):
        """Forget a host, if it is known."""
        cdef bytes name = host.encode("utf-8", "replace").lower()
        if not name:
            self.others = None
            return
        cdef Host found = self.hosts.get(name)
        if found is not None:
            self.remove(found)
            self.count_kinds(name, -1)
            del self.hosts[name]

    def decide(self, bytes host, bytes path):
        """What `find` says."""
        return self.find(PyBytes_AS_STRING(host), PyBytes_GET_SIZE(host), PyBytes_AS_STRING(path),
                         PyBytes_GET_SIZE(path))

    cpdef bint knows(self, str host):
        """Whether there is a rule for this name, or for all names below one that it is below; "" does not count."""
        cdef bytes name = host.encode("utf-8", "replace")
        return self.named(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)) != NULL

    cdef Decision find(self, const char* host, Py_ssize_t host_len, const char* path, Py_ssize_t path_len):
        cdef host_slot* slot = self.named(host, host_len)
        cdef Host found
        cdef Decision decision
        if slot != NULL and slot.only != NULL and is_current(<Decision>slot.only):
            return <Decision>slot.only
        found = self.others if slot == NULL else <Host>slot.host
        if found is None:
            return None
        decision = found.only
        if decision is not None:
            return decision if is_current(decision) else self.renew(found)
        if path_len == 0:
            return found.by_path(b"/", 1)
        if self.exact_path or not is_odd(<const uint8_t*>path, path_len):
            return found.by_path(<const uint8_t*>path, path_len)
        decision = found.by_forms(<const uint8_t*>path, path_len)
        if decision is AMBIGUOUS:
            self.ambiguous += 1
        return decision

    cdef host_slot* named(self, const char* host, Py_ssize_t length) except? NULL:
        """The rules of a host by its name or a wildcard; NULL: there are none."""
        cdef Py_ssize_t end
        if not self.exact_host:
            end = length
            while end > 0 and c"0" <= host[end - 1] <= c"9":
                end -= 1
            if end > 0 and host[end - 1] == c":":
                length = end - 1
            if length > 1 and host[length - 1] == c".":
                length -= 1
        if length == 0:
            return NULL
        cdef const uint8_t* octets = <const uint8_t*>host
        cdef host_slot* found = NULL
        if not self.exact_case or not has_capitals(octets, length):
            found = self.probed(hashed(octets, length, False), octets, length, False)
            if found == NULL and self.deepest and length <= MOST_NAME:
                found = self.below(octets, length)
        if found == NULL and self.any_port and self.exact_host:
            found = self.with_any_port(octets, length)
        return found

    cdef host_slot* with_any_port(self, const uint8_t* host, Py_ssize_t length) except? NULL:
        """By "NAME:"."""
        cdef Py_ssize_t end = 0
        while end < length and host[end] != c":":
            end += 1
        cdef uint8_t* name = room(end + 1)
        memcpy(name, host, end)
        name[end] = c":"
        return self.probed(hashed(name, end + 1, False), name, end + 1, False)

    cdef host_slot* below(self, const uint8_t* host, Py_ssize_t length) noexcept:
        """By the longest wildcard, looked up only where one with so many dots exists."""
        cdef Py_ssize_t i
        cdef int dots = 0
        cdef host_slot* found
        for i in range(length):
            dots += host[i] == c"."
        for i in range(length):
            if host[i] != c".":
                continue
            if dots <= self.deepest and self.depths[dots]:
                found = self.probed(hashed(host + i, length - i, True), host + i, length - i, True)
                if found != NULL:
                    return found
            dots -= 1
        return NULL

    cdef host_slot* probed(self, uint64_t hash, const uint8_t* octets, Py_ssize_t length, bint star) noexcept:
        """The slot of the host of this name, with "*" before it if asked; NULL: there is none."""
        cdef size_t at = hash & self.mask
        while self.slots[at].host != NULL:
            if self.slots[at].hash == <uint32_t>hash and is_named(&self.slots[at], octets, length, star):
                return &self.slots[at]
            at = (at + 1) & self.mask
        return NULL

    cdef host_slot* slot_of(self, Host host) noexcept:
        """NULL: it is of no name that the table knows, or no longer."""
        cdef Py_ssize_t length = PyBytes_GET_SIZE(host.name)
        cdef const uint8_t* name = <const uint8_t*>PyBytes_AS_STRING(host.name)
        cdef host_slot* slot = self.probed(hashed(name, length, False), name, length, False)
        return slot if slot != NULL and slot.host == <void*>host else NULL

    cdef Decision renew(self, Host host):
        """What the host's only decision is now, of which its slot must never hold another."""
        cdef Decision decision = renewed(host.only)
        cdef host_slot* slot = self.slot_of(host)
        if slot != NULL:
            slot.only = <void*>decision
        host.only = decision
        return decision

    cdef void insert(self, Host host) noexcept:
        cdef uint32_t length = PyBytes_GET_SIZE(host.name)
        cdef const uint8_t* name = <const uint8_t*>PyBytes_AS_STRING(host.name)
        cdef uint64_t hash = hashed(name, length, False)
        cdef size_t at = hash & self.mask
        while self.slots[at].host != NULL:
            at = (at + 1) & self.mask
        cdef host_slot* slot = &self.slots[at]
        slot.host = <void*>host
        slot.only = NULL if host.only is None else <void*>host.only
        slot.hash = <uint32_t>hash
        slot.length = length
        memcpy(slot.start, name, min(<size_t>length, <size_t>START))

    cdef int grow(self) except -1:
        """Twice as many slots, for all hosts that there are."""
        cdef size_t size = 2 * (self.mask + 1)
        cdef host_slot* slots = empty_slots(size)
        free(self.slots)
        self.slots = slots
        self.mask = size - 1
        for host in self.hosts.values():
            self.insert(<Host>host)
        return 0

    cdef void remove(self, Host host) noexcept:
        """Later ones of a run move up, so that each is found without passing an empty slot."""
        cdef host_slot* slot = self.slot_of(host)
        if slot == NULL:
            return   # for want of memory it never had one
        cdef size_t gap = slot - self.slots, at = gap
        while True:
            at = (at + 1) & self.mask
            if self.slots[at].host == NULL:
                break
            if ((at - self.slots[at].hash) & self.mask) >= ((at - gap) & self.mask):
                self.slots[gap] = self.slots[at]
                gap = at
        self.slots[gap].host = NULL

    cdef void count_kinds(self, bytes name, int change) noexcept:
        """So that no search is made for what does not exist."""
        cdef int dots
        self.any_port += change if name.endswith(b":") else 0
        if not name.startswith(b"*."):
            return
        dots = min(127, name.count(b"."))
        self.depths[dots] += change
        self.deepest = 0
        for dots in range(128):
            if self.depths[dots]:
                self.deepest = dots
