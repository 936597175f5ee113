#include "http1_fields.h"

enum { LARGEST_HEAD = 1 << 30, NAME_LIMIT = UINT16_MAX };

/* --- lines ----------------------------------------------------------------------------------------- */

/* 1: here is CRLF; 0: more is needed; -1: something else. */
static inline int line_ends(const char *at, const char *end) {
    if (end - at >= 2 && *at == '\r' && at[1] == '\n')
        return 1;
    if (at == end)
        return 0;
    if (*at != '\r')
        return -1;
    return at + 1 == end ? 0 : at[1] == '\n' ? 1 : -1;
}

/* Whether a line is "Name: value" with one space and a value that has none around it, from its ':' on. */
static inline bool is_plain(const char *value, const char *stop) {
    return *value == ' ' && (uint8_t)value[1] > ' ' && (uint8_t)stop[-1] > ' ';
}

/* One field's line. Where it ends; NULL with `fault` 0: more is needed. */
static inline const char *field_line(const char *octets, const char *at, const char *end, http1_head *head,
                                     http1_field *f, int *fault) {
    const char *name = at;
    uint8_t seen = 0;
    at = name_stop(at, end, &seen);
    uint32_t length = (uint32_t)(at - name);
    if (at == end)
        return NULL;
    if (*at != ':' || !length || length > NAME_LIMIT)
        return *fault = HTTP1_BAD_FIELD, NULL;
    f->start = (uint32_t)(name - octets);
    f->name_len = (uint16_t)length;
    const char *value = ++at, *stop = value_stop(at, end), *last = stop;
    int ends = line_ends(stop, end);
    if (ends <= 0)
        return *fault = ends ? HTTP1_BAD_VALUE : 0, NULL;
    f->odd = 0;
    if (is_plain(value, last)) {
        value++;
    } else {
        f->odd = *at != ' ' || (last != at + 1 && (is_space(at[1]) || is_space(last[-1])));
        while (value < last && is_space(*value))
            value++;
        while (last > value && is_space(last[-1]))
            last--;
    }
    f->end = (uint32_t)(stop - octets) + 2;
    f->value = (uint32_t)(value - octets);
    f->value_end = (uint32_t)(last - octets);
    f->drop = seen & UNDERSCORE && imitates(name, length);
    f->id = (uint8_t)id_of(name, length);
    if (f->id != HTTP1_OTHER) {
        *fault = read_field(octets, f, head);
        head->ids |= 1ULL << f->id;
    }
    return stop + 2;
}

static ssize_t read_fields(const char *octets, const char *end, uint32_t max_fields, http1_head *head) {
    const char *at = octets + head->line_end;
    int fault = 0, ends;
    if (max_fields > HTTP1_MOST_FIELDS)
        max_fields = HTTP1_MOST_FIELDS;
    const http1_field *most = head->field + max_fields;
    http1_field *f = head->field;
    head->ids = 0;
    head->content_length = -1;
    head->chunked = head->close = head->keep_alive = head->upgrade = head->websocket = 0;
    head->expect_continue = head->expect_other = head->options = 0;
    for (;; f++) {
        if (at == end)
            return 0;
        if (*at == '\r')
            break;
        if (f == most)
            return -HTTP1_TOO_MANY_FIELDS;
        at = field_line(octets, at, end, head, f, &fault);
        if (fault)
            return -fault;
        if (!at)
            return 0;
    }
    ends = line_ends(at, end);
    if (ends <= 0)
        return ends ? -HTTP1_BAD_FIELD : 0;
    head->length = (uint32_t)(at - octets) + 2;
    head->fields = (uint32_t)(f - head->field);
    fault = read_together(octets, head);
    return fault ? -fault : (ssize_t)head->length;
}

