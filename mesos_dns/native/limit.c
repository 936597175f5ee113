#include "limit.h"
#include <string.h>

enum { KIND_ANSWER, KIND_WILDCARD, KIND_NXDOMAIN, KIND_NODATA, KIND_REFERRAL, KIND_ERROR };
enum { WAYS = 4, WINDOW = 5 /* seconds of debt at most */, PRICE = 1000, REFUSED = 5 };

static uint64_t mix_word(uint64_t mixed, uint64_t word) {
    mixed = (mixed ^ word) * 0x9e3779b97f4a7c15ULL;
    return mixed ^ mixed >> 32;
}

/* The /24 of an IPv4 address, the /56 of an IPv6 address. */
static uint64_t network_of(const uint8_t *client, uint32_t len) {
    uint64_t number = 0;
    for (uint32_t i = 0; i < (len == 4 ? 3u : 7u); i++)
        number = number << 8 | client[i];
    return len == 4 ? number : number | 1ULL << 63;
}

static int is_private(const uint8_t *c, uint32_t len) {
    static const uint8_t loopback[16] = {[15] = 1};
    if (len == 4)
        return c[0] == 10 || c[0] == 127 || (c[0] == 172 && (c[1] & 0xf0) == 16) || (c[0] == 192 && c[1] == 168) ||
               (c[0] == 169 && c[1] == 254) || (c[0] == 100 && (c[1] & 0xc0) == 64);
    return (c[0] & 0xfe) == 0xfc || (c[0] == 0xfe && (c[1] & 0xc0) == 0x80) || !memcmp(c, loopback, 16);
}

static bucket *bucket_of(bucket *buckets, uint64_t mixed, int64_t most, int64_t now) {
    uint32_t first = (uint32_t)mixed & (BUCKETS - WAYS), tag = (uint32_t)(mixed >> 32);
    bucket *oldest = &buckets[first];
    tag += !tag;
    for (bucket *b = oldest; b < buckets + first + WAYS; b++) {
        if (atomic_load_explicit(&b->tag, memory_order_relaxed) == tag)
            return b;
        if (atomic_load_explicit(&b->time, memory_order_relaxed) < atomic_load_explicit(&oldest->time, memory_order_relaxed))
            oldest = b;
    }
    atomic_store_explicit(&oldest->tag, tag, memory_order_relaxed);
    atomic_store_explicit(&oldest->time, now, memory_order_relaxed);
    atomic_store_explicit(&oldest->credit, most, memory_order_relaxed);
    atomic_store_explicit(&oldest->over, 0, memory_order_relaxed);
    return oldest;
}

/* Whether there is credit for one more, at so many a second. */
static int bucket_take(bucket *b, int64_t rate, int64_t now) {
    int64_t most = rate * PRICE, least = -WINDOW * rate * PRICE, longest = (WINDOW + 1) * 1000;
    int64_t passed = now - atomic_load_explicit(&b->time, memory_order_relaxed);
    passed = passed < 0 ? 0 : passed > longest ? longest : passed;
    int64_t credit = atomic_load_explicit(&b->credit, memory_order_relaxed) + passed * rate;
    credit = (credit > most ? most : credit) - PRICE;
    credit = credit < least ? least : credit;
    atomic_store_explicit(&b->time, now, memory_order_relaxed);
    atomic_store_explicit(&b->credit, credit, memory_order_relaxed);
    return credit >= 0;
}

enum limit_verdict limit_take(const settings *s, uint64_t seed, bucket *buckets, const uint8_t *name, uint32_t len,
                              const uint8_t *client, uint32_t client_len, int64_t now) {
    uint64_t mixed = seed ^ len, word;
    for (; len; len -= len < 8 ? len : 8, name += 8) {
        word = 0;
        memcpy(&word, name, len < 8 ? len : 8);
        mixed = mix_word(mixed, word);
    }
    mixed = mix_word(mix_word(mixed, network_of(client, client_len)), 0);
    bucket *b = bucket_of(buckets, mixed, s->rate * (int64_t)PRICE, now);
    if (bucket_take(b, s->rate, now))
        return LIMIT_PASS;
    uint32_t over = atomic_load_explicit(&b->over, memory_order_relaxed) + 1;
    int slipped = over == s->slip;
    atomic_store_explicit(&b->over, slipped || !s->slip ? 0 : over, memory_order_relaxed);
    return slipped ? LIMIT_SLIP : LIMIT_DROP;
}

enum limit_verdict limit_check(const context *c, bucket *buckets, query *q, uint64_t now) {
    uint8_t zone_name[1 + 256];
    const uint8_t *name = &q->bucket_kind;
    uint32_t len;
    if (!c->settings->limit_private && is_private(q->client, q->client_len))
        return LIMIT_PASS;
    if (q->zone) {
        zone_name[0] = q->verdict == ABSENT ? KIND_NXDOMAIN : KIND_NODATA;
        memcpy(zone_name + 1, q->zone->origin, q->zone->origin_len);
        name = zone_name;
        len = 1u + q->zone->origin_len;
    } else if (q->found) {
        q->bucket_kind = KIND_ANSWER;
        len = 1 + q->name_len + 2;
    } else {
        zone_name[0] = KIND_ERROR;
        zone_name[1] = REFUSED;
        name = zone_name;
        len = 2;
    }
    return limit_take(c->settings, c->table->seed, buckets, name, len, q->client, q->client_len, (int64_t)now);
}

/* A client is one address here, and owes nothing: at any time it gets its share of what may be handed over. */
int pass_allowed(const context *c, bucket *buckets, const query *q, uint64_t now) {
    uint32_t rate = c->settings->pass_rate;
    uint64_t mixed = ~c->table->seed, word;
    if (!rate || !q->client_len)
        return 1;
    for (uint32_t at = 0; at < q->client_len; at += 4) {
        word = 0;
        memcpy(&word, q->client + at, 4);
        mixed = mix_word(mixed, word);
    }
    bucket *b = bucket_of(buckets, mix_word(mixed, q->client_len), rate * (int64_t)PRICE, (int64_t)now);
    if (bucket_take(b, rate, (int64_t)now))
        return 1;
    atomic_store_explicit(&b->credit, 0, memory_order_relaxed);
    return 0;
}
