/* libFuzzer: any sequence of operations on a small table, held against a plain model of what it should hold.
 *
 * An input is one octet (chance, and how many answers there may be), then operations of four octets each.
 */
#include "store_model.h"

enum { STEPS = 96 };

/* --- operations ------------------------------------------------------------------------------------ */

static uint32_t next_random(void) { return m.random = m.random * 1664525 + 1013904223; }

static void put(uint32_t key, uint32_t size, uint32_t hangs) {
    uint64_t depends[DEPENDENCIES + 2];
    uint32_t count = 0;
    if (key >= FIRST_KEYS) { /* many dependencies of one answer each */
        depends[count++] = key;
        hangs = 0;
    }
    for (uint32_t i = 0; i < DEPENDENCIES; i++)
        if (hangs >> i & 1)
            depends[count++] = i * 0x100000001ULL; /* 0 is one of them */
    if (count && hangs & 1)
        depends[count++] = depends[0]; /* twice the same */
    draft_key(key, m.version + 1, size);
    uint64_t flushed = m.s->flushed, refused = m.s->refused;
    if (store_put(m.s, &m.draft.parts, depends, count))
        m.keys[key] = (kept_answer){true, ++m.version, size, hangs};
    else if (m.s->refused != refused || m.s->flushed != flushed)
        m.keys[key].there = false; /* the old answer went before room was looked for */
}

static void touch(uint32_t dependency) {
    uint32_t expected = 0;
    if (m.evicted != m.s->evicted || m.flushed != m.s->flushed)
        check_keys(); /* learns what has gone */
    for (uint32_t key = 0; key < KEYS; key++)
        if (m.keys[key].there && m.keys[key].hangs >> dependency & 1) {
            m.keys[key].there = false;
            expected++;
        }
    if (store_touch(m.s, dependency * 0x100000001ULL) != expected)
        fail("not all that hang on a dependency were dropped");
}

static void clear(void) {
    uint64_t flushed = m.s->flushed, refused = m.s->refused, evicted = m.s->evicted;
    store_clear(m.s);
    if (m.s->answers || m.s->flushed != flushed || m.s->refused != refused || m.s->evicted != evicted)
        fail("a clear is counted as something else");
    if (m.s->crowded && !reader_holds())
        fail("no reader is left, and yet answers are refused after a clear");
    for (uint32_t key = 0; key < KEYS; key++)
        m.keys[key].there = false;
}

static void name(uint32_t number, bool enters) {
    char owner[64];
    uint8_t wire[64];
    owner_name(owner, number);
    uint32_t len = name_wire(wire, owner) - 1;
    if (!enters && !m.names[number])
        return;
    m.names[number] += enters ? 1 : -1u;
    if (!enters)
        store_leave(m.s, BELOW, wire, len);
    else
        entered(store_enter(m.s, BELOW, wire, len));
}

/* Names that come and go, as tasks do: each leaves its mark in the set. */
static void churn_names(uint32_t count) {
    char owner[64];
    uint8_t wire[64];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(owner, sizeof owner, "task-%u", next_random());
        uint32_t len = name_wire(wire, owner) - 1;
        entered(store_enter(m.s, BELOW, wire, len));
        store_leave(m.s, BELOW, wire, len);
    }
}

/* As many names as this, so that their set grows. */
static void crowd_names(uint32_t wanted) {
    char owner[64];
    uint8_t wire[64];
    while (m.crowd != wanted) {
        snprintf(owner, sizeof owner, "c%u", m.crowd < wanted ? m.crowd : m.crowd - 1);
        uint32_t len = name_wire(wire, owner) - 1;
        if (m.crowd < wanted) {
            entered(store_enter(m.s, BELOW, wire, len));
            m.crowd++;
        } else {
            store_leave(m.s, BELOW, wire, len);
            m.crowd--;
        }
    }
}

static void configure(uint32_t zones) {
    uint32_t size = (uint32_t)(sizeof(settings) + zones * sizeof(zone_entry));
    settings *now = calloc(1, size);
    now->max_udp = 1232;
    now->zones = (uint8_t)zones;
    now->rate = ++m.serial;
    for (uint32_t i = 0; i < zones; i++) {
        char origin[16];
        snprintf(origin, sizeof origin, "z%u", i);
        zone_fill(&now->zone[i], origin, BELOW, ZONE_NEGATIVE, 1, m.serial);
    }
    if (store_settings(m.s, now, size))
        m.zones = zones;
    else
        m.serial--;
    context c;
    context_read(&c, m.table);
    if (c.settings->rate != m.serial)
        fail("not the last settings");
    free(now);
}

