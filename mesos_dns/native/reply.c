#include "reply.h"
#include "age.h"
#include "allow.h"
#include "cookie.h"
#include "hash.h"

enum {
    HEADER = 12,
    OPT_FIXED = 11,
    FLAG_QR = 0x8000, FLAG_AA = 0x0400, FLAG_TC = 0x0200, FLAG_RD = 0x0100, FLAG_CD = 0x0010,
    NXDOMAIN = 3, REFUSED = 5, RCODE_BADCOOKIE = 23,
    TYPE_OPT = 41, TYPE_IXFR = 251, TYPE_AXFR = 252,
    CLASS_IN = 1,
    OPTION_COOKIE = 10, OPTION_KEEPALIVE = 11, OPTION_PADDING = 12, OPTION_ERROR = 15,
    STALE_ANSWER = 3, NOT_ALLOWED = 18, STALE_NXDOMAIN = 19, NOT_AUTHORITATIVE = 20,
    POINTER_REACH = 0x4000,
    SHORTEST_DUE = 10, /* seconds; what lives shorter is not renewed ahead of time */
};

static uint8_t *put16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static uint8_t *put(uint8_t *at, const void *from, uint32_t len) {
    memcpy(at, from, len);
    return at + len;
}

void context_read(context *c, const table_head *table) {
    uint64_t names = atomic_load_explicit(&table->names, memory_order_acquire);
    c->table = table;
    c->settings = table_at(table, atomic_load_explicit(&table->settings, memory_order_acquire));
    c->index = table_at(table, atomic_load_explicit(&table->index, memory_order_acquire));
    c->names = names ? table_at(table, names) : NULL;
}

/* --- reading --------------------------------------------------------------------------------------- */

/* Octets of the name, its end included; 0 for what the writer has to look at. */
static uint32_t name_length(const uint8_t *packet, uint32_t len) {
    uint32_t at = HEADER;
    while (at < len && packet[at]) {
        if (packet[at] > 63)
            return 0;
        at += packet[at] + 1u;
    }
    at++;
    return at + 4 <= len && at - HEADER <= 255 ? at - HEADER : 0;
}

static int read_options(const context *c, query *q, const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        if (end - at < 4)
            return 0;
        uint32_t code = get16(at), size = get16(at + 2);
        at += 4;
        if (size > end - at)
            return 0;
        if (code == OPTION_COOKIE) {
            if (q->cookie_len || (size != 8 && (size < 16 || size > 40)))
                return 0;
            q->cookie = at;
            q->cookie_len = (uint8_t)size;
        } else if (c->stream && (code == OPTION_KEEPALIVE || code == OPTION_PADDING)) {
            return 0;
        }
        at += size;
    }
    if (!c->settings->cookies || !q->client_len)
        q->cookie_len = 0;
    return 1;
}

/* The one additional record of an ordinary query (RFC 6891 §6.1). */
static int read_opt(const context *c, query *q, const uint8_t *packet, uint32_t at, uint32_t len) {
    if (len - at < OPT_FIXED)
        return 0;
    const uint8_t *opt = packet + at;
    uint32_t size = get16(opt + 9), payload = get16(opt + 3);
    if (opt[0] || get16(opt + 1) != TYPE_OPT || opt[6] || len - at != OPT_FIXED + size)
        return 0;
    q->edns = 1;
    q->dnssec_ok = opt[7] >> 7;
    if (payload > q->limit)
        q->limit = payload < c->settings->max_udp ? payload : c->settings->max_udp;
    return !size || read_options(c, q, opt + OPT_FIXED, opt + OPT_FIXED + size);
}

