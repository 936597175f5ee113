/* What has grown of a row of counters since it was last told, in few octets: one word with a bit for each place that
 * did, then how much each of these grew, a word each. Words are the machine's own: both ends are on it.
 *
 * All counters are uint64_t but the one at `real`, which is a double. Rows are structs, so they are read octet by octet.
 */
#ifndef PHAROS_GROWN_H
#define PHAROS_GROWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    GROWN_WORD = 8,
    GROWN_PLACES = 64,                                  /* of a row, at most */
    GROWN_MOST = GROWN_WORD * (1 + GROWN_PLACES)        /* octets */
};

static inline uint64_t grown_word(const void *row, size_t place) {
    uint64_t word;
    memcpy(&word, (const char *)row + place * GROWN_WORD, sizeof word);
    return word;
}

static inline double grown_real(uint64_t word) {
    double real;
    memcpy(&real, &word, sizeof real);
    return real;
}

/* Writes what of `now` is not in `told`, which is the same then; returns its length, 0 when nothing has grown. */
static inline size_t grown_since(const void *now, void *told, size_t places, size_t real, char *to) {
    uint64_t grew = 0;
    size_t length = GROWN_WORD;
    for (size_t place = 0; place < places; place++) {
        uint64_t word = grown_word(now, place), before = grown_word(told, place);
        if (word == before)
            continue;
        if (place == real) {
            double more = grown_real(word) - grown_real(before);
            memcpy(to + length, &more, GROWN_WORD);
        } else {
            uint64_t more = word - before;
            memcpy(to + length, &more, GROWN_WORD);
        }
        length += GROWN_WORD;
        grew |= UINT64_C(1) << place;
    }
    if (!grew)
        return 0;
    memcpy(to, &grew, GROWN_WORD);
    memcpy(told, now, places * GROWN_WORD);
    return length;
}

/* Adds what grew to a row; false, and nothing is added, if that is no row of so many places. */
static inline bool grown_added(void *row, size_t places, size_t real, const char *grown, size_t length) {
    if (length < GROWN_WORD)
        return false;
    uint64_t grew = grown_word(grown, 0);
    if ((places < GROWN_PLACES && grew >> places) || length != GROWN_WORD * (1 + (size_t)__builtin_popcountll(grew)))
        return false;
    for (size_t next = 1; grew; grew &= grew - 1, next++) {
        size_t place = (size_t)__builtin_ctzll(grew);
        uint64_t word = grown_word(row, place), more = grown_word(grown, next);
        if (place == real) {
            double sum = grown_real(word) + grown_real(more);
            memcpy(&word, &sum, sizeof word);
        } else {
            word += more;
        }
        memcpy((char *)row + place * GROWN_WORD, &word, sizeof word);
    }
    return true;
}

#endif
