/* Answers: put in, found by their question, dropped by what they hang on, evicted when memory is short. */
#include "store_parts.h"
#include <stdlib.h>

enum {
    EVICT_AT_ONCE = 32,
    FAILURES_BEFORE_FLUSH = 64, /* and one more for this many answers: */
    ANSWERS_PER_FAILURE = 16,
};

/* --- making and ending ----------------------------------------------------------------------------- */

/* With these, whatever is asked before there is a configuration is passed on. */
static const settings unconfigured = {.max_udp = 512};

uint64_t index_new(store *s, uint64_t slots) {
    uint64_t offset = block_take(s, sizeof(hash_index) + slots * 8);
    if (offset) {
        hash_index *index = block_at(s, offset);
        memset(index, 0, sizeof *index + slots * 8);
        index->mask = slots - 1;
    }
    return offset;
}

store *store_new(void *table, uint64_t size, desk *workers, uint64_t answers_at_most, uint64_t seed, uint64_t factor) {
    store *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->table = table;
    s->desk = workers;
    s->size = size;
    blocks_init(s);
    s->held_free = s->links_free = NONE;
    s->held_most = answers_at_most > NONE - 1 ? NONE - 1 : (uint32_t)answers_at_most;
    s->anchors_mask = FEWEST_PLACES - 1;
    s->anchors = calloc(FEWEST_PLACES, sizeof(anchor));
    s->name_counts = calloc(FEWEST_PLACES, sizeof(uint32_t));
    s->table->size = size;
    s->table->seed = seed;
    s->table->factor = factor | 1;
    s->table->epoch = 1;
    uint64_t names = index_new(s, FEWEST_PLACES); /* a name_set has the same shape */
    atomic_store(&s->table->index, NO_ANSWERS);
    atomic_store(&s->table->names, names);
    if (!s->anchors || !s->name_counts || !names || !store_settings(s, &unconfigured, sizeof unconfigured)) {
        store_free(s);
        return NULL;
    }
    return s;
}

void store_free(store *s) {
    if (!s)
        return;
    free(s->retired);
    free(s->held);
    free(s->links);
    free(s->anchors);
    free(s->name_counts);
    free(s);
}

/* --- the index ------------------------------------------------------------------------------------- */

static uint64_t slot_value(uint64_t hash, uint64_t offset) { return (hash & ~SLOT_OFFSET) | offset; }

/* Puts it into the first place that is free or was used; true when it was free. */
static bool index_insert(hash_index *index, uint64_t hash, uint64_t offset) {
    uint64_t at = hash & index->mask, before;
    while ((before = atomic_load_explicit(&index->slots[at], memory_order_relaxed)) > SLOT_WAS_USED)
        at = (at + 1) & index->mask;
    atomic_store_explicit(&index->slots[at], slot_value(hash, offset), memory_order_release);
    return !before;
}

uint64_t place_free(_Atomic uint64_t *places, uint64_t mask, uint64_t at) {
    uint64_t freed = 0;
    atomic_store_explicit(&places[at], SLOT_WAS_USED, memory_order_release);
    if (atomic_load_explicit(&places[(at + 1) & mask], memory_order_relaxed))
        return 0;
    while (atomic_load_explicit(&places[at], memory_order_relaxed) == SLOT_WAS_USED) {
        atomic_store_explicit(&places[at], 0, memory_order_release);
        at = (at - 1) & mask;
        freed++;
    }
    return freed;
}

static _Atomic uint64_t *index_find(store *s, uint64_t hash, const uint8_t *key, uint32_t key_len) {
    hash_index *index = index_now(s);
    for (uint64_t at = hash & index->mask;; at = (at + 1) & index->mask) {
        uint64_t slot = atomic_load_explicit(&index->slots[at], memory_order_relaxed);
        if (!slot)
            return NULL;
        if (slot == SLOT_WAS_USED || (slot ^ hash) & ~SLOT_OFFSET)
            continue;
        answer *a = block_at(s, slot & SLOT_OFFSET);
        if (a->hash == hash && a->key_len == key_len && !memcmp(answer_key(a), key, key_len))
            return &index->slots[at];
    }
}

