/* The memory that the DNS workers share with the process that fills it.
 *
 * Two anonymous files are mapped by both sides:
 *
 *   table  answers, names and settings. Only the filling process (the writer) may write; the workers
 *          map it read-only, so nothing that a packet does to a worker can change an answer.
 *   desk   what the workers write: their state, counters, marks of use, rate limits.
 *
 * Nothing in the table is changed once a worker can reach it. The writer makes a new block, lets an
 * atomic offset point to it, and takes the old block back when every worker has since been between two
 * batches (an epoch each; 0 means that the worker holds nothing). So a reader takes no lock and never
 * sees half of an answer.
 */
#ifndef PHAROS_REGION_H
#define PHAROS_REGION_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MAX_QUESTION = 255 + 4, /* RFC 1035 §2.3.4, type and class */
    MAX_WORKERS = 64,
    MAX_ZONES = 64,
    MAX_SECRETS = 4,
    MAX_PREFIXES = 80,
    ZONE_LABELS = 34, /* metrics: 0 is "no zone", 1 what was asked of others */
    TYPE_LABELS = 16,
    RCODE_LABELS = 24, /* up to BADCOOKIE (23) */
};

/* --- the table ------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t size;                /* octets of the whole table */
    uint64_t seed, factor;        /* of the hash; random at each start, factor is odd */
    _Atomic uint64_t epoch;       /* grows with every block that is taken out */
    _Atomic uint64_t index;       /* offset of the hash_index of answers */
    _Atomic uint64_t names;       /* offset of the name_set, 0: absence of names is not known */
    _Atomic uint64_t settings;    /* offset of the settings */
} table_head;

/* Open addressing; a slot is 0 (empty), 1 (was used) or the offset of an answer with 16 bits of its
 * hash on top, so that most wrong candidates are passed over without looking at them. */
typedef struct {
    uint64_t mask;
    _Atomic uint64_t slots[];
} hash_index;

#define SLOT_OFFSET 0x0000ffffffffffffULL
#define SLOT_WAS_USED 1ULL

/* Hashes of every name that exists, ancestors included (RFC 8020), and of the marks of canonical names.
 * A name whose hash is not here does not exist; one whose hash is here may. */
typedef struct {
    uint64_t mask;
    _Atomic uint64_t hashes[];
} name_set;

enum answer_flags {
    ANSWER_AA = 1,
    ANSWER_ROTATE = 2,
    ANSWER_EVEN = 4,     /* all records of the answer section have one size */
    ANSWER_NODATA = 8,   /* the authority section is the zone's SOA as it is now */
    ANSWER_CLUSTER = 16, /* of a cluster's zone: it may be stale */
    ANSWER_AGED = 32,    /* of others: its records' TTLs fall with time, and it has a lifetime */
    ANSWER_STALE = 64,   /* of those: one that is given past its time */
};

/* A glue set: the address records of one type of one target. */
typedef struct {
    uint16_t record;    /* the answer record that names the target */
    uint16_t offset;    /* where in that record */
    uint16_t owner_len; /* octets of the owner in front of each record */
    uint16_t count;     /* records */
    uint32_t start;     /* where the first one begins in the glue */
} glue_set;

/* A compiled answer; behind it: offsets of the records (uint32_t, count + 1, unless EVEN), glue sets,
 * then the octets of key, answers, authority, needed records and glue. */
typedef struct {
    uint64_t hash;
    uint32_t id;   /* its mark of use in the desk */
    uint32_t size; /* octets of all this */
    uint16_t key_len;
    uint8_t flags, rcode;
    uint8_t zone_label;
    uint8_t zone; /* of a NODATA: index in settings; of an AGED one: an extended error (RFC 8914), 0 for none */
    uint16_t count, authority_count, needed_count, glue_count, glue_sets;
    uint32_t wire_len, authority_len, needed_len, glue_len;
    uint32_t made, lifetime; /* of an AGED one: seconds of CLOCK_MONOTONIC_COARSE, seconds */
} answer;

enum zone_flags {
    ZONE_NEGATIVE = 1, /* names that are not in the name_set do not exist */
    ZONE_CLUSTER = 2,  /* what it says may be stale */
};

typedef struct {
    uint64_t names_hash; /* the apex in the name_set */
    uint16_t soa_len;
    uint8_t origin_len, flags, label, pad[3];
    uint8_t origin[256]; /* folded, wire form */
    uint8_t soa[816];    /* the whole record, as negative answers carry it */
} zone_entry;

/* Clients of a network; IPv4 addresses have 4 octets, also those that come in IPv6 ones. */
typedef struct {
    uint8_t address[16];
    uint8_t address_len, bits;
} prefix;

