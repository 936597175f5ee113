/* HTTP/1.x message heads and chunked bodies: strict, without copies, without memory of its own (RFC 9112).
 *
 * A head is read whole from octets that are all there; nothing is kept between calls. Positions are offsets into
 * those octets. What is not exactly in the grammar is refused: a lenient reader is what request smuggling needs.
 * A beginning of a head that is refused stays refused whatever follows, for the same reason.
 *
 * Where the RFCs let a reader choose, or are wider than what clients send:
 *
 * - One empty line may stand before a request line (RFC 9112 §2.2), none before a status line.
 * - A target may have all visible ASCII but '#': browsers leave some of it unescaped that RFC 3986 does not allow.
 * - Host, and the authority of a target, is a name of letters, digits and "-._~", or an IPv6 address in brackets, with
 *   or without a port of 1 to 5 digits up to 65535, not empty. That of an absolute target has to be the same as Host.
 * - An absolute target without a path may have no query, and not be that of OPTIONS.
 * - Content-Length has at most 18 digits and stands once, alike or not.
 * - Connection takes away only fields that mean nothing to a proxy: Content-Length, Host, Cookie, X-Forwarded-For and
 *   all others with an id of their own stay whoever names them, so that nobody can have them removed on the way.
 * - A field whose name has '_' where one with an id has '-' is dropped: CGI cannot tell the two apart, and so an
 *   application behind it would believe the client. Other names with '_' pass.
 * - Trailer is passed on, for trailers are (RFC 9110 §6.6.2). TE is not (§7.6.1), nor are Proxy-Authorization and the
 *   like, which are for the proxy (§11.7).
 * - Upgrade counts when HTTP/1.1 names it in Connection (§7.8), and not to "h2c", "HTTP" and "TLS", which would take
 *   the requests that follow past the proxy's rules, nor in a request with a body, of which servers do not agree where
 *   it ends; it is dropped then. HTTP2-Settings always is.
 * - Expect of HTTP/1.0 is dropped: it means nothing there (§10.1.1).
 * - Content-Length and Transfer-Encoding of 1xx and 204, and Transfer-Encoding of 304, are dropped (§8.6). */
#ifndef PHAROS_HTTP1_H
#define PHAROS_HTTP1_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    HTTP1_MOST_FIELDS = 128,
    HTTP1_MOST_METHOD = 32,   /* octets; the longest registered one has 17 */
    HTTP1_MOST_HOST = 261,    /* octets: a name of 255 and a port */
    HTTP1_MOST_OPTIONS = 64,  /* elements of all Connection fields */
    HTTP1_MOST_EXTENSION = 4096, /* octets of chunk extensions; as many again as the body has octets */
    HTTP1_MOST_TRAILER = 8192,   /* octets of all trailers */
    HTTP1_MOST_TRAILERS = 64
};

/* Fields that mean something to a proxy; all others are passed on. */
enum http1_id {
    HTTP1_OTHER, HTTP1_CONTENT_LENGTH, HTTP1_TRANSFER_ENCODING, HTTP1_CONNECTION, HTTP1_HOST, HTTP1_UPGRADE,
    HTTP1_EXPECT, HTTP1_HOP, /* Keep-Alive, TE, Proxy-Connection, HTTP2-Settings, ...: of one connection alone */
    HTTP1_X_FORWARDED_FOR, HTTP1_X_FORWARDED_PROTO, HTTP1_X_FORWARDED_PORT, HTTP1_X_FORWARDED_HOST, HTTP1_FORWARDED,
    HTTP1_X_REQUEST_ID, HTTP1_TRACEPARENT, HTTP1_COOKIE, HTTP1_AUTHORIZATION, HTTP1_X_MARATHON_APP_ID, HTTP1_LOCATION,
    HTTP1_SET_COOKIE, HTTP1_STRICT_TRANSPORT_SECURITY, HTTP1_IDS
};