/* "HTTP/1.x", no matter what follows. Where it ends; NULL with `fault` 0: more is needed. */
static inline const char *version(const char *at, const char *end, http1_head *head, int *fault) {
    static const char name[] = "HTTP/";
    if (end - at >= 8 && !memcmp(at, "HTTP/1.", 7) && (at[7] == '0' || at[7] == '1')) {
        head->minor = at[7] - '0';
        return at + 8;
    }
    size_t there = end - at < 5 ? (size_t)(end - at) : 5;
    if (memcmp(at, name, there))
        return *fault = HTTP1_BAD_LINE, NULL;
    for (size_t i = 5; i < 8; i++) {
        if (at + i >= end)
            return NULL;
        if (i == 6 ? at[i] != '.' : !is(at[i], DIGIT))
            return *fault = HTTP1_BAD_LINE, NULL;
    }
    return *fault = HTTP1_BAD_VERSION, NULL;
}

/* --- requests -------------------------------------------------------------------------------------- */

/* An absolute target, whose scheme has so many octets: authority and path (RFC 9112 §3.2.2). */
static bool read_absolute(const char *octets, http1_head *head, uint32_t scheme, bool options) {
    const char *authority = octets + head->target + scheme, *end = octets + head->target + head->target_len, *slash;
    slash = memchr(authority, '/', (size_t)(end - authority));
    head->host = (uint32_t)(authority - octets);
    head->host_len = (uint32_t)((slash ? slash : end) - authority);
    head->path = slash ? (uint32_t)(slash - octets) : head->host - 1; /* without path: a '/' of "//" */
    head->path_len = slash ? (uint32_t)(end - slash) : 1;
    return (slash || !options) && is_host(authority, head->host_len, false);
}

static bool read_target(const char *octets, http1_head *head, uint32_t before_query) {
    const char *target = octets + head->target, *method = octets + head->method;
    uint32_t length = head->target_len, scheme;
    bool connect = head->method_len == 7 && !memcmp(method, "CONNECT", 7);
    bool options = head->method_len == 7 && !memcmp(method, "OPTIONS", 7);
    head->host_len = head->host = 0;
    head->path = head->target;
    head->path_len = length;
    head->path_only_len = before_query;
    if (connect) {
        head->path_len = head->path_only_len = 0;
        head->host = head->target;
        head->host_len = length;
        return is_host(target, length, true);
    }
    if (*target == '/')
        return true;
    if (*target == '*')
        return options && length == 1;
    scheme = length > 7 && same(target, "http", 4) && !memcmp(target + 4, "://", 3)    ? 7
             : length > 8 && same(target, "https", 5) && !memcmp(target + 5, "://", 3) ? 8
                                                                                       : 0;
    if (!scheme || before_query < scheme || !read_absolute(octets, head, scheme, options))
        return false;
    head->path_only_len = head->path_len == 1 ? 1 : before_query - (head->path - head->target);
    return true;
}

/* The request line. Where the first field begins; NULL with `fault` 0: more is needed. */
static const char *request_line(const char *octets, const char *end, size_t max_target, http1_head *head, int *fault) {
    const char *at = octets, *query;
    int ends = line_ends(at, end);
    if (ends > 0)
        at += 2;
    else if (!ends)
        return NULL;
    head->method = (uint32_t)(at - octets);
    while (at < end && is(*at, NAME))
        at++;
    head->method_len = (uint32_t)(at - octets) - head->method;
    if (head->method_len > HTTP1_MOST_METHOD || (at < end && (*at != ' ' || !head->method_len)))
        return *fault = HTTP1_BAD_LINE, NULL;
    if (at == end)
        return NULL;
    head->target = (uint32_t)(++at - octets);
    query = at = path_stop(at, end);
    if (at < end && *at == '?')
        at = query_stop(at, end);
    head->target_len = (uint32_t)(at - octets) - head->target;
    if (head->target_len > max_target)
        return *fault = HTTP1_LONG_TARGET, NULL;
    if (at == end)
        return NULL;
    if (*at != ' ' || !head->target_len)
        return *fault = HTTP1_BAD_TARGET, NULL;
    at = version(at + 1, end, head, fault);
    if (!at)
        return NULL;
    ends = line_ends(at, end);
    if (ends <= 0)
        return *fault = ends ? HTTP1_BAD_LINE : 0, NULL;
    if (!read_target(octets, head, (uint32_t)(query - octets) - head->target))
        return *fault = HTTP1_BAD_TARGET, NULL;
    return at + 2;
}

