#include "walk.h"
#include <stddef.h>
#include <string.h>

static uint32_t get16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

uint32_t walk_name(const uint8_t *message, uint32_t len, uint32_t at, uint8_t to[256], uint32_t *next) {
    uint32_t size = 0, lowest = at;
    bool jumped = false;
    for (;;) {
        if (at >= len)
            return 0;
        uint32_t label = message[at];
        if (label >= 0xc0) {
            if (at + 2 > len)
                return 0;
            uint32_t target = get16(message + at) & 0x3fff;
            if (!jumped)
                *next = at + 2;
            /* Only backwards, behind the header: so it ends. */
            if (target >= lowest || target < 12)
                return 0;
            jumped = true;
            at = lowest = target;
            continue;
        }
        if (label > 63 || at + 1 + label > len || size + 1 + label > 255)
            return 0;
        to[size++] = (uint8_t)label;
        for (uint32_t i = 0; i < label; i++) {
            uint8_t c = message[at + 1 + i];
            to[size++] = c >= 'A' && c <= 'Z' ? c + 32 : c;
        }
        at += 1 + label;
        if (!label) {
            if (!jumped)
                *next = at;
            return size;
        }
    }
}

/* Types with names must be filled by them to their last octet, addresses have their size. */
static bool data_right(const uint8_t *message, uint32_t type, uint32_t at, uint32_t end) {
    uint8_t name[256];
    uint32_t next = at;
    switch (type) {
    case 1:
        return end - at == 4;
    case 28:
        return end - at == 16;
    case 2: case 5: case 12:
        return walk_name(message, end, at, name, &next) && next == end;
    case 15:
        return end - at > 2 && walk_name(message, end, at + 2, name, &next) && next == end;
    case 33: /* RFC 2782: the target is not compressed */
        return end - at > 6 && walk_name(message, end, at + 6, name, &next) == end - at - 6 && next == end;
    case 6:
        return walk_name(message, end, at, name, &next) && walk_name(message, end, next, name, &next) && next + 20 == end;
    default:
        return true;
    }
}

static const char *walk_opt(const uint8_t *message, const walked_record *r, walked *w) {
    if (w->opt)
        return "two OPT records";
    if (r->section != 3 || message[r->start])
        return "an OPT record in the wrong section or with an owner";
    const uint8_t *fixed = message + r->start + 1;
    w->opt = true;
    w->payload = get16(fixed + 2);
    w->rcode |= (uint32_t)fixed[4] << 4;
    w->dnssec_ok = fixed[6] >> 7;
    if (fixed[5] || fixed[6] & 0x7f || fixed[7])
        return "a version or flags of EDNS that nobody knows";
    for (uint32_t at = r->data; at < r->end;) {
        if (r->end - at < 4 || get16(message + at + 2) > r->end - at - 4)
            return "an option longer than its record";
        uint32_t code = get16(message + at), size = get16(message + at + 2);
        at += 4;
        if (code == 10 && !w->cookie)
            w->cookie = at, w->cookie_len = size;
        else if (code == 15 && !w->error && size == 2)
            w->error = get16(message + at);
        else
            return "an option twice, of a wrong size, or not asked for";
        at += size;
    }
    return NULL;
}

static const char *walk_record(const uint8_t *message, uint32_t len, uint32_t *at, uint8_t section, walked *w) {
    uint8_t owner[256];
    walked_record *r = &w->record[w->records];
    uint32_t next;
    if (w->records == WALK_RECORDS || !walk_name(message, len, *at, owner, &next) || len - next < 10)
        return "a record's owner is broken, or it has no room";
    *r = (walked_record){.start = *at, .type = get16(message + next), .data = next + 10, .section = section};
    if (get16(message + next + 8) > len - r->data)
        return "a record is longer than the message";
    r->end = *at = r->data + get16(message + next + 8);
    w->records++;
    if (r->type == 41)
        return walk_opt(message, r, w);
    if (get16(message + next + 2) != 1)
        return "a record of another class";
    return data_right(message, r->type, r->data, r->end) ? NULL : "a record's data are broken";
}

const char *walk(const uint8_t *message, uint32_t len, walked *w) {
    uint8_t name[256];
    memset(w, 0, offsetof(walked, record));
    if (len < 12)
        return "no header";
    w->flags = get16(message + 2);
    w->rcode = w->flags & 15;
    for (int i = 0; i < 4; i++)
        w->counts[i] = get16(message + 4 + 2 * i);
    if (w->counts[0] != 1 || !walk_name(message, len, 12, name, &w->question_end) || len - w->question_end < 4)
        return "no question";
    w->question_end += 4;
    uint32_t at = w->question_end;
    for (uint8_t section = 1; section < 4; section++)
        for (uint32_t i = 0; i < w->counts[section]; i++) {
            const char *wrong = walk_record(message, len, &at, section, w);
            if (wrong)
                return wrong;
        }
    return at == len ? NULL : "octets behind the last record";
}
