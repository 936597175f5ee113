# Which rule a request meets: the worker's own form of the route table.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from lb7._balance cimport Cluster


cdef class Decision:
    """What is done with a request of one host and path; never changed."""
    cdef readonly object auth        # lb7.credentials.Credentials, or None: everybody may pass
    cdef readonly object redirect    # lb7.table.RedirectRule, or None
    cdef readonly Cluster cluster    # None: 503
    cdef readonly object allow       # lb7.allowed.Allowed, or None: all clients
    cdef readonly bytes hsts         # the header line with its CRLF, or None
    cdef readonly bytes host_line    # b"Host: x\r\n", or None
    cdef readonly bytes sticky       # the cookie's name, or None
    cdef readonly bytes strip_path, location, root_redirect   # or None
    cdef readonly frozenset root_hosts   # whose "/" is redirected, as octets in lower case; None: any
    cdef readonly bint plain         # nothing but to be sent to the cluster as it is, or 503
    cdef readonly bint ambiguous     # the path has several readings that differ in who may pass: 400; no cluster
    cdef object spec                 # the cluster's, when this was made


# What follows is of this module alone, but for `find` and `knows`.

cdef enum:
    START = 40   # so that a slot is one cache line of 64


cdef struct prefix_entry:
    uint64_t hash
    uint32_t start, length
    uint32_t begin, border, whole   # the first rule that has it so, or NEVER


cdef struct prefix_length:
    uint32_t length
    uint32_t kinds                  # BEGIN | BORDER | WHOLE, of the prefixes that are so long


cdef struct prefix_index:
    prefix_entry* entries
    uint32_t* slots                 # number of the entry, from 1
    size_t mask
    uint8_t* octets
    prefix_length* lengths          # all there are, the shortest first
    size_t lengths_end
    bint folded                     # case does not matter; the octets are in lower case


cdef class FirstMatch:
    """One list of rules: what the first rule with a prefix of a path says, as a number."""
    cdef prefix_index plain, folded
    cdef uint32_t* numbers     # by rule
    cdef uint32_t always       # the first rule that matches every path, or NEVER
    cdef bint by_path          # there are rules with paths before that one
    cdef uint32_t rule(self, const uint8_t* path, Py_ssize_t length) noexcept
    cdef uint32_t first(self, const uint8_t* path, Py_ssize_t length) noexcept


cdef class Host:
    """The rules of one host, and the decisions that were made by them."""
    cdef bytes name
    cdef Decision only                     # where no path matters; all below is None then
    cdef list auths, redirects, clusters   # by number; 0: nothing
    cdef FirstMatch auth, redirect, route
    cdef bint guarded                      # who may pass depends on the path
    cdef list served                       # decisions by the cluster's number, without auth and redirect
    cdef dict decisions                    # the others, by all three numbers
    cdef Decision decision(self, uint64_t auth, uint64_t redirect, uint64_t route)
    cdef Decision by_path(self, const uint8_t* path, Py_ssize_t length)
    cdef Decision by_forms(self, const uint8_t* path, Py_ssize_t length)


cdef struct host_slot:
    # All that most requests need, as every cache line that is read beside it takes long where hosts are many.
    void* host                       # a Host that `hosts` of the table holds, or NULL
    void* only                       # the host's, or NULL
    uint32_t hash                    # its lower half
    uint32_t length                  # of the name
    uint8_t[START] start             # of the name


cdef class Table:
    """The rules of one table; changed between requests only."""
    cdef readonly str name
    cdef readonly bint exact_host, exact_path, exact_case
    cdef readonly uint64_t ambiguous   # requests so far whose path was
    cdef dict hosts                  # lower-cased octets → Host
    cdef host_slot* slots
    cdef size_t mask
    cdef Host others                 # of host "", or None
    cdef int depths[128]             # wildcards by their number of dots
    cdef int deepest
    cdef size_t any_port             # hosts that are names with ":"
    # None: no rule for this host. `path` is without the query. Both are octets as they stand in the request.
    cdef Decision find(self, const char* host, Py_ssize_t host_len, const char* path, Py_ssize_t path_len)
    cpdef bint knows(self, str host)
    cdef host_slot* named(self, const char* host, Py_ssize_t length) except? NULL
    cdef host_slot* with_any_port(self, const uint8_t* host, Py_ssize_t length) except? NULL
    cdef host_slot* below(self, const uint8_t* host, Py_ssize_t length) noexcept
    cdef host_slot* probed(self, uint64_t hash, const uint8_t* octets, Py_ssize_t length, bint star) noexcept
    cdef host_slot* slot_of(self, Host host) noexcept
    cdef Decision renew(self, Host host)
    cdef void insert(self, Host host) noexcept
    cdef int grow(self) except -1
    cdef void remove(self, Host host) noexcept
    cdef void count_kinds(self, bytes name, int change) noexcept
