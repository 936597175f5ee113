/* One writer that changes everything all the time, and readers that do what a worker does, for ThreadSanitizer and
 * without it: every reply is whole, of one version, and not older than what was dropped before its batch.
 *
 * race_store SECONDS SEED
 */
#include "../../mesos_dns/native/reply.h"
#include "draft.h"
#include "walk.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    TABLE = 1 << 20, KEYS = 64, READERS = 2, BATCH = 16, FILLERS = 4000, APEX = 9, VERSION_BITS = 18, MOST_RECORDS = 20,
    NODATA_TYPE = TYPE_AAAA,
    AGED_TYPE = TYPE_TXT, MONO = 100, LATEST = 40, TTL = 60, /* answers of others, put in up to LATEST seconds before MONO */
};

static struct {
    table_head *table;
    desk *desk;
    store *s;
    uint32_t version[KEYS], aged[KEYS], serial;
    /* What a batch that begins now may still say. */
    _Atomic uint32_t oldest[KEYS], oldest_aged[KEYS], oldest_serial;
    _Atomic int ended;
    _Atomic uint64_t replies, passed, aged_replies, told;
} all;

static void fail(const char *what) {
    fprintf(stderr, "race_store: %s\n", what);
    abort();
}

static uint32_t next(uint32_t *random) {
    *random = *random * 1664525 + 1013904223;
    return *random >> 8;
}

static uint32_t records_of(uint32_t key, uint32_t version) { return 1 + (key + version) % MOST_RECORDS; }

/* --- the writer ------------------------------------------------------------------------------------ */

static void put_key(draft *d, uint32_t key) {
    char name[32];
    snprintf(name, sizeof name, "k%u.zone", key);
    draft_begin(d, name, TYPE_A);
    uint32_t version = ++all.version[key];
    draft_addresses(d, TYPE_A, records_of(key, version), key << (VERSION_BITS + 8) | version << 8);
    d->parts.flags |= ANSWER_ROTATE;
    store_put(all.s, &d->parts, (uint64_t[]){key % 8, key + 100}, 2);
    /* Put or refused: the version before it is gone. */
    atomic_store_explicit(&all.oldest[key], version, memory_order_release);
}

/* The age of each version. */
static uint32_t age_of(uint32_t version) { return LATEST - version % LATEST; }

static void put_aged(draft *d, uint32_t key) {
    char name[32];
    snprintf(name, sizeof name, "k%u.zone", key);
    draft_begin(d, name, AGED_TYPE);
    uint32_t version = ++all.aged[key];
    draft_addresses(d, AGED_TYPE, records_of(key, version), key << (VERSION_BITS + 8) | version << 8);
    draft_aged(d, version & 1 ? ANSWER_ROTATE : ANSWER_STALE, MONO - age_of(version), LATEST + 1);
    store_put(all.s, &d->parts, &(uint64_t){key + 500}, 1);
    atomic_store_explicit(&all.oldest_aged[key], version, memory_order_release);
}

static void forget_aged(uint32_t key) {
    store_touch(all.s, key + 500);
    atomic_store_explicit(&all.oldest_aged[key], all.aged[key] + 1, memory_order_release);
}

static void put_absence(draft *d, uint32_t key) {
    char name[32];
    snprintf(name, sizeof name, "k%u.zone", key);
    draft_begin(d, name, NODATA_TYPE);
    d->parts.flags |= ANSWER_NODATA;
    d->parts.zone_label = 1;
    store_put(all.s, &d->parts, &(uint64_t){key + 100}, 1);
}

static void put_filler(draft *d, uint32_t random) {
    char name[32];
    snprintf(name, sizeof name, "f%u.zone", random % FILLERS);
    draft_begin(d, name, TYPE_A);
    draft_addresses(d, TYPE_A, 1 + (random >> 12) % (random & 0x800 ? 400 : 8), random);
    store_put(all.s, &d->parts, NULL, 0);
}

static void touch_keys(uint32_t dependency) {
    store_touch(all.s, dependency);
    for (uint32_t key = dependency; key < KEYS; key += 8)
        atomic_store_explicit(&all.oldest[key], all.version[key] + 1, memory_order_release);
}

