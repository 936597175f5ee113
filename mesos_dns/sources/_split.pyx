# cython: language_level=3, boundscheck=True, wraparound=False
"""Cut a JSON document into the elements of its large arrays while it arrives, in bounded memory.

`Splitter` reads a document in pieces of any size. Arrays whose path (member names joined by ".",
array levels not counted) is listed are emptied: each of their elements is handed out as bytes as
soon as its last byte is there, and what remains, with those arrays empty, is the skeleton. So a
snapshot of a hundred thousand tasks is never held as one value and never decoded in one go.

Only the structure is read here (strings, escapes, nesting); whether an element is valid JSON is
for its decoder to say. Limits: nesting depth, size of one element, size of the skeleton.
Every read of the input is bounds-checked.
"""

cdef enum:
    MAX_DEPTH = 64


class SplitError(ValueError):
    """The document is not well-formed as far as its structure goes, or a limit was hit."""


cdef class Splitter:
    """Push parser: `feed` pieces, then `finish` for the skeleton.

    `paths`: array paths such as "get_state.get_tasks.tasks". `max_element` and `max_skeleton`:
    bytes. `feed` returns a list of (path, element bytes), in document order; an element that
    contains a listed array comes after that array's elements, with the array emptied.
    """

    cdef object _paths
    cdef Py_ssize_t _max_element, _max_skeleton
    cdef list _buffers          # one bytearray per open element; the first is the skeleton
    cdef list _names            # member name at each depth (None in arrays)
    cdef list _kinds            # b'{' or b'[' per depth
    cdef list _split            # path of the listed array per depth, or None
    cdef bint _in_string, _escaped, _expect_name, _done, _started
    cdef bytearray _string      # bytes of the string just read, for member names
    cdef object _last_string
    cdef bint _element_open     # an element of a listed array is being read at the current depth

    def __init__(self, paths, Py_ssize_t max_element=1 << 26, Py_ssize_t max_skeleton=1 << 26):
        self._paths = frozenset(paths)
        self._max_element = max_element
        self._max_skeleton = max_skeleton
        self._buffers = [bytearray()]
        self._names = []
        self._kinds = []
        self._split = []
        self._string = bytearray()
        self._last_string = None
        self._in_string = self._escaped = self._expect_name = self._done = self._started = False
        self._element_open = False

    @property
    def done(self):
        """True when the document's last byte has been read."""
        return self._done

    def finish(self):
        """The skeleton. Raises SplitError when the document is not complete."""
        if not self._done:
            raise SplitError("the document ended too early")
        return bytes(self._buffers[0])

    cdef _path(self):
        return ".".join([name for name in self._names if name is not None])

    cdef _append(self, const unsigned char[:] data, Py_ssize_t start, Py_ssize_t end):
        cdef bytearray target
        if end <= start:
            return
        target = self._buffers[len(self._buffers) - 1]
        if len(target) + (end - start) > (self._max_skeleton if len(self._buffers) == 1 else self._max_element):
            raise SplitError("an element or the skeleton is larger than allowed")
        target += data[start:end]

    cdef _close_element(self, list out):
        """The element of a listed array that is open at the current depth is complete."""
        cdef bytearray element = self._buffers.pop()
        out.append((self._split[len(self._split) - 1], bytes(element).strip()))
        self._element_open = False

    cdef _open(self, unsigned char byte):
        cdef object path = None
        if len(self._kinds) >= MAX_DEPTH:
            raise SplitError("the document is nested too deeply")
        if byte == 91:                                  # [
            path = self._path()
            if path not in self._paths:
                path = None
        self._kinds.append(byte)
        self._split.append(path)
        self._names.append(None)
        self._expect_name = byte == 123                 # {
        self._element_open = False

    cdef _close(self, unsigned char byte):
        if not self._kinds or self._kinds[len(self._kinds) - 1] != (123 if byte == 125 else 91):
            raise SplitError("brackets do not match")
        self._kinds.pop()
        self._split.pop()
        self._names.pop()
        self._expect_name = False
        if not self._kinds:
            self._done = True
        # An enclosing listed array has this value as its open element.
        self._element_open = bool(self._split) and self._split[len(self._split) - 1] is not None

    cdef bint _in_listed(self):
        return bool(self._split) and self._split[len(self._split) - 1] is not None

    def feed(self, const unsigned char[:] data):
        """Read a piece; the elements that it completed. Raises SplitError."""
        cdef Py_ssize_t n = data.shape[0], i = 0, start = 0
        cdef unsigned char c
        cdef list out = []
        cdef bint listed = self._in_listed()
        while i < n:
            c = data[i]
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif c == 92:                           # backslash
                    self._escaped = True
                elif c == 34:                           # quote
                    self._in_string = False
                    if self._expect_name:
                        self._names[len(self._names) - 1] = bytes(self._string).decode("utf-8", "replace")
                        self._expect_name = False
                    i += 1
                    continue
                if self._expect_name:
                    self._string.append(c)
                    if len(self._string) > 1024:
                        raise SplitError("a member name is longer than allowed")
                i += 1
                continue
            if self._done:
                if c not in b" \t\r\n":
                    raise SplitError("bytes after the end of the document")
                i += 1
                start = i
                continue
            if c == 32 or c == 9 or c == 10 or c == 13:
                i += 1
                continue
            if listed and not self._element_open and c != 93 and c != 44:
                # the first byte of an element: what came before belongs to the enclosing buffer
                self._append(data, start, i)
                start = i
                self._buffers.append(bytearray())
                self._element_open = True
            if c == 34:
                self._in_string = True
                if self._expect_name:
                    del self._string[:]
            elif c == 123 or c == 91:
                if not self._started and c != 123:
                    raise SplitError("the document is not an object")
                self._started = True
                self._open(c)
                listed = self._in_listed()
            elif c == 125 or c == 93:
                if listed and self._element_open:       # ends the last element of a listed array
                    self._append(data, start, i)
                    start = i
                    self._close_element(out)
                self._close(c)
                listed = self._in_listed()
                if self._done:
                    self._append(data, start, i + 1)
                    start = i + 1
            elif c == 44:                               # comma
                if not self._kinds:
                    raise SplitError("the document is not an object")
                if listed:
                    if not self._element_open:
                        raise SplitError("an array element is missing")
                    self._append(data, start, i)
                    start = i + 1
                    self._close_element(out)
                elif self._kinds[len(self._kinds) - 1] == 123:
                    self._expect_name = True
            elif not self._started:
                raise SplitError("the document is not an object")
            i += 1
        if not self._done:
            self._append(data, start, n)
        return out
