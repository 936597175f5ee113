# What all connections of a worker share, and its listeners.


cdef class Edge:
    """The proxy of one worker. `settings`: lb7.settings.Settings; `log` gets a record of each request that is logged
    (access_log.py). Its methods are called on the event loop's thread."""

    def __cinit__(self):
        wheel_begin(self)
        self.scratch = NULL

    def __init__(self, settings, log):
        self.settings = settings
        self.log = log
        self.words = {}
        self.by_client = {}
        self.upstreams = set()
        self.giving_way = []
        self.trusted = Allowed(settings.trusted_proxies) if settings.trusted_proxies else None
        self.random = int.from_bytes(os.urandom(8), "little") | 1
        self.log_room = access_log.MOST_FAILURES
        self.log_threshold = <uint64_t>(settings.access_log * 4294967296.0)
        self.started = clock()
        self.request_ticks = ticks_of(settings.request_timeout)
        self.idle_ticks = ticks_of(settings.keep_alive_timeout)
        self.client_ticks = ticks_of(settings.client_timeout)
        self.server_ticks = ticks_of(settings.server_timeout)
        self.connect_ticks = ticks_of(settings.connect_timeout)
        self.queue_ticks = ticks_of(settings.queue_timeout)
        self.tunnel_ticks = ticks_of(settings.tunnel_timeout)
        self.pool_ticks = ticks_of(settings.server_keep_alive)
        self.hold_time = settings.hold_timeout
        self.hold_end = INFINITY
        self.max_head = settings.max_head
        self.max_fields = settings.max_headers
        self.max_body = settings.max_body
        self.max_connections = settings.max_connections
        self.max_per_client = settings.max_connections_per_client
        self.retries = settings.retries
        self.request_id = settings.request_id
        self.compat = settings.compat
        make_room_for(self, 0)

    def __dealloc__(self):
        wheel_end(self)
        free(self.scratch)

    def front(self, str name, Table table, str by, bint tls, int port):
        """A listener's factory of protocols: `by` as in lb7.table.Listener."""
        cdef Front front = Front.__new__(Front)
        front.edge = self
        front.name = name
        front.table = table
        front.by = ("host", "host_port", "sni", "app_id", "none").index(by)
        front.tls = tls
        front.port = port
        front.words = {}
        front.fields = b"X-Forwarded-Port: %d\r\n" % port
        if tls or not self.compat:
            front.fields = b"X-Forwarded-Proto: %b\r\n" % (b"https" if tls else b"http") + front.fields
        return front

    def tick(self):
        """Let time pass: to be called about every 250 ms."""
        cdef double passed = (clock() - self.started) / TICK
        cdef double most = <double>self.tick_now + MOST_TICKS_AT_ONCE
        if passed > most:
            self.started += (passed - most) * TICK
            passed = most
        while self.tick_now < <uint32_t>passed:
            wheel_turn(self)
            if self.tick_now % 4 == 0:
                each_second(self)

    def drain(self):
        """From now on each connection is closed when its request is over, and soon if it has none: clients that send one
        at this very moment get their answer."""
        cdef ClientConnection c
        self.draining = True
        for timed in wheel_owners(self):
            if isinstance(timed, ClientConnection):
                c = timed
                if c.state == FRESH or c.state == IDLE:
                    timer_set(c, min(c.due - self.tick_now, drain_ticks(c)))
        each_second(self)

    def end_holding(self, double seconds):
        """From now on no request is held for more than so many seconds: those that are then get the answer of those that
        were for too long."""
        cdef ClientConnection c
        self.hold_end = min(self.hold_end, clock() + seconds)
        for timed in wheel_owners(self):
            if isinstance(timed, ClientConnection):
                c = timed
                if c.state == HELD:
                    timer_set(c, min(c.due - self.tick_now, ticks_of(seconds)))

    def counts(self):
        """Numbers of the whole worker since its start, by name; `connections`, `requests_open` and `pooled` (connections
        to servers) are those of now. `log_dropped`: failures that were too many to log."""
        return {
            "accepted": self.accepted,
            "connections": self.connections,
            "requests": self.begun,
            "requests_open": self.requests,
            "pooled": len(self.upstreams),
            "log_dropped": self.log_dropped,
            **self.words,
        }


cdef inline Poll poll_of_edge(Edge edge):
    """Where its connections are watched."""
    if edge.poll is None:
        edge.poll = poll_of(asyncio.get_running_loop())
    return edge.poll


cdef inline uint32_t drain_ticks(ClientConnection c) noexcept:
    """How long a connection without a request stays open once its edge drains."""
    return DRAIN_FRESH_TICKS if c.state == FRESH else DRAIN_IDLE_TICKS


cdef int each_second(Edge edge) except -1:
    """What need not be done more often."""
    cdef ServerConnection s
    edge.log_room = access_log.MOST_FAILURES
    if edge.giving_way:
        edge.giving_way = []
    for s in list(edge.upstreams):
        if s.state == IDLE and (s.server.draining or s.server.gone or edge.draining):
            close_server(s)
    return 0


cdef class Front:
    """One listener: called, it makes the protocol of a new connection."""

    def __call__(self):
        cdef ClientConnection c = ClientConnection.__new__(ClientConnection)
        c.edge = self.edge
        c.front = self
        return c

    def counts(self):
        """Numbers of this listener since its start, by name (`open`: connections now), with a word for each thing that
        seldom happens: the faults of _http1 and what else is refused, "timeout_…", "answer_…" (a server's is none),
        "no_…" (who could answer), "…_full"."""
        return {
            "accepted": self.accepted,
            "open": self.open,
            "requests": self.requests,
            "received": self.received,
            "sent": self.sent,
            "no_route": 0,
            **self.words,
        }
