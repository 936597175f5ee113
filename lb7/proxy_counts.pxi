# What is counted, and what is logged.
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.math cimport llrint
from posix.time cimport CLOCK_REALTIME

cdef struct span:
    const char *at
    Py_ssize_t length

cdef struct told_parts:
    span method, path, host, request_id

cdef Py_ssize_t MOST_NAME = access_log.MOST_NAME, MOST_PATH = access_log.MOST_PATH


cdef inline int count_request(ClientConnection c) except -1:
    """The request in hand is one that gets an answer."""
    if not c.counted:
        c.counted = True
        c.edge.begun += 1
        c.edge.requests += 1
        c.front.requests += 1
    return 0


cdef int count_word(ClientConnection c, str word) except -1:
    """Something seldom happened."""
    c.front.words[word] = c.front.words.get(word, 0) + 1
    return 0


cdef inline bint is_sampled(Edge edge) noexcept:
    """Whether this request is one of those that are logged."""
    return draw(edge) >> 32 < edge.log_threshold


cdef int log_failure(ClientConnection c, str why) except -1:
    """Failures are logged whatever share of requests is, but for those that are too many."""
    if c.edge.log_room:
        c.edge.log_room -= 1
        return write_log(c, why)
    c.edge.log_dropped += 1
    return 0


cdef int write_log(ClientConnection c, str why) except -1:
    """Log the request in hand; errors there do no harm to it."""
    cdef Notes notes = c.notes
    cdef tuple asked = None
    if notes is not None and notes.method is not None:
        asked = (notes.method, notes.host, notes.target)
    try:
        c.edge.log(access_record(
            PyUnicode_DecodeLatin1(c.address, c.address_len, NULL), c.front.name, c.head, asked, c.status,
            None if c.cluster is None else c.cluster.name, None if c.last is None else c.last.id, c.tries + 1,
            c.received, c.sent, c.waited, c.connecting, c.first, clock() - c.began, why,
        ))
    except Exception:
        logger.exception("lb7: the access log")
    return 0


cpdef dict access_record(
    str client, str listener, bytes head, tuple asked, int status, str cluster, str server, int tries,
    int64_t received, int64_t sent, double queued, double connecting, double first, double total, str why,
):
    """A request as it is logged (lb7/access_log.py).

    `head`: the request as it went, or was to go, to a server (None: it came to none); `asked`: method, host and target
    as the client sent them, where they are others. All are cut. Octets and seconds; `status` 0: the client got no
    answer. Header fields other than Host and X-Request-Id are never told: they may be secret.
    """
    cdef told_parts parts
    cdef timespec now
    cdef str method, host, path
    memset(&parts, 0, sizeof(told_parts))
    if head is not None:
        read_told(PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head), &parts)
    if asked is not None:
        method, host, path = asked[0][:MOST_NAME], asked[1][:MOST_NAME], asked[2][:MOST_PATH]
    else:
        method, host = text_of(parts.method, MOST_NAME), text_of(parts.host, MOST_NAME)
        path = text_of(parts.path, MOST_PATH)
    clock_gettime(CLOCK_REALTIME, &now)
    return {
        "time": rounded(<double>now.tv_sec + now.tv_nsec * 1e-9 - total),
        "client": client,
        "listener": listener,
        "method": method,
        "host": host,
        "path": path,
        "status": status,
        "cluster": cluster,
        "server": server,
        "tries": tries,
        "received": received,
        "sent": sent,
        "queued": rounded(queued),
        "connecting": rounded(connecting),
        "first": rounded(first),
        "total": rounded(total),
        "request_id": text_of(parts.request_id, MOST_NAME),
        "why": why,
    }


cdef inline double rounded(double seconds) noexcept:
    """To microseconds: the number that is nearest to so many decimal digits."""
    return <double>llrint(seconds * 1e6) / 1e6


cdef inline str text_of(span octets, Py_ssize_t most):
    return PyUnicode_DecodeLatin1(octets.at, min(octets.length, most), NULL)


cdef void read_told(const char *at, Py_ssize_t length, told_parts *parts) noexcept:
    """What is told of a head that we wrote; of a field that stands there twice the last one."""
    cdef const char *end = at + length
    cdef span line = next_line(&at, end)
    cdef const char *space = <const char *>memchr(line.at, c' ', line.length)
    cdef const char *last = line.at + line.length
    parts.method = line
    if space != NULL:
        parts.method.length = space - line.at
        while (last - 1)[0] != c' ':  # `space` is one
            last -= 1
        if last - 1 > space:
            parts.path.at = space + 1
            parts.path.length = last - space - 2
    while at < end:
        line = next_line(&at, end)
        if is_field(line, b"host:", 5):
            parts.host = value_of(line, 5)
        elif is_field(line, b"x-request-id:", 13):
            parts.request_id = value_of(line, 13)


cdef inline span next_line(const char **at, const char *end) noexcept:
    """The line that begins there, without its CRLF; `at` is set to the next one's beginning."""
    cdef span line
    cdef const char *stop = <const char *>memchr(at[0], c'\n', end - at[0])
    line.at = at[0]
    at[0] = end if stop == NULL else stop + 1
    line.length = (end if stop == NULL else stop) - line.at
    if line.length and line.at[line.length - 1] == c'\r':
        line.length -= 1
    return line


cdef inline bint is_field(span line, const char *name, Py_ssize_t length) noexcept:
    """Whether the line's name is this one, of small letters, '-' and the colon, in any case."""
    cdef Py_ssize_t i
    if line.length < length or line.at[length - 1] != c':':
        return False
    for i in range(length):
        if line.at[i] | 0x20 != name[i]:
            return False
    return True


cdef inline span value_of(span line, Py_ssize_t start) noexcept:
    """What follows the name, without white space around it."""
    cdef span value
    cdef const char *end = line.at + line.length
    value.at = line.at + start
    while value.at < end and is_space(value.at[0]):
        value.at += 1
    while end > value.at and is_space((end - 1)[0]):
        end -= 1
    value.length = end - value.at
    return value
