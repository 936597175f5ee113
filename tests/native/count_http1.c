/* Reads messages as the edge does, for valgrind to count the instructions of.
 *
 * count_http1 TIMES KIND FILE [KIND FILE ...]; kinds are request, answer (both with the fields written anew) and chunks.
 * Each file's message is read so many times, twice: what the first calls cost is in the first part alone. */
#include "../../lb7/native/http1.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 65536, MAX_HEAD = 16384, MAX_FIELDS = 100 };

static char octets[MOST], written[2 * MOST];
static http1_head head;

static bool message_read(char kind, size_t length) {
    if (kind == 'c') {
        http1_chunks chunks = {0};
        return http1_chunks_read(&chunks, octets, length) == (ssize_t)length && chunks.state == HTTP1_CHUNKS_DONE;
    }
    ssize_t read = kind == 'r' ? http1_request(octets, length, MAX_HEAD, MAX_FIELDS, &head)
                               : http1_response(octets, length, MAX_HEAD, MAX_FIELDS, &head);
    return read > 0 && http1_copy_fields(octets, &head, written) > 0;
}

/* What is counted (valgrind --toggle-collect). */
__attribute__((noinline)) static bool counted(char kind, size_t length) { return message_read(kind, length); }

/* Ends a part (valgrind --dump-before). */
__attribute__((noinline)) static void part_over(void) { __asm__ volatile(""); }

int main(int count, char **arguments) {
    if (count < 4 || count % 2)
        return 2;
    int times = atoi(arguments[1]);
    for (int at = 2; at < count; at += 2) {
        FILE *file = fopen(arguments[at + 1], "rb");
        size_t length = file ? fread(octets, 1, MOST, file) : 0;
        if (!length || fclose(file))
            return 1;
        for (int part = 0; part < 2; part++) {
            for (int i = 0; i < times; i++)
                if (!counted(arguments[at][0], length))
                    return fprintf(stderr, "%s is not read\n", arguments[at + 1]), 1;
            part_over();
        }
    }
    return 0;
}
