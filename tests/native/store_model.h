/* What a table should hold, told apart from store.c, and what is checked of both. A part of fuzz_store.c.
 *
 * blocks.c and store.c are included: their books (free blocks, retired ones, marks of dependencies) are checked as
 * well as what a reader sees.
 */
#ifndef PHAROS_TESTS_STORE_MODEL_H
#define PHAROS_TESTS_STORE_MODEL_H

#include "../../mesos_dns/native/blocks.c"
#include "../../mesos_dns/native/store.c"
#include "../../mesos_dns/native/reply.h"
#include "draft.h"
#include <stdio.h>

enum {
    TABLE = 256 << 10, IDS = TABLE / 128, READERS = 3, ZONES = 6, BELOW = 500, ODD_TYPE = 99,
    KEYS = 640, /* more than an index or a set begins with room for; of which the first ones are put by themselves and share dependencies */
    FIRST_KEYS = 64, DEPENDENCIES = 8, NAMES = 48, CROWD = 1500,
};

typedef struct {
    bool there;
    uint32_t version, size, hangs; /* a bit each of its dependencies */
} kept_answer;

typedef struct {
    uint64_t at; /* offset; 0: holds nothing */
    uint32_t len;
    uint8_t *copy;
} held_block;

static struct {
    table_head *table;
    desk *desk;
    store *s;
    draft draft;
    kept_answer keys[KEYS];
    uint32_t names[NAMES], crowd, serial, version, zones;
    bool lost; /* the set of names */
    held_block blocks[READERS][4];
    uint64_t evicted, flushed;
    uint32_t random;
} m;

static const uint8_t *current;
static size_t current_size;

static void fail(const char *what) {
    fprintf(stderr, "fuzz_store: %s\ninput: ", what);
    for (size_t i = 0; i < current_size; i++)
        fprintf(stderr, "%02x", current[i]);
    fprintf(stderr, "\n");
    abort();
}

/* --- names of things ------------------------------------------------------------------------------- */

static const char *key_name(uint32_t key) {
    static char names[KEYS][32];
    if (!*names[key])
        snprintf(names[key], sizeof names[key], "%.*s%u.zone", (int)(key % 20), "abcdefghijklmnopqrst", key);
    return names[key];
}

/* Names below one another, and beside: "n5", "s1.n5", "t2.s1.n5". */
static void owner_name(char *to, uint32_t name) {
    uint32_t top = name % 4, middle = name / 4 % 4, low = name / 16;
    if (!low)
        snprintf(to, 64, "n%u", name);
    else if (low == 1)
        snprintf(to, 64, "s%u.n%u", middle, top);
    else
        snprintf(to, 64, "t%u.s%u.n%u", low, middle, top);
}

/* The octets of an answer tell its key and version. */
static void draft_key(uint32_t key, uint32_t version, uint32_t size) {
    static uint8_t counting[1024 + 256];
    for (uint32_t i = 0; !counting[1] && i < sizeof counting; i++)
        counting[i] = (uint8_t)i;
    draft_begin(&m.draft, key_name(key), TYPE_TXT);
    m.draft.parts.made = version, m.draft.parts.lifetime = key + 1;
    for (uint32_t left = size, len; left; left -= len) {
        len = left < 900 + key % 64 ? left : 900 + key % 64;
        draft_record(&m.draft, TYPE_TXT, counting + ((key * 31 + version * 7) & 255), len);
    }
}

/* --- what a worker sees ---------------------------------------------------------------------------- */

static const answer *look_up(context *c, query *q, const char *name, uint32_t type) {
    static uint8_t packet[512 + READ_AHEAD];
    uint32_t len = question(packet, 1, name, type, 1232);
    context_read(c, m.table);
    q->client = packet, q->client_len = 4;
    query_read(c, q, packet, len);
    if (q->verdict != ANSWER)
        fail("a plain question is not understood");
    query_find(c, q);
    return q->found;
}

static bool right(const answer *a, uint32_t key) {
    const kept_answer *k = &m.keys[key];
    draft_key(key, k->version, k->size);
    const answer_parts *p = &m.draft.parts;
    return a->made == p->made && a->lifetime == p->lifetime && a->count == p->count && a->wire_len == p->wire_len && !memcmp(answer_wire(a), p->wire, p->wire_len) &&
           answer_record_start(a, a->count) == p->wire_len;
}

/* Every key is there and right, or gone because something had to go. */
static void check_keys(void) {
    context c = {.stream = 0};
    query q;
    uint64_t gone = 0, there = 0;
    for (uint32_t key = 0; key < KEYS; key++) {
        const answer *a = look_up(&c, &q, key_name(key), TYPE_TXT);
        if (a && !m.keys[key].there)
            fail("an answer that was dropped is found");
        if (a && !right(a, key))
            fail("an answer has other contents");
        there += a != NULL;
        gone += !a && m.keys[key].there;
        m.keys[key].there = a != NULL;
    }
    if (there != m.s->answers)
        fail("answers are miscounted");
    if (m.s->flushed == m.flushed && gone > m.s->evicted - m.evicted) /* those put again since are not missed */
        fail("an answer is gone, and nobody evicted it");
    m.evicted = m.s->evicted, m.flushed = m.s->flushed;
}