typedef struct {
    uint32_t start, end;       /* the line with its CRLF; the name begins it */
    uint32_t value, value_end; /* without white space around it */
    uint16_t name_len;
    uint8_t id;
    uint8_t drop; /* of this connection alone (named by Connection, or HTTP1_HOP and the like): not passed on */
    uint8_t odd;  /* not written as "Name: value" CRLF with one space: to be written anew */
} http1_field;

typedef struct {
    uint32_t length; /* octets of the head, its empty line included */
    uint32_t fields;
    http1_field field[HTTP1_MOST_FIELDS];
    uint64_t ids;            /* 1 << id of each field that is there */
    uint32_t method, method_len;
    uint32_t target, target_len; /* as it stands in the request line; of an answer its reason */
    uint32_t path, path_len;     /* the target's path with its query; of an absolute target without scheme and authority.
                                    "*" for OPTIONS *; for CONNECT nothing */
    uint32_t path_only_len;      /* without the query */
    uint32_t host, host_len;     /* the Host field's value; of an absolute target (or CONNECT's) its authority */
    uint32_t line_end;           /* where the first field begins */
    int minor, status;
    int64_t content_length; /* -1: none; 0 for an answer with 1xx, 204 or 304, which never has a body */
    uint8_t chunked, close, keep_alive, upgrade, head, expect_continue, websocket;
    uint8_t expect_other; /* HTTP/1.1 expects what is not 100-continue: 417 */
    uint8_t options;      /* elements of Connection fields */
} http1_head;

/* The head's length; 0: more is needed; less than 0: a reason of enum http1_fault, negated. The head's other parts are
 * there only when it is more than 0. */
ssize_t http1_request(const char *octets, size_t length, size_t max_head, uint32_t max_fields, http1_head *head);
ssize_t http1_response(const char *octets, size_t length, size_t max_head, uint32_t max_fields, http1_head *head);

/* Each has its own word in counters and tests. */
enum http1_fault {
    HTTP1_BAD_LINE = 1, HTTP1_BAD_TARGET, HTTP1_BAD_VERSION, HTTP1_BAD_FIELD, HTTP1_BAD_VALUE, HTTP1_BAD_LENGTH,
    HTTP1_BAD_CODING, HTTP1_LENGTH_AND_CODING, HTTP1_BAD_HOST, HTTP1_TOO_LARGE, HTTP1_TOO_MANY_FIELDS,
    HTTP1_LONG_TARGET, HTTP1_UNKNOWN_CODING, HTTP1_BAD_STATUS, HTTP1_FAULTS
};

/* The word of a fault, such as "bad_line"; "" for what is none. */
const char *http1_fault_word(int fault);

/* The status that answers a request with this fault: 400, 414, 431, 501, 505. */
int http1_status_of(int fault);

/* The fields that are passed on (drop == 0), each as "Name: value" CRLF; octets written, never more than head->length
 * plus two for each field. */
size_t http1_copy_fields(const char *octets, const http1_head *head, char *to);

typedef struct {
    uint64_t left; /* of this chunk; in trailers the hash of a name */
    uint32_t seen; /* octets of extensions beyond those of the body, then of trailers */
    uint8_t state, digits;
} http1_chunks; /* all zero at the beginning */

enum { HTTP1_CHUNKS_DONE = 255 };

/* Octets that belong to the body (all of them unless state is HTTP1_CHUNKS_DONE afterwards), -1: bad framing, from
 * which there is no way back.
 * The body may be passed on as it is: what is accepted has one reading only. Extensions are names with or without a
 * value, without white space around them (RFC 9112 §7.1.1); a trailer that would change what the message is or who may
 * send it is refused (RFC 9110 §6.5.1). */
ssize_t http1_chunks_read(http1_chunks *chunks, const char *octets, size_t length);

/* The same; what the chunks hold is written to `to`, which has room for `length` octets, and `held` is set to how many
 * octets that are. `to` may be `octets`. For those who cannot read chunks (HTTP/1.0). */
ssize_t http1_chunks_unwrap(http1_chunks *chunks, const char *octets, size_t length, char *to, size_t *held);
#endif