/* NO_ANSWERS is no block, and stays where it is. */
static void index_replace(store *s, uint64_t offset) {
    uint64_t before = atomic_exchange(&s->table->index, offset);
    hash_index *old = block_at(s, before);
    if (before != NO_ANSWERS)
        block_retire(s, before, sizeof *old + (old->mask + 1) * 8);
}

/* Room for one more answer in the index; a new index when more than half of it is used. */
static bool index_room(store *s) {
    hash_index *old = index_now(s);
    if ((s->index_used + 1) * 2 <= old->mask + 1)
        return true;
    uint64_t slots = FEWEST_PLACES;
    while (slots < (s->answers + 1) * 3)
        slots *= 2;
    uint64_t offset = index_new(s, slots);
    if (!offset)
        return (s->index_used + 1) * 4 <= (old->mask + 1) * 3;
    hash_index *new = block_at(s, offset);
    for (uint64_t at = 0; at <= old->mask; at++) {
        uint64_t slot = atomic_load_explicit(&old->slots[at], memory_order_relaxed);
        if (slot > SLOT_WAS_USED) {
            answer *a = block_at(s, slot & SLOT_OFFSET);
            index_insert(new, a->hash, slot & SLOT_OFFSET);
        }
    }
    s->index_used = s->answers;
    index_replace(s, offset);
    return true;
}

/* --- answers --------------------------------------------------------------------------------------- */

static void drop(store *s, uint32_t id) {
    uint64_t offset = s->held[id].offset;
    answer *a = block_at(s, offset);
    _Atomic uint64_t *slot = index_find(s, a->hash, answer_key(a), a->key_len);
    unhang(s, id);
    if (slot && (atomic_load_explicit(slot, memory_order_relaxed) & SLOT_OFFSET) == offset) {
        hash_index *index = index_now(s);
        s->index_used -= place_free(index->slots, index->mask, (uint64_t)(slot - index->slots));
        s->answers--;
    }
    s->held[id].offset = 0;
    s->held[id].links = s->held_free;
    s->held_free = id;
    block_retire(s, offset, a->size);
}

/* Second chance: the hand passes over what was read since it last came by (an approximation of LRU). */
static void evict(store *s, uint32_t wanted) {
    for (uint64_t steps = 0; wanted && s->answers && steps < 2ULL * s->held_count; steps++) {
        uint32_t id = s->hand++ % s->held_count;
        if (!s->held[id].offset || atomic_exchange_explicit(&s->desk->used[id], 0, memory_order_relaxed))
            continue;
        drop(s, id);
        s->evicted++;
        wanted--;
    }
    store_reclaim(s);
}

static uint32_t id_take(store *s) {
    uint32_t id = s->held_free;
    if (id != NONE) {
        s->held_free = s->held[id].links;
    } else {
        if (s->held_count >= s->held_most ||
            !grow((void **)&s->held, &s->held_room, sizeof(held), s->held_count + 1))
            return NONE;
        id = s->held_count++;
    }
    s->held[id] = (held){0, NONE};
    return id;
}

static void id_give(store *s, uint32_t id) {
    unhang(s, id);
    s->held[id] = (held){0, s->held_free};
    s->held_free = id;
}

