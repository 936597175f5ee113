#include "shapes.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const shape_names[SHAPE_NAMES] = {"one", "three", "alias", "moved", "a.b.c", "\x01-odd", "_tcp", "x-y-z"};

static void keep(store *s, draft *d) {
    if (!store_put(s, &d->parts, &(uint64_t){1}, 1))
        abort();
}

static void long_label(char *to, char letter, int len) {
    memset(to, letter, (size_t)len);
    to[len] = 0;
}

/* Address sets around every limit: 512, 1232, 4096 and 65,535 octets, each just below and just above. */
static void address_sets(store *s, draft *d) {
    static const struct { const char *name; uint32_t type, count; } sets[] = {
        {"one.example", TYPE_A, 1}, {"three.example", TYPE_A, 3}, {"s29.example", TYPE_A, 29}, {"s30.example", TYPE_A, 30},
        {"s31.example", TYPE_A, 31}, {"s74.example", TYPE_A, 74}, {"s75.example", TYPE_A, 75}, {"s76.example", TYPE_A, 76},
        {"s253.example", TYPE_A, 253}, {"s254.example", TYPE_A, 254}, {"s255.example", TYPE_A, 255},
        {"s4092.example", TYPE_A, 4092}, {"s4093.example", TYPE_A, 4093}, {"s4094.example", TYPE_A, 4094},
        {"two.example", TYPE_AAAA, 2}, {"s200.example", TYPE_AAAA, 200}, {"", TYPE_A, 2},
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        draft_begin(d, sets[i].name, sets[i].type);
        draft_addresses(d, sets[i].type, sets[i].count, (uint32_t)i << 16);
        d->parts.flags |= ANSWER_ROTATE | (i % 2 ? ANSWER_CLUSTER : 0);
        keep(s, d);
    }
}

/* `targets` SRV records whose names' sizes differ when `uneven`. */
static void srv_set(store *s, draft *d, const char *name, uint32_t targets, uint32_t sets, uint32_t each, bool uneven) {
    char target[200];
    draft_begin(d, name, TYPE_SRV);
    for (uint32_t i = 0; i < targets; i++) {
        snprintf(target, sizeof target, "t%0*u.example", uneven ? 1 + (int)(i * 7 % 50) : 4, i);
        draft_srv(d, target, sets, each, i << 8);
    }
    d->parts.flags |= ANSWER_ROTATE | ANSWER_CLUSTER;
    keep(s, d);
}

static void srv_sets(store *s, draft *d) {
    srv_set(s, d, "_even._tcp.example", 3, 1, 1, false);
    srv_set(s, d, "_both._tcp.example", 3, 2, 2, true);
    srv_set(s, d, "_bare._tcp.example", 5, 0, 0, true);
    srv_set(s, d, "_full._tcp.example", 8, 2, 1, false);
    srv_set(s, d, "_wide._tcp.example", 24, 1, 3, true);
    srv_set(s, d, "_huge._tcp.example", 280, 2, 1, true);
    srv_set(s, d, "_reach._tcp.example", 700, 1, 1, false); /* behind what pointers reach */
    srv_set(s, d, "_glue._tcp.example", 1, 2, 1400, false); /* does not go into 64 KiB but compacted */
}

static void lacking(store *s, draft *d) {
    uint8_t target[256];
    uint32_t len = name_wire(target, "nowhere.example");
    draft_begin(d, "three.example", TYPE_AAAA); /* no records of this type */
    d->parts.flags |= ANSWER_NODATA | ANSWER_CLUSTER;
    d->parts.zone = 1, d->parts.zone_label = 2;
    keep(s, d);
    draft_begin(d, "alias.example", TYPE_AAAA); /* an alias of a name without such records */
    draft_record(d, TYPE_CNAME, target, len);
    d->parts.flags |= ANSWER_NODATA;
    d->parts.zone = 1, d->parts.zone_label = 2;
    keep(s, d);
    draft_begin(d, "moved.example", TYPE_AAAA); /* made when the zones had another order */
    d->parts.flags |= ANSWER_NODATA;
    d->parts.zone = 3, d->parts.zone_label = 2;
    keep(s, d);
    draft_begin(d, "lost.example", TYPE_A); /* an alias of a name that does not exist */
    draft_record(d, TYPE_CNAME, target, len);
    d->parts.rcode = 3;
    d->parts.zone_label = 2;
    keep(s, d);
}

static void referrals(store *s, draft *d) {
    uint8_t target[256], here[4] = {192, 0, 2, 1};
    char name[64];
    for (uint32_t servers = 2; servers <= 26; servers += 12) {
        snprintf(name, sizeof name, "r%u.example", servers);
        draft_begin(d, name, TYPE_A);
        d->parts.flags = 0;
        for (uint32_t i = 0; i < servers; i++) {
            char server[80];
            snprintf(server, sizeof server, "ns%u.%s", i, name);
            draft_other(d, IN_AUTHORITY, name, TYPE_NS, target, name_wire(target, server));
            draft_other(d, IN_NEEDED, server, TYPE_A, here, 4);
        }
        keep(s, d);
    }
}

