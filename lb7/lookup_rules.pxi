# Paths: the first of a list of rules.

cdef uint32_t probe(const prefix_index* index, uint64_t hash, const uint8_t* path, Py_ssize_t length,
                    int useful, uint32_t best) noexcept nogil:
    """The first rule that has this prefix, if it comes before `best`."""
    cdef size_t at = hash & index.mask
    cdef const prefix_entry* entry
    cdef const uint8_t* octets
    while index.slots[at]:
        entry = &index.entries[index.slots[at] - 1]
        at = (at + 1) & index.mask
        if entry.hash != hash or entry.length != <uint32_t>length:
            continue
        octets = index.octets + entry.start
        if are_alike(index, path, octets, length):
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
    cdef uint64_t hash = 0, rest
    cdef const uint8_t* at = path   # up to where the words are in `hash`
    cdef const prefix_length* some = index.lengths
    cdef const prefix_length* end = some + index.lengths_end
    cdef Py_ssize_t size
    cdef int useful
    while some < end and some.length <= length:
        size, useful = some.length, some.kinds
        some += 1
        if size != length:
            useful &= BEGIN | BORDER if path[size] == c"/" else BEGIN
        if useful:
            while path + size - at >= WORD:
                hash = mix(hash, as_compared(index, part64(at, WORD)), point)
                at += WORD
            rest = as_compared(index, part64(at, path + size - at))
            best = probe(index, last_mixed(hash, rest, size), path, size, useful, best)
    return best


cdef inline bint are_alike(const prefix_index* index, const uint8_t* path, const uint8_t* octets,
                           size_t length) noexcept nogil:
    return is_lowered(path, octets, length) if index.folded else memcmp(path, octets, length) == 0


cdef inline uint64_t as_compared(const prefix_index* index, uint64_t word) noexcept nogil:
    return lowered64(word) if index.folded else word


cdef uint64_t hashed_as_is(const uint8_t* octets, Py_ssize_t length) noexcept nogil:
    cdef uint64_t hash = 0
    cdef Py_ssize_t left = length
    while left >= WORD:
        hash = mix(hash, part64(octets, WORD), point)
        octets += WORD
        left -= WORD
    return last_mixed(hash, part64(octets, left), length)


cdef int build(prefix_index* index, dict prefixes, bint folded) except -1:
    """From octets → [first rule by BEGIN, by BORDER, by WHOLE]."""
    cdef size_t size = 4, total = 0, start = 0, at
    cdef uint32_t number = 0
    cdef prefix_entry* entry
    cdef bytes octets
    cdef list orders
    cdef dict kinds = {}
    for octets in prefixes:
        total += PyBytes_GET_SIZE(octets)
    while size < 2 * <size_t>len(prefixes):
        size *= 2
    index.mask = size - 1
    index.folded = folded
    index.entries = <prefix_entry*>calloc(max(1, len(prefixes)), sizeof(prefix_entry))
    index.slots = <uint32_t*>calloc(size, sizeof(uint32_t))
    index.octets = <uint8_t*>malloc(total + 1)
    if not index.entries or not index.slots or not index.octets:
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
        kinds[entry.length] = kinds.get(entry.length, 0) | (
            (BEGIN if entry.begin != NEVER else 0) | (BORDER if entry.border != NEVER else 0)
            | (WHOLE if entry.whole != NEVER else 0))
        at = entry.hash & index.mask
        while index.slots[at]:
            at = (at + 1) & index.mask
        index.slots[at] = number
    return set_lengths(index, kinds)


cdef int set_lengths(prefix_index* index, dict kinds) except -1:
    """From length → kinds of the prefixes that are so long."""
    index.lengths = <prefix_length*>malloc(len(kinds) * sizeof(prefix_length))
    if not index.lengths:
        raise MemoryError
    for length, of_length in sorted(kinds.items()):
        index.lengths[index.lengths_end].length = length
        index.lengths[index.lengths_end].kinds = of_length
        index.lengths_end += 1
    return 0


cdef void release(prefix_index* index) noexcept:
    free(index.entries)
    free(index.slots)
    free(index.octets)
    free(index.lengths)


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
            build(&self.plain, plain, False)
        if folded:
            build(&self.folded, folded, True)

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
