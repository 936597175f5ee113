/* Latencies in ns, counted in 32 buckets for each power of two: any quantile to within 1/32. */
#pragma once
#include <stdint.h>

enum { BUCKETS = 64 + 58 * 32 };

struct latencies {
    uint64_t count, longest, buckets[BUCKETS];
};

static void count_latency(struct latencies *all, uint64_t ns) {
    int power = ns < 64 ? 5 : 63 - __builtin_clzll(ns);
    uint64_t bucket = ns < 64 ? ns : 64 + (uint64_t)(power - 6) * 32 + (ns >> (power - 5)) - 32;
    all->buckets[bucket]++;
    all->count++;
    if (ns > all->longest) all->longest = ns;
}

/* The middle, in µs, of the bucket that `part` (0 to 1) of all latencies lie below or in. */
static double latency_us(const struct latencies *all, double part) {
    uint64_t wanted = (uint64_t)(part * (double)all->count), passed = 0;
    for (uint64_t bucket = 0; bucket < BUCKETS; bucket++) {
        passed += all->buckets[bucket];
        if (passed <= wanted) continue;
        if (bucket < 64) return (double)bucket / 1e3;
        uint64_t width = 1ull << ((bucket - 64) / 32 + 1);
        return ((double)(32 + (bucket - 64) % 32) + 0.5) * (double)width / 1e3;
    }
    return (double)all->longest / 1e3;
}
