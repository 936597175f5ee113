/* Tells what the edge's parser, and its operations on eight octets at once, make of octets.
 *
 * Reads inputs, each after its length as 32 bits of this machine, and prints a line for each: as a request's head, as an
 * answer's, as words. Built twice, with and without what x86 has for many octets at once, both have to tell the same. */
#include "../../lb7/native/http1.h"
#include "../../lb7/native/words64.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_HEAD = 4096, MAX_FIELDS = 40 };

typedef ssize_t reader(const char *, size_t, size_t, uint32_t, http1_head *);

static void tell_head(reader *read, const char *octets, size_t length) {
    static http1_head h;
    ssize_t result = read(octets, length, MAX_HEAD, MAX_FIELDS, &h);
    printf("%zd", result);
    if (result > 0) {
        printf(" %u+%u %u+%u %u+%u(%u) %u+%u", h.method, h.method_len, h.target, h.target_len, h.path, h.path_len,
               h.path_only_len, h.host, h.host_len);
        printf(" %d %d %" PRId64 " %" PRIx64, h.minor, h.status, h.content_length, h.ids);
        printf(" %d%d%d%d%d%d%d%d %d", h.chunked, h.close, h.keep_alive, h.upgrade, h.head, h.expect_continue,
               h.websocket, h.expect_other, h.options);
        for (uint32_t i = 0; i < h.fields; i++) {
            const http1_field *f = &h.field[i];
            printf(" [%u %u %u %u %u %u %u%u]", f->start, f->name_len, f->value, f->value_end, f->end, f->id, f->drop,
                   f->odd);
        }
    }
    printf("; ");
}

/* The octets in lower case, the digits of the first ones, and whether lower case is told from what differs anywhere. */
static void tell_words(const uint8_t *octets, size_t length) {
    uint8_t *lower = malloc(length ? length : 1);
    char digits[16];
    size_t at = 0;
    for (; at + 8 <= length; at += 8) {
        uint64_t word = little64(lowered64(word64(octets + at)));
        memcpy(lower + at, &word, 8);
    }
    for (uint64_t rest = lowered64(part64(octets + at, length - at)); at < length; at++, rest >>= 8)
        lower[at] = (uint8_t)rest;
    for (size_t i = 0; i < length; i++)
        printf("%02x", lower[i]);
    put_hex64(digits, length < 8 ? part64(octets, length) : word64(octets));
    printf(" %.16s %d", digits, is_lowered(octets, lower, length));
    for (size_t i = 0; i < length; i++) {
        lower[i] ^= 0x80;
        if (is_lowered(octets, lower, length))
            printf(" differs at %zu", i);
        lower[i] ^= 0x80;
    }
    printf("\n");
    free(lower);
}

int main(void) {
    uint32_t length;
    while (fread(&length, sizeof length, 1, stdin) == 1) {
        /* Of exactly so many octets, so that a step beyond them is seen. */
        uint8_t *octets = malloc(length ? length : 1);
        if (fread(octets, 1, length, stdin) != length)
            return 1;
        tell_head(http1_request, (const char *)octets, length);
        tell_head(http1_response, (const char *)octets, length);
        tell_words(octets, length);
        free(octets);
    }
    return 0;
}