typedef struct {
    uint16_t max_udp;      /* octets, with EDNS */
    uint16_t header_flags; /* set in every answer: RA */
    uint8_t refuse_others; /* names in no zone are refused (else: ask the writer) */
    uint8_t stale;         /* answers of cluster zones carry an extended error */
    uint8_t cookies;       /* 0: the option is ignored */
    uint8_t secrets;       /* how many are believed; the first makes cookies */
    uint32_t rate;         /* equal answers a second for a client network, 0: no limit */
    uint32_t slip;
    uint8_t limit_private;
    uint8_t zones;
    uint8_t prefetch; /* the writer is told of AGED answers that will soon be too old */
    uint8_t choosy;   /* only clients of `allow` are answered */
    uint32_t pass_rate; /* queries a second of one client that are handed over, 0: no limit */
    uint32_t log_every; /* one query in so many is told to the writer, 0: none */
    uint32_t turn_step; /* by which each answer is rotated further (reply.py), a share of 2^32; 0: not at all */
    uint32_t prefixes;
    prefix allow[MAX_PREFIXES];
    uint8_t secret[MAX_SECRETS][16];
    zone_entry zone[]; /* the longest origin first */
} settings;

/* --- the desk -------------------------------------------------------------------------------------- */

enum counter {
    COUNT_QUERIES,   /* datagrams read */
    COUNT_ANSWERED,  /* answers from the table sent */
    COUNT_PASSED,    /* handed to the writer */
    COUNT_OVERLOAD,  /* could not be handed over: its queue was full */
    COUNT_DROPPED,   /* no queries */
    COUNT_TRUNCATED,
    COUNT_LIMIT_DROPPED,
    COUNT_LIMIT_SLIPPED,
    COUNT_LIMIT_BADCOOKIE,
    COUNT_COOKIE_NEW,
    COUNT_COOKIE_VALID,
    COUNT_COOKIE_INVALID,
    COUNT_SEND_ERRORS,
    COUNT_BATCHES,
    COUNT_STALE,      /* answers given past their time */
    COUNT_REFRESH,    /* of which the writer was told that they will soon be too old */
    COUNT_PROHIBITED, /* queries of clients that are not answered */
    COUNT_HELD_BACK,  /* queries that were not handed over: their client has too many of these */
    COUNTERS = 24,
};

typedef struct {
    _Atomic uint64_t epoch;     /* of the batch under way, 0: none */
    _Atomic uint64_t heartbeat; /* grows at least every WAIT_MS */
    uint32_t turn, pad;
    uint64_t counts[COUNTERS];
    uint64_t answers[ZONE_LABELS][TYPE_LABELS][RCODE_LABELS];
} worker_desk;

/* Rate limiting (limit.h): racing workers may miscount by one, which does no harm. */
typedef struct {
    _Atomic uint32_t tag; /* of the client network and the kind of answer, 0: empty */
    _Atomic uint32_t over;
    _Atomic int64_t time; /* ms */
    _Atomic int64_t credit;
} bucket;

enum { BUCKETS = 1 << 16 };

enum used {
    USED_READ = 1, /* clients ask for it */
    USED_TOLD = 2, /* the writer was told that it will soon be too old */
};

typedef struct {
    worker_desk worker[MAX_WORKERS];
    bucket buckets[BUCKETS];
    _Atomic uint8_t used[]; /* by answer id: USED_READ, USED_TOLD; 0 again when the writer has looked */
} desk;

static inline const void *table_at(const table_head *table, uint64_t offset) {
    return (const uint8_t *)table + offset;
}

/* Parts of an answer, in the order in which they lie. */
static inline const uint32_t *answer_offsets(const answer *a) { return (const uint32_t *)(a + 1); }
static inline const glue_set *answer_glue_sets(const answer *a) {
    return (const glue_set *)(answer_offsets(a) + (a->flags & ANSWER_EVEN ? 0 : a->count + 1));
}
static inline const uint8_t *answer_key(const answer *a) { return (const uint8_t *)(answer_glue_sets(a) + a->glue_sets); }
static inline const uint8_t *answer_wire(const answer *a) { return answer_key(a) + a->key_len; }
static inline const uint8_t *answer_authority(const answer *a) { return answer_wire(a) + a->wire_len; }
static inline const uint8_t *answer_needed(const answer *a) { return answer_authority(a) + a->authority_len; }
static inline const uint8_t *answer_glue(const answer *a) { return answer_needed(a) + a->needed_len; }

static inline uint32_t answer_record_start(const answer *a, uint32_t record) {
    return a->flags & ANSWER_EVEN ? (a->count ? a->wire_len / a->count * record : 0) : answer_offsets(a)[record];
}

#endif
