# What native/http1.h declares, for the other native modules of this package.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "native/http1.h" nogil:
    enum:
        HTTP1_MOST_FIELDS, HTTP1_MOST_METHOD, HTTP1_MOST_HOST, HTTP1_MOST_OPTIONS, HTTP1_CHUNKS_DONE
        HTTP1_MOST_EXTENSION, HTTP1_MOST_TRAILER, HTTP1_MOST_TRAILERS
        HTTP1_OTHER, HTTP1_CONTENT_LENGTH, HTTP1_TRANSFER_ENCODING, HTTP1_CONNECTION, HTTP1_HOST, HTTP1_UPGRADE
        HTTP1_EXPECT, HTTP1_HOP, HTTP1_X_FORWARDED_FOR, HTTP1_X_FORWARDED_PROTO, HTTP1_X_FORWARDED_PORT
        HTTP1_X_FORWARDED_HOST, HTTP1_FORWARDED, HTTP1_X_REQUEST_ID, HTTP1_TRACEPARENT, HTTP1_COOKIE
        HTTP1_AUTHORIZATION, HTTP1_X_MARATHON_APP_ID, HTTP1_LOCATION, HTTP1_SET_COOKIE
        HTTP1_STRICT_TRANSPORT_SECURITY, HTTP1_IDS
        HTTP1_BAD_LINE, HTTP1_BAD_TARGET, HTTP1_BAD_VERSION, HTTP1_BAD_FIELD, HTTP1_BAD_VALUE, HTTP1_BAD_LENGTH
        HTTP1_BAD_CODING, HTTP1_LENGTH_AND_CODING, HTTP1_BAD_HOST, HTTP1_TOO_LARGE, HTTP1_TOO_MANY_FIELDS
        HTTP1_LONG_TARGET, HTTP1_UNKNOWN_CODING, HTTP1_BAD_STATUS, HTTP1_FAULTS
    ctypedef struct http1_field:
        uint32_t start, end, value, value_end
        uint16_t name_len
        uint8_t id, drop, odd
    ctypedef struct http1_head:
        uint32_t length, fields
        http1_field field[128]
        uint64_t ids
        uint32_t method, method_len, target, target_len, path, path_len, path_only_len, host, host_len, line_end
        int minor, status
        int64_t content_length
        uint8_t chunked, close, keep_alive, upgrade, head, expect_continue, websocket, expect_other
        uint8_t options
    ctypedef struct http1_chunks:
        uint64_t left
        uint32_t seen
        uint8_t state, digits
    Py_ssize_t http1_request(const char*, size_t, size_t, uint32_t, http1_head*)
    Py_ssize_t http1_response(const char*, size_t, size_t, uint32_t, http1_head*)
    const char* http1_fault_word(int)
    int http1_status_of(int)
    size_t http1_copy_fields(const char*, const http1_head*, char*)
    Py_ssize_t http1_chunks_read(http1_chunks*, const char*, size_t)
    Py_ssize_t http1_chunks_unwrap(http1_chunks*, const char*, size_t, char*, size_t*)
