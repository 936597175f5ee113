/* Answers of others: how old one is, and TTLs that fall with it (RFC 1035 §3.2.1). */
#ifndef PHAROS_AGE_H
#define PHAROS_AGE_H

#include "region.h"

static inline uint32_t get16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

/* Seconds; the coarse clock may be behind the one that the writer has read. */
static inline uint32_t answer_age(const answer *a, uint32_t mono) {
    int32_t age = (int32_t)(mono - a->made);
    return age > 0 ? (uint32_t)age : 0;
}

/* What follows an owner: labels, a pointer, or both; 0 when it does not end before `end`. */
static inline uint32_t owner_end(const uint8_t *message, uint32_t at, uint32_t end) {
    while (at < end) {
        uint32_t label = message[at];
        if (label >= 0xc0)
            return at + 2;
        if (label > 63)
            return 0;
        at += label + 1;
        if (!label)
            return at;
    }
    return 0;
}

/* Lowers the TTLs of so many records from `at` on, none below 0, and reads no octet from `end` on. Returns how many
 * records there were: fewer than asked for where one is broken. */
static inline uint32_t lower_ttls(uint8_t *message, uint32_t at, uint32_t end, uint32_t records, uint32_t age) {
    for (uint32_t done = 0; done < records; done++) {
        uint32_t fixed = owner_end(message, at, end);
        if (!fixed || fixed > end || end - fixed < 10 || get16(message + fixed + 8) > end - fixed - 10)
            return done;
        uint8_t *ttl = message + fixed + 4;
        uint32_t before = get16(ttl) << 16 | get16(ttl + 2), now = before > age ? before - age : 0;
        for (int octet = 3; octet >= 0; octet--, now >>= 8)
            ttl[octet] = (uint8_t)now;
        at = fixed + 10 + get16(message + fixed + 8);
    }
    return records;
}

#endif
