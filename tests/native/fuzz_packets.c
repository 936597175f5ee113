/* libFuzzer: any packet, through what a worker does with it, against a table of answers of every shape.
 *
 * An input begins with FRONT octets: a flags octet (`choices`), the turn, the time; the packet follows.
 * Each reply is read by walk.c, and every octet of it held against the answer that it came from.
 */
#include "../../mesos_dns/native/age.h"
#include "../../mesos_dns/native/cookie.h"
#include "../../mesos_dns/native/limit.h"
#include "shapes.h"
#include "walk.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRONT = 9, TABLE = 16 << 20, SETTINGS = 8, ASKED = 300 };

/* The first octet of an input. */
enum choices { STREAM = 1, CLIENT_SHIFT = 1, SETTINGS_SHIFT = 3, FORCE_FORM = 0x40, SIGN = 0x80 };

static struct {
    table_head *table;
    desk *desk;
    settings *settings[SETTINGS];
    uint8_t *reply[SETTINGS + 1]; /* of exactly the octets that the contract gives; the last one for streams */
} all;

static const uint8_t *current;
static size_t current_size;

static void fail(const char *what) {
    fprintf(stderr, "fuzz_packets: %s\ninput: ", what);
    for (size_t i = 0; i < current_size; i++)
        fprintf(stderr, "%02x", current[i]);
    fprintf(stderr, "\n");
    abort();
}

static settings *settings_of(uint32_t number) {
    static const uint16_t sizes[] = {512, 1232, 4096, 1232};
    settings *s = calloc(1, sizeof *s + SHAPE_ZONES * sizeof(zone_entry));
    s->max_udp = sizes[number % 4];
    s->header_flags = number & 1 ? 0x0080 : 0;
    s->cookies = number % 8 != 3;
    s->secrets = 2;
    memset(s->secret, 0x5a, 16);
    s->refuse_others = number & 1;
    s->stale = number & 4 ? 1 : 0;
    s->rate = number & 2 ? 5 : 0;
    s->slip = 2;
    s->limit_private = number & 4 ? 1 : 0;
    s->log_every = 1;
    s->prefetch = number & 1;
    s->choosy = number == 7;
    s->prefixes = 2;
    s->allow[0] = (prefix){{10}, 4, 8};
    s->allow[1] = (prefix){{0x20, 1, 0x0d, 0xb8}, 16, 29};
    shapes_zones(s);
    return s;
}

static void begin(void) {
    all.table = aligned_alloc(64, TABLE);
    all.desk = calloc(1, sizeof(desk) + TABLE / 128);
    memset(all.table, 0, TABLE);
    store *s = store_new(all.table, TABLE, all.desk, TABLE / 128, 0x1234567, 0x9e3779b97f4a7c15ULL);
    shapes_fill(s);
    for (uint32_t i = 0; i < SETTINGS; i++) {
        all.settings[i] = settings_of(i);
        all.reply[i] = malloc(all.settings[i]->max_udp);
    }
    all.reply[SETTINGS] = malloc(LARGEST_REPLY);
    store_free(s); /* what only the writer knows is not needed any more */
}

/* --- what a reply has to be ------------------------------------------------------------------------ */

static uint32_t get32(const uint8_t *at) { return get16(at) << 16 | get16(at + 2); }

static uint32_t age_of(const context *c, const answer *a) {
    return a && a->flags & ANSWER_AGED && c->mono > a->made ? c->mono - a->made : 0;
}

/* By how much TTLs are lower: those of what is past its time stay. */
static uint32_t lower_by(const context *c, const answer *a) { return a && a->flags & ANSWER_STALE ? 0 : age_of(c, a); }

/* A record is the kept one, but for a TTL that is lower by the age. */
static bool record_right(const uint8_t *reply, const walked_record *r, const uint8_t *kept, uint32_t age) {
    uint32_t ttl = r->data - 6 - r->start, size = r->end - r->start, before = get32(kept + ttl);
    return !memcmp(reply + r->start, kept, ttl) && get32(reply + r->data - 6) == (before > age ? before - age : 0) &&
           !memcmp(reply + r->data - 2, kept + ttl + 4, size - ttl - 4);
}

static uint32_t record_start(const answer *a, uint32_t i) { return answer_record_start(a, i); }