static bool reader_holds(void) {
    for (uint32_t reader = 0; reader < READERS; reader++)
        if (m.blocks[reader][1].at)
            return true;
    return false;
}

/* Names get their room, whatever else there is, but for what a worker that hangs keeps from coming free. */
static void entered(bool kept) {
    if (!kept && !m.lost && !reader_holds())
        fail("there is no room for a few names");
    m.lost |= !kept;
}

static bool name_exists(uint32_t name) {
    char owner[64], other[64];
    owner_name(owner, name);
    for (uint32_t i = 0; i < NAMES; i++) {
        if (!m.names[i])
            continue;
        owner_name(other, i);
        size_t len = strlen(owner), other_len = strlen(other);
        if (other_len >= len && !strcmp(other + other_len - len, owner) && (other_len == len || other[other_len - len - 1] == '.'))
            return true;
    }
    return false;
}

static void check_names(void) {
    context c = {.stream = 0};
    query q;
    char name[128], owner[64];
    for (uint32_t i = 0; i < NAMES && m.zones; i++) {
        owner_name(owner, i);
        snprintf(name, sizeof name, "%s.z%u", owner, m.zones - 1);
        if (look_up(&c, &q, name, ODD_TYPE))
            fail("an answer that nobody has put there");
        bool absent = q.verdict == ABSENT;
        if (q.verdict != ABSENT && q.verdict != PASS)
            fail("a zone is not found");
        if (absent && (m.lost || name_exists(i)))
            fail("a name that exists is said to be absent");
        if (!absent && !m.lost && !name_exists(i))
            fail("a name that does not exist may be there");
    }
}

/* --- the store's own books ------------------------------------------------------------------------- */

static uint64_t whole_of(uint64_t size) {
    uint64_t whole;
    class_of(size, &whole);
    return whole;
}

/* What is there besides answers. */
static uint64_t always_used(void) {
    uint64_t index = atomic_load(&m.table->index), names = atomic_load(&m.table->names), now = atomic_load(&m.table->settings);
    uint64_t octets = whole_of(sizeof(settings) + ((settings *)block_at(m.s, now))->zones * sizeof(zone_entry));
    if (index != NO_ANSWERS)
        octets += whole_of(sizeof(hash_index) + (index_now(m.s)->mask + 1) * 8);
    if (names)
        octets += whole_of(sizeof(name_set) + (((name_set *)block_at(m.s, names))->mask + 1) * 8);
    return octets;
}

/* Every octet in use is some block's, but for those of answers between a clear and the moment that all memory becomes
 * whole; until then there are no others. */
static void check_used(void) {
    uint64_t octets = always_used();
    for (uint32_t id = 0; id < m.s->held_count; id++)
        if (m.s->held[id].offset)
            octets += whole_of(((answer *)block_at(m.s, m.s->held[id].offset))->size);
    for (uint32_t i = 0; i < m.s->retired_count; i++)
        octets += class_size(m.s->retired[i].class);
    if (m.s->crowded ? m.s->in_use < octets : m.s->in_use != octets)
        fail("memory is lost");
    if (m.s->crowded && (m.s->held_count || atomic_load(&m.table->index) != NO_ANSWERS))
        fail("an answer was put in before all memory was whole");
    hash_index *none = block_at(m.s, NO_ANSWERS);
    if (none->mask || none->slots[0])
        fail("the index of no answers was written to");
}

static void check_blocks(void) {
    uint64_t octets = m.s->in_use;
    for (uint32_t class = 0; class < CLASSES; class++)
        for (uint64_t at = m.s->free_blocks[class]; at; memcpy(&at, block_at(m.s, at), 8)) {
            if (at < TABLE_START || at + class_size(class) > m.s->size || (octets += class_size(class)) > TABLE)
                fail("a free block is out of its place, or twice in the list");
        }
    for (uint32_t i = 0; i < GAPS; i++)
        octets += m.s->gaps[i].end - m.s->gaps[i].start;
    if (octets != m.s->size - TABLE_START)
        fail("what is used, free and not given out yet is not all that there is");
    if (m.s->index_used < m.s->answers || m.s->names_used < m.s->names)
        fail("places are miscounted");
    check_used();
}

/* With no answer and no reader, nothing else is left, and all memory is whole. */
static void check_end(void) {
    if (m.s->answers || m.s->retired_count || m.s->crowded || atomic_load(&m.table->index) != NO_ANSWERS)
        fail("cleared, and yet something is left");
    if (m.s->in_use != always_used())
        fail("memory is lost");
    for (uint32_t class = 0; class < CLASSES; class++)
        if (m.s->free_blocks[class])
            fail("cleared, and yet memory is kept for answers of one size");
    for (uint64_t at = 0; at <= m.s->anchors_mask; at++)
        if (m.s->anchors[at].dependency && m.s->anchors[at].first != NONE)
            fail("a dependency of nothing");
}

#endif