static void read_packet(const context *c, query *q, const uint8_t *packet, uint32_t len) {
    q->packet = packet;
    q->found = NULL;
    q->zone = NULL;
    q->edns = q->dnssec_ok = q->cookie_len = 0;
    q->limit = 512;
    q->verdict = len < HEADER || packet[2] & 0x80 ? DROP : PASS;
    if (q->verdict == DROP)
        return;
    uint32_t additional = packet[11];
    static const uint8_t plain[8] = {0, 1, 0, 0, 0, 0, 0, 0};
    if (packet[2] & 0x78 || memcmp(packet + 4, plain, 7) || additional > 1)
        return;
    q->name_len = name_length(packet, len);
    if (!q->name_len)
        return;
    uint32_t end = HEADER + q->name_len + 4;
    q->question_len = q->name_len + 4;
    if (additional ? !read_opt(c, q, packet, end, len) : len != end)
        return;
    if (c->stream)
        q->limit = LARGEST_REPLY;
    q->name_hash = fold_hash(c->table, c->table->seed, q->key, packet + HEADER, q->name_len);
    memcpy(q->key + q->name_len, packet + end - 4, 4);
    q->type_class = get16(packet + end - 4) << 16 | get16(packet + end - 2);
    q->hash = question_hash(q->name_hash, q->type_class, c->table->factor);
    q->verdict = ANSWER;
}

void query_read(const context *c, query *q, const uint8_t *packet, uint32_t len) {
    read_packet(c, q, packet, len);
    if (c->settings->choosy && !client_allowed(c->settings, q->client, q->client_len))
        q->verdict = q->verdict == ANSWER ? PROHIBITED : DROP;
}

/* --- looking up ------------------------------------------------------------------------------------ */

void query_prefetch(const context *c, const query *q) {
    __builtin_prefetch((const void *)&c->index->slots[q->hash & c->index->mask]);
}

void query_approach(const context *c, const query *q) {
    const hash_index *index = c->index;
    for (uint64_t at = q->hash & index->mask;; at = (at + 1) & index->mask) {
        uint64_t slot = atomic_load_explicit(&index->slots[at], memory_order_relaxed);
        if (!slot)
            return;
        if (slot == SLOT_WAS_USED || (slot ^ q->hash) & ~SLOT_OFFSET)
            continue;
        const uint8_t *whole = table_at(c->table, slot & SLOT_OFFSET);
        __builtin_prefetch(whole);
        __builtin_prefetch(whole + 64);
        __builtin_prefetch(whole + 128);
        __builtin_prefetch(whole + 192);
        return;
    }
}

void queries_find(const context *c, query *q, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (q[i].verdict == ANSWER)
            query_prefetch(c, &q[i]);
    for (uint32_t i = 0; i < count; i++)
        if (q[i].verdict == ANSWER)
            query_approach(c, &q[i]);
    for (uint32_t i = 0; i < count; i++)
        if (q[i].verdict == ANSWER)
            query_find(c, &q[i]);
}

static const answer *find_answer(const context *c, const query *q) {
    const hash_index *index = c->index;
    for (uint64_t at = q->hash & index->mask;; at = (at + 1) & index->mask) {
        uint64_t slot = atomic_load_explicit(&index->slots[at], memory_order_acquire);
        if (!slot)
            return NULL;
        if (slot == SLOT_WAS_USED || (slot ^ q->hash) & ~SLOT_OFFSET)
            continue;
        const answer *a = table_at(c->table, slot & SLOT_OFFSET);
        if (a->hash == q->hash && a->key_len == q->question_len && !memcmp(answer_key(a), q->key, a->key_len))
            return a;
    }
}

static const zone_entry *find_zone(const context *c, const query *q) {
    const settings *s = c->settings;
    for (uint32_t i = 0; i < s->zones; i++) {
        const zone_entry *zone = &s->zone[i];
        if (zone->origin_len > q->name_len || memcmp(q->key + q->name_len - zone->origin_len, zone->origin, zone->origin_len))
            continue;
        /* The origin has to begin where a label does. */
        uint32_t at = 0, start = q->name_len - zone->origin_len;
        while (at < start)
            at += q->key[at] + 1u;
        if (at == start)
            return zone;
    }
    return NULL;
}

static int name_known(const context *c, uint64_t hash) {
    for (uint64_t at = hash & c->names->mask;; at = (at + 1) & c->names->mask) {
        uint64_t there = atomic_load_explicit(&c->names->hashes[at], memory_order_acquire);
        if (!there || there == hash)
            return there != 0;
    }
}

/* True when a label ends like the canonical name of a task that is there: "-ID-Sn" (taskindex.py). */
static int may_be_canonical(const context *c, const zone_entry *zone, const uint8_t *label, uint32_t len) {
    uint32_t dashes = 0;
    for (uint32_t at = len; at--;)
        if (label[at] == '-' && ++dashes == 2)
            return name_known(c, child_hash(c->table, ~zone->names_hash, label + at, len - at));
    return 0;
}

