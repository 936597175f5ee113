# What is done with a request: the rule it meets, and what the rule asks for beside a server.


cdef Decision find_decision(ClientConnection c, const char *octets):
    """By what the listener goes by; None: no rule."""
    cdef Front front = c.front
    cdef const char *path = octets + head.path
    cdef Py_ssize_t path_len = head.path_only_len
    cdef uint32_t i
    if path_len == 0:
        path, path_len = b"/", 1
    if front.by == BY_HOST or front.by == BY_HOST_PORT:
        return front.table.find(octets + head.host, head.host_len, path, path_len)
    if front.by == BY_SNI and c.name:
        name = c.name.encode("latin-1", "replace")
        return front.table.find(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), path, path_len)
    if front.by == BY_APP_ID and head.ids >> HTTP1_X_MARATHON_APP_ID & 1:
        for i in range(head.fields):
            if head.field[i].id == HTTP1_X_MARATHON_APP_ID:
                return front.table.find(octets + head.field[i].value, head.field[i].value_end - head.field[i].value,
                                        path, path_len)
    return front.table.find(b"", 0, path, path_len)


cdef inline Py_ssize_t name_length(const char *host, Py_ssize_t length) noexcept:
    """A host's length without its port."""
    cdef Py_ssize_t end = length
    while end > 0 and c'0' <= host[end - 1] <= c'9':
        end -= 1
    return end - 1 if end > 0 and host[end - 1] == c':' else length


cdef bint special(ClientConnection c, Decision decision, bytes data, Py_ssize_t start) except -1:
    """What is more than a cluster: who may pass, redirects, other names and paths. True: it is dealt with."""
    cdef const char *octets = PyBytes_AS_STRING(data) + start
    cdef bytes location
    if decision.ambiguous:
        answer_self(c, 400, b"", "ambiguous", octets)
        return True
    if decision.auth is not None and not let_in(c, decision, data, start):
        return True
    if decision.redirect is not None:
        location = redirect_location(decision.redirect, octets)
        if location:
            answer_self(c, decision.redirect.status, b"Location: " + location + b"\r\n", "redirect", octets)
        else:
            answer_self(c, 400, b"", "bad_redirect", octets)
        return True
    if decision.cluster is None:
        return False
    if decision.allow is not None and not decision.allow.contains((<bytes>c.address[:c.address_len]).decode()):
        decision.cluster.counts.denied += 1
        answer_self(c, 403, b"", "denied", octets)
        return True
    if decision.root_redirect is not None and at_root(decision, octets):
        answer_self(c, 301, b"Location: " + decision.root_redirect + b"\r\n", "redirect", octets)
        return True
    rewrite_request(c, decision, octets)
    return False


cdef bint at_root(Decision decision, const char *octets) except -1:
    """Whether the request is one for "/" that the cluster sends elsewhere."""
    if head.path_only_len != 1 or octets[head.path] != c'/':
        return False
    return decision.root_hosts is None or octets[head.host:head.host + head.host_len].lower() in decision.root_hosts


cdef bytes redirect_location(object rule, const char *octets):
    """Where a redirect leads; empty: there is no telling."""
    cdef bytes path = octets[head.path:head.path + head.path_len] or b"/"
    cdef bytes host
    if rule.https:
        host = octets[head.host:head.host + name_length(octets + head.host, head.host_len)]
        return b"" if not host or path == b"*" else b"https://" + host + path
    path = rule.location.encode("utf-8", "replace")
    return b"" if any(octet < 32 or octet == 127 for octet in path) else path


cdef bint let_in(ClientConnection c, Decision decision, bytes data, Py_ssize_t start) except -1:
    """Whether the password is right; False: no, and the client has been told, or it is being looked into."""
    cdef const char *octets = PyBytes_AS_STRING(data) + start
    cdef bytes value = authorization(octets)
    if value is not None:
        known = decision.auth.known(value)
        if known is None and decision.auth.ask(value, c.password_known):
            c.state = AUTH
            c.framing = NOTHING
            c.buffer, c.at = data, start  # it is read again when the answer is there, and its body only then
            timer_set(c, c.edge.server_ticks)
            return False
        if known is None:
            answer_self(c, 503, b"", "auth_full", octets)
            return False
        if known:
            return True
    if decision.cluster is not None:
        decision.cluster.counts.unauthorized += 1
    answer_self(c, 401, b"WWW-Authenticate: " + decision.auth.challenge + b"\r\n", "unauthorized", octets)
    return False


cdef bytes authorization(const char *octets):
    """The value of the Authorization field, None: there is none, or there are several."""
    cdef bytes value = None
    cdef uint32_t i
    if head.ids >> HTTP1_AUTHORIZATION & 1:
        for i in range(head.fields):
            if head.field[i].id == HTTP1_AUTHORIZATION:
                if value is not None:
                    return None
                value = octets[head.field[i].value:head.field[i].value_end]
    return value


cdef int password_checked(ClientConnection c) except -1:
    """Take the request up again that waited for it."""
    if c.state == AUTH:
        c.state = HEAD
        begin_requests(c)
    return 0
