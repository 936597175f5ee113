#include "cookie.h"
#include <string.h>

enum { VERSION = 1, OLDEST = 3600, RENEW_AFTER = 1800, MOST_AHEAD = 300 /* seconds */ };

static inline uint64_t rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static inline void sip_round(uint64_t v[4]) {
    v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
    v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

uint64_t siphash24(const uint8_t key[16], const uint8_t *data, uint32_t len) {
    uint64_t k[2], word, last = (uint64_t)len << 56;
    memcpy(k, key, 16);
    uint64_t v[4] = {k[0] ^ 0x736f6d6570736575ULL, k[1] ^ 0x646f72616e646f6dULL, k[0] ^ 0x6c7967656e657261ULL,
                     k[1] ^ 0x7465646279746573ULL};
    for (; len >= 8; len -= 8, data += 8) {
        memcpy(&word, data, 8);
        v[3] ^= word;
        sip_round(v), sip_round(v);
        v[0] ^= word;
    }
    for (uint32_t i = 0; i < len; i++)
        last |= (uint64_t)data[i] << 8 * i;
    v[3] ^= last;
    sip_round(v), sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The hash of a cookie's first 16 octets and the client's address (RFC 9018 §4.2). */
static uint64_t cookie_hash(const uint8_t secret[16], const uint8_t signed_part[16], const uint8_t *client, uint32_t client_len) {
    uint8_t input[16 + 16];
    memcpy(input, signed_part, 16);
    memcpy(input + 16, client, client_len);
    return siphash24(secret, input, 16 + client_len);
}

static int32_t cookie_age(const uint8_t *cookie, uint32_t now) { /* RFC 1982 arithmetic */
    uint32_t made = (uint32_t)cookie[12] << 24 | (uint32_t)cookie[13] << 16 | (uint32_t)cookie[14] << 8 | cookie[15];
    return (int32_t)(now - made);
}

/* Which secret made a server cookie that is good now; -1 when there is none. */
static int made_with(const settings *s, const uint8_t *cookie, uint32_t len, const uint8_t *client, uint32_t client_len,
                     uint32_t now) {
    if (len != COOKIE_SIZE || cookie[CLIENT_COOKIE] != VERSION)
        return -1;
    int32_t age = cookie_age(cookie, now);
    if (age > OLDEST || age < -MOST_AHEAD)
        return -1;
    for (uint32_t i = 0; i < s->secrets; i++) {
        uint64_t theirs, ours = cookie_hash(s->secret[i], cookie, client, client_len);
        memcpy(&theirs, cookie + 16, 8);
        if (theirs == ours)
            return (int)i;
    }
    return -1;
}

enum cookie_state cookie_check(const settings *s, const uint8_t *cookie, uint32_t len, const uint8_t *client,
                               uint32_t client_len, uint32_t now) {
    if (!len)
        return COOKIE_NONE;
    if (len == CLIENT_COOKIE)
        return COOKIE_NEW;
    return made_with(s, cookie, len, client, client_len, now) < 0 ? COOKIE_INVALID : COOKIE_VALID;
}

uint8_t *put_cookie(uint8_t *at, const settings *s, const uint8_t *cookie, uint32_t len, const uint8_t *client,
                    uint32_t client_len, uint32_t now) {
    if (made_with(s, cookie, len, client, client_len, now) == 0 && cookie_age(cookie, now) <= RENEW_AFTER) {
        memcpy(at, cookie, COOKIE_SIZE);
        return at + COOKIE_SIZE;
    }
    memcpy(at, cookie, CLIENT_COOKIE);
    memcpy(at + 8, (uint8_t[4]){VERSION}, 4);
    for (int i = 0; i < 4; i++)
        at[12 + i] = (uint8_t)(now >> (24 - 8 * i));
    uint64_t hash = cookie_hash(s->secret[0], at, client, client_len);
    memcpy(at + 16, &hash, 8); /* in SipHash's own order, that of all machines that this runs on */
    return at + COOKIE_SIZE;
}
