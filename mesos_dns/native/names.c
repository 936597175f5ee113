/* Which names there are: a counted set of hashes of names and all their ancestors. */
#include "store_parts.h"
#include <stdlib.h>

static uint64_t name_slot(const name_set *set, uint64_t hash) {
    uint64_t at = hash & set->mask;
    for (;; at = (at + 1) & set->mask) {
        uint64_t there = atomic_load_explicit(&set->hashes[at], memory_order_relaxed);
        if (!there || there == hash)
            return at;
    }
}

/* More names than there is room for: from now on absence is the writer's to tell. */
static bool names_give_up(store *s) {
    uint64_t size = sizeof(name_set) + (names_now(s)->mask + 1) * 8;
    s->names_lost = true;
    block_retire(s, atomic_exchange(&s->table->names, 0), size);
    return false;
}

static bool names_room(store *s) {
    name_set *old = names_now(s);
    if ((s->names_used + 1) * 2 <= old->mask + 1)
        return true;
    uint64_t slots = FEWEST_PLACES;
    while (slots < (s->names + 1) * 3)
        slots *= 2;
    uint32_t *counts = calloc(slots, sizeof *counts);
    uint64_t offset = counts ? index_new(s, slots) : 0;
    if (counts && !offset) {
        flush(s); /* names are worth more than answers */
        offset = index_new(s, slots);
    }
    if (!offset) { /* as long as a worker is between two batches, the next name tries again */
        free(counts);
        return (s->names_used + 1) * 8 <= (old->mask + 1) * 7 || names_give_up(s);
    }
    name_set *new = block_at(s, offset);
    for (uint64_t at = 0; at <= old->mask; at++) {
        if (!s->name_counts[at])
            continue;
        uint64_t to = name_slot(new, old->hashes[at]);
        atomic_store_explicit(&new->hashes[to], old->hashes[at], memory_order_relaxed);
        counts[to] = s->name_counts[at];
    }
    free(s->name_counts);
    s->name_counts = counts;
    s->names_used = s->names;
    uint64_t before = atomic_exchange(&s->table->names, offset);
    block_retire(s, before, sizeof(name_set) + (old->mask + 1) * 8);
    return true;
}

static bool count_name(store *s, uint64_t hash, int step) {
    if (step > 0 && !names_room(s))
        return false;
    name_set *set = names_now(s);
    uint64_t at = name_slot(set, hash);
    bool there = atomic_load_explicit(&set->hashes[at], memory_order_relaxed) != 0;
    if (step < 0) {
        if (!there || !s->name_counts[at] || --s->name_counts[at])
            return true;
        s->names_used -= place_free(set->hashes, set->mask, at);
        s->names--;
        return true;
    }
    if (!there) {
        atomic_store_explicit(&set->hashes[at], hash, memory_order_release);
        s->names_used++;
    }
    if (!s->name_counts[at]++)
        s->names++;
    return true;
}

static bool count_path(store *s, uint64_t below, const uint8_t *wire, uint32_t len, int step) {
    uint8_t padded[MAX_QUESTION + 8] = {0};
    uint8_t starts[128];
    uint32_t labels = 0;
    if (s->names_lost || len > 255)
        return false;
    memcpy(padded, wire, len);
    for (uint32_t at = 0; at < len && padded[at]; at += padded[at] + 1)
        starts[labels++] = (uint8_t)at;
    uint64_t hash = below;
    while (labels--) {
        const uint8_t *label = padded + starts[labels];
        hash = child_hash(s->table, hash, label + 1, *label);
        if (!count_name(s, hash, step))
            return false;
    }
    return true;
}

bool store_enter(store *s, uint64_t below, const uint8_t *wire, uint32_t len) { return count_path(s, below, wire, len, 1); }

void store_leave(store *s, uint64_t below, const uint8_t *wire, uint32_t len) { count_path(s, below, wire, len, -1); }
