# The epoll, and the sockets that are listened on.


cdef class Watched:
    def __cinit__(self):
        self.fd = -1

    cdef int happened(self, uint32_t events) except -1:
        return 0

    cdef int leave(self) except -1:
        return 0

    cdef int failed(self) except -1:
        """Something in it is broken."""
        return 0

    cdef int watch(self, uint32_t mask) except -1:
        """Have epoll watch for these events, and for the end; 0: for nothing."""
        cdef epoll_event event
        cdef int what = EPOLL_CTL_MOD
        if mask == self.mask:
            return 0
        if self.mask == 0:
            what = EPOLL_CTL_ADD
        elif mask == 0:
            what = EPOLL_CTL_DEL
        event.events = mask
        event.data.ptr = <void *>self
        if epoll_ctl(self.poll.fd, what, self.fd, &event) < 0:
            raise OSError(errno, "epoll_ctl")
        self.mask = mask
        return 0


cdef Poll newest = None


def poll_of(loop):
    """The Poll of a loop, which ends with the loop. Raises OSError."""
    global newest
    if newest is None or newest.loop is not loop:
        newest = Poll(loop)
    return newest


cdef class Poll:
    """See the module."""

    def __cinit__(self):
        self.fd = -1

    def __init__(self, loop):
        self.loop = loop
        self.left = []
        self.fd = epoll_create1(EPOLL_CLOEXEC)
        if self.fd < 0:
            raise OSError(errno, "epoll_create1")
        loop.add_reader(self.fd, self.ready)

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)

    def ready(self):
        """Do what there is to do."""
        cdef epoll_event events[BATCH]
        cdef Watched it
        cdef int count, at
        self.running = True
        try:
            count = epoll_wait(self.fd, events, BATCH, 0)
            for at in range(count):
                it = <Watched>events[at].data.ptr
                if it.leaving:
                    continue
                try:
                    it.happened(events[at].events)
                except Exception:
                    it.failed()
        finally:
            self.running = False
            if self.left:
                self.let_go()

    def let_go(self):
        """Those that were to leave do."""
        cdef Watched it
        left, self.left = self.left, []
        for it in left:
            try:
                it.watch(0)  # closing would not do it while the file has another descriptor, as a listener's has
                it.leave()
            except Exception:
                it.failed()
            Py_DECREF(it)

    cdef int enters(self, Watched it) except -1:
        """It is of this poll, and held by it until it has left: nobody else may do so while it isn't watched."""
        it.poll = self
        Py_INCREF(it)
        return 0

    cdef int leaves(self, Watched it) except -1:
        """It is to leave soon."""
        if it.leaving:
            return 0
        it.leaving = True
        self.left.append(it)
        if not self.running and len(self.left) == 1:
            self.loop.call_soon(self.let_go)
        return 0

    def listen(self, sock, factory, int backlog):
        """Accept on this socket, which is then ours; each connection gets a Peer from the factory. Raises OSError."""
        cdef Listening it = Listening.__new__(Listening)
        it.factory = factory
        it.sock = sock
        it.fd = sock.fileno()
        sock.setblocking(False)
        sock.listen(backlog)
        self.enters(it)
        it.watch(EPOLLIN)
        return it

    cpdef object connect(self, Peer peer, str address, int port):
        """Connect to an IP address: `opened` or `unreachable` will be called. The stream, to be aborted before."""
        cdef PlainStream stream = PlainStream.__new__(PlainStream)
        cdef sockaddr_storage place
        cdef int length, error = 0, on = 1
        cdef bytes text = address.encode()
        self.enters(stream)
        stream.peer = peer
        stream.address = text
        stream.connecting = True
        length = place_of(text, port, &place)
        if length == 0:
            error = EINVAL
        else:
            stream.fd = socket_(place.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
            if stream.fd < 0:
                error = errno
        if not error:
            setsockopt(stream.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
            if c_connect(stream.fd, <sockaddr *>&place, <socklen_t>length) < 0 and errno != EINPROGRESS and errno != EINTR:
                error = errno
        if not error:
            try:
                stream.watch(EPOLLOUT)
            except OSError as failure:
                error = failure.errno
        if error:
            stream._not_connected(error)
        return stream


cdef int place_of(bytes address, int port, sockaddr_storage *place) noexcept:
    """The address as the kernel takes it; how long that is, 0: it is no IP address."""
    cdef sockaddr_in *four = <sockaddr_in *>place
    cdef sockaddr_in6 *six = <sockaddr_in6 *>place
    memset(place, 0, sizeof(sockaddr_storage))
    if inet_pton(AF_INET, address, &four.sin_addr) == 1:
        four.sin_family = AF_INET
        four.sin_port = htons(<unsigned short>port)
        return sizeof(sockaddr_in)
    if inet_pton(AF_INET6, address, &six.sin6_addr) == 1:
        six.sin6_family = AF_INET6
        six.sin6_port = htons(<unsigned short>port)
        return sizeof(sockaddr_in6)
    return 0


cdef bytes address_of(const sockaddr_storage *place):
    """The address as text: IPv4 as such even where the socket is one of IPv6, without a scope."""
    cdef char text[INET6_ADDRSTRLEN]
    cdef const sockaddr_in6 *six = <const sockaddr_in6 *>place
    cdef const void *octets
    cdef int family = place.ss_family
    cdef int at
    if family == AF_INET:
        octets = &(<const sockaddr_in *>place).sin_addr
    elif family == AF_INET6:
        octets = &six.sin6_addr
        for at in range(12):
            if six.sin6_addr.s6_addr[at] != (0xFF if at >= 10 else 0):
                break
        else:
            family = AF_INET
            octets = &six.sin6_addr.s6_addr[12]
    else:
        return b""
    if inet_ntop(family, octets, text, INET6_ADDRSTRLEN) == NULL:
        return b""
    return text


cdef class Listening(Watched):
    """A socket that is listened on."""

    cdef int happened(self, uint32_t events) except -1:
        cdef sockaddr_storage place
        cdef socklen_t length
        cdef int fd, at
        for at in range(ACCEPTED):
            length = sizeof(place)
            fd = accept4(self.fd, <sockaddr *>&place, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd >= 0:
                self.resting = False
                self.accepted(fd, address_of(&place))
            elif errno == EAGAIN:
                return 0
            elif errno in (EMFILE, ENFILE, ENOBUFS, ENOMEM, EINVAL, EBADF, ENOTSOCK, EOPNOTSUPP):
                return self.rest(errno)
            # else it was one connection's fault (accept(2) names many such errors)
            if self.leaving:
                return 0
        return 0

    cdef int accepted(self, int fd, bytes address) except -1:
        cdef PlainStream stream = PlainStream.__new__(PlainStream)
        self.poll.enters(stream)
        stream.fd = fd
        stream.address = address
        try:
            stream.peer = self.factory()
            stream._opened()
        except Exception:
            stream.failed()
        return 0

    cdef int rest(self, int error) except -1:
        """There are no files, and some will be closed meanwhile; or the socket is none any more. Who waits goes on."""
        if not self.resting:
            self.resting = True
            logger.warning("lb7: connections have to wait: %s", os.strerror(error))
        self.watch(0)
        self.poll.loop.call_later(OUT_OF_FILES, self.go_on)
        return 0

    def go_on(self):
        """Accept again."""
        if self.leaving:
            return
        try:
            self.watch(EPOLLIN)
        except OSError as error:
            self.rest(error.errno)

    def close(self):
        """Accept no more."""
        self.poll.leaves(self)

    cdef int leave(self) except -1:
        self.sock.close()
        self.factory = None
        return 0

    cdef int failed(self) except -1:
        logger.exception("lb7: an error in accepting connections")
        return 0
