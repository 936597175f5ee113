# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Cut a JSON document into the elements of its large arrays while it arrives, in bounded memory.

`Splitter` reads a document in pieces of any size. Arrays whose path (member names joined by ".",
array levels not counted) is listed are emptied: each of their elements is handed out as bytes as
soon as its last byte is there, and what remains, with those arrays empty, is the skeleton. So a
snapshot of a hundred thousand tasks is never held as one value and never decoded in one go.

Only the structure is read here (strings, escapes, nesting, commas of listed arrays); whether an
element or the skeleton is valid JSON is for its decoder to say. A listed name that is written with
escapes is not recognised. Limits: nesting depth, size of one element, size of the skeleton.

How: a table per open level says what it is ({ or [), whether it is a listed array, and where in the
tree of listed names it is; below a level that is nowhere in that tree names are not even recorded.
The input is only read at positions below its length, each checked in the loop that reads it.
"""

cdef enum:
    MAX_DEPTH = 64
    MAX_NAME = 1024
    QUOTE = 34
    COMMA = 44
    OPEN_LIST = 91
    BACKSLASH = 92
    CLOSE_LIST = 93
    OPEN_OBJECT = 123
    CLOSE_OBJECT = 125


class SplitError(ValueError):
    """The document is not well-formed as far as its structure goes, or a limit was hit."""


def _tree(paths):
    """Nested dicts of the listed names; the key None of a dict holds the whole path that ends there."""
    root = {}
    for path in paths:
        node = root
        for name in path.split("."):
            node = node.setdefault(name, {})
        node[None] = path
    return root


cdef class Splitter:
    """Push parser: `feed` pieces, then `finish` for the skeleton.

    `paths`: array paths such as "get_state.get_tasks.tasks". `max_element` and `max_skeleton`:
    bytes. `feed` returns a list of (path, element bytes), in document order; an element that
    contains a listed array comes after that array's elements, with the array emptied.
    """

    cdef Py_ssize_t _max_element, _max_skeleton
    cdef int _depth                         # open levels
    cdef unsigned char _kind[MAX_DEPTH]     # { or [ per level
    cdef bint _listed[MAX_DEPTH]            # is the level a listed array
    cdef list _nodes                        # per level: dict of the tree of listed names, or None
    cdef list _paths                        # per level: path of the listed array, or None
    cdef list _buffers                      # the skeleton, then one bytearray per open element
    cdef bytearray _name                    # bytes of the member name that is being read
    cdef object _member                     # tree node of the member whose value comes next, or None
    cdef object _root
    cdef bint _in_string, _escaped, _expect_name, _naming, _done, _started, _element_open, _after_comma

    def __init__(self, paths, Py_ssize_t max_element=1 << 26, Py_ssize_t max_skeleton=1 << 26):
        self._max_element = max_element
        self._max_skeleton = max_skeleton
        self._depth = 0
        self._nodes = []
        self._paths = []
        self._buffers = [bytearray()]
        self._name = bytearray()
        self._root = _tree(paths)
        self._member = self._root
        self._in_string = self._escaped = self._expect_name = self._naming = False
        self._done = self._started = self._element_open = self._after_comma = False

    @property
    def done(self):
        """True when the document's last byte has been read."""
        return self._done

    def finish(self):
        """The skeleton. Raises SplitError when the document is not complete."""
        if not self._done:
            raise SplitError("the document ended too early")
        return bytes(self._buffers[0])

    cdef int _append(self, const unsigned char* data, Py_ssize_t start, Py_ssize_t end) except -1:
        cdef bytearray target
        cdef Py_ssize_t level = len(self._buffers)
        if end <= start:
            return 0
        target = self._buffers[level - 1]
        if len(target) + (end - start) > (self._max_skeleton if level == 1 else self._max_element):
            raise SplitError("an element or the skeleton is larger than allowed")
        target += data[start:end]
        return 0

    cdef int _open(self, unsigned char byte) except -1:
        """A { or [ begins."""
        cdef object node = self._member
        cdef object path = None
        if self._depth >= MAX_DEPTH:
            raise SplitError("the document is nested too deeply")
        if self._depth and self._kind[self._depth - 1] == OPEN_LIST:
            node = self._nodes[self._depth - 1]
        if byte == OPEN_LIST and node is not None:
            path = node.get(None)
        self._kind[self._depth] = byte
        self._listed[self._depth] = path is not None
        self._depth += 1
        self._nodes.append(node)
        self._paths.append(path)
        self._expect_name = byte == OPEN_OBJECT
        self._element_open = self._after_comma = False
        return 0

    cdef int _close(self, unsigned char byte) except -1:
        """A } or ] ends a level."""
        if not self._depth or self._kind[self._depth - 1] != (OPEN_OBJECT if byte == CLOSE_OBJECT else OPEN_LIST):
            raise SplitError("brackets do not match")
        self._depth -= 1
        self._nodes.pop()
        self._paths.pop()
        self._expect_name = False
        self._done = self._depth == 0
        # An enclosing listed array has this value as its open element.
        self._element_open = self._depth > 0 and self._listed[self._depth - 1]
        return 0

    cdef int _close_element(self, list out) except -1:
        """The element of a listed array that is open at the current level is complete."""
        cdef bytearray element = self._buffers.pop()
        out.append((self._paths[self._depth - 1], bytes(element).rstrip()))
        self._element_open = False
        return 0

    cdef int _named(self) except -1:
        """A member name is complete: where in the tree its value is."""
        cdef object node = self._nodes[self._depth - 1]
        self._naming = self._expect_name = False
        self._member = node.get(bytes(self._name).decode("utf-8", "replace")) if node is not None else None
        return 0

    cdef int _comma(self, list out, const unsigned char* data, Py_ssize_t* start, Py_ssize_t i) except -1:
        """A comma: the end of an element of a listed array, or a member name follows."""
        if not self._depth:
            raise SplitError("the document is not an object")
        if self._listed[self._depth - 1]:
            if not self._element_open:
                raise SplitError("an array element is missing")
            self._append(data, start[0], i)
            start[0] = i + 1
            self._close_element(out)
            self._after_comma = True
        elif self._kind[self._depth - 1] == OPEN_OBJECT:
            self._expect_name = True
        return 0

    cdef int _end(
        self, unsigned char c, list out, const unsigned char* data, Py_ssize_t* start, Py_ssize_t i
    ) except -1:
        """A closing bracket: the last element of a listed array ends before it."""
        if self._depth and self._listed[self._depth - 1]:
            if self._after_comma:
                raise SplitError("an array element is missing")
            if self._element_open:
                self._append(data, start[0], i)
                start[0] = i
                self._close_element(out)
        self._close(c)
        if self._done:
            self._append(data, start[0], i + 1)
            start[0] = i + 1
        return 0

    cdef Py_ssize_t _string(self, const unsigned char* data, Py_ssize_t i, Py_ssize_t n) except -1:
        """Read on inside a string; the position behind its closing quote, or n."""
        cdef Py_ssize_t begin = i
        cdef unsigned char c
        while i < n:
            c = data[i]
            if self._escaped:
                self._escaped = False
            elif c == BACKSLASH:
                self._escaped = True
            elif c == QUOTE:
                self._in_string = False
                break
            i += 1
        if self._naming:
            if len(self._name) + (i - begin) > MAX_NAME:
                raise SplitError("a member name is longer than allowed")
            self._name += data[begin:i]
            if not self._in_string:
                self._named()
        return i if self._in_string else i + 1

    def feed(self, const unsigned char[::1] view not None):
        """Read a piece; the elements that it completed. Raises SplitError."""
        cdef Py_ssize_t n = view.shape[0], i = 0, start = 0
        cdef unsigned char c
        cdef list out = []
        if n == 0:
            return out
        cdef const unsigned char* data = &view[0]
        while i < n:
            if self._in_string:
                i = self._string(data, i, n)
                continue
            c = data[i]
            if c == 32 or c == 9 or c == 10 or c == 13:
                i += 1
                continue
            if self._done:
                raise SplitError("bytes after the end of the document")
            if not self._element_open and self._depth and self._listed[self._depth - 1] and c != CLOSE_LIST and c != COMMA:
                # The first byte of an element: what came before belongs to the enclosing buffer.
                self._append(data, start, i)
                start = i
                self._buffers.append(bytearray())
                self._element_open = True
                self._after_comma = False
            if c == QUOTE:
                if not self._started:
                    raise SplitError("the document is not an object")
                self._in_string = True
                self._naming = self._expect_name
                if self._naming:
                    if self._nodes[self._depth - 1] is None:
                        self._naming = self._expect_name = False
                        self._member = None
                    else:
                        del self._name[:]
            elif c == OPEN_OBJECT or c == OPEN_LIST:
                if not self._started and c != OPEN_OBJECT:
                    raise SplitError("the document is not an object")
                self._started = True
                self._open(c)
            elif c == CLOSE_OBJECT or c == CLOSE_LIST:
                self._end(c, out, data, &start, i)
            elif c == COMMA:
                self._comma(out, data, &start, i)
            elif not self._started:
                raise SplitError("the document is not an object")
            i += 1
        if not self._done:
            self._append(data, start, n)
        return out
