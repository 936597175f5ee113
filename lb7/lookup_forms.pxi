# Paths: their forms, as lb7/paths.py has them in Python.

cdef uint8_t* scratch = NULL
cdef Py_ssize_t scratch_size = 0


cdef bint is_odd(const uint8_t* path, Py_ssize_t length) noexcept nogil:
    """Whether the path may have another form than its own octets."""
    cdef Py_ssize_t i
    if length == 0 or path[0] != c"/":
        return length == 0
    for i in range(length):
        if odd[path[i]] and (path[i] != c"/" or i + 1 < length and (path[i + 1] == c"/" or path[i + 1] == c".")):
            return True
    return False


cdef int hex_digit(uint8_t octet) noexcept nogil:
    if c"0" <= octet <= c"9":
        return octet - c"0"
    octet |= 32
    return octet - c"a" + 10 if c"a" <= octet <= c"f" else -1


cdef Py_ssize_t decoded(const uint8_t* path, Py_ssize_t length, uint8_t* to) noexcept nogil:
    """Percent-encoding decoded once, except for separators: "%2F" and "%5C" stay, and get capitals."""
    cdef Py_ssize_t i = 0, written = 0
    cdef int octet
    while i < length:
        octet = path[i]
        if octet == c"%" and i + 2 < length and hex_digit(path[i + 1]) >= 0 and hex_digit(path[i + 2]) >= 0:
            octet = hex_digit(path[i + 1]) << 4 | hex_digit(path[i + 2])
            i += 2
            if octet == c"/" or octet == c"\\":
                to[written] = c"%"
                to[written + 1] = c"2" if octet == c"/" else c"5"
                to[written + 2] = c"F" if octet == c"/" else c"C"
                written += 3
                i += 1
                continue
        to[written] = octet
        written += 1
        i += 1
    return written


cdef Py_ssize_t end_segment(uint8_t* to, Py_ssize_t start, Py_ssize_t end, bint slash, bint* dots) noexcept nogil:
    """Where to go on after a segment: behind its "/" (none at the path's end), or where a dot segment leads."""
    cdef Py_ssize_t length = end - start
    if length == 0:
        return start
    if to[start] == c"." and (length == 1 or length == 2 and to[start + 1] == c"."):
        dots[0] = True
        if length == 2 and start > 1:
            start -= 1
            while to[start - 1] != c"/":
                start -= 1
        return start
    if slash:
        to[end] = c"/"
        end += 1
    return end


cdef Py_ssize_t resolved(const uint8_t* path, Py_ssize_t length, uint8_t* to, bint* dots) noexcept nogil:
    """The matched form, never longer than the path. `dots`: whether there were dot segments."""
    cdef Py_ssize_t i = 1, start = 1, written = 1
    cdef int octet
    cdef bint parameter = False
    to[0] = c"/"
    while i < length:
        octet = path[i]
        if octet == c"%" and i + 2 < length and hex_digit(path[i + 1]) >= 0 and hex_digit(path[i + 2]) >= 0:
            octet = hex_digit(path[i + 1]) << 4 | hex_digit(path[i + 2])
            i += 2
        i += 1
        if octet == c"/" or octet == c"\\":
            start = written = end_segment(to, start, written, True, dots)
            parameter = False
        elif octet == c";":
            parameter = True
        elif not parameter:
            to[written] = octet
            written += 1
    return end_segment(to, start, written, False, dots)


cdef uint8_t* room(Py_ssize_t size) except NULL:
    """Octets that are free until the next call; no more than two of the longest heads."""
    global scratch, scratch_size
    cdef uint8_t* larger
    if size > scratch_size:
        larger = <uint8_t*>realloc(scratch, size)
        if not larger:
            raise MemoryError
        scratch = larger
        scratch_size = size
    return scratch
