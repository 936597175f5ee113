/* What the fields of a head mean, each by itself and all together. For http1.c alone. */
#ifndef PHAROS_HTTP1_FIELDS_H
#define PHAROS_HTTP1_FIELDS_H
#include "http1_octets.h"
#include <arpa/inet.h>

enum { LENGTH_DIGITS = 18 };

static inline bool has(const http1_head *head, int id) { return head->ids >> id & 1; }

/* --- what single fields mean ----------------------------------------------------------------------- */

static int read_length(const char *octets, const http1_field *f, http1_head *head) {
    int64_t length = 0;
    if (has(head, HTTP1_CONTENT_LENGTH) || f->value == f->value_end || f->value_end - f->value > LENGTH_DIGITS)
        return HTTP1_BAD_LENGTH;
    for (uint32_t i = f->value; i < f->value_end; i++) {
        if (!is(octets[i], DIGIT))
            return HTTP1_BAD_LENGTH;
        length = length * 10 + (octets[i] - '0');
    }
    head->content_length = length;
    return 0;
}

/* A coding that is not known may be answered so (RFC 9112 §6.1); what is no list of codings, or one in which chunked
 * is not last and once, has no length at all. */
static int other_coding(const char *octets, const http1_field *f) {
    list l = elements(octets, f);
    bool chunked = false;
    while (next_element(&l)) {
        if (!is_token(l.element, l.length) || chunked)
            return HTTP1_BAD_CODING;
        chunked = IS_WORD(l.element, l.length, "chunked");
    }
    return HTTP1_UNKNOWN_CODING;
}

static int read_coding(const char *octets, const http1_field *f, http1_head *head) {
    if (has(head, HTTP1_TRANSFER_ENCODING) || head->minor == 0)
        return HTTP1_BAD_CODING;
    if (!IS_WORD(octets + f->value, f->value_end - f->value, "chunked"))
        return other_coding(octets, f);
    head->chunked = 1;
    return 0;
}

static bool is_port(const char *octets, const char *end) {
    uint32_t port = 0;
    if (octets == end || end - octets > 5)
        return false;
    for (; octets < end; octets++) {
        if (!is(*octets, DIGIT))
            return false;
        port = port * 10 + (uint32_t)(*octets - '0');
    }
    return port <= 65535;
}

static const char *address_end(const char *at, const char *end) {
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    const char *bracket = memchr(at, ']', (size_t)(end - at));
    if (!bracket || (size_t)(bracket - at) > sizeof text)
        return NULL;
    size_t length = (size_t)(bracket - at) - 1;
    memcpy(text, at + 1, length);
    text[length] = 0;
    return inet_pton(AF_INET6, text, &address) == 1 ? bracket + 1 : NULL;
}

/* uri-host [ ":" port ] (RFC 9110 §7.2), as narrow as http1.h says. */
static bool is_host(const char *at, uint32_t length, bool with_port) {
    const char *end = at + length, *name_end = at;
    if (!length || length > HTTP1_MOST_HOST)
        return false;
    if (*at == '[') {
        name_end = address_end(at, end);
        if (!name_end)
            return false;
    } else {
        name_end = host_stop(at, end);
    }
    if (name_end == at)
        return false;
    if (name_end == end)
        return !with_port;
    return *name_end == ':' && is_port(name_end + 1, end);
}

/* The target's authority, if it has one, was put into `host` before (RFC 9112 §3.2.2). */
static int read_host(const char *octets, const http1_field *f, http1_head *head) {
    uint32_t length = f->value_end - f->value;
    if (has(head, HTTP1_HOST) || !is_host(octets + f->value, length, false))
        return HTTP1_BAD_HOST;
    if (head->host_len)
        return head->host_len == length && same_name(octets + head->host, octets + f->value, length) ? 0 : HTTP1_BAD_HOST;
    head->host = f->value;
    head->host_len = length;
    return 0;
}

static void read_expect(const char *octets, http1_field *f, http1_head *head) {
    if (head->minor == 0) /* to be ignored (RFC 9110 §10.1.1) */
        f->drop = 1;
    else if (IS_WORD(octets + f->value, f->value_end - f->value, "100-continue"))
        head->expect_continue = 1;
    else
        head->expect_other = 1;
}

