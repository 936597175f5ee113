# Time-outs: a wheel of slots, one for each tick of a quarter of a second.
#
# A connection's deadline moves with every request, its place in the wheel seldom: where it stands is at its deadline or
# before, and when that slot's time has come it is moved on if the deadline is later by then. So a busy connection costs
# one comparison a request, and a tick only those whose time may have come.

cdef double TICK = 0.25
cdef enum:
    MOST_TICKS_AT_ONCE = 4      # after a stall, time goes on slowly: what came meanwhile is read before it is too late
    NEVER = 0xFFFFFFFF


cdef inline double clock() noexcept:
    """Seconds of the monotonic clock."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef uint32_t ticks_of(double seconds) noexcept:
    """At least that long."""
    return <uint32_t>ceil(min(seconds, 1e8) / TICK) + 1


cdef inline void timer_remove(Timed it) noexcept:
    if it.timer.next != NULL:
        it.timer.next.previous = it.timer.previous
        it.timer.previous.next = it.timer.next
        it.timer.next = NULL


cdef void timer_place(Timed it) noexcept:
    """Put it into the slot of its deadline, or into the last one."""
    cdef uint32_t last = it.edge.tick_now + SLOTS - 1
    cdef link *slot
    timer_remove(it)
    it.placed = min(it.due, last)
    slot = &it.edge.wheel[it.placed % SLOTS]
    it.timer.next = slot
    it.timer.previous = slot.previous
    slot.previous.next = &it.timer
    slot.previous = &it.timer


cdef inline void timer_set(Timed it, uint32_t ticks) noexcept:
    """The deadline is in so many ticks, one or more."""
    it.due = it.edge.tick_now + ticks
    if it.timer.next == NULL or it.due < it.placed:
        timer_place(it)


cdef inline void timer_clear(Timed it) noexcept:
    """No deadline; others watch."""
    it.due = NEVER


cdef class Timed:
    def __cinit__(self):
        self.timer.owner = <PyObject *>self

    def __dealloc__(self):
        timer_remove(self)

    cdef int expired(self) except -1:
        return 0


cdef void wheel_begin(Edge edge) noexcept:
    cdef int at
    for at in range(SLOTS + 1):
        edge.wheel[at].next = edge.wheel[at].previous = &edge.wheel[at]
        edge.wheel[at].owner = NULL


cdef void wheel_end(Edge edge) noexcept:
    """Take out what has a place: the garbage collector may free the edge before its connections."""
    cdef int at
    cdef link *it
    for at in range(SLOTS + 1):
        while edge.wheel[at].next != &edge.wheel[at]:
            it = edge.wheel[at].next
            edge.wheel[at].next = it.next
            it.next = NULL


cdef int wheel_turn(Edge edge) except -1:
    """One tick: end what is due, and move on what is not."""
    cdef link *slot
    cdef link *now = &edge.wheel[SLOTS]
    cdef Timed it
    edge.tick_now += 1
    slot = &edge.wheel[edge.tick_now % SLOTS]
    if slot.next != slot:
        slot.next.previous = now.previous
        now.previous.next = slot.next
        slot.previous.next = now
        now.previous = slot.previous
        slot.next = slot.previous = slot
    while now.next != now:
        it = <Timed>now.next.owner
        timer_remove(it)
        if it.due > edge.tick_now:
            timer_place(it)
            continue
        try:
            it.expired()
        except Exception:
            broken(it)
    return 0


cdef list wheel_owners(Edge edge):
    """Everything that has a place."""
    cdef list owners = []
    cdef link *it
    cdef int at
    for at in range(SLOTS + 1):
        it = edge.wheel[at].next
        while it != &edge.wheel[at]:
            owners.append(<object>it.owner)
            it = it.next
    return owners
