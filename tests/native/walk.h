/* A strict reader of DNS messages (RFC 1035 §4), written apart from reply.c so that both can't share a mistake. */
#ifndef PHAROS_TESTS_WALK_H
#define PHAROS_TESTS_WALK_H

#include <stdbool.h>
#include <stdint.h>

enum { WALK_RECORDS = 6000 };

typedef struct {
    uint32_t start, end; /* in the message, owner included */
    uint32_t type, data; /* where its data begin */
    uint8_t section;     /* 1 answer, 2 authority, 3 additional */
} walked_record;

typedef struct {
    uint32_t flags, counts[4], question_end;
    bool opt;
    uint32_t payload, rcode; /* rcode with OPT's octet */
    bool dnssec_ok;
    uint32_t cookie, cookie_len, error; /* where the cookie begins; 0 for none */
    uint32_t records;
    walked_record record[WALK_RECORDS];
} walked;

/* NULL, or what is wrong with the message. */
const char *walk(const uint8_t *message, uint32_t len, walked *w);
/* A name, folded and without pointers; octets of `to` (at most 255), 0 when it is broken. `next`: what follows it. */
uint32_t walk_name(const uint8_t *message, uint32_t len, uint32_t at, uint8_t to[256], uint32_t *next);

#endif