/* True when the name is certainly not in the zone: an ancestor or itself is not among the names. */
static int certainly_absent(const context *c, const query *q, const zone_entry *zone) {
    uint8_t starts[128];
    uint32_t labels = 0, end = q->name_len - zone->origin_len;
    for (uint32_t at = 0; at < end; at += q->key[at] + 1u) {
        starts[labels++] = (uint8_t)at;
        if (may_be_canonical(c, zone, q->key + at + 1, q->key[at]))
            return 0;
    }
    uint64_t hash = zone->names_hash;
    while (labels--) {
        const uint8_t *label = q->key + starts[labels];
        hash = child_hash(c->table, hash, label + 1, *label);
        if (!name_known(c, hash))
            return 1;
    }
    return 0;
}

static enum verdict judge_absence(const context *c, query *q) {
    uint32_t type = q->type_class >> 16;
    if ((q->type_class & 0xffff) != CLASS_IN || type == TYPE_AXFR || type == TYPE_IXFR)
        return PASS;
    q->zone = find_zone(c, q);
    if (!q->zone)
        return c->settings->refuse_others ? REFUSAL : PASS;
    if (!(q->zone->flags & ZONE_NEGATIVE) || !c->names || !certainly_absent(c, q, q->zone))
        return PASS;
    return ABSENT;
}

/* Who does not ask for recursion is told nothing of what others have asked for; what needs DNSSEC is made by the writer. */
static enum verdict judge_aged(const context *c, const query *q) {
    uint32_t flags = get16(q->packet + 2);
    if ((flags & (FLAG_RD | FLAG_CD)) != FLAG_RD || q->dnssec_ok)
        return PASS;
    return answer_age(q->found, c->mono) < q->found->lifetime ? ANSWER : PASS;
}

void query_find(const context *c, query *q) {
    q->found = find_answer(c, q);
    if (!q->found) {
        q->verdict = judge_absence(c, q);
        return;
    }
    if (!(q->found->flags & (ANSWER_NODATA | ANSWER_AGED)))
        return;
    if (q->found->flags & ANSWER_AGED) {
        q->verdict = judge_aged(c, q);
    } else {
        /* Kept under other settings than those of this batch: the order of zones may be another one. */
        uint32_t zone = q->found->zone;
        if (zone >= c->settings->zones || c->settings->zone[zone].label != q->found->zone_label) {
            q->verdict = PASS;
            return;
        }
        q->zone = &c->settings->zone[zone];
    }
}

int answer_due(const context *c, const answer *a, desk *d) {
    uint32_t age = answer_age(a, c->mono);
    if (!c->settings->prefetch || a->lifetime < SHORTEST_DUE || (uint64_t)(a->lifetime - age) * 10 > a->lifetime)
        return 0;
    return !(atomic_fetch_or_explicit(&d->used[a->id], USED_TOLD, memory_order_relaxed) & USED_TOLD);
}

uint8_t type_label(uint32_t type) {
    static const uint8_t labels[] = {[1] = 1, [2] = 2, [5] = 3, [6] = 4, [12] = 5, [15] = 6, [16] = 7, [28] = 8, [33] = 9, [65] = 10};
    return type < sizeof labels ? labels[type] : type == 255 ? 11 : 0;
}

void query_labels(const query *q, uint32_t *zone, uint32_t *type, uint32_t *rcode) {
    *type = type_label(q->type_class >> 16);
    *zone = q->found ? q->found->zone_label : q->zone ? q->zone->label : 0;
    *rcode = q->found ? q->found->rcode : q->verdict == ABSENT ? NXDOMAIN : REFUSED;
}

/* --- writing --------------------------------------------------------------------------------------- */

static uint32_t opt_length(const query *q, uint32_t error) {
    if (!q->edns)
        return 0;
    return OPT_FIXED + (q->cookie_len ? 4 + COOKIE_SIZE : 0) + (error ? 6 : 0);
}

