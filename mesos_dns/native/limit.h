/* Response rate limiting, decision by decision as mesos_dns/ratelimit.py, in buckets that all workers share. */
#ifndef PHAROS_LIMIT_H
#define PHAROS_LIMIT_H

#include "reply.h"

enum limit_verdict { LIMIT_PASS, LIMIT_SLIP, LIMIT_DROP };

/* One more answer of a bucket, by its name, to a packed address; `now` in ms. */
enum limit_verdict limit_take(const settings *s, uint64_t seed, bucket *buckets, const uint8_t *name, uint32_t len,
                              const uint8_t *client, uint32_t client_len, int64_t now);
/* The same for a query that was looked up; clients that are never limited pass. */
enum limit_verdict limit_check(const context *c, bucket *buckets, query *q, uint64_t now);

/* Whether one more query of a client may be handed over. */
int pass_allowed(const context *c, bucket *buckets, const query *q, uint64_t now);

#endif
