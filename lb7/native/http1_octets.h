/* What octets of a head are: their kinds, words in any case, the ids of names, elements of lists. For http1.c alone. */
#ifndef PHAROS_HTTP1_OCTETS_H
#define PHAROS_HTTP1_OCTETS_H
#include "http1.h"
#include <stdbool.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* What an octet may stand in. */
enum kind { NAME = 1, UNDERSCORE = 2, VALUE = 4, PATH = 8, QUERY = 16, HOST = 32, DIGIT = 64 };
enum { VISIBLE = VALUE | PATH | QUERY, TOKEN = NAME | VISIBLE, LABEL = TOKEN | HOST };

static const uint8_t kinds[256] = {
    ['\t'] = VALUE, [' '] = VALUE, ['!'] = TOKEN, ['"'] = VISIBLE, ['#'] = NAME | VALUE, ['$' ... '\''] = TOKEN,
    ['(' ... ')'] = VISIBLE, ['*' ... '+'] = TOKEN, [','] = VISIBLE, ['-' ... '.'] = LABEL, ['/'] = VISIBLE,
    ['0' ... '9'] = LABEL | DIGIT, [':' ... '>'] = VISIBLE, ['?'] = VALUE | QUERY, ['@'] = VISIBLE,
    ['A' ... 'Z'] = LABEL, ['[' ... ']'] = VISIBLE, ['^'] = TOKEN, ['_'] = LABEL | UNDERSCORE, ['`'] = TOKEN,
    ['a' ... 'z'] = LABEL, ['{'] = VISIBLE, ['|'] = TOKEN, ['}'] = VISIBLE, ['~'] = LABEL, [128 ... 255] = VALUE};

static inline bool is(char octet, int kind) { return kinds[(uint8_t)octet] & kind; }

/* --- many at once ---------------------------------------------------------------------------------- */

/* Where octets of a kind end: 16 are looked at at once, and then one by one. The first way need not know all of the
 * kind: what it does not know is left to the second one, which gathers in `seen` the kinds of what it steps over. */
#define STEP_ONE_BY_ONE(at, end, kind, seen)                                                                           \
    while ((at) < (end) && is(*(at), kind))                                                                            \
        (seen) |= kinds[(uint8_t)*(at)++];

#ifdef __SSE2__
/* Which octets are `first` or one of up to 127 after it: moved to the upper end of what has a sign, they are above all
 * others. */
static inline __m128i run(__m128i octets, uint8_t first, uint8_t more) {
    __m128i moved = _mm_add_epi8(octets, _mm_set1_epi8((char)(0x7f - first - more)));
    return _mm_cmpgt_epi8(moved, _mm_set1_epi8((char)(0x7e - more)));
}

static inline __m128i one(__m128i octets, char octet) { return _mm_cmpeq_epi8(octets, _mm_set1_epi8(octet)); }

/* Letters, digits and '-'; the other octets of names are rare. */
static inline __m128i name_octets(__m128i x) {
    __m128i letters = run(_mm_or_si128(x, _mm_set1_epi8(0x20)), 'a', 25);
    return _mm_or_si128(_mm_or_si128(letters, run(x, '0', 9)), one(x, '-'));
}

/* Visible ASCII and spaces; tabs and octets beyond ASCII are rare in values. */
static inline __m128i value_octets(__m128i x) { return run(x, 0x20, 0x5e); }

/* All of PATH. */
static inline __m128i path_octets(__m128i x) {
    return _mm_andnot_si128(_mm_or_si128(one(x, '#'), one(x, '?')), run(x, 0x21, 0x5d));
}

/* All of QUERY. */
static inline __m128i query_octets(__m128i x) { return _mm_andnot_si128(one(x, '#'), run(x, 0x21, 0x5d)); }

/* All of HOST. */
static inline __m128i host_octets(__m128i x) {
    return _mm_or_si128(_mm_or_si128(name_octets(x), one(x, '.')), _mm_or_si128(one(x, '_'), one(x, '~')));
}

/* `found`: what is done where an octet is another one. */
#define STEP_MANY(at, end, octets, found)                                                                              \
    if ((end) - (at) >= 16) {                                                                                          \
        const char *last = (end)-16;                                                                                   \
        do {                                                                                                           \
            unsigned others = (unsigned)_mm_movemask_epi8(octets(_mm_loadu_si128((const __m128i *)(at)))) ^ 0xffff;    \
            if (others) {                                                                                              \
                (at) += (unsigned)__builtin_ctz(others);                                                               \
                found;                                                                                                 \
            }                                                                                                          \
        } while (((at) += 16) <= last);                                                                                \
    }
#else
#define STEP_MANY(at, end, octets, found)
#endif

static inline const char *name_stop(const char *at, const char *end, uint8_t *seen) {
    STEP_MANY(at, end, name_octets, if (*at == ':') return at; break)
    STEP_ONE_BY_ONE(at, end, NAME, *seen)
    return at;
}

static inline const char *value_stop(const char *at, const char *end) {
    uint8_t seen = 0;
    STEP_MANY(at, end, value_octets, if (*at == '\r') return at; break)
    STEP_ONE_BY_ONE(at, end, VALUE, seen)
    return at;
}

static inline const char *path_stop(const char *at, const char *end) {
    uint8_t seen = 0;
    STEP_MANY(at, end, path_octets, return at)
    STEP_ONE_BY_ONE(at, end, PATH, seen)
    return at;
}

static inline const char *query_stop(const char *at, const char *end) {
    uint8_t seen = 0;
    STEP_MANY(at, end, query_octets, return at)
    STEP_ONE_BY_ONE(at, end, QUERY, seen)
    return at;
}