/* What is looked at of the octets: a head that does not end there is too large. */
static inline size_t within(size_t length, size_t *max_head) {
    if (*max_head > LARGEST_HEAD)
        *max_head = LARGEST_HEAD;
    return length < *max_head ? length : *max_head;
}

ssize_t http1_request(const char *octets, size_t length, size_t max_head, uint32_t max_fields, http1_head *head) {
    size_t seen = within(length, &max_head);
    int fault = 0;
    ssize_t result = 0;
    head->status = 0;
    const char *at = request_line(octets, octets + seen, max_head / 2, head, &fault);
    if (fault)
        return -fault;
    if (at) {
        head->line_end = (uint32_t)(at - octets);
        head->head = head->method_len == 4 && !memcmp(octets + head->method, "HEAD", 4);
        result = read_fields(octets, octets + seen, max_fields, head);
    }
    return result || seen < max_head ? result : -HTTP1_TOO_LARGE;
}

/* --- answers --------------------------------------------------------------------------------------- */

/* The status line; the reason may be missing together with the space before it. As request_line. */
static const char *status_line(const char *octets, const char *end, http1_head *head, int *fault) {
    const char *at = version(octets, end, head, fault);
    int ends;
    if (!at || at == end)
        return NULL;
    if (*at++ != ' ')
        return *fault = HTTP1_BAD_LINE, NULL;
    head->status = 0;
    for (int i = 0; i < 3; i++, at++) {
        if (at == end)
            return NULL;
        if (!is(*at, DIGIT) || (i == 0 && (*at < '1' || *at > '5')))
            return *fault = HTTP1_BAD_STATUS, NULL;
        head->status = head->status * 10 + (*at - '0');
    }
    if (at == end)
        return NULL;
    if (*at == ' ')
        at++;
    else if (*at != '\r')
        return *fault = HTTP1_BAD_STATUS, NULL;
    head->target = (uint32_t)(at - octets);
    at = value_stop(at, end);
    head->target_len = (uint32_t)(at - octets) - head->target;
    ends = line_ends(at, end);
    if (ends <= 0)
        return *fault = ends ? HTTP1_BAD_LINE : 0, NULL;
    return at + 2;
}

ssize_t http1_response(const char *octets, size_t length, size_t max_head, uint32_t max_fields, http1_head *head) {
    size_t seen = within(length, &max_head);
    int fault = 0;
    ssize_t result = 0;
    const char *at = status_line(octets, octets + seen, head, &fault);
    if (fault)
        return -fault;
    if (at) {
        head->line_end = (uint32_t)(at - octets);
        head->method = head->method_len = head->path = head->path_len = head->path_only_len = 0;
        head->host = head->host_len = head->head = 0;
        result = read_fields(octets, octets + seen, max_fields, head);
    }
    return result || seen < max_head ? result : -HTTP1_TOO_LARGE;
}

/* --- what is done with them ------------------------------------------------------------------------ */

const char *http1_fault_word(int fault) {
    static const char *const words[HTTP1_FAULTS] = {
        [HTTP1_BAD_LINE] = "bad_line",
        [HTTP1_BAD_TARGET] = "bad_target",
        [HTTP1_BAD_VERSION] = "bad_version",
        [HTTP1_BAD_FIELD] = "bad_field",
        [HTTP1_BAD_VALUE] = "bad_value",
        [HTTP1_BAD_LENGTH] = "bad_length",
        [HTTP1_BAD_CODING] = "bad_coding",
        [HTTP1_LENGTH_AND_CODING] = "length_and_coding",
        [HTTP1_BAD_HOST] = "bad_host",
        [HTTP1_TOO_LARGE] = "too_large",
        [HTTP1_TOO_MANY_FIELDS] = "too_many_fields",
        [HTTP1_LONG_TARGET] = "long_target",
        [HTTP1_UNKNOWN_CODING] = "unknown_coding",
        [HTTP1_BAD_STATUS] = "bad_status",
    };
    return fault > 0 && fault < HTTP1_FAULTS ? words[fault] : "";
}

