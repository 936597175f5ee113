/* What an answer was built from: lists in both directions, so that a change finds exactly its answers. */
#include "store_parts.h"
#include <stdlib.h>

static anchor *anchor_of(anchor *anchors, uint64_t mask, uint64_t dependency) {
    uint64_t at = (dependency * 0x9e3779b97f4a7c15ULL >> 20) & mask;
    while (anchors[at].dependency && anchors[at].dependency != dependency)
        at = (at + 1) & mask;
    return &anchors[at];
}

static bool anchors_room(store *s) {
    if ((s->anchors_used + 1) * 2 <= s->anchors_mask + 1)
        return true;
    uint64_t live = 0, slots = FEWEST_PLACES;
    for (uint64_t at = 0; at <= s->anchors_mask; at++)
        live += s->anchors[at].dependency && s->anchors[at].first != NONE;
    while (slots < (live + 1) * 3)
        slots *= 2;
    anchor *anchors = calloc(slots, sizeof *anchors);
    if (!anchors)
        return (s->anchors_used + 1) * 8 <= (s->anchors_mask + 1) * 7;
    for (uint64_t at = 0; at <= s->anchors_mask; at++)
        if (s->anchors[at].dependency && s->anchors[at].first != NONE)
            *anchor_of(anchors, slots - 1, s->anchors[at].dependency) = s->anchors[at];
    free(s->anchors);
    s->anchors = anchors;
    s->anchors_mask = slots - 1;
    s->anchors_used = live;
    return true;
}

bool hang(store *s, uint32_t id, uint64_t dependency) {
    uint32_t number = s->links_free;
    dependency += !dependency;
    if (!anchors_room(s))
        return false;
    if (number != NONE) {
        s->links_free = s->links[number].of_answer;
    } else {
        if (!grow((void **)&s->links, &s->links_room, sizeof(link), s->links_count + 1))
            return false;
        number = s->links_count++;
    }
    anchor *a = anchor_of(s->anchors, s->anchors_mask, dependency);
    if (!a->dependency) {
        *a = (anchor){dependency, NONE};
        s->anchors_used++;
    }
    s->links[number] = (link){dependency, id, NONE, a->first, s->held[id].links};
    if (a->first != NONE)
        s->links[a->first].before = number;
    a->first = number;
    s->held[id].links = number;
    return true;
}

void unhang(store *s, uint32_t id) {
    uint32_t number = s->held[id].links;
    while (number != NONE) {
        link *l = &s->links[number];
        uint32_t next = l->of_answer;
        if (l->after != NONE)
            s->links[l->after].before = l->before;
        if (l->before != NONE)
            s->links[l->before].after = l->after;
        else
            anchor_of(s->anchors, s->anchors_mask, l->dependency)->first = l->after;
        l->of_answer = s->links_free;
        s->links_free = number;
        number = next;
    }
    s->held[id].links = NONE;
}

/* Takes no longer for many answers than for a few, but for giving the anchors back. */
void unhang_all(store *s) {
    anchor *anchors = calloc(FEWEST_PLACES, sizeof *anchors);
    if (anchors) {
        free(s->anchors);
        s->anchors = anchors;
        s->anchors_mask = FEWEST_PLACES - 1;
    } else {
        memset(s->anchors, 0, (s->anchors_mask + 1) * sizeof *anchors);
    }
    s->anchors_used = 0;
    s->links_count = 0;
    s->links_free = NONE;
}

uint32_t hanging_on(store *s, uint64_t dependency) {
    anchor *a = anchor_of(s->anchors, s->anchors_mask, dependency + !dependency);
    return a->dependency && a->first != NONE ? s->links[a->first].id : NONE;
}