static void texts(store *s, draft *d) {
    static uint8_t text[65280];
    static const uint32_t sizes[] = {16, 460, 1150, 4040, 65000, 65280};
    char name[320], label[64];
    for (size_t at = 0; at < sizeof text; at += 256)
        text[at] = 255;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(name, sizeof name, "text%u.example", sizes[i]);
        draft_begin(d, name, TYPE_TXT);
        draft_record(d, TYPE_TXT, text, sizes[i]);
        draft_record(d, TYPE_TXT, text, sizes[i] / 70);
        keep(s, d);
    }
    long_label(label, 'w', 63);
    snprintf(name, sizeof name, "%s.%s.%s.%.53s.example", label, label, label, label); /* 255 octets on the wire */
    draft_begin(d, name, TYPE_A);
    draft_addresses(d, TYPE_A, 40, 1 << 24);
    d->parts.flags |= ANSWER_ROTATE;
    keep(s, d);
}

/* What a resolver has cached: chains with pointers, absence, failures, some of it past its time. */
static void of_others(store *s, draft *d) {
    static const uint8_t edge[] = "\4edge\3cdn\7example";
    static const uint8_t below[] = {1, 'x', 0xc0, 0};
    uint8_t target[256], soa[600], data[4];
    draft_begin(d, "one.others", TYPE_A);
    draft_addresses(d, TYPE_A, 1, 7);
    draft_aged(d, 0, SHAPE_MADE, 100);
    keep(s, d);
    draft_begin(d, "many.others", TYPE_A);
    draft_addresses(d, TYPE_A, 90, 7 << 16);
    draft_aged(d, ANSWER_ROTATE | ANSWER_STALE, SHAPE_MADE, 400);
    keep(s, d);
    draft_begin(d, "chain.others", TYPE_A);
    uint32_t first = 12 + d->parts.key_len;
    draft_record(d, TYPE_CNAME, edge, sizeof edge);
    memcpy(data, below, sizeof data);
    data[3] = (uint8_t)(first + 12 + 5);
    draft_pointed(d, first + 12, TYPE_CNAME, data, sizeof data);
    draft_pointed(d, first + 12 + (uint32_t)sizeof edge + 12, TYPE_A, data, 4);
    draft_aged(d, 0, SHAPE_MADE, 400);
    keep(s, d);
    uint32_t len = name_wire(soa, "ns.others");
    len += name_wire(soa + len, "admin.others");
    memset(soa + len, 1, 20);
    for (uint8_t rcode = 0; rcode < 4; rcode += 1) {
        char name[64];
        snprintf(name, sizeof name, "code%u.others", rcode);
        draft_begin(d, name, TYPE_A);
        draft_other(d, IN_AUTHORITY, "others", TYPE_SOA, soa, len + 20);
        draft_other(d, IN_AUTHORITY, "others", TYPE_NS, target, name_wire(target, "ns.others"));
        draft_aged(d, rcode & 1 ? ANSWER_STALE : 0, SHAPE_MADE, 400);
        d->parts.rcode = rcode;
        d->parts.zone = rcode == 2 ? 22 : 0;
        keep(s, d);
    }
}

void shapes_fill(store *s) {
    uint8_t wire[256];
    draft *d = malloc(sizeof *d);
    if (!d)
        abort();
    address_sets(s, d);
    srv_sets(s, d);
    lacking(s, d);
    referrals(s, d);
    texts(s, d);
    of_others(s, d);
    free(d);
    for (size_t i = 0; i < SHAPE_NAMES; i++) {
        uint32_t len = name_wire(wire, shape_names[i]) - 1;
        if (!store_enter(s, APEX, wire, len) || !store_enter(s, APEX + 1, wire, len))
            abort();
    }
    if (!store_enter(s, ~(uint64_t)APEX, wire, name_wire(wire, SHAPE_MARK) - 1))
        abort();
}

void shapes_zones(settings *s) {
    zone_fill(&s->zone[0], "deep.example", APEX + 1, ZONE_NEGATIVE, 1, 1);
    zone_fill(&s->zone[1], "example", APEX, ZONE_NEGATIVE | ZONE_CLUSTER, 2, 2);
    zone_fill(&s->zone[2], "forwarded", 0, 0, 0, 3);
    zone_fill(&s->zone[3], "web", APEX + 2, ZONE_NEGATIVE, 3, 4);
    s->zone[2].soa_len = 0;
    s->zones = SHAPE_ZONES;
}