/* The answers are the kept records from some first one on, around the circle. */
static void check_answers(const answer *a, const uint8_t *reply, const walked *w, uint32_t turn, uint32_t age) {
    uint32_t first = a->flags & ANSWER_ROTATE ? (uint32_t)(((uint64_t)turn * a->count) >> 32) : 0;
    if (w->counts[1] > a->count)
        fail("more answers than are kept");
    for (uint32_t i = 0; i < w->counts[1]; i++) {
        uint32_t kept = (first + i) % a->count, size = record_start(a, kept + 1) - record_start(a, kept);
        const walked_record *r = &w->record[i];
        if (r->end - r->start != size || !record_right(reply, r, answer_wire(a) + record_start(a, kept), age))
            fail("an answer differs from the kept one");
    }
}

/* Each glue record is owned by the target of an answer and is one of those that are kept, in their order. */
static void check_glue(const answer *a, const uint8_t *reply, uint32_t len, const walked *w, uint32_t before) {
    const uint8_t *glue = answer_glue(a);
    uint8_t owner[256], kept[256];
    uint32_t at = 0, next, kept_next, glue_records = w->counts[3] - a->needed_count - w->opt;
    for (uint32_t i = before; i < before + glue_records; i++) {
        const walked_record *r = &w->record[i];
        uint32_t size = walk_name(reply, len, r->start, owner, &next);
        uint32_t kept_size = walk_name(glue, a->glue_len, at, kept, &kept_next);
        uint32_t rest = r->end - next;
        if (size != kept_size || memcmp(owner, kept, size) || memcmp(reply + next, glue + kept_next, rest))
            fail("an additional record differs from the kept one");
        at = kept_next + rest;
    }
    /* Whole sets only (RFC 2181 §9). */
    uint32_t whole = 0;
    for (uint32_t i = 0; i < a->glue_sets && whole < glue_records; i++)
        whole += answer_glue_sets(a)[i].count;
    if (whole != glue_records)
        fail("a part of a set of additional records");
}

static bool authority_right(const uint8_t *reply, const walked *w, const uint8_t *kept, uint32_t len, uint32_t age) {
    uint32_t at = 0;
    for (uint32_t i = w->counts[1]; i < w->counts[1] + w->counts[2]; i++) {
        uint32_t size = w->record[i].end - w->record[i].start;
        if (size > len - at || !record_right(reply, &w->record[i], kept + at, age))
            return false;
        at += size;
    }
    return at == len;
}

/* The extended error of an answer that is not limited. */
static uint32_t error_of(const context *c, const query *q) {
    const answer *a = q->found;
    if (q->verdict == PROHIBITED)
        return 18;
    if (q->verdict == REFUSAL)
        return 20;
    if (a && a->flags & ANSWER_AGED)
        return a->flags & ANSWER_STALE ? (a->rcode == 3 ? 19 : 3) : a->zone;
    if (!c->settings->stale || !(a ? a->flags & ANSWER_CLUSTER : q->zone->flags & ZONE_CLUSTER))
        return 0;
    return a ? 3 : 19;
}

static void check_whole(const context *c, const query *q, const uint8_t *reply, uint32_t len, const walked *w, uint32_t turn) {
    const answer *a = q->found;
    uint32_t opt = !w->opt ? 0 : 11 + (w->cookie ? 28 : 0) + (w->error ? 6 : 0);
    uint32_t authority = q->zone ? q->zone->soa_len : a ? a->authority_len : 0, needed = a ? a->needed_len : 0;
    uint32_t least = 12 + q->question_len + (a ? a->wire_len : 0) + authority + needed + opt;
    bool truncated = w->flags & 0x0200;
    if (truncated != (least > q->limit))
        fail("TC is not what the sizes say");
    if (a)
        check_answers(a, reply, w, turn, lower_by(c, a));
    else if (w->counts[1])
        fail("answers out of nothing");
    if (truncated) {
        if (w->counts[2] || w->counts[3] != w->opt)
            fail("truncated, and more than answers are left");
        return;
    }
    uint32_t from = w->counts[1] ? w->record[w->counts[1] - 1].end : w->question_end;
    const uint8_t *authority_octets = q->zone ? q->zone->soa : a ? answer_authority(a) : NULL;
    if (w->counts[1] != (a ? a->count : 0) || w->counts[2] != (q->zone ? 1u : a ? a->authority_count : 0u) ||
        !authority_right(reply, w, authority_octets, authority, lower_by(c, a)) ||
        (needed && memcmp(reply + from + authority, answer_needed(a), needed)))
        fail("not all that is kept");
    if (!a)
        return;
    if (least + a->glue_len <= q->limit && w->counts[3] != a->needed_count + a->glue_count + w->opt)
        fail("additional records are missing, for which there is room");
    check_glue(a, reply, len, w, w->counts[1] + w->counts[2] + a->needed_count);
}

