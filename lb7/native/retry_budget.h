/* How many retries the requests of the last seconds allow.
 *
 * Of the last RETRY_WINDOW seconds, counted by whole seconds: a share of the requests, and RETRY_FREE on top, so that a
 * service of few requests can be retried as well. The clock is the caller's; it never goes back.
 */
#ifndef PHAROS_RETRY_BUDGET_H
#define PHAROS_RETRY_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

enum {
    RETRY_WINDOW = 10,                /* seconds */
    RETRY_FREE = 10 * RETRY_WINDOW    /* ten a second */
};

typedef struct {
    int64_t second;                   /* of the newest count */
    uint32_t tries[RETRY_WINDOW];     /* retries among them */
    uint32_t retries[RETRY_WINDOW];
} retry_budget;

/* Forgets what is older than the window. */
static inline void retry_budget_turn(retry_budget *budget, int64_t second) {
    int64_t old = second - budget->second;
    if (old <= 0)
        return;
    for (int64_t i = 0; i < (old < RETRY_WINDOW ? old : RETRY_WINDOW); i++) {
        int64_t slot = (second - i) % RETRY_WINDOW;
        budget->tries[slot] = budget->retries[slot] = 0;
    }
    budget->second = second;
}

/* A request was sent to a server. */
static inline void retry_budget_tried(retry_budget *budget, double now) {
    retry_budget_turn(budget, (int64_t)now);
    budget->tries[budget->second % RETRY_WINDOW]++;
}

/* Whether one more may be retried; takes it. */
static inline bool retry_budget_take(retry_budget *budget, double share, double now) {
    int64_t tries = 0, retries = 0;
    retry_budget_turn(budget, (int64_t)now);
    for (int i = 0; i < RETRY_WINDOW; i++) {
        tries += budget->tries[i];
        retries += budget->retries[i];
    }
    int64_t asked = tries > retries ? tries - retries : 0;
    if ((double)retries >= RETRY_FREE + share * (double)asked)
        return false;
    budget->retries[budget->second % RETRY_WINDOW]++;
    return true;
}

#endif