static void hold(held_block *b, uint64_t at, uint64_t len) {
    b->at = at, b->len = (uint32_t)len;
    b->copy = malloc(len);
    memcpy(b->copy, block_at(m.s, at), len);
}

static void reader_ends(uint32_t reader) {
    for (held_block *b = m.blocks[reader]; b < m.blocks[reader] + 4; b++) {
        /* Settings and answers never change; of the two sets, the head: their places may. */
        if (b->at && memcmp(b->copy, block_at(m.s, b->at), b->len))
            fail("a block was taken back while a reader held it");
        free(b->copy);
        *b = (held_block){0};
    }
    atomic_store(&m.desk->worker[reader].epoch, 0);
}

static void reader_begins(uint32_t reader, uint32_t key) {
    context c = {.stream = 0};
    query q;
    reader_ends(reader);
    atomic_store(&m.desk->worker[reader].epoch, atomic_load(&m.table->epoch));
    const answer *a = look_up(&c, &q, key_name(key), TYPE_TXT);
    held_block *b = m.blocks[reader];
    if (a)
        hold(&b[0], (uint64_t)((const uint8_t *)a - (const uint8_t *)m.table), a->size);
    hold(&b[1], atomic_load(&m.table->index), sizeof(hash_index));
    if (c.names)
        hold(&b[2], atomic_load(&m.table->names), sizeof(name_set));
    hold(&b[3], atomic_load(&m.table->settings), sizeof(settings) + c.settings->zones * sizeof(zone_entry));
}

/* Many answers of many sizes: the index and the lists of the store grow, and room runs out. */
static void churn(uint32_t count, uint32_t largest) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t random = next_random();
        put((random >> 8) % KEYS, random >> 12 & largest, random >> 24);
    }
}

static void operate(const uint8_t *op) {
    switch (op[0] % 12) {
    case 0: case 1: put(op[1] % FIRST_KEYS, (uint32_t)op[2] * op[2], op[3]); break;
    case 2: touch(op[1] % DEPENDENCIES); break;
    case 3: name(op[1] % NAMES, true); break;
    case 4: name(op[1] % NAMES, false); break;
    case 5: configure(op[1] % ZONES); break;
    case 6: reader_begins(op[1] % READERS, op[2] % FIRST_KEYS); break;
    case 7: reader_ends(op[1] % READERS); break;
    case 8: churn(op[1], op[2] & 1 ? 0xfff : 0x3f); break;
    case 9: op[1] & 15 ? store_reclaim(m.s) : clear(); break;
    case 10: churn_names(op[1]); break;
    case 11: crowd_names(op[1] * CROWD / 255); break;
    }
}

static void begin(const uint8_t *data, size_t size) {
    table_head *table = m.table;
    desk *d = m.desk;
    current = data, current_size = size;
    memset(&m, 0, offsetof(typeof(m), draft));
    memset(m.keys, 0, sizeof m - offsetof(typeof(m), keys));
    m.table = table ? table : aligned_alloc(64, TABLE);
    m.desk = d ? d : calloc(1, sizeof(desk) + IDS);
    memset(m.table, 0, TABLE);
    memset((void *)m.desk->used, 0, IDS);
    m.random = size ? data[0] : 0; /* below, few answers at most in some runs, so that this limit is met as well */
    m.s = store_new(m.table, TABLE, m.desk, size && data[0] & 1 ? 40 : IDS, 0x1234567, 0x9e3779b97f4a7c15ULL);
    configure(1);
}

/* Whatever filled the memory before, answers of any other size find room in the end. */
static void check_room(uint32_t size) {
    uint32_t most = FAILURES_BEFORE_FLUSH + (uint32_t)m.s->answers + 2, tries = 0;
    do {
        if (tries++ == most)
            fail("the store is full for ever");
        put(0, size, 1);
    } while (!m.keys[0].there);
}

static void end(void) {
    for (uint32_t reader = 0; reader < READERS; reader++)
        reader_ends(reader);
    for (uint32_t size = 10; size < TABLE / 10; size *= 7)
        check_room(size);
    check_keys();
    clear();
    crowd_names(0);
    for (uint32_t i = 0; i < NAMES; i++)
        while (m.names[i])
            name(i, false);
    check_names();
    check_blocks();
    check_end();
    store_free(m.s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    begin(data, size);
    for (size_t at = 1, step = 0; at + 4 <= size && step < STEPS; at += 4, step++) {
        operate(data + at);
        if (step % 16 == 0)
            check_keys();
        if (step % 8 == 0)
            check_names();
        check_blocks();
    }
    end();
    return 0;
}