static void check_opt(const context *c, const query *q, enum form form, const uint8_t *reply, const walked *w) {
    if (w->opt != q->edns)
        fail("OPT is not there exactly when it was asked for");
    if (!w->opt)
        return;
    if (form == WHOLE ? w->error != error_of(c, q) : w->error)
        fail("not the extended error that there is");
    if (w->payload != c->settings->max_udp || w->dnssec_ok != q->dnssec_ok)
        fail("OPT says something wrong");
    if ((w->cookie_len != 0) != (q->cookie_len != 0))
        fail("a cookie is not there exactly when it was asked for");
    if (!w->cookie_len)
        return;
    const uint8_t *cookie = reply + w->cookie;
    if (w->cookie_len != 24 || memcmp(cookie, q->cookie, 8) || cookie[8] != 1)
        fail("a cookie of a wrong shape");
    if (cookie_check(c->settings, cookie, 24, q->client, q->client_len, c->now) != COOKIE_VALID)
        fail("a cookie that we would not believe ourselves");
}

static void check(const context *c, const query *q, uint32_t turn, enum form form, const uint8_t *reply, uint32_t len) {
    static walked w;
    uint32_t zone, type, rcode;
    const uint8_t *packet = q->packet;
    if (len > q->limit)
        fail("a reply over the limit");
    const char *wrong = walk(reply, len, &w);
    if (wrong)
        fail(wrong);
    if (memcmp(reply, packet, 2) || w.question_end != 12 + q->question_len || memcmp(reply + 12, packet + 12, q->question_len))
        fail("not the id or the question that was asked");
    uint32_t fixed = 0x8000 | c->settings->header_flags | (packet[2] & 1) << 8;
    if ((w.flags & ~(0x0600u | 15)) != fixed)
        fail("flags of the header");
    check_opt(c, q, form, reply, &w);
    query_labels(q, &zone, &type, &rcode);
    if (zone >= ZONE_LABELS || type >= TYPE_LABELS || rcode >= RCODE_LABELS)
        fail("a counter that is not there");
    if (w.rcode != (form == BADCOOKIE ? 23 : rcode))
        fail("the code differs from the one that is counted");
    if (form == WHOLE)
        check_whole(c, q, reply, len, &w, turn);
    else if (w.counts[1] || w.counts[2] || w.counts[3] != w.opt || !(w.flags & 0x0200) != (form == BADCOOKIE))
        fail("more than rate limiting leaves");
}

/* --- what a query has to be for an answer out of the table ----------------------------------------- */

static bool options_right(const uint8_t *at, uint32_t left) {
    bool cookie = false;
    while (left) {
        if (left < 4 || get16(at + 2) > left - 4)
            return false;
        uint32_t size = get16(at + 2);
        if (get16(at) == 10) {
            if (cookie || (size != 8 && size < 16) || size > 40)
                return false;
            cookie = true;
        }
        at += 4 + size;
        left -= 4 + size;
    }
    return true;
}

static bool query_right(const uint8_t *packet, uint32_t len) {
    uint8_t name[256];
    uint32_t next, size = walk_name(packet, len, 12, name, &next);
    if (!size || next - 12 != size || len - next < 4 || packet[2] & 0xf8 || get16(packet + 4) != 1 || get16(packet + 6) ||
        get16(packet + 8) || get16(packet + 10) > 1)
        return false;
    const uint8_t *opt = packet + next + 4;
    uint32_t left = len - next - 4;
    if (!packet[11])
        return !left;
    return left >= 11 && !opt[0] && get16(opt + 1) == 41 && !opt[6] && get16(opt + 9) == left - 11 && options_right(opt + 11, left - 11);
}