static void write_answer(answer *a, const answer_parts *p, uint64_t hash, uint32_t id, uint32_t size, bool even) {
    *a = (answer){
        .hash = hash, .id = id, .size = size, .key_len = (uint16_t)p->key_len,
        .flags = (uint8_t)(p->flags | (even ? ANSWER_EVEN : 0)), .rcode = p->rcode,
        .zone_label = p->zone_label, .zone = p->zone,
        .count = (uint16_t)p->count, .authority_count = (uint16_t)p->authority_count,
        .needed_count = (uint16_t)p->needed_count, .glue_count = (uint16_t)p->glue_count,
        .glue_sets = (uint16_t)p->glue_sets, .wire_len = p->wire_len, .authority_len = p->authority_len,
        .needed_len = p->needed_len, .glue_len = p->glue_len, .made = p->made, .lifetime = p->lifetime,
    };
    if (!even)
        memcpy((void *)answer_offsets(a), p->offsets, (p->count + 1) * sizeof(uint32_t));
    memcpy((void *)answer_glue_sets(a), p->sets, p->glue_sets * sizeof(glue_set));
    memcpy((void *)answer_key(a), p->key, p->key_len);
    memcpy((void *)answer_wire(a), p->wire, p->wire_len);
    memcpy((void *)answer_authority(a), p->authority, p->authority_len);
    memcpy((void *)answer_needed(a), p->needed, p->needed_len);
    memcpy((void *)answer_glue(a), p->glue, p->glue_len);
}

static uint64_t answer_block(store *s, uint64_t size) {
    uint64_t offset = block_take(s, size);
    if (offset)
        return offset;
    evict(s, EVICT_AT_ONCE);
    offset = block_take(s, size);
    if (offset)
        return offset;
    s->refused++;
    if (++s->failures >= FAILURES_BEFORE_FLUSH + s->answers / ANSWERS_PER_FAILURE)
        flush(s);
    return 0;
}

/* Whether all records have one size; `size` gets the octets of the whole answer. */
static bool measure(const answer_parts *p, uint64_t *size) {
    bool even = true;
    uint32_t stride = p->count ? p->wire_len / p->count : 0;
    for (uint32_t i = 0; i < p->count && even; i++)
        even = p->offsets[i] == i * stride && p->offsets[i + 1] == (i + 1) * stride;
    *size = sizeof(answer) + (even ? 0 : (p->count + 1) * sizeof(uint32_t)) + p->glue_sets * sizeof(glue_set) +
            p->key_len + (uint64_t)p->wire_len + p->authority_len + p->needed_len + p->glue_len;
    return even;
}

static uint64_t hash_of(const store *s, const answer_parts *p) {
    uint8_t folded[MAX_QUESTION + 8], key[MAX_QUESTION + 8] = {0};
    uint32_t name_len = p->key_len - 4;
    memcpy(key, p->key, p->key_len);
    const uint8_t *rest = key + name_len;
    uint32_t type_class = (uint32_t)rest[0] << 24 | (uint32_t)rest[1] << 16 | (uint32_t)rest[2] << 8 | rest[3];
    return question_hash(fold_hash(s->table, s->table->seed, folded, key, name_len), type_class, s->table->factor);
}

/* An id for an answer that hangs on these; NONE when there is no room. */
static uint32_t id_hung(store *s, const uint64_t *depends, uint32_t count) {
    uint32_t id = index_room(s) ? id_take(s) : NONE;
    if (id == NONE) {
        evict(s, EVICT_AT_ONCE);
        id = index_room(s) ? id_take(s) : NONE;
    }
    for (uint32_t i = 0; i < count && id != NONE; i++) {
        if (!hang(s, id, depends[i])) {
            id_give(s, id);
            return NONE;
        }
    }
    return id;
}

static bool fits(const answer_parts *p) {
    return p->key_len >= 5 && p->key_len <= MAX_QUESTION && p->count <= UINT16_MAX && p->glue_count <= UINT16_MAX &&
           p->glue_sets <= UINT16_MAX && p->authority_count <= UINT16_MAX && p->needed_count <= UINT16_MAX;
}