int http1_status_of(int fault) {
    switch (fault) {
    case HTTP1_LONG_TARGET:
        return 414;
    case HTTP1_TOO_LARGE:
    case HTTP1_TOO_MANY_FIELDS:
        return 431;
    case HTTP1_UNKNOWN_CODING:
        return 501;
    case HTTP1_BAD_VERSION:
        return 505;
    }
    return 400;
}

static char *write_anew(const char *octets, const http1_field *f, char *to) {
    uint32_t length = f->value_end - f->value;
    memcpy(to, octets + f->start, f->name_len);
    to += f->name_len;
    *to++ = ':', *to++ = ' ';
    memcpy(to, octets + f->value, length);
    to += length;
    *to++ = '\r', *to++ = '\n';
    return to;
}

size_t http1_copy_fields(const char *octets, const http1_head *head, char *to) {
    const http1_field *f = head->field, *end = f + head->fields;
    char *at = to;
    while (f < end) {
        const http1_field *first = f++;
        if (first->drop)
            continue;
        if (first->odd) {
            at = write_anew(octets, first, at);
            continue;
        }
        while (f < end && !(f->drop | f->odd))
            f++;
        memcpy(at, octets + first->start, f[-1].end - first->start);
        at += f[-1].end - first->start;
    }
    return (size_t)(at - to);
}

/* --- chunks ---------------------------------------------------------------------------------------- */

enum chunks_state {
    SIZE_FIRST, SIZE, EXTENSION_FIRST, EXTENSION, ARGUMENT_FIRST, ARGUMENT, QUOTED, ESCAPED, QUOTED_END, SIZE_LF,
    DATA, DATA_CR, DATA_LF, TRAILER_FIRST, TRAILER_NAME, TRAILER_VALUE, TRAILER_LF, END_LF, BROKEN,
    DONE = HTTP1_CHUNKS_DONE
};

enum { SIZE_DIGITS = 15 };

static const uint64_t hash_start = 0xcbf29ce484222325;

/* FNV-1a of a name in lower case, '_' being '-'. */
static inline uint64_t hash_more(uint64_t hash, char octet) {
    return (hash ^ (uint8_t)(octet == '_' ? '-' : octet | 0x20)) * 0x100000001b3;
}

/* Whether a trailer of this name would say how the message is framed, routed, authorised or decoded. */
static bool no_trailer(uint64_t hash) {
    static const char *const names[] = {
        "authorization",     "cache-control",     "connection",         "content-encoding",  "content-length",
        "content-range",     "content-type",      "cookie",             "expect",            "forwarded",
        "host",              "keep-alive",        "location",           "max-forwards",      "proxy-authenticate",
        "proxy-connection",  "range",             "set-cookie",         "te",                "trailer",
        "transfer-encoding", "upgrade",           "www-authenticate",   "x-forwarded-for",   "x-forwarded-host",
        "x-forwarded-port",  "x-forwarded-proto", "x-marathon-app-id",  "proxy-authorization",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uint64_t of_name = hash_start;
        for (const char *at = names[i]; *at; at++)
            of_name = hash_more(of_name, *at);
        if (of_name == hash)
            return true;
    }
    return false;
}

static int hex_digit(char octet) {
    if (is(octet, DIGIT))
        return octet - '0';
    octet |= 0x20;
    return octet >= 'a' && octet <= 'f' ? octet - 'a' + 10 : -1;
}

/* Behind a size or an extension. The room for extensions grows with what the chunks hold: else one could send mostly
 * extensions (as in CVE-2023-39326), of which no application sees anything. */
static uint8_t size_ends(http1_chunks *c, char octet) {
    c->seen -= c->seen < c->left ? c->seen : (uint32_t)c->left;
    return octet == '\r' ? SIZE_LF : octet == ';' ? EXTENSION_FIRST : BROKEN;
}