/* Labels of a folded name, from the left, until a zone begins; what is above it must have been found absent rightly. */
static const zone_entry *zone_of(const context *c, const query *q, const uint8_t *name, uint32_t size) {
    static const uint32_t mark = sizeof SHAPE_MARK - 1;
    bool marked = false;
    uint8_t known[64];
    for (uint32_t at = 0; at < size; at += name[at] + 1u) {
        for (uint32_t i = 0; i < c->settings->zones; i++) {
            const zone_entry *zone = &c->settings->zone[i];
            if (zone->origin_len != size - at || memcmp(zone->origin, name + at, size - at))
                continue;
            for (uint32_t k = 0; k < SHAPE_NAMES && i < 2 && q->verdict == ABSENT; k++)
                if (name_wire(known, shape_names[k]) - 1 == at && !memcmp(known, name, at))
                    fail("a name that is there is said to be absent");
            if (q->verdict == ABSENT && (!at || (marked && i == 1)))
                fail("an apex or a canonical name is said to be absent");
            return zone;
        }
        marked |= name[at] >= mark && !memcmp(name + at + 1 + name[at] - mark, SHAPE_MARK, mark);
    }
    return NULL;
}

static void check_query(const context *c, const query *q, uint32_t len) {
    uint8_t name[256];
    uint32_t next;
    if (!query_right(q->packet, len))
        fail("an answer to what is no plain query");
    uint32_t size = walk_name(q->packet, len, 12, name, &next);
    const zone_entry *zone = zone_of(c, q, name, size);
    const answer *a = q->found;
    if (a && a->flags & ANSWER_AGED && (!(q->packet[2] & 1) || q->packet[3] & 0x10 || q->dnssec_ok || age_of(c, a) >= a->lifetime))
        fail("an answer of others to who is not to have it");
    if (!q->found && q->verdict != PROHIBITED && q->zone != zone)
        fail("not the zone that the name is in");
    const uint8_t *key = q->found ? answer_key(q->found) : name;
    if (q->found && (q->found->key_len != size + 4u || memcmp(key + size, q->packet + next, 4)))
        fail("the answer to another question");
    if (memcmp(key, name, size))
        fail("the answer to another name");
}

/* Only clients of the two networks, where that is asked for; nothing odd of others comes further. */
static void check_client(const context *c, const query *q, uint32_t client, uint32_t len) {
    bool allowed = !c->settings->choosy || client == 0 || client == 2;
    if (!allowed ? q->verdict > PROHIBITED || q->verdict == PASS : q->verdict == PROHIBITED)
        fail("a client is not what its address says");
    if (allowed && q->verdict == DROP && len >= 12 && !(q->packet[2] & 0x80))
        fail("a query is dropped");
}

static void check_due(const context *c, const query *q) {
    const answer *a = q->found;
    if (q->verdict != ANSWER || !(a->flags & ANSWER_AGED))
        return;
    bool due = c->settings->prefetch && (a->lifetime - age_of(c, a)) <= a->lifetime / 10;
    all.desk->used[a->id] = 0;
    if (answer_due(c, a, all.desk) != due || answer_due(c, a, all.desk))
        fail("not told once in the last tenth of its time");
}

/* Any octets as records: nothing but TTLs is changed, and nothing beyond the end is looked at (AddressSanitizer). */
static void check_ages(const uint8_t *octets, uint32_t len, uint32_t age) {
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, octets, len);
    uint32_t records = lower_ttls(copy, 0, len, 1000, 0);
    if (memcmp(copy, octets, len))
        fail("no time has passed, and yet a TTL is lower");
    if (lower_ttls(copy, 0, len, 1000, age) != records || lower_ttls(copy, 0, len, records, 0) != records)
        fail("an age changes more than TTLs");
    free(copy);
}

/* --- one input ------------------------------------------------------------------------------------- */

