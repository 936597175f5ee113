/* The questions of the load generator: a file of messages, each behind its length (two octets, little endian). */
#pragma once
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 12, MAX_QUERY = 512 };

struct query {
    const uint8_t *wire;
    uint16_t length, question_end;
};

static struct query *queries;
static size_t query_count;

static void die(const char *what) {
    fprintf(stderr, "dns_load: %s: %s\n", what, errno ? strerror(errno) : "not usable");
    exit(1);
}

static uint16_t end_of_question(const uint8_t *wire, size_t length) {
    size_t at = HEADER;
    while (at < length && wire[at]) at += 1u + wire[at];
    if (at + 5 > length) die("question");
    return (uint16_t)(at + 5);
}

static void read_queries(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file || fseek(file, 0, SEEK_END)) die(name);
    size_t size = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(size + 1);
    if (!data || fread(data, 1, size, file) != size) die(name);
    fclose(file);
    queries = calloc(size / (2 + HEADER) + 1, sizeof *queries);
    for (size_t at = 0; at + 2 <= size;) {
        uint16_t length = (uint16_t)(data[at] | data[at + 1] << 8);
        if (at + 2 + length > size || length > MAX_QUERY) die(name);
        queries[query_count++] = (struct query){data + at + 2, length, end_of_question(data + at + 2, length)};
        at += 2u + length;
    }
    if (!query_count) die(name);
}