static uint8_t *put_opt(const context *c, const query *q, uint32_t rcode, uint32_t error, uint32_t len, uint8_t *at) {
    if (!len)
        return at;
    *at++ = 0;
    at = put16(at, TYPE_OPT);
    at = put16(at, c->settings->max_udp);
    *at++ = (uint8_t)(rcode >> 4);
    *at++ = 0;
    at = put16(at, q->dnssec_ok ? 0x8000 : 0); /* RFC 3225 §3 */
    at = put16(at, len - OPT_FIXED);
    if (q->cookie_len) {
        at = put16(at, OPTION_COOKIE);
        at = put16(at, COOKIE_SIZE);
        at = put_cookie(at, c->settings, q->cookie, q->cookie_len, q->client, q->client_len, c->now);
    }
    if (error) {
        at = put16(at, OPTION_ERROR);
        at = put16(at, 2);
        at = put16(at, error);
    }
    return at;
}

/* What stands in an answer besides what the client decides. */
typedef struct {
    const uint8_t *wire, *authority, *needed;
    uint32_t wire_len, authority_len, needed_len;
    uint32_t count, authority_count, needed_count;
    uint32_t flags, rcode, error, first;
} sections;

static uint32_t error_of_aged(const query *q) {
    const answer *a = q->found;
    if (!q->edns)
        return 0;
    if (a->flags & ANSWER_STALE)
        return a->rcode == NXDOMAIN ? STALE_NXDOMAIN : STALE_ANSWER;
    return a->zone;
}

static sections sections_of(const context *c, const query *q, uint32_t turn) {
    const answer *a = q->found;
    int stale = c->settings->stale && q->edns;
    sections s = {.flags = FLAG_QR | c->settings->header_flags | ((uint32_t)(q->packet[2] & 1) << 8)};
    if (a) {
        s.wire = answer_wire(a), s.wire_len = a->wire_len, s.count = a->count;
        s.authority = answer_authority(a), s.authority_len = a->authority_len, s.authority_count = a->authority_count;
        s.needed = answer_needed(a), s.needed_len = a->needed_len, s.needed_count = a->needed_count;
        s.flags |= a->flags & ANSWER_AA ? FLAG_AA : 0;
        s.rcode = a->rcode;
        s.first = a->flags & ANSWER_ROTATE ? (uint32_t)((uint64_t)turn * a->count >> 32) : 0;
        s.error = stale && a->flags & ANSWER_CLUSTER ? STALE_ANSWER : 0;
        if (a->flags & ANSWER_AGED)
            s.error = error_of_aged(q);
    } else if (q->verdict == ABSENT) {
        s.flags |= FLAG_AA;
        s.rcode = NXDOMAIN;
        s.error = stale && q->zone->flags & ZONE_CLUSTER ? STALE_NXDOMAIN : 0;
    } else {
        s.rcode = REFUSED;
        s.error = !q->edns ? 0 : q->verdict == PROHIBITED ? NOT_ALLOWED : NOT_AUTHORITATIVE;
    }
    if (q->zone) {
        s.authority = q->zone->soa, s.authority_len = q->zone->soa_len, s.authority_count = 1;
    }
    return s;
}

static uint8_t *put_header(uint8_t *at, const query *q, uint32_t flags, uint32_t count, uint32_t authority, uint32_t extra) {
    at[0] = q->packet[0];
    at[1] = q->packet[1];
    put16(at + 2, flags);
    put16(at + 4, 1);
    put16(at + 6, count);
    put16(at + 8, authority);
    put16(at + 10, extra);
    return at + HEADER;
}

static void let_age(const context *c, const query *q, uint32_t records, uint32_t len, uint8_t *out) {
    if (!(q->found->flags & ANSWER_STALE)) /* RFC 8767 §4: what is past its time has one TTL */
        lower_ttls(out, HEADER + q->question_len, len, records, answer_age(q->found, c->mono));
}

/* TC set, with the answers that fit, for clients that never ask again by TCP. */
static uint32_t put_truncated(const context *c, const query *q, const sections *s, uint32_t room, uint32_t opt, uint8_t *out) {
    uint8_t *at = put(out + HEADER, q->packet + HEADER, q->question_len);
    uint32_t number = 0, used = 0;
    for (; number < s->count; number++) {
        uint32_t record = (s->first + number) % s->count;
        uint32_t start = answer_record_start(q->found, record), end = answer_record_start(q->found, record + 1);
        if (used + end - start > room)
            break;
        at = put(at, s->wire + start, end - start);
        used += end - start;
    }
    at = put_opt(c, q, s->rcode, s->error, opt, at);
    put_header(out, q, s->flags | FLAG_TC | (s->rcode & 15), number, 0, opt ? 1 : 0);
    if (q->found && q->found->flags & ANSWER_AGED)
        let_age(c, q, number, (uint32_t)(at - out), out);
    return (uint32_t)(at - out);
}

