# Paths: the first of a list of rules.

cdef uint32_t probe(const prefix_index* index, uint64_t hash, const uint8_t* path, Py_ssize_t length,
                    int useful, uint32_t best) noexcept nogil:
    """The first rule that has this prefix, if it comes before `best`."""
    cdef size_t at = hash & index.mask
    cdef const prefix_entry* entry
    cdef const uint8_t* octets
    cdef Py_ssize_t i
    while index.slots[at]:
        entry = &index.entries[index.slots[at] - 1]
        at = (at + 1) & index.mask
        if entry.hash != hash or entry.length != <uint32_t>length:
            continue
        octets = index.octets + entry.start
        for i in range(length):
            if index.fold[path[i]] != octets[i]:
                break
        else:
            if useful & BEGIN:
                best = min(best, entry.begin)
            if useful & BORDER:
                best = min(best, entry.border)
            if useful & WHOLE:
                best = min(best, entry.whole)
            break
    return best


cdef uint32_t search(const prefix_index* index, const uint8_t* path, Py_ssize_t length, uint32_t best) noexcept nogil:
    """The first rule with a prefix of this path, if it comes before `best`."""
    cdef uint64_t hash = 0, word = 0
    cdef int shift = 0, useful
    cdef Py_ssize_t i, end = min(length, index.longest)
    for i in range(end + 1):
        useful = index.kinds[i]
        if useful:
            if i != length:
                useful &= BEGIN | BORDER if path[i] == c"/" else BEGIN
            if useful:
                best = probe(index, mix(mix(hash, word, point), i, point), path, i, useful, best)
        if i == end:
            break
        word |= <uint64_t>index.fold[path[i]] << shift
        shift += 8
        if shift == WORD:
            hash = mix(hash, word, point)
            word = 0
            shift = 0
    return best


cdef uint64_t hashed_as_is(const uint8_t* octets, Py_ssize_t length) noexcept nogil:
    cdef uint64_t hash = 0, word = 0
    cdef int shift = 0
    cdef Py_ssize_t i
    for i in range(length):
        word |= <uint64_t>octets[i] << shift
        shift += 8
        if shift == WORD:
            hash = mix(hash, word, point)
            word = 0
            shift = 0
    return mix(mix(hash, word, point), length, point)


cdef int build(prefix_index* index, dict prefixes, const uint8_t* fold) except -1:
    """From octets → [first rule by BEGIN, by BORDER, by WHOLE]."""
    cdef size_t size = 4, total = 0, start = 0, at
    cdef uint32_t number = 0
    cdef prefix_entry* entry
    cdef bytes octets
    cdef list orders
    for octets in prefixes:
        total += PyBytes_GET_SIZE(octets)
        index.longest = max(index.longest, PyBytes_GET_SIZE(octets))
    while size < 2 * <size_t>len(prefixes):
        size *= 2
    index.mask = size - 1
    index.fold = fold
    index.entries = <prefix_entry*>calloc(max(1, len(prefixes)), sizeof(prefix_entry))
    index.slots = <uint32_t*>calloc(size, sizeof(uint32_t))
    index.octets = <uint8_t*>malloc(total + 1)
    index.kinds = <uint8_t*>calloc(index.longest + 1, 1)
    if not index.entries or not index.slots or not index.octets or not index.kinds:
        raise MemoryError
    for octets, orders in prefixes.items():
        entry = &index.entries[number]
        number += 1
        entry.start = start
        entry.length = PyBytes_GET_SIZE(octets)
        memcpy(index.octets + start, PyBytes_AS_STRING(octets), entry.length)
        entry.hash = hashed_as_is(index.octets + start, entry.length)
        start += entry.length
        entry.begin, entry.border, entry.whole = orders
        index.kinds[entry.length] |= ((BEGIN if entry.begin != NEVER else 0) | (BORDER if entry.border != NEVER else 0)
                                      | (WHOLE if entry.whole != NEVER else 0))
        at = entry.hash & index.mask
        while index.slots[at]:
            at = (at + 1) & index.mask
        index.slots[at] = number
    return 0


cdef void release(prefix_index* index) noexcept:
    free(index.entries)
    free(index.slots)
    free(index.octets)
    free(index.kinds)


cdef class FirstMatch:
    def __cinit__(self, list prefixes, list numbers, always):
        """`prefixes`: (rule, kind, octets, whether to ignore case)."""
        cdef dict plain = {}, folded = {}
        cdef list orders
        self.always = NEVER if always is None else always
        self.by_path = bool(prefixes)
        self.numbers = <uint32_t*>malloc(sizeof(uint32_t) * max(1, len(numbers)))
        if not self.numbers:
            raise MemoryError
        for i, number in enumerate(numbers):
            self.numbers[i] = number
        for rule, kind, octets, ignore_case in prefixes:
            into = plain
            if ignore_case:
                into, octets = folded, octets.lower()
            orders = into.get(octets)
            if orders is None:
                orders = into[octets] = [NEVER, NEVER, NEVER]
            place = kind // 2
            if rule < orders[place]:
                orders[place] = rule
        if plain:
            build(&self.plain, plain, same)
        if folded:
            build(&self.folded, folded, lower)

    def __dealloc__(self):
        free(self.numbers)
        release(&self.plain)
        release(&self.folded)

    cdef uint32_t rule(self, const uint8_t* path, Py_ssize_t length) noexcept:
        """The first rule that matches, or NEVER."""
        cdef uint32_t found = self.always
        if self.plain.slots:
            found = search(&self.plain, path, length, found)
        if self.folded.slots:
            found = search(&self.folded, path, length, found)
        return found

    cdef uint32_t first(self, const uint8_t* path, Py_ssize_t length) noexcept:
        """0: no rule matches, or what it says is nothing."""
        cdef uint32_t found = self.rule(path, length)
        return 0 if found == NEVER else self.numbers[found]
