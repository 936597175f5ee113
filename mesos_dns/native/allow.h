/* Whether a client is one of those that are answered. */
#ifndef PHAROS_ALLOW_H
#define PHAROS_ALLOW_H

#include "region.h"
#include <string.h>

static inline int in_prefix(const prefix *p, const uint8_t *client, uint32_t len) {
    uint32_t whole = p->bits / 8, rest = p->bits % 8;
    if (p->address_len != len || memcmp(p->address, client, whole))
        return 0;
    return !rest || !((p->address[whole] ^ client[whole]) >> (8 - rest));
}

/* A client without an address (`len` 0) is the writer itself, and allowed. */
static inline int client_allowed(const settings *s, const uint8_t *client, uint32_t len) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (!len)
        return 1;
    if (len == 16 && !memcmp(client, mapped, sizeof mapped)) {
        client += sizeof mapped;
        len = 4;
    }
    for (uint32_t i = 0; i < s->prefixes; i++)
        if (in_prefix(&s->allow[i], client, len))
            return 1;
    return 0;
}

#endif
