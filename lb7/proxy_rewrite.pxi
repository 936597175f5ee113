# Requests and answers that are not passed on as they are: another path or host, sticky clients, our fields in answers.


cdef int rewrite_request(ClientConnection c, Decision decision, const char *octets) except -1:
    cdef Notes notes = notes_of(c)
    cdef char *at
    if decision.strip_path is not None or decision.host_line is not None:
        remember_asked(notes, octets)
    if decision.strip_path is not None:
        notes.path = stripped(octets + head.path, head.path_len, decision.strip_path, c.edge.compat)
    if decision.host_line is not None and not c.edge.compat and not c.trusted:
        at = put(c.edge.scratch, b"X-Forwarded-Host: ", 18)
        at = put(at, octets + head.host, head.host_len)
        at = put(at, b"\r\n", 2)
        notes.fields = c.edge.scratch[:at - c.edge.scratch]
    if decision.sticky is not None and head.ids >> HTTP1_COOKIE & 1:
        take_cookie(c, notes, decision.sticky, octets)
    return 0


cdef Notes notes_of(ClientConnection c):
    if c.notes is None:
        c.notes = Notes.__new__(Notes)
    return c.notes


cdef int remember_asked(Notes notes, const char *octets) except -1:
    """What the client asked for, for the log."""
    notes.method = octets[head.method:head.method + head.method_len].decode("latin-1")
    notes.host = octets[head.host:head.host + head.host_len].decode("latin-1")
    notes.target = octets[head.target:head.target + head.target_len].decode("latin-1")
    return 0


cdef bytes stripped(const char *path, Py_ssize_t length, bytes prefix, bint anywhere):
    """The path without the prefix, one slash at its beginning. `anywhere`: as marathon-lb, which looks at neither case
    nor borders of segments; None: it does not begin so."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(prefix)
    cdef const char *rest = path + size
    cdef Py_ssize_t left = length - size
    if left < 0 or not begins_with(path, PyBytes_AS_STRING(prefix), size, anywhere):
        return None
    if left and rest[0] == c'/':
        return rest[:left]
    if anywhere or not left or rest[0] == c'?' or prefix.endswith(b"/"):
        return b"/" + rest[:left]
    return None


cdef bint begins_with(const char *octets, const char *word, Py_ssize_t length, bint any_case) noexcept:
    cdef Py_ssize_t i
    if not any_case:
        return memcmp(octets, word, length) == 0
    for i in range(length):
        if lower_of(octets[i]) != lower_of(word[i]):
            return False
    return True


cdef inline char lower_of(char octet) noexcept:
    return octet | 0x20 if c'A' <= octet <= c'Z' else octet


cdef int take_cookie(ClientConnection c, Notes notes, bytes name, const char *octets) except -1:
    """Read the cookie of this name, and leave it out of what is passed on."""
    cdef char *start = c.edge.scratch  # has room for all fields of a head written anew, and is not in use yet
    cdef char *at = start
    cdef const http1_field *field
    cdef uint32_t i
    cdef bint found = False
    cdef bytes fields
    for i in range(head.fields):
        field = &head.field[i]
        if field.id == HTTP1_COOKIE and not field.drop:
            at = other_cookies(notes, name, octets + field.value, octets + field.value_end, at, &found)
    if found:
        drop_fields(<uint64_t>1 << HTTP1_COOKIE)
        fields = start[:at - start]
        notes.fields = fields if notes.fields is None else notes.fields + fields
    return 0


cdef char *other_cookies(
    Notes notes, bytes name, const char *at, const char *end, char *to, bint *found,
) except NULL:
    """Write a Cookie field of the value from `at` to `end` without the cookie of this name; nothing if that is all."""
    cdef char *begin = put(to, b"Cookie: ", 8)
    cdef char *out = begin
    cdef Py_ssize_t length = PyBytes_GET_SIZE(name)
    cdef const char *part
    cdef const char *stop
    cdef bint first = True
    while at <= end:
        stop = <const char *>memchr(at, c';', end - at)
        if stop == NULL:
            stop = end
        part = without_space(at, stop)
        if stop - part > length and part[length] == c'=' and memcmp(part, PyBytes_AS_STRING(name), length) == 0:
            found[0] = True
            if notes.cookie is None:
                notes.cookie = cookie_value(part + length + 1, stop)
        else:
            if first:
                at = part
            else:
                out = put(out, b";", 1)
            first = False
            out = put(out, at, stop - at)
        at = stop + 1
    while out > begin and is_space((out - 1)[0]):
        out -= 1
    return to if out == begin else put(out, b"\r\n", 2)


cdef inline bint is_space(char octet) noexcept:
    return octet == c' ' or octet == c'\t'


cdef inline const char *without_space(const char *at, const char *end) noexcept:
    """Where the first octet is that is no white space."""
    while at < end and is_space(at[0]):
        at += 1
    return at


cdef bytes cookie_value(const char *at, const char *end):
    """Without white space behind it and quotes around it."""
    while end > at and is_space((end - 1)[0]):
        end -= 1
    while at < end and at[0] == c'"':
        at += 1
    while end > at and (end - 1)[0] == c'"':
        end -= 1
    return at[:end - at]


cdef bytes answer_fields(ClientConnection c, ServerConnection s):
    """What is added to an answer; what it replaces is marked in `head` as not to be passed on."""
    cdef Decision decision = c.decision
    cdef Server server = s.server
    cdef bytes added = b""
    if decision.hsts is not None:
        drop_fields(<uint64_t>1 << HTTP1_STRICT_TRANSPORT_SECURITY)
        added = decision.hsts
    if decision.location is not None and head.ids >> HTTP1_LOCATION & 1:
        drop_fields(<uint64_t>1 << HTTP1_LOCATION)
        added += b"Location: " + decision.location + b"\r\n"
    if decision.sticky is not None and server.cookie and (c.notes is None or c.notes.cookie != server.cookie):
        added += b"Set-Cookie: " + decision.sticky + b"=" + server.cookie + b"; path=/\r\nCache-Control: private\r\n"
    return added
