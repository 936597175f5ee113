/* One answer of every shape that the server makes, and names around them, for fuzz_packets.c. */
#ifndef PHAROS_TESTS_SHAPES_H
#define PHAROS_TESTS_SHAPES_H

#include "draft.h"

enum { APEX = 77, SHAPE_ZONES = 4, SHAPE_NAMES = 8, SHAPE_MADE = 1000 /* seconds, when what is of others was put in */ };

/* What exists in the zones "example" and "deep.example", besides their apexes. */
extern const char *const shape_names[SHAPE_NAMES];
/* How labels end that may be a task's canonical name, in the zone "example" (taskindex.py). */
#define SHAPE_MARK "-abcde-s1"

/* Aborts where an answer finds no room. */
void shapes_fill(store *s);
/* Zones "deep.example" (absence is known), "example" (the same, and it may be stale), "forwarded" and "web". */
void shapes_zones(settings *s);

#endif
