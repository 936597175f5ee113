/* From a question's octets to an answer's, out of the table alone. Reads, never waits, never allocates.
 *
 * Whatever is unusual (`PASS`) is for the writer, which knows all rules; both must give the same octets.
 * Packets must have READ_AHEAD readable octets behind their end.
 */
#ifndef PHAROS_REPLY_H
#define PHAROS_REPLY_H

#include "region.h"

enum { READ_AHEAD = 8, LARGEST_REPLY = 65535 };

enum verdict {
    DROP,    /* no query (RFC 1035 §4.1.1 QR): nothing is sent */
    PASS,    /* the writer answers */
    PROHIBITED, /* the client is none of those that are answered */
    ANSWER,  /* `found` */
    ABSENT,  /* NXDOMAIN from `zone` */
    REFUSAL, /* in no zone of ours */
};

/* How an answer goes out: whole, or as rate limiting says. */
enum form { WHOLE, SLIPPED, BADCOOKIE };

typedef struct {
    const uint8_t *packet;
    uint32_t question_len, name_len, limit, type_class;
    uint8_t edns, dnssec_ok, cookie_len, client_len;
    const uint8_t *cookie, *client; /* the client's cookie, perhaps with a server's; its address in 4 or 16 octets */
    uint64_t hash, name_hash;
    const answer *found;
    const zone_entry *zone;
    enum verdict verdict;
    uint8_t bucket_kind; /* in front of the key: together the name of the bucket that limits it */
    uint8_t key[MAX_QUESTION + 16];
} query;

_Static_assert(offsetof(query, key) == offsetof(query, bucket_kind) + 1, "a bucket's name is one piece");

/* What is the same for a whole batch. */
typedef struct {
    const table_head *table;
    const settings *settings;
    const hash_index *index;
    const name_set *names;
    uint32_t now;  /* seconds since 1970, of cookies */
    uint32_t mono; /* seconds of CLOCK_MONOTONIC_COARSE, of ages */
    int stream;   /* TCP or TLS: answers up to 64 KiB */
} context;

void context_read(context *c, const table_head *table);
/* Reads the packet of `client`; the verdict is DROP, PASS, PROHIBITED, or ANSWER when it is to be looked up. What is
 * odd from a client that is not answered is dropped. */
void query_read(const context *c, query *q, const uint8_t *packet, uint32_t len);
/* Steps of a look-up, between which the memory of many queries can arrive: the slot, the answer, the answer's key. */
void query_prefetch(const context *c, const query *q);
void query_approach(const context *c, const query *q);
void query_find(const context *c, query *q);
/* All steps for many; those with the verdict ANSWER are looked up. */
void queries_find(const context *c, query *q, uint32_t count);
/* Writes the answer to one with a verdict above PASS; returns its octets. `turn` is the share of the circle
 * by which records are rotated. `out` has room for LARGEST_REPLY with `stream`, else for max_udp. */
uint32_t query_reply(const context *c, const query *q, uint32_t turn, enum form form, uint8_t *out);
/* True once for an AGED answer in the last tenth of its time, where the writer wants to hear of that. */
int answer_due(const context *c, const answer *a, desk *d);
/* Which of the TYPE_LABELS counts a record type; the order is that of native.TYPES. */
uint8_t type_label(uint32_t type);
/* What counts an answer. */
void query_labels(const query *q, uint32_t *zone, uint32_t *type, uint32_t *rcode);

#endif