static uint8_t size_step(http1_chunks *c, char octet) {
    int digit = hex_digit(octet);
    if (c->state == SIZE_FIRST)
        c->left = c->digits = 0;
    if (digit < 0)
        return c->digits ? size_ends(c, octet) : BROKEN;
    c->left = c->left << 4 | (uint64_t)digit;
    return ++c->digits > SIZE_DIGITS ? BROKEN : SIZE;
}

static uint8_t extension_step(http1_chunks *c, char octet) {
    if (++c->seen > HTTP1_MOST_EXTENSION)
        return BROKEN;
    switch (c->state) {
    case EXTENSION_FIRST:
        return is(octet, NAME) ? EXTENSION : BROKEN;
    case EXTENSION:
        return is(octet, NAME) ? EXTENSION : octet == '=' ? ARGUMENT_FIRST : size_ends(c, octet);
    case ARGUMENT_FIRST:
        return is(octet, NAME) ? ARGUMENT : octet == '"' ? QUOTED : BROKEN;
    case ARGUMENT:
        return is(octet, NAME) ? ARGUMENT : size_ends(c, octet);
    case QUOTED:
        return octet == '"' ? QUOTED_END : octet == '\\' ? ESCAPED : is(octet, VALUE) ? QUOTED : BROKEN;
    case ESCAPED:
        return is(octet, VALUE) ? QUOTED : BROKEN;
    }
    return size_ends(c, octet);
}

static uint8_t trailer_step(http1_chunks *c, char octet) {
    if (++c->seen > HTTP1_MOST_TRAILER)
        return BROKEN;
    switch (c->state) {
    case TRAILER_FIRST:
        c->left = hash_more(hash_start, octet);
        if (octet == '\r')
            return END_LF;
        return is(octet, NAME) && ++c->digits <= HTTP1_MOST_TRAILERS ? TRAILER_NAME : BROKEN;
    case TRAILER_NAME:
        if (octet == ':')
            return no_trailer(c->left) ? BROKEN : TRAILER_VALUE;
        c->left = hash_more(c->left, octet);
        return is(octet, NAME) ? TRAILER_NAME : BROKEN;
    case TRAILER_VALUE:
        return octet == '\r' ? TRAILER_LF : is(octet, VALUE) ? TRAILER_VALUE : BROKEN;
    case TRAILER_LF:
        return octet == '\n' ? TRAILER_FIRST : BROKEN;
    }
    return octet == '\n' ? DONE : BROKEN;
}

static uint8_t chunk_step(http1_chunks *c, char octet) {
    switch (c->state) {
    case SIZE_FIRST:
    case SIZE:
        return size_step(c, octet);
    case SIZE_LF:
        if (octet != '\n')
            return BROKEN;
        if (c->left)
            return DATA;
        c->seen = c->digits = 0;
        return TRAILER_FIRST;
    case DATA_CR:
        return octet == '\r' ? DATA_LF : BROKEN;
    case DATA_LF:
        return octet == '\n' ? SIZE_FIRST : BROKEN;
    case BROKEN:
        return BROKEN;
    }
    return c->state < SIZE_LF ? extension_step(c, octet) : trailer_step(c, octet);
}

ssize_t http1_chunks_unwrap(http1_chunks *chunks, const char *octets, size_t length, char *to, size_t *held) {
    size_t at = 0;
    *held = 0;
    while (at < length && chunks->state != DONE) {
        if (chunks->state == DATA) {
            size_t part = length - at < chunks->left ? length - at : (size_t)chunks->left;
            if (to)
                memmove(to + *held, octets + at, part);
            *held += part;
            at += part;
            chunks->left -= part;
            if (!chunks->left)
                chunks->state = DATA_CR;
            continue;
        }
        chunks->state = chunk_step(chunks, octets[at++]);
        if (chunks->state == BROKEN)
            return -1;
    }
    return (ssize_t)at;
}

ssize_t http1_chunks_read(http1_chunks *chunks, const char *octets, size_t length) {
    size_t held;
    return http1_chunks_unwrap(chunks, octets, length, NULL, &held);
}