static inline const char *host_stop(const char *at, const char *end) {
    uint8_t seen = 0;
    STEP_MANY(at, end, host_octets, return at)
    STEP_ONE_BY_ONE(at, end, HOST, seen)
    return at;
}

/* --- words ----------------------------------------------------------------------------------------- */

#define SAME_OCTETS(type, at)                                                                                          \
    do {                                                                                                               \
        type a, b;                                                                                                     \
        memcpy(&a, octets + (at), sizeof a);                                                                           \
        memcpy(&b, word + (at), sizeof b);                                                                             \
        differ |= (a | (type)0x2020202020202020) ^ b;                                                                  \
    } while (0)

/* Whether octets that have no controls are this word of lower-case letters and '-', in any case. `length` is known when
 * this is compiled, so that a few words of the machine are compared. */
static inline __attribute__((always_inline)) bool same(const char *octets, const char *word, size_t length) {
    uint64_t differ = 0;
    if (length >= 8) {
        for (size_t at = 0; at + 8 <= length; at += 8)
            SAME_OCTETS(uint64_t, at);
        SAME_OCTETS(uint64_t, length - 8);
    } else if (length >= 4) {
        SAME_OCTETS(uint32_t, 0);
        SAME_OCTETS(uint32_t, length - 4);
    } else {
        for (size_t at = 0; at < length; at++)
            SAME_OCTETS(uint8_t, at);
    }
    return !differ;
}

#define IS_WORD(octets, length, word) ((length) == sizeof(word) - 1 && same(octets, word, sizeof(word) - 1))

static bool same_name(const char *a, const char *b, size_t length) {
    for (size_t i = 0; i < length; i++)
        if ((a[i] | 0x20) != (b[i] | 0x20))
            return false;
    return true;
}

/* The id of a field's name, which is a token. */
static inline int id_of(const char *name, uint32_t length) {
#define ID(word, id)                                                                                                   \
    if (same(name, word, sizeof(word) - 1))                                                                            \
    return id
    switch (length) {
    case 2:
        ID("te", HTTP1_HOP);
        break;
    case 4:
        ID("host", HTTP1_HOST);
        break;
    case 6:
        ID("cookie", HTTP1_COOKIE);
        ID("expect", HTTP1_EXPECT);
        break;
    case 7:
        ID("upgrade", HTTP1_UPGRADE);
        break;
    case 8:
        ID("location", HTTP1_LOCATION);
        break;
    case 9:
        ID("forwarded", HTTP1_FORWARDED);
        break;
    case 10:
        ID("connection", HTTP1_CONNECTION);
        ID("keep-alive", HTTP1_HOP);
        ID("set-cookie", HTTP1_SET_COOKIE);
        break;
    case 11:
        ID("traceparent", HTTP1_TRACEPARENT);
        break;
    case 12:
        ID("x-request-id", HTTP1_X_REQUEST_ID);
        break;
    case 13:
        ID("authorization", HTTP1_AUTHORIZATION);
        break;
    case 14:
        ID("content-length", HTTP1_CONTENT_LENGTH);
        /* RFC 7540 §3.2.1; gone since RFC 9113. */
        if (!memcmp(name + 4, "2-", 2) && same(name, "http", 4) && same(name + 6, "settings", 8))
            return HTTP1_HOP;
        break;
    case 15:
        ID("x-forwarded-for", HTTP1_X_FORWARDED_FOR);
        break;
    case 16:
        ID("x-forwarded-port", HTTP1_X_FORWARDED_PORT);
        ID("x-forwarded-host", HTTP1_X_FORWARDED_HOST);
        ID("proxy-connection", HTTP1_HOP);
        break;
    case 17:
        ID("transfer-encoding", HTTP1_TRANSFER_ENCODING);
        ID("x-forwarded-proto", HTTP1_X_FORWARDED_PROTO);
        ID("x-marathon-app-id", HTTP1_X_MARATHON_APP_ID);
        break;
    case 18:
        ID("proxy-authenticate", HTTP1_HOP);
        break;
    case 19:
        ID("proxy-authorization", HTTP1_HOP);
        break;
    case 25:
        ID("strict-transport-security", HTTP1_STRICT_TRANSPORT_SECURITY);
        ID("proxy-authentication-info", HTTP1_HOP);
        break;
    }
    return HTTP1_OTHER;
#undef ID
}

/* Whether a name with '_' would be one with an id if it had '-': CGI has one name for both (RFC 3875 §4.1.18). */
static bool imitates(const char *name, uint32_t length) {
    char hyphened[32];
    if (length > sizeof hyphened)
        return false;
    for (uint32_t i = 0; i < length; i++)
        hyphened[i] = name[i] == '_' ? '-' : name[i];
    return id_of(hyphened, length) != HTTP1_OTHER;
}

/* --- elements of lists ----------------------------------------------------------------------------- */

typedef struct {
    const char *at, *end; /* what is left of the value */
    const char *element;
    size_t length;
} list;

static inline bool is_space(char octet) { return octet == ' ' || octet == '\t'; }

/* The next element, which may be empty, without white space around it (RFC 9110 §5.6.1). */
static bool next_element(list *l) {
    if (l->at > l->end)
        return false;
    const char *comma = memchr(l->at, ',', (size_t)(l->end - l->at)), *end = comma ? comma : l->end;
    l->element = l->at;
    l->at = end + 1;
    while (l->element < end && is_space(*l->element))
        l->element++;
    while (end > l->element && is_space(end[-1]))
        end--;
    l->length = (size_t)(end - l->element);
    return true;
}

static inline list elements(const char *octets, const http1_field *f) {
    return (list){octets + f->value, octets + f->value_end, NULL, 0};
}

static bool is_token(const char *octets, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (!is(octets[i], NAME))
            return false;
    return length > 0;
}
#endif