/* A cookie of ours in place of the one in the packet: no fuzzer finds one by chance. */
static void sign(const context *c, const query *q) {
    if (q->cookie_len != COOKIE_SIZE)
        return;
    uint8_t *cookie = (uint8_t *)q->cookie, input[32];
    memcpy(input, cookie, 16);
    memcpy(input + 16, q->client, q->client_len);
    uint64_t hash = siphash24(c->settings->secret[cookie[23] & 1], input, 16 + q->client_len);
    memcpy(cookie + 16, &hash, 8);
}

/* Reads the packet out of a buffer of its exact size, with `behind` in the octets that may be read ahead. */
static uint8_t *read_packet(const context *c, query *q, const uint8_t *octets, uint32_t len, uint8_t behind, bool signs) {
    uint8_t *packet = malloc(len + READ_AHEAD);
    memcpy(packet, octets, len);
    memset(packet + len, behind, READ_AHEAD);
    memset(q->key, behind, sizeof q->key);
    query_read(c, q, packet, len);
    if (signs && q->verdict == ANSWER)
        sign(c, q);
    if (q->verdict == ANSWER) {
        query_prefetch(c, q);
        query_find(c, q);
    }
    return packet;
}

static enum form form_of(const context *c, query *q, uint8_t choices, int64_t now) {
    enum cookie_state cookie = q->cookie_len ? cookie_check(c->settings, q->cookie, q->cookie_len, q->client, q->client_len, c->now) : COOKIE_NONE;
    enum limit_verdict limit = cookie != COOKIE_VALID && c->settings->rate ? limit_check(c, all.desk->buckets, q, (uint64_t)now) : LIMIT_PASS;
    if (limit == LIMIT_SLIP || choices & FORCE_FORM)
        return q->cookie_len ? BADCOOKIE : SLIPPED;
    return WHOLE;
}

static void answer_twice(const context *c, query *q, query *again, uint8_t choices, uint32_t turn) {
    enum form form = c->stream ? WHOLE : form_of(c, q, choices, (int64_t)c->now * 1000);
    uint8_t *reply = all.reply[c->stream ? SETTINGS : choices >> SETTINGS_SHIFT & (SETTINGS - 1)];
    uint32_t room = c->stream ? LARGEST_REPLY : c->settings->max_udp;
    memset(reply, 0xaa, room < 5000 ? room : 5000);
    uint32_t len = query_reply(c, q, turn, form, reply);
    check(c, q, turn, form, reply, len);
    /* What lies behind the packet and in the buffers must make no difference. */
    uint8_t *first = malloc(len);
    memcpy(first, reply, len);
    memset(reply, 0x55, room < 5000 ? room : 5000);
    if (query_reply(c, again, turn, form, reply) != len || memcmp(first, reply, len))
        fail("the reply depends on more than the packet");
    free(first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t clients[4][16] = {{10, 0, 0, 1}, {198, 51, 100, 7}, {0x20, 1, 0x0d, 0xb8}, {0xfd, 1}};
    if (!all.table)
        begin();
    if (size < FRONT || size - FRONT > 65535)
        return 0;
    current = data, current_size = size;
    uint8_t choices = data[0];
    uint32_t client = choices >> CLIENT_SHIFT & 3;
    context c = {.stream = choices & STREAM, .now = get32(data + 5), .mono = SHAPE_MADE - 8 + (get32(data + 5) & 511)};
    query q = {.client = clients[client], .client_len = client < 2 ? 4 : 16}, again = q;
    context_read(&c, all.table);
    c.settings = all.settings[choices >> SETTINGS_SHIFT & (SETTINGS - 1)];
    uint8_t *packet = read_packet(&c, &q, data + FRONT, (uint32_t)size - FRONT, 0xff, choices & SIGN);
    uint8_t *other = read_packet(&c, &again, data + FRONT, (uint32_t)size - FRONT, 0, choices & SIGN);
    if (q.verdict != again.verdict || q.found != again.found || q.zone != again.zone)
        fail("the verdict depends on more than the packet");
    check_client(&c, &q, client, (uint32_t)size - FRONT);
    check_due(&c, &q);
    check_ages(data + FRONT, (uint32_t)size - FRONT, get32(data + 1));
    if (q.verdict > PASS) {
        check_query(&c, &q, (uint32_t)size - FRONT);
        answer_twice(&c, &q, &again, choices, get32(data + 1));
    }
    free(packet);
    free(other);
    return 0;
}