bool store_put(store *s, const answer_parts *p, const uint64_t *depends, uint32_t depends_count) {
    uint64_t size;
    if (!fits(p))
        return false;
    bool even = measure(p, &size);
    if (size > s->size / 8)
        return false;
    uint64_t hash = hash_of(s, p);
    _Atomic uint64_t *same = index_find(s, hash, p->key, p->key_len);
    if (same) {
        answer *old = block_at(s, atomic_load_explicit(same, memory_order_relaxed) & SLOT_OFFSET);
        drop(s, old->id);
    }
    if (s->crowded)
        store_reclaim(s);
    s->refused += s->crowded;
    uint64_t offset = s->crowded ? 0 : answer_block(s, size);
    if (!offset)
        return false;
    uint32_t id = id_hung(s, depends, depends_count);
    if (id == NONE) {
        block_return(s, offset, size);
        s->refused++;
        return false;
    }
    write_answer(block_at(s, offset), p, hash, id, (uint32_t)size, even);
    s->held[id].offset = offset;
    atomic_store_explicit(&s->desk->used[id], 0, memory_order_relaxed); /* who asked first has its answer already */
    s->index_used += index_insert(index_now(s), hash, offset);
    s->answers++;
    return true;
}

static uint32_t put_key(const answer *a, uint8_t *keys, uint32_t room) {
    uint32_t needed = 2u + a->key_len;
    if (needed > room)
        return 0;
    keys[0] = (uint8_t)(a->key_len >> 8);
    keys[1] = (uint8_t)a->key_len;
    memcpy(keys + 2, answer_key(a), a->key_len);
    return needed;
}

uint32_t store_touch_keys(store *s, uint64_t dependency, uint8_t *keys, uint32_t room, uint32_t *written) {
    uint32_t dropped = 0, id;
    *written = 0;
    for (; (id = hanging_on(s, dependency)) != NONE; dropped++) {
        if (atomic_load_explicit(&s->desk->used[id], memory_order_relaxed))
            *written += put_key(block_at(s, s->held[id].offset), keys + *written, room - *written);
        drop(s, id);
    }
    return dropped;
}

uint32_t store_touch(store *s, uint64_t dependency) {
    uint8_t none;
    uint32_t written;
    return store_touch_keys(s, dependency, &none, 0, &written);
}

bool store_was_read(store *s, const uint8_t *key, uint32_t key_len) {
    answer_parts p = {.key = key, .key_len = key_len};
    if (!fits(&p))
        return false;
    _Atomic uint64_t *slot = index_find(s, hash_of(s, &p), key, key_len);
    if (!slot)
        return false;
    const answer *a = block_at(s, atomic_load_explicit(slot, memory_order_relaxed) & SLOT_OFFSET);
    return atomic_fetch_and_explicit(&s->desk->used[a->id], (uint8_t)~USED_READ, memory_order_relaxed) & USED_READ;
}

/* One by one, a million answers would keep the caller from everything else for a quarter of a second. So they are
 * left where they are, out of every index, until `gather` may take all memory at once. A worker that still sees one
 * began its batch before the index was exchanged, and so keeps `gather` away; no answer is put in before. */
void store_clear(store *s) {
    unhang_all(s);
    s->held_count = s->hand = s->failures = 0;
    s->held_free = NONE;
    s->answers = s->index_used = 0;
    s->crowded = true;
    index_replace(s, NO_ANSWERS);
    store_reclaim(s);
}

/* --- settings and figures -------------------------------------------------------------------------- */

bool store_settings(store *s, const settings *now, uint32_t size) {
    uint64_t offset = block_take(s, size);
    if (!offset) { /* those before are mostly free by now */
        store_reclaim(s);
        offset = block_take(s, size);
    }
    if (!offset) {
        flush(s);
        offset = block_take(s, size);
    }
    if (!offset)
        return false;
    memcpy(block_at(s, offset), now, size);
    uint64_t before = atomic_exchange(&s->table->settings, offset);
    if (before) {
        settings *old = block_at(s, before);
        block_retire(s, before, sizeof(settings) + old->zones * sizeof(zone_entry));
        store_reclaim(s); /* mostly nobody looks at them any more */
    }
    return true;
}

void store_figures_of(const store *s, store_figures *f) {
    *f = (store_figures){s->answers, s->in_use, s->names, s->evicted, s->refused, s->flushed};
}
