/* The writer's side of the table: puts answers in, takes out what a change touches, keeps within its memory.
 *
 * One thread of one process calls these. What only the writer needs (free blocks, which answer hangs
 * on which names, how often a name is used) is in its own memory, not in the table.
 */
#ifndef PHAROS_STORE_H
#define PHAROS_STORE_H

#include "region.h"
#include <stdbool.h>

typedef struct store store;

/* What an answer is made of; the pointers are read during `store_put` only. */
typedef struct {
    const uint8_t *key, *wire, *authority, *needed, *glue;
    const uint32_t *offsets; /* count + 1 */
    const glue_set *sets;
    uint32_t key_len, wire_len, authority_len, needed_len, glue_len;
    uint32_t count, authority_count, needed_count, glue_count, glue_sets;
    uint32_t made, lifetime;
    uint8_t rcode, flags, zone_label, zone;
} answer_parts;

typedef struct {
    uint64_t answers, memory, names, evicted, refused, flushed;
} store_figures;

/* `table` is zeroed memory of `size` octets, `workers` the desk. NULL: no memory. */
store *store_new(void *table, uint64_t size, desk *workers, uint64_t answers_at_most, uint64_t seed, uint64_t factor);
void store_free(store *s);

/* Keep an answer that hangs on `depends`; false when there is no room. One of the same key is replaced. */
bool store_put(store *s, const answer_parts *parts, const uint64_t *depends, uint32_t depends_count);
/* Drop every answer that hangs on this; returns how many. The keys of those that were read go into `keys`, each
 * behind its length in two octets, as far as there is `room`; `written` gets the octets. */
uint32_t store_touch_keys(store *s, uint64_t dependency, uint8_t *keys, uint32_t room, uint32_t *written);
uint32_t store_touch(store *s, uint64_t dependency);
/* Whether the answer of a key was read since this was last asked, or since it was put in. */
bool store_was_read(store *s, const uint8_t *key, uint32_t key_len);
/* Drop all; none is put in again until every worker has ended the batch in which it may see them. */
void store_clear(store *s);

/* Count a name, by labels from the apex down; `below` is the apex' hash. */
bool store_enter(store *s, uint64_t below, const uint8_t *wire, uint32_t len);
void store_leave(store *s, uint64_t below, const uint8_t *wire, uint32_t len);

/* New settings with their zones, for the next batch of every worker; false when there is no room. */
bool store_settings(store *s, const settings *now, uint32_t size);
void store_figures_of(const store *s, store_figures *figures);
/* Take blocks back that no worker can see any more. */
void store_reclaim(store *s);

#endif