static void configure(uint32_t zones) {
    uint32_t size = (uint32_t)(sizeof(settings) + zones * sizeof(zone_entry));
    settings *now = calloc(1, size);
    now->max_udp = 1232;
    now->prefetch = 1;
    now->zones = (uint8_t)zones;
    all.serial++;
    zone_fill(&now->zone[0], "zone", APEX, ZONE_NEGATIVE, 1, all.serial);
    for (uint32_t i = 1; i < zones; i++)
        zone_fill(&now->zone[i], "b", 0, 0, 0, 0);
    if (!store_settings(all.s, now, size))
        all.serial--;
    atomic_store_explicit(&all.oldest_serial, all.serial, memory_order_release);
    free(now);
}

static void change_names(uint32_t random) {
    uint8_t wire[64];
    char name[32];
    snprintf(name, sizeof name, "task.x%u", (random >> 1) % 300);
    uint32_t len = name_wire(wire, name) - 1;
    if (random & 1)
        store_enter(all.s, APEX, wire, len);
    else
        store_leave(all.s, APEX, wire, len);
}

static void write_once(draft *d, uint32_t *random) {
    uint32_t chosen = next(random) % 1000, key = next(random) % KEYS;
    if (chosen < 450)
        put_key(d, key);
    else if (chosen < 680)
        put_aged(d, key);
    else if (chosen < 700)
        forget_aged(key);
    else if (chosen < 800)
        put_absence(d, key);
    else if (chosen < 900)
        put_filler(d, next(random));
    else if (chosen < 940)
        touch_keys(next(random) % 8);
    else if (chosen < 950)
        configure(1 + next(random) % 5);
    else if (chosen < 990)
        change_names(next(random));
    else if (chosen < 999)
        store_reclaim(all.s);
    else if (next(random) % 8 == 0)
        store_clear(all.s);
}

/* --- readers --------------------------------------------------------------------------------------- */

typedef struct {
    uint8_t packet[256 + READ_AHEAD], reply[1232];
    query q;
    uint32_t len, key, type, oldest;
} asked;

static const uint8_t no_client[4] = {10};

static void ask(asked *a, uint32_t random) {
    char name[32];
    a->key = random % (KEYS + 1);
    a->type = (uint32_t[]){TYPE_A, TYPE_A, AGED_TYPE, NODATA_TYPE}[random >> 8 & 3];
    if (a->key < KEYS)
        snprintf(name, sizeof name, "K%u.zOne", a->key);
    else
        snprintf(name, sizeof name, "never.zone");
    a->len = question(a->packet, (uint16_t)random, name, a->type, random >> 10 & 1 ? 1232 : 0);
    a->q.client = no_client, a->q.client_len = sizeof no_client;
    const _Atomic uint32_t *oldest = a->type == NODATA_TYPE || a->key == KEYS ? &all.oldest_serial
                                     : a->type == TYPE_A                      ? &all.oldest[a->key]
                                                                              : &all.oldest_aged[a->key];
    a->oldest = atomic_load_explicit(oldest, memory_order_acquire);
}

static uint32_t get32(const uint8_t *at) { return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3]; }

static void check_addresses(const asked *a, const walked *w) {
    uint32_t seen = 0, version = 0;
    for (uint32_t i = 0; i < w->counts[1]; i++) {
        uint32_t number = get32(a->reply + w->record[i].end - 4);
        uint32_t of_record = number >> 8 & ((1u << VERSION_BITS) - 1), place = number & 255;
        if (number >> (VERSION_BITS + 8) != a->key || (i && of_record != version))
            fail("a torn answer");
        version = of_record;
        if (seen >> place & 1)
            fail("a record twice");
        seen |= 1u << place;
        if (get32(a->reply + w->record[i].data - 6) != (a->type == AGED_TYPE && version & 1 ? TTL - age_of(version) : TTL))
            fail("a TTL of another age");
    }
    bool whole = w->counts[1] == records_of(a->key, version) || w->flags & 0x0200; /* 20 texts are cut short */
    if (!whole || version < (a->oldest & ((1u << VERSION_BITS) - 1)))
        fail("an answer that was dropped before, or a part of one");
}

static void check(const asked *a, uint32_t len) {
    static __thread walked w;
    const char *wrong = walk(a->reply, len, &w);
    if (wrong)
        fail(wrong);
    if (a->q.verdict == ANSWER && a->type != NODATA_TYPE) {
        check_addresses(a, &w);
        return;
    }
    if ((a->q.verdict == ABSENT) != (a->key == KEYS))
        fail("a name that is there is absent");
    if (w.counts[1] || w.counts[2] != 1 || get32(a->reply + w.record[0].end - 20) < a->oldest)
        fail("not the SOA record of now");
}