/* Additional records with owners as pointers into the rotated answers: as many whole record sets as fit
 * (RFC 2181 §9). Returns how many records. */
static uint32_t put_compact_glue(const answer *a, uint32_t room, uint32_t first, uint32_t begin, uint8_t **at) {
    const glue_set *sets = answer_glue_sets(a);
    const uint8_t *glue = answer_glue(a), *start = *at;
    uint32_t total = a->wire_len, cut = answer_record_start(a, first), number = 0;
    for (uint32_t i = 0; i < a->glue_sets; i++) {
        const glue_set *set = &sets[i];
        uint32_t whole = (i + 1 < a->glue_sets ? sets[i + 1].start : a->glue_len) - set->start;
        uint32_t rest = whole / set->count - set->owner_len;
        uint32_t target = (answer_record_start(a, set->record) + total - cut) % total + set->offset + begin;
        if (target >= POINTER_REACH || (uint32_t)(*at - start) + (rest + 2) * set->count > room)
            break;
        for (uint32_t record = 0; record < set->count; record++) {
            *at = put16(*at, 0xc000 | target);
            *at = put(*at, glue + set->start + record * (set->owner_len + rest) + set->owner_len, rest);
        }
        number += set->count;
    }
    return number;
}

static uint32_t put_whole(const context *c, const query *q, const sections *s, uint32_t left, uint32_t opt, uint8_t *out) {
    const answer *a = q->found;
    uint8_t *at = put(out + HEADER, q->packet + HEADER, q->question_len);
    uint32_t extra = s->needed_count + (opt ? 1 : 0);
    if (s->first) {
        uint32_t cut = answer_record_start(a, s->first);
        at = put(at, s->wire + cut, s->wire_len - cut);
        at = put(at, s->wire, cut);
    } else if (s->wire_len) {
        at = put(at, s->wire, s->wire_len);
    }
    if (s->authority_len)
        at = put(at, s->authority, s->authority_len);
    if (s->needed_len)
        at = put(at, s->needed, s->needed_len);
    if (a && a->glue_len <= left) {
        at = put(at, answer_glue(a), a->glue_len);
        extra += a->glue_count;
    } else if (a) {
        extra += put_compact_glue(a, left, s->first, HEADER + q->question_len, &at);
    }
    at = put_opt(c, q, s->rcode, s->error, opt, at);
    put_header(out, q, s->flags | (s->rcode & 15), s->count, s->authority_count, extra);
    if (a && a->flags & ANSWER_AGED)
        let_age(c, q, s->count + s->authority_count, (uint32_t)(at - out), out);
    return (uint32_t)(at - out);
}

uint32_t query_reply(const context *c, const query *q, uint32_t turn, enum form form, uint8_t *out) {
    sections s = sections_of(c, q, turn);
    if (form != WHOLE) {
        s.rcode = form == BADCOOKIE ? RCODE_BADCOOKIE : s.rcode;
        s.error = 0;
        s.count = 0;
        s.flags = form == BADCOOKIE ? s.flags & ~(uint32_t)FLAG_AA : s.flags | FLAG_TC;
        uint32_t opt = opt_length(q, 0);
        uint8_t *at = put(out + HEADER, q->packet + HEADER, q->question_len);
        at = put_opt(c, q, s.rcode, 0, opt, at);
        put_header(out, q, s.flags | (s.rcode & 15), 0, 0, opt ? 1 : 0);
        return (uint32_t)(at - out);
    }
    uint32_t opt = opt_length(q, s.error), taken = HEADER + q->question_len + opt;
    uint32_t room = q->limit > taken ? q->limit - taken : 0;
    if (q->limit < taken || s.wire_len + s.authority_len + s.needed_len > room)
        return put_truncated(c, q, &s, room, opt, out);
    return put_whole(c, q, &s, room - s.wire_len - s.authority_len - s.needed_len, opt, out);
}
