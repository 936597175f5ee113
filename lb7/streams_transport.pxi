# A connection that is asyncio's: TLS.


cdef class TransportStream(Stream):
    def __init__(self, transport):
        cdef bytes address
        self.transport = transport
        self.half_closes = transport.can_write_eof()
        peer = transport.get_extra_info("peername")
        address = peer[0].encode() if isinstance(peer, tuple) and peer else b""
        if address.startswith(b"::ffff:") and b"." in address:
            address = address[7:]
        elif b"%" in address:
            address = address.partition(b"%")[0]
        self.address = address

    def __repr__(self):
        return f"<TransportStream {self.transport}>"

    cdef int write(self, bytes octets) except -1:
        self.transport.write(octets)
        return 0

    cdef int write_both(self, bytes first, bytes octets, Py_ssize_t start, Py_ssize_t end) except -1:
        self.transport.writelines([first, memoryview(octets)[start:end]])
        return 0

    cdef int write_eof(self) except -1:
        self.transport.write_eof()
        return 0

    cdef int pause(self) except -1:
        self.transport.pause_reading()
        return 0

    cdef int resume(self) except -1:
        self.transport.resume_reading()
        return 0

    cdef int close(self) except -1:
        self.transport.close()
        return 0

    cdef int abort(self) except -1:
        self.transport.abort()
        return 0

    cdef int reset(self) except -1:
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            except OSError:
                pass
        self.transport.abort()
        return 0

    cdef size_t waiting(self) except? 0xFFFFFFFF:
        return self.transport.get_write_buffer_size()

    cdef size_t unacknowledged(self) except? 0xFFFFFFFF:
        cdef size_t octets = self.transport.get_write_buffer_size()
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            try:
                octets += max(0, struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
            except (OSError, ValueError):
                pass
        return octets