/* What is to be known at once. 0, or a fault. */
static int read_field(const char *octets, http1_field *f, http1_head *head) {
    bool request = !head->status;
    switch (f->id) {
    case HTTP1_CONTENT_LENGTH:
        return read_length(octets, f, head);
    case HTTP1_TRANSFER_ENCODING:
        return read_coding(octets, f, head);
    case HTTP1_HOST:
        return request ? read_host(octets, f, head) : 0;
    case HTTP1_EXPECT:
        if (request)
            read_expect(octets, f, head);
        return 0;
    case HTTP1_UPGRADE:
        head->upgrade = has(head, HTTP1_UPGRADE) ? 2 : 1; /* read when Connection is known */
        f->drop = 1;
        return 0;
    case HTTP1_CONNECTION:
    case HTTP1_HOP:
        f->drop = 1;
        return 0;
    }
    return 0;
}

/* --- what they mean together ----------------------------------------------------------------------- */

static void drop_named(const char *octets, http1_head *head, const char *name, size_t length) {
    for (uint32_t i = 0; i < head->fields; i++) {
        http1_field *f = &head->field[i];
        if (f->id == HTTP1_OTHER && f->name_len == length && same_name(octets + f->start, name, length))
            f->drop = 1;
    }
}

/* `upgrades`: set when Upgrade is named. Elements that are no tokens name nothing. */
static int read_connection(const char *octets, const http1_field *f, http1_head *head, bool *upgrades) {
    list l = elements(octets, f);
    while (next_element(&l)) {
        if (++head->options > HTTP1_MOST_OPTIONS)
            return HTTP1_BAD_VALUE;
        if (IS_WORD(l.element, l.length, "close"))
            head->close = 1;
        else if (IS_WORD(l.element, l.length, "keep-alive"))
            head->keep_alive = 1;
        else if (IS_WORD(l.element, l.length, "upgrade"))
            *upgrades = true;
        else if (is_token(l.element, l.length))
            drop_named(octets, head, l.element, l.length);
    }
    return 0;
}

/* Whether a protocol of this list would carry further requests; the name ends before '/'. */
static bool carries_requests(const char *octets, const http1_field *f) {
    list l = elements(octets, f);
    while (next_element(&l)) {
        const char *slash = memchr(l.element, '/', l.length);
        size_t length = slash ? (size_t)(slash - l.element) : l.length;
        if (!is_token(l.element, length) || IS_WORD(l.element, length, "http") || IS_WORD(l.element, length, "tls") ||
            (length >= 2 && (*l.element | 0x20) == 'h' && is(l.element[1], DIGIT))) /* h2c and what may follow */
            return true;
    }
    return false;
}

/* Not with a body: some servers (those on llhttp) take the other protocol to begin behind the head all the same. */
static void read_upgrade(const char *octets, http1_head *head, bool named) {
    bool once = head->upgrade == 1, body = !head->status && (head->chunked || head->content_length > 0);
    head->upgrade = 0;
    if (!once || !named || body || head->minor == 0)
        return;
    for (uint32_t i = 0; i < head->fields; i++) {
        http1_field *f = &head->field[i];
        if (f->id != HTTP1_UPGRADE || carries_requests(octets, f))
            continue;
        f->drop = 0;
        head->upgrade = 1;
        head->websocket = IS_WORD(octets + f->value, f->value_end - f->value, "websocket");
    }
}

static bool is_bodyless(int status) { return (status && status < 200) || status == 204 || status == 304; }

/* There is no body whatever the fields say (RFC 9112 §6.3). A length stays only where it is that of another answer
 * (RFC 9110 §8.6); a coding nowhere, for some readers would wait for chunks. */
static void without_body(http1_head *head) {
    head->content_length = 0;
    head->chunked = 0;
    for (uint32_t i = 0; i < head->fields; i++) {
        http1_field *f = &head->field[i];
        if (f->id == HTTP1_TRANSFER_ENCODING || (f->id == HTTP1_CONTENT_LENGTH && head->status != 304))
            f->drop = 1;
    }
}

static int read_together(const char *octets, http1_head *head) {
    bool upgrades = false;
    int fault = 0;
    if (has(head, HTTP1_CONTENT_LENGTH) && has(head, HTTP1_TRANSFER_ENCODING))
        return HTTP1_LENGTH_AND_CODING;
    if (!head->status && head->minor == 1 && !has(head, HTTP1_HOST))
        return HTTP1_BAD_HOST;
    if (has(head, HTTP1_CONNECTION))
        for (uint32_t i = 0; i < head->fields && !fault; i++)
            if (head->field[i].id == HTTP1_CONNECTION)
                fault = read_connection(octets, &head->field[i], head, &upgrades);
    if (head->upgrade)
        read_upgrade(octets, head, upgrades);
    if (is_bodyless(head->status))
        without_body(head);
    return fault;
}
#endif
