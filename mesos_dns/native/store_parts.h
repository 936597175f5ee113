/* What the files of the store share: store.c (answers), blocks.c (memory), hangs.c (what an answer was built
 * from), names.c (which names there are). */
#ifndef PHAROS_STORE_PARTS_H
#define PHAROS_STORE_PARTS_H

#include "hash.h"
#include "store.h"

enum {
    FINE_CLASSES = 64,     /* blocks up to 1,024 octets in steps of 16 */
    CLASSES = 64 + 4 * 26, /* above: four sizes between two powers of two */
    GAPS = 3,              /* with no answer, what every worker needs are two blocks: names, settings */
    FEWEST_PLACES = 1024,  /* of an index, of a set, of anchors */
};

/* The index of a table without answers. It has one place, which is empty: zeroed memory that nobody ever writes
 * to, so that there always is room for it. The first answer gets another one. */
#define NO_ANSWERS ((sizeof(table_head) + 63) & ~63ULL)
#define TABLE_START (NO_ANSWERS + 64)

#define NONE UINT32_MAX

typedef struct {
    uint64_t start, end;
} extent;

typedef struct {
    uint64_t offset, epoch;
    uint32_t class;
} retired;

/* One answer hangs on one dependency: in the list of the dependency and in that of the answer. */
typedef struct {
    uint64_t dependency;
    uint32_t id, before, after, of_answer;
} link;

typedef struct {
    uint64_t offset; /* of the answer, 0: free */
    uint32_t links;  /* first; of a free one: the next free */
} held;

typedef struct {
    uint64_t dependency; /* 0: empty */
    uint32_t first;      /* NONE: was used */
} anchor;

struct store {
    table_head *table;
    desk *desk;
    uint64_t size, in_use;
    extent gaps[GAPS]; /* never given out since `gather` */
    uint64_t free_blocks[CLASSES];
    bool crowded;      /* there are no answers, and none are put in until `gather` */
    retired *retired;
    uint32_t retired_count, retired_room, reclaim_at;
    held *held;
    uint32_t held_count, held_room, held_free, held_most;
    uint64_t index_used, answers;
    link *links;
    uint32_t links_count, links_room, links_free;
    anchor *anchors;
    uint64_t anchors_mask, anchors_used;
    uint32_t *name_counts;
    uint64_t names, names_used;
    bool names_lost;
    uint32_t hand, failures;
    uint64_t evicted, refused, flushed;
};

static inline void *block_at(store *s, uint64_t offset) { return (uint8_t *)s->table + offset; }

static inline hash_index *index_now(store *s) {
    return block_at(s, atomic_load_explicit(&s->table->index, memory_order_relaxed));
}

static inline name_set *names_now(store *s) {
    return block_at(s, atomic_load_explicit(&s->table->names, memory_order_relaxed));
}

/* blocks.c */
void blocks_init(store *s);
uint64_t block_take(store *s, uint64_t size);             /* the offset of a new block, 0: no room */
void block_return(store *s, uint64_t offset, uint64_t size); /* one that no worker has seen */
void block_retire(store *s, uint64_t offset, uint64_t size); /* one that workers may still look at */
bool grow(void **array, uint32_t *room, size_t each, uint32_t needed);
/* What is free is of other sizes. Answers are quickly made again, so all go. */
void flush(store *s);

/* hangs.c */
bool hang(store *s, uint32_t id, uint64_t dependency);
void unhang(store *s, uint32_t id);
uint32_t hanging_on(store *s, uint64_t dependency); /* an answer's id, NONE: there is none */
void unhang_all(store *s);

/* store.c: places of an index or of a name_set, which have one shape */
uint64_t index_new(store *s, uint64_t slots);
/* Takes a place out. Where an empty one follows, nobody has to pass here on the way to another: it becomes
 * empty, as do those before it that were used. Returns how many have. */
uint64_t place_free(_Atomic uint64_t *places, uint64_t mask, uint64_t at);

#endif
