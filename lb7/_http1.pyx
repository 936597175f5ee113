"""HTTP/1.x message heads and chunked bodies, read strictly: the Python face of `native/http1.h`.

The proxy uses the C functions themselves. This is for all others: checks, tests, tools.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc

FAULTS = {http1_fault_word(fault).decode(): http1_status_of(fault) for fault in range(1, HTTP1_FAULTS)}
"""Each fault's word, and the status that answers a request that has it."""

MOST_METHOD = HTTP1_MOST_METHOD
MOST_HOST = HTTP1_MOST_HOST
MOST_OPTIONS = HTTP1_MOST_OPTIONS
MOST_EXTENSION = HTTP1_MOST_EXTENSION
MOST_TRAILER = HTTP1_MOST_TRAILER
MOST_TRAILERS = HTTP1_MOST_TRAILERS


class Refused(ValueError):
    """A message that is not HTTP/1.x, has two readings, or is larger than allowed.

    `fault` is a word of FAULTS, or "bad_chunks"; `status` is what a request is answered with.
    """

    def __init__(self, fault):
        super().__init__(fault)
        self.fault = fault
        self.status = FAULTS.get(fault, 400)


cdef class Head:
    """A request's or an answer's head; octets as they were sent. Made by `request` and `response`."""

    cdef http1_head head
    cdef bytes octets

    cdef bytes part(self, uint32_t start, uint32_t length):
        return self.octets[start : start + length]

    @property
    def length(self):
        """Octets, the empty line included."""
        return self.head.length

    @property
    def method(self):
        return self.part(self.head.method, self.head.method_len)

    @property
    def target(self):
        return b"" if self.head.status else self.part(self.head.target, self.head.target_len)

    @property
    def path(self):
        """With the query; without scheme and authority."""
        return self.part(self.head.path, self.head.path_len)

    @property
    def path_only(self):
        return self.part(self.head.path, self.head.path_only_len)

    @property
    def host(self):
        return self.part(self.head.host, self.head.host_len)

    @property
    def minor(self):
        """Of the version: 0 or 1."""
        return self.head.minor

    @property
    def status(self):
        """0 for a request."""
        return self.head.status

    @property
    def reason(self):
        return self.part(self.head.target, self.head.target_len) if self.head.status else b""

    @property
    def content_length(self):
        return None if self.head.content_length < 0 else self.head.content_length

    @property
    def flags(self):
        """What is so, in the words of http1_head."""
        cdef http1_head* head = &self.head
        flags = (
            ("chunked", head.chunked),
            ("close", head.close),
            ("keep_alive", head.keep_alive),
            ("upgrade", head.upgrade),
            ("websocket", head.websocket),
            ("head", head.head),
            ("expect_continue", head.expect_continue),
            ("expect_other", head.expect_other),
        )
        return {name for name, on in flags if on}

    @property
    def fields(self):
        """All fields in their order: name, value without white space around it."""
        return [self._field(i) for i in range(self.head.fields)]

    @property
    def dropped(self):
        """The fields that `copy_fields` leaves out."""
        return [self._field(i) for i in range(self.head.fields) if self.head.field[i].drop]

    @property
    def known(self):
        """Names of the fields that have an id, in their order."""
        return [self._field(i)[0] for i in range(self.head.fields) if self.head.field[i].id != HTTP1_OTHER]

    def _field(self, uint32_t i):
        cdef http1_field* field = &self.head.field[i]
        value = self.part(field.value, field.value_end - field.value)
        return self.part(field.start, field.name_len), value


cdef object read_head(bytes octets, bint answer, size_t max_head, uint32_t max_fields):
    cdef Head head = Head.__new__(Head)
    cdef Py_ssize_t length
    if answer:
        length = http1_response(PyBytes_AS_STRING(octets), len(octets), max_head, max_fields, &head.head)
    else:
        length = http1_request(PyBytes_AS_STRING(octets), len(octets), max_head, max_fields, &head.head)
    if length < 0:
        raise Refused(http1_fault_word(<int>-length).decode())
    head.octets = octets
    return head if length else None


def request(bytes octets not None, max_head=16384, max_fields=100):
    """The head of a request at the beginning of these octets; None: it is not all there. Raises Refused."""
    return read_head(octets, False, max_head, max_fields)


def response(bytes octets not None, max_head=16384, max_fields=100):
    """The head of an answer at the beginning of these octets; None: it is not all there. Raises Refused."""
    return read_head(octets, True, max_head, max_fields)


def copy_fields(Head head not None):
    """The fields that are passed on, each as a line."""
    cdef size_t most = head.head.length + 2 * head.head.fields
    cdef char* to = <char*>PyMem_Malloc(most)
    if to == NULL:
        raise MemoryError
    try:
        return PyBytes_FromStringAndSize(to, http1_copy_fields(PyBytes_AS_STRING(head.octets), &head.head, to))
    finally:
        PyMem_Free(to)


cdef class Chunks:
    """A body in chunks, read in pieces of any size."""

    cdef http1_chunks chunks

    @property
    def done(self):
        return self.chunks.state == HTTP1_CHUNKS_DONE

    def read(self, bytes octets not None):
        """How many of these octets belong to the body; all of them unless it is `done` then. Raises Refused."""
        cdef Py_ssize_t length = http1_chunks_read(&self.chunks, PyBytes_AS_STRING(octets), len(octets))
        if length < 0:
            raise Refused("bad_chunks")
        return length

    def unwrap(self, bytes octets not None):
        """As `read`, and what the chunks hold."""
        cdef size_t held = 0
        cdef char* to = <char*>PyMem_Malloc(len(octets) + 1)
        cdef Py_ssize_t length
        if to == NULL:
            raise MemoryError
        try:
            length = http1_chunks_unwrap(&self.chunks, PyBytes_AS_STRING(octets), len(octets), to, &held)
            if length < 0:
                raise Refused("bad_chunks")
            return length, PyBytes_FromStringAndSize(to, held)
        finally:
            PyMem_Free(to)
