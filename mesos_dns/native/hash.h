/* Hashing and folding of names; both sides of the table use these. */
#ifndef PHAROS_HASH_H
#define PHAROS_HASH_H

#include "region.h"
#include <string.h>

/* ASCII letters of eight octets to lower case, without a branch (RFC 4343 §3). */
static inline uint64_t fold8(uint64_t x) {
    uint64_t low = x & 0x7f7f7f7f7f7f7f7fULL;
    uint64_t from_a = low + 0x3f3f3f3f3f3f3f3fULL, above_z = low + 0x2525252525252525ULL;
    return x | (((from_a ^ above_z) & ~x & 0x8080808080808080ULL) >> 2);
}

static inline uint64_t mix(uint64_t h, uint64_t word, uint64_t factor) {
    unsigned __int128 product = (unsigned __int128)(h ^ word) * factor;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Folds `len` octets into `to` (room for 7 more) and hashes them; 7 octets behind `from` must be readable. */
static inline uint64_t fold_hash(const table_head *t, uint64_t h, uint8_t *to, const uint8_t *from, uint32_t len) {
    uint64_t word;
    uint32_t at = 0;
    for (; at + 8 <= len; at += 8) {
        memcpy(&word, from + at, 8);
        word = fold8(word);
        memcpy(to + at, &word, 8);
        h = mix(h, word, t->factor);
    }
    if (at < len) {
        memcpy(&word, from + at, 8);
        word = fold8(word) & ((1ULL << 8 * (len - at)) - 1);
        memcpy(to + at, &word, 8);
        h = mix(h, word, t->factor);
    }
    return mix(h, len, t->factor);
}

/* The hash of a question: its folded name, then type and class. 0 and 1 have a meaning in tables. */
static inline uint64_t question_hash(uint64_t name_hash, uint32_t type_class, uint64_t factor) {
    uint64_t h = mix(name_hash, 0x100000000ULL | type_class, factor);
    return h < 2 ? h + 2 : h;
}

/* The hash of a name below another one in the name_set. */
static inline uint64_t child_hash(const table_head *t, uint64_t parent, const uint8_t *label, uint32_t len) {
    uint8_t folded[64 + 8];
    uint64_t h = fold_hash(t, parent, folded, label, len);
    return h < 2 ? h + 2 : h;
}

#endif