static void answer_batch(asked *batch, worker_desk *own, uint32_t *random) {
    context c = {.stream = 0, .now = 1700000000, .mono = MONO};
    for (asked *a = batch; a < batch + BATCH; a++)
        ask(a, next(random));
    atomic_store(&own->epoch, atomic_load(&all.table->epoch));
    atomic_thread_fence(memory_order_seq_cst);
    context_read(&c, all.table);
    for (asked *a = batch; a < batch + BATCH; a++) {
        query_read(&c, &a->q, a->packet, a->len);
        query_prefetch(&c, &a->q);
    }
    for (asked *a = batch; a < batch + BATCH; a++)
        query_find(&c, &a->q);
    for (asked *a = batch; a < batch + BATCH; a++) {
        if (a->q.verdict == PASS ? a->key == KEYS : a->q.verdict < ANSWER)
            fail("a plain question is not understood");
        if (a->q.verdict == PASS) {
            atomic_fetch_add_explicit(&all.passed, 1, memory_order_relaxed);
            continue;
        }
        if (a->q.found)
            atomic_store_explicit(&all.desk->used[a->q.found->id], USED_READ, memory_order_relaxed);
        if (a->q.found && a->q.found->flags & ANSWER_AGED) {
            atomic_fetch_add_explicit(&all.aged_replies, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(&all.told, (uint64_t)answer_due(&c, a->q.found, all.desk), memory_order_relaxed);
        }
        own->turn += 0x9e3779b1u;
        check(a, query_reply(&c, &a->q, own->turn, WHOLE, a->reply));
        atomic_fetch_add_explicit(&all.replies, 1, memory_order_relaxed);
    }
    atomic_store_explicit(&own->epoch, 0, memory_order_release);
}

static void *read_on(void *number) {
    worker_desk *own = number;
    asked *batch = calloc(BATCH, sizeof *batch);
    uint32_t random = (uint32_t)(own - all.desk->worker) * 7919 + 1;
    while (!atomic_load_explicit(&all.ended, memory_order_relaxed))
        answer_batch(batch, own, &random);
    free(batch);
    return NULL;
}

/* --- both ------------------------------------------------------------------------------------------ */

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void begin(void) {
    uint8_t wire[64];
    char name[32];
    all.table = aligned_alloc(64, TABLE);
    all.desk = calloc(1, sizeof(desk) + TABLE / 128);
    memset(all.table, 0, TABLE);
    all.s = store_new(all.table, TABLE, all.desk, TABLE / 128, 0x1234567, 0x9e3779b97f4a7c15ULL);
    for (uint32_t key = 0; key < KEYS; key++) {
        snprintf(name, sizeof name, "k%u", key);
        store_enter(all.s, APEX, wire, name_wire(wire, name) - 1);
    }
    configure(1);
}

int main(int count, char **arguments) {
    if (count != 3)
        return 2;
    double until = seconds() + atof(arguments[1]);
    uint32_t random = (uint32_t)atoi(arguments[2]);
    uint64_t written = 0;
    pthread_t readers[READERS];
    store_figures f;
    draft *d = malloc(sizeof *d);
    begin();
    for (uint32_t i = 0; i < READERS; i++)
        if (pthread_create(&readers[i], NULL, read_on, &all.desk->worker[i]))
            fail("no thread");
    for (; written % 256 || (seconds() < until && written < 1ULL << 22); written++)
        write_once(d, &random);
    atomic_store(&all.ended, 1);
    for (uint32_t i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    store_figures_of(all.s, &f);
    printf("%lu operations, %lu replies, %lu passed on; %lu answers evicted, %lu refused, %lu flushes; of others: %lu, %lu due\n",
           (unsigned long)written, (unsigned long)all.replies, (unsigned long)all.passed, (unsigned long)f.evicted,
           (unsigned long)f.refused, (unsigned long)f.flushed, (unsigned long)all.aged_replies, (unsigned long)all.told);
    store_free(all.s);
    free(d);
    return all.replies && all.aged_replies && all.told ? 0 : 1;
}
