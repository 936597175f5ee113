/* The memory of the table: blocks of a few sizes, taken back when no worker can look at them any more. */
#include "store_parts.h"
#include <stdlib.h>

void blocks_init(store *s) {
    s->gaps[0] = (extent){TABLE_START, s->size > TABLE_START ? s->size : TABLE_START};
    s->reclaim_at = 64;
}

static uint32_t class_of(uint64_t size, uint64_t *whole) {
    if (size <= 1024) {
        uint32_t steps = size ? (uint32_t)((size + 15) / 16) : 1;
        *whole = steps * 16;
        return steps - 1;
    }
    uint32_t power = 63 - (uint32_t)__builtin_clzll(size - 1); /* 2^power < size <= 2^(power+1) */
    uint64_t quarter = (1ULL << power) / 4;
    uint32_t step = (uint32_t)((size - (1ULL << power) + quarter - 1) / quarter); /* 1 to 4 */
    *whole = (1ULL << power) + step * quarter;
    return FINE_CLASSES + (power - 10) * 4 + step - 1;
}

uint64_t block_take(store *s, uint64_t size) {
    uint64_t whole, offset;
    uint32_t class = class_of(size, &whole);
    if (class >= CLASSES)
        return 0;
    offset = s->free_blocks[class];
    if (offset) {
        memcpy(&s->free_blocks[class], block_at(s, offset), 8);
    } else {
        extent *gap = s->gaps;
        while (gap < s->gaps + GAPS && whole > gap->end - gap->start)
            gap++;
        if (gap == s->gaps + GAPS)
            return 0;
        offset = gap->start;
        gap->start += whole;
    }
    s->in_use += whole;
    return offset;
}

static void block_give(store *s, uint64_t offset, uint32_t class, uint64_t whole) {
    memcpy(block_at(s, offset), &s->free_blocks[class], 8);
    s->free_blocks[class] = offset;
    s->in_use -= whole;
}

void block_return(store *s, uint64_t offset, uint64_t size) {
    uint64_t whole;
    uint32_t class = class_of(size, &whole);
    block_give(s, offset, class, whole);
}

/* Sizes are found again from the class when the block comes back. */
static uint64_t class_size(uint32_t class) {
    if (class < FINE_CLASSES)
        return (class + 1) * 16ULL;
    uint32_t above = class - FINE_CLASSES;
    uint64_t power = 1ULL << (above / 4 + 10);
    return power + (above % 4 + 1) * (power / 4);
}

bool grow(void **array, uint32_t *room, size_t each, uint32_t needed) {
    if (needed <= *room)
        return true;
    uint32_t wanted = *room ? *room * 2 : 256;
    while (wanted < needed)
        wanted *= 2;
    void *larger = realloc(*array, (size_t)wanted * each);
    if (!larger)
        return false;
    *array = larger;
    *room = wanted;
    return true;
}

void block_retire(store *s, uint64_t offset, uint64_t size) {
    uint64_t whole;
    uint32_t class = class_of(size, &whole);
    uint64_t epoch = atomic_fetch_add(&s->table->epoch, 1);
    if (!grow((void **)&s->retired, &s->retired_room, sizeof(retired), s->retired_count + 1))
        return; /* lost until `gather`; better than taken back too early */
    s->retired[s->retired_count++] = (retired){offset, epoch, class};
    if (s->retired_count >= s->reclaim_at)
        store_reclaim(s);
}

static uint64_t stays(extent *block, uint64_t offset, uint64_t size) {
    uint64_t whole = 0;
    if (offset)
        class_of(size, &whole);
    *block = (extent){offset, offset + whole};
    return whole;
}

/* With no answer left, all memory but the blocks that stay becomes whole again: the answers that `store_clear` left
 * where they were, and what the lists of free blocks would keep for the sizes of answers that there once were. */
static void gather(store *s) {
    uint64_t names = atomic_load_explicit(&s->table->names, memory_order_relaxed);
    uint64_t now = atomic_load_explicit(&s->table->settings, memory_order_relaxed);
    uint64_t names_size = names ? sizeof(name_set) + (((name_set *)block_at(s, names))->mask + 1) * 8 : 0;
    uint64_t now_size = now ? sizeof(settings) + ((settings *)block_at(s, now))->zones * sizeof(zone_entry) : 0;
    extent kept[GAPS - 1];
    s->in_use = stays(&kept[0], names, names_size);
    s->in_use += stays(&kept[1], now, now_size);
    memset(s->free_blocks, 0, sizeof s->free_blocks);
    uint64_t from = TABLE_START;
    for (uint32_t i = 0; i < GAPS; i++) {
        extent next = {s->size, s->size};
        for (uint32_t k = 0; k < GAPS - 1; k++)
            if (kept[k].start >= from && kept[k].start < next.start)
                next = kept[k];
        s->gaps[i] = (extent){from, next.start};
        from = next.end;
    }
    s->crowded = false;
}

void flush(store *s) {
    s->flushed += !s->crowded;
    store_clear(s);
}

void store_reclaim(store *s) {
    uint64_t oldest = UINT64_MAX;
    /* A worker that announces its epoch after this look sees what was taken out before it. */
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t i = 0; i < MAX_WORKERS; i++) {
        uint64_t epoch = atomic_load(&s->desk->worker[i].epoch);
        if (epoch && epoch < oldest)
            oldest = epoch;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->retired_count; i++) {
        retired r = s->retired[i];
        if (r.epoch < oldest)
            block_give(s, r.offset, r.class, class_size(r.class));
        else
            s->retired[kept++] = r;
    }
    s->retired_count = kept;
    s->reclaim_at = 2 * kept + 64; /* so that a worker that holds much makes nothing slow */
    /* A worker whose batch began before the last block was taken out may see any answer that was there then. The list
     * of retired blocks does not tell: one that it had no room for is not in it. */
    if (s->crowded && atomic_load_explicit(&s->table->epoch, memory_order_relaxed) <= oldest)
        gather(s);
}
