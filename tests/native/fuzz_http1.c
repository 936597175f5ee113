/* libFuzzer: any octets, as a request's head, an answer's, and a body in chunks.
 *
 * The first octet of an input says which (`choices`) and how large a head may be; the message follows.
 * Each beginning of it has to have the result of the whole, cut as it may be; what is accepted is written anew, as a
 * proxy would, and has to be read as the same fields.
 */
#include "../../lb7/native/http1.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first octet of an input. */
enum choices { KIND = 3, REQUEST = 0, ANSWER = 1, LIMITS_SHIFT = 2, LIMITS = 3 };

static const struct {
    size_t head;
    uint32_t fields;
} limits[LIMITS + 1] = {{16384, 100}, {1024, 8}, {128, 3}, {1 << 20, 1000}};

typedef ssize_t reader(const char *, size_t, size_t, uint32_t, http1_head *);

static const uint8_t *current;
static size_t current_size;

static void fail(const char *what) {
    fprintf(stderr, "fuzz_http1: %s\ninput: ", what);
    for (size_t i = 0; i < current_size; i++)
        fprintf(stderr, "%02x", current[i]);
    fprintf(stderr, "\n");
    abort();
}

static void need(bool right, const char *what) {
    if (!right)
        fail(what);
}

/* Of exactly so many octets, so that a step beyond them is seen. */
static char *copy(const void *octets, size_t length) {
    char *to = malloc(length ? length : 1);
    memcpy(to, octets, length);
    return to;
}

/* --- heads ----------------------------------------------------------------------------------------- */

static bool inside(uint32_t start, uint32_t length, uint32_t whole) { return start <= whole && length <= whole - start; }

static void check_field(const char *octets, const http1_head *h, uint32_t i) {
    const http1_field *f = &h->field[i];
    need(f->start == (i ? h->field[i - 1].end : h->line_end), "a gap between lines");
    need(f->end <= h->length - 2 && f->start + f->name_len < f->value && f->value <= f->value_end, "a line's order");
    need(f->value_end <= f->end - 2 && !memcmp(octets + f->end - 2, "\r\n", 2), "a line's end");
    need(octets[f->start + f->name_len] == ':', "a name's end");
    need(f->value == f->value_end || (octets[f->value] != ' ' && octets[f->value_end - 1] != ' '), "spaces of a value");
    for (uint32_t at = f->start; at < f->end - 2; at++)
        need((uint8_t)octets[at] >= ' ' || octets[at] == '\t', "a control");
}

static void check_head(const char *octets, const http1_head *h, uint32_t most_fields) {
    need(h->fields <= HTTP1_MOST_FIELDS && h->fields <= most_fields, "too many fields");
    need(!memcmp(octets + h->length - 2, "\r\n", 2), "the head's end");
    for (uint32_t i = 0; i < h->fields; i++)
        check_field(octets, h, i);
    need((h->fields ? h->field[h->fields - 1].end : h->line_end) == h->length - 2, "the last line");
    need(inside(h->method, h->method_len, h->line_end) && inside(h->target, h->target_len, h->line_end), "first line");
    need(inside(h->path, h->path_len, h->line_end) && h->path_only_len <= h->path_len, "path");
    need(inside(h->host, h->host_len, h->length) && h->host_len <= HTTP1_MOST_HOST, "host");
    need(!h->chunked || h->content_length < 0 || h->status, "a length and a coding");
    need(!h->upgrade || h->minor == 1, "an upgrade of HTTP/1.0");
}

static bool same_octets(const char *a, uint32_t a_length, const char *b, uint32_t b_length) {
    return a_length == b_length && !memcmp(a, b, a_length);
}

