/* Answers queries as a worker does, without a socket, for valgrind to count the instructions of.
 *
 * count_instructions VARIANT QUERIES; variants are plain, edns (1,232 octets) and case (0x20).
 * loop.c is part of this file, so that its own `answer_batch` is what is counted. Everything is the same at
 * each run but the wall clock, of which the code of these answers does not depend.
 */
#include "../../mesos_dns/native/loop.c"
#include "draft.h"
#include <stdio.h>

enum { TABLE = 64 << 20, HOSTS = 10000, APEX = 5, QUERIES = 4096 };

typedef struct {
    uint8_t packet[128];
    uint32_t len;
    struct sockaddr_in6 client;
} asked;

static struct {
    table_head *table;
    desk *desk;
    asked queries[QUERIES];
} all;

static uint32_t next(void) {
    static uint32_t random = 1;
    random = random * 1664525 + 1013904223;
    return random >> 8;
}

/* Per host: an address or a few, and a service: 20,000 answers. Half of the names have AAAA records as well. */
static void put_host(store *s, draft *d, uint32_t host) {
    char name[64];
    uint8_t wire[64];
    uint32_t type = host % 4 == 3 ? TYPE_AAAA : TYPE_A;
    snprintf(name, sizeof name, "task-%u.marathon", host);
    bool entered = store_enter(s, APEX, wire, name_wire(wire, name) - 1);
    snprintf(name, sizeof name, "task-%u.marathon.mesos", host);
    draft_begin(d, name, type);
    draft_addresses(d, type, 1 + host % 3, host << 8);
    d->parts.flags |= ANSWER_ROTATE | ANSWER_CLUSTER;
    d->parts.zone_label = 1;
    bool stored = store_put(s, &d->parts, &(uint64_t){host}, 1);
    snprintf(name, sizeof name, "_task-%u._tcp.marathon.mesos", host);
    draft_begin(d, name, TYPE_SRV);
    for (uint32_t i = 0; i < 1 + host % 4; i++) {
        snprintf(name, sizeof name, "task-%u-abcde-s%u.marathon.slave.mesos", host, i);
        draft_srv(d, name, 1, 1, host << 8 | i);
    }
    d->parts.flags |= ANSWER_ROTATE | ANSWER_CLUSTER;
    d->parts.zone_label = 1;
    if (!entered || !stored || !store_put(s, &d->parts, &(uint64_t){host}, 1))
        abort();
}

static void fill(void) {
    all.table = aligned_alloc(64, TABLE);
    all.desk = calloc(1, sizeof(desk) + TABLE / 128);
    memset(all.table, 0, TABLE);
    store *s = store_new(all.table, TABLE, all.desk, TABLE / 128, 0x1234567, 0x9e3779b97f4a7c15ULL);
    draft *d = malloc(sizeof *d);
    settings *now = calloc(1, sizeof *now + 4 * sizeof(zone_entry));
    if (!s || !d || !now)
        abort();
    for (uint32_t host = 0; host < HOSTS; host++)
        put_host(s, d, host);
    /* As a cluster's server is set up: cookies and rate limits on, private clients not limited. */
    now->max_udp = 1232, now->header_flags = 0x0080;
    now->cookies = 1, now->secrets = 1;
    now->rate = 200, now->slip = 2;
    now->turn_step = 0x9e3779b1u;
    zone_fill(&now->zone[0], "l4lb.thisdcos.directory", 1, ZONE_NEGATIVE | ZONE_CLUSTER, 2, 1);
    zone_fill(&now->zone[1], "in-addr.arpa", 0, 0, 0, 1);
    zone_fill(&now->zone[2], "mesos", APEX, ZONE_NEGATIVE | ZONE_CLUSTER, 1, 1);
    zone_fill(&now->zone[3], "example", 2, 0, 0, 1);
    now->zones = 4;
    if (!store_settings(s, now, sizeof *now + 4 * sizeof(zone_entry)))
        abort();
    store_free(s);
    free(d);
    free(now);
}

/* 50 % A, 15 % AAAA, 20 % SRV, 15 % of names that do not exist. */
static void make_query(asked *a, uint32_t share, const char *variant) {
    static const uint8_t private_client[4] = {10, 1, 2, 3};
    char name[64];
    uint32_t host = next() % (HOSTS / 4) * 4;
    if (share < 50)
        snprintf(name, sizeof name, "task-%u.marathon.mesos", host + next() % 3);
    else if (share < 65)
        snprintf(name, sizeof name, "task-%u.marathon.mesos", host + 3);
    else if (share < 85)
        snprintf(name, sizeof name, "_task-%u._tcp.marathon.mesos", host + next() % 4);
    else
        snprintf(name, sizeof name, "gone-%u.marathon.mesos", next() % 1000000);
    for (char *at = name; *at && !strcmp(variant, "case"); at++)
        if (*at >= 'a' && next() & 1)
            *at -= 32;
    uint32_t type = share < 50 ? TYPE_A : share < 65 ? TYPE_AAAA : share < 85 ? TYPE_SRV : TYPE_A;
    a->len = question(a->packet, (uint16_t)next(), name, type, strcmp(variant, "edns") ? 0 : 1232);
    struct sockaddr_in *client = (struct sockaddr_in *)&a->client;
    client->sin_family = AF_INET;
    client->sin_port = (uint16_t)next();
    memcpy(&client->sin_addr, private_client, 4);
}

/* What is counted (valgrind --toggle-collect). */
__attribute__((noinline)) static uint32_t counted(const worker *w, batch *b, context *c, uint32_t count) {
    return answer_batch(w, b, c, count);
}

int main(int count, char **arguments) {
    if (count != 3)
        return 2;
    uint32_t queries = (uint32_t)atoi(arguments[2]), ready = 0;
    fill();
    for (uint32_t i = 0; i < QUERIES; i++)
        make_query(&all.queries[i], i * 37 % 100, arguments[1]);
    worker w = {.table = all.table, .desk = all.desk, .socket = -1, .writer = -1};
    context c = {.stream = 0, .table = all.table};
    batch *b = calloc(1, sizeof *b);
    if (!b)
        return 1;
    batch_init(b, 0);
    for (uint32_t done = 0; done < queries; done += BATCH) {
        for (uint32_t i = 0; i < BATCH; i++) {
            const asked *a = &all.queries[(done + i) % QUERIES];
            memcpy(b->packet[i], a->packet, a->len);
            b->in[i].msg_len = a->len;
            b->address[i] = a->client;
        }
        ready += counted(&w, b, &c, BATCH);
    }
    free(b);
    printf("%u of %u answered\n", ready, queries);
    return ready == queries && !all.desk->worker[0].counts[COUNT_PASSED] ? 0 : 1;
}
