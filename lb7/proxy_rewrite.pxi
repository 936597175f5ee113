# Requests and answers that are not passed on as they are: another path or host, sticky clients, our fields in answers.


cdef int rewrite_request(ClientConnection c, Decision decision, const char *octets) except -1:
    cdef Notes notes = notes_of(c)
    cdef bytes path
    if decision.strip_path is not None or decision.host_line is not None:
        remember_asked(notes, octets)
    if decision.strip_path is not None:
        path = octets[head.path:head.path + head.path_len]
        notes.path = stripped(path, decision.strip_path, c.edge.compat)
    if decision.host_line is not None and not c.edge.compat and not c.trusted:
        notes.fields = b"X-Forwarded-Host: " + octets[head.host:head.host + head.host_len] + b"\r\n"
    if decision.sticky is not None and head.ids >> HTTP1_COOKIE & 1:
        take_cookie(notes, decision.sticky, octets)
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


cdef bytes stripped(bytes path, bytes prefix, bint anywhere):
    """The path without the prefix, one slash at its beginning. `anywhere`: as marathon-lb, which looks at neither case
    nor borders of segments; None: it does not begin so."""
    cdef bytes rest
    if not (path.lower().startswith(prefix.lower()) if anywhere else path.startswith(prefix)):
        return None
    rest = path[len(prefix):]
    if rest.startswith(b"/"):
        return rest
    if anywhere or not rest or rest.startswith(b"?") or prefix.endswith(b"/"):
        return b"/" + rest
    return None


cdef int take_cookie(Notes notes, bytes name, const char *octets) except -1:
    """Read the cookie of this name, and leave it out of what is passed on."""
    cdef uint32_t i
    cdef http1_field *field
    cdef list kept
    cdef bytes value
    cdef bytes begin = name + b"="
    cdef bytes fields = b""
    cdef bint found = False
    for i in range(head.fields):
        field = &head.field[i]
        if field.id != HTTP1_COOKIE or field.drop:
            continue
        kept = []
        value = octets[field.value:field.value_end]
        for part in value.split(b";"):
            if part.strip(b" \t").startswith(begin):
                found = True
                if notes.cookie is None:
                    notes.cookie = part.strip(b" \t")[len(begin):].strip(b'"')
            else:
                kept.append(part)
        if kept:
            fields += b"Cookie: " + b";".join(kept).strip(b" \t") + b"\r\n"
    if found:
        drop_fields(<uint64_t>1 << HTTP1_COOKIE)
        notes.fields = fields if notes.fields is None else notes.fields + fields
    return 0


cdef bytes answer_fields(ClientConnection c, ServerConnection s):
    """What is added to an answer; what it replaces is marked in `head` as not to be passed on."""
    cdef Decision decision = c.decision
    cdef Server server = s.server
    cdef bytes added = b""
    if decision.hsts is not None:
        drop_fields(<uint64_t>1 << HTTP1_STRICT_TRANSPORT_SECURITY)
        added += decision.hsts
    if decision.location is not None and head.ids >> HTTP1_LOCATION & 1:
        drop_fields(<uint64_t>1 << HTTP1_LOCATION)
        added += b"Location: " + decision.location + b"\r\n"
    if decision.sticky is not None and server.cookie and (c.notes is None or c.notes.cookie != server.cookie):
        added += b"Set-Cookie: " + decision.sticky + b"=" + server.cookie + b"; path=/\r\nCache-Control: private\r\n"
    return added
