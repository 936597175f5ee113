/* Answers put together record by record, and questions for them: what the harnesses fill the table with. */
#ifndef PHAROS_TESTS_DRAFT_H
#define PHAROS_TESTS_DRAFT_H

#include "../../mesos_dns/native/store.h"

enum {
    TYPE_A = 1, TYPE_NS = 2, TYPE_CNAME = 5, TYPE_SOA = 6, TYPE_MX = 15, TYPE_TXT = 16, TYPE_AAAA = 28, TYPE_SRV = 33,
    DRAFT_WIRE = 70000, DRAFT_PART = 40000, DRAFT_RECORDS = 4500, DRAFT_GLUE = 120000, DRAFT_SETS = 800,
};

/* Sections grow by the functions below; `parts` points into the rest. */
typedef struct {
    answer_parts parts;
    uint8_t key[MAX_QUESTION + 8];
    uint8_t wire[DRAFT_WIRE], authority[DRAFT_PART], needed[DRAFT_PART], glue[DRAFT_GLUE];
    uint32_t offsets[DRAFT_RECORDS + 1];
    glue_set sets[DRAFT_SETS];
} draft;

/* A dotted name (no dot at its end; "" is the root) on the wire; its octets. */
uint32_t name_wire(uint8_t *to, const char *name);

void draft_begin(draft *d, const char *name, uint32_t type);
/* Records of the answer section, with the question's name as their owner. */
void draft_record(draft *d, uint32_t type, const void *data, uint32_t len);
void draft_addresses(draft *d, uint32_t type, uint32_t count, uint32_t first);
/* An SRV record with `sets` glue sets of `each` addresses: A, then AAAA. */
void draft_srv(draft *d, const char *target, uint32_t sets, uint32_t each, uint32_t first);
/* One whose owner is a pointer into the message. */
void draft_pointed(draft *d, uint32_t pointer, uint32_t type, const void *data, uint32_t len);
/* Makes it one of others, that is as old as the monotonic clock says. */
void draft_aged(draft *d, uint8_t flags, uint32_t made, uint32_t lifetime);
/* A record with an owner of its own in the section that is said. */
enum draft_section { IN_AUTHORITY, IN_NEEDED };
void draft_other(draft *d, enum draft_section where, const char *owner, uint32_t type, const void *data, uint32_t len);

/* A query, with or without a plain OPT record; its octets. */
uint32_t question(uint8_t *packet, uint16_t id, const char *name, uint32_t type, uint32_t payload);
/* A zone of the settings, with an SOA record in wire form of this serial. */
void zone_fill(zone_entry *zone, const char *origin, uint64_t names_hash, uint8_t flags, uint8_t label, uint32_t serial);

#endif