/* What a proxy would send for this head, and that it is read as what was passed on. */
static void check_anew(reader *read, const char *octets, const http1_head *h) {
    static http1_head again;
    size_t most = h->length + 2 * h->fields, room = h->line_end + most + 2, at;
    char *fields = malloc(most ? most : 1), *anew = malloc(room);
    size_t length = http1_copy_fields(octets, h, fields);
    memcpy(anew, octets, h->line_end);
    memcpy(anew + h->line_end, fields, length);
    at = h->line_end + length;
    memcpy(anew + at, "\r\n", 2);
    need(read(anew, at + 2, 1 << 24, HTTP1_MOST_FIELDS, &again) == (ssize_t)at + 2, "what is sent is not read");
    uint32_t i = 0;
    for (uint32_t k = 0; k < h->fields; k++) {
        const http1_field *a = &h->field[k], *b = &again.field[i];
        if (a->drop)
            continue;
        need(i++ < again.fields && !b->odd && a->id == b->id, "a field is lost");
        need(same_octets(octets + a->start, a->name_len, anew + b->start, b->name_len), "a name differs");
        need(same_octets(octets + a->value, a->value_end - a->value, anew + b->value, b->value_end - b->value), "a value differs");
    }
    need(i == again.fields, "a field too many");
    need(h->chunked == again.chunked && h->content_length == again.content_length, "the framing differs");
    need(!again.close && !again.keep_alive && !again.upgrade, "what concerns one connection was sent");
    free(fields);
    free(anew);
}

static void check_heads(reader *read, const uint8_t *data, size_t size, size_t max_head, uint32_t max_fields) {
    static http1_head h;
    char *octets = copy(data, size);
    ssize_t whole = read(octets, size, max_head, max_fields, &h);
    need(whole > -HTTP1_FAULTS && whole <= (ssize_t)size && whole <= (ssize_t)max_head, "the result");
    if (whole > 0) {
        need(h.length == (size_t)whole, "the length");
        check_head(octets, &h, max_fields);
        check_anew(read, octets, &h);
    }
    ssize_t before = 0;
    for (size_t length = 0; length < size; length++) {
        char *start = copy(data, length);
        ssize_t result = read(start, length, max_head, max_fields, &h);
        need(result == 0 || result == whole, "a beginning has another result");
        need(before == 0 || result == before, "a result is taken back");
        need(result <= 0 || length >= (size_t)whole, "a head before its end");
        before = result;
        free(start);
    }
    free(octets);
}

/* --- chunks ---------------------------------------------------------------------------------------- */

typedef struct {
    ssize_t length, held;
    uint8_t state;
} reading;

/* In pieces of so many octets; what the chunks hold is written over the octets themselves. */
static reading in_pieces(const uint8_t *data, size_t size, size_t piece, char *held) {
    http1_chunks c = {0}, plain = {0};
    reading r = {0};
    for (size_t at = 0; at < size && c.state != HTTP1_CHUNKS_DONE; at += piece) {
        size_t length = size - at < piece ? size - at : piece, inside;
        char *octets = copy(data + at, length);
        ssize_t only = http1_chunks_read(&plain, octets, length);
        ssize_t read = http1_chunks_unwrap(&c, octets, length, octets, &inside);
        need(only == read && !memcmp(&c, &plain, sizeof c), "with and without what is held");
        if (read < 0)
            need(http1_chunks_read(&plain, "0\r\n\r\n", 5) == -1, "a body that was broken goes on");
        else
            memcpy(held + r.held, octets, inside), r.held += (ssize_t)inside;
        free(octets);
        if (read < 0)
            return (reading){-1, 0, 0};
        need(read == (ssize_t)length || c.state == HTTP1_CHUNKS_DONE, "octets were left");
        r.length += read;
    }
    r.state = c.state;
    return r;
}

static void check_chunks(const uint8_t *data, size_t size) {
    char *held = malloc(size + 1), *again = malloc(size + 1);
    reading whole = in_pieces(data, size, size ? size : 1, held);
    need(whole.held <= whole.length || whole.length < 0, "more is held than there is");
    for (size_t piece = 1; piece < size && piece < 9; piece++) {
        reading r = in_pieces(data, size, piece, again);
        need(r.length == whole.length && r.held == whole.held && r.state == whole.state, "cuts make a difference");
        need(r.length < 0 || !memcmp(held, again, (size_t)r.held), "cuts change what is held");
    }
    free(held);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size)
        return 0;
    uint8_t choice = *data++;
    size_t which = choice >> LIMITS_SHIFT & LIMITS;
    current = data - 1;
    current_size = size--;
    if ((choice & KIND) > ANSWER)
        check_chunks(data, size);
    else
        check_heads((choice & KIND) == REQUEST ? http1_request : http1_response, data, size, limits[which].head,
                    limits[which].fields);
    return 0;
}
