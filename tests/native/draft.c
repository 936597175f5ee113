#include "draft.h"
#include <stdlib.h>
#include <string.h>

static uint8_t *put16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static uint8_t *put32(uint8_t *at, uint32_t value) { return put16(put16(at, value >> 16), value & 0xffff); }

uint32_t name_wire(uint8_t *to, const char *name) {
    uint8_t *at = to;
    while (*name) {
        size_t len = strcspn(name, ".");
        *at++ = (uint8_t)len;
        memcpy(at, name, len);
        at += len;
        name += len + (name[len] == '.');
    }
    *at++ = 0;
    return (uint32_t)(at - to);
}

void draft_begin(draft *d, const char *name, uint32_t type) {
    memset(&d->parts, 0, sizeof d->parts);
    answer_parts *p = &d->parts;
    p->key = d->key, p->wire = d->wire, p->authority = d->authority, p->needed = d->needed, p->glue = d->glue;
    p->offsets = d->offsets, p->sets = d->sets;
    p->flags = ANSWER_AA;
    uint32_t len = name_wire(d->key, name);
    put16(put16(d->key + len, type), 1);
    p->key_len = len + 4;
    d->offsets[0] = 0;
}

static uint8_t *put_fixed(uint8_t *at, uint32_t type, uint32_t len) { return put16(put32(put16(put16(at, type), 1), 60), len); }

void draft_pointed(draft *d, uint32_t pointer, uint32_t type, const void *data, uint32_t len) {
    answer_parts *p = &d->parts;
    if (p->count == DRAFT_RECORDS || p->wire_len + 12 + len > DRAFT_WIRE)
        abort();
    uint8_t *at = put_fixed(put16(d->wire + p->wire_len, 0xc000 | pointer), type, len);
    memcpy(at, data, len);
    p->wire_len += 12 + len;
    d->offsets[++p->count] = p->wire_len;
}

void draft_record(draft *d, uint32_t type, const void *data, uint32_t len) { draft_pointed(d, 12, type, data, len); }

void draft_aged(draft *d, uint8_t flags, uint32_t made, uint32_t lifetime) {
    d->parts.flags = ANSWER_AGED | flags;
    d->parts.made = made, d->parts.lifetime = lifetime;
    d->parts.zone_label = 1;
}

static uint32_t address(uint8_t *to, uint32_t type, uint32_t number) {
    memset(to, 0, 16);
    to[0] = 0x20;
    put32(to + (type == TYPE_A ? 0 : 12), number);
    return type == TYPE_A ? 4 : 16;
}

void draft_addresses(draft *d, uint32_t type, uint32_t count, uint32_t first) {
    uint8_t data[16];
    for (uint32_t i = 0; i < count; i++)
        draft_record(d, type, data, address(data, type, first + i));
}

void draft_srv(draft *d, const char *target, uint32_t sets, uint32_t each, uint32_t first) {
    answer_parts *p = &d->parts;
    uint8_t data[6 + 256], owner[256];
    uint32_t owner_len = name_wire(owner, target);
    put16(put16(put16(data, 0), 1), 31000 + first % 1000);
    memcpy(data + 6, owner, owner_len);
    draft_record(d, TYPE_SRV, data, 6 + owner_len);
    for (uint32_t set = 0; set < sets; set++) {
        uint32_t type = set ? TYPE_AAAA : TYPE_A;
        if (p->glue_sets == DRAFT_SETS || p->glue_len + each * (owner_len + 26) > DRAFT_GLUE)
            abort();
        d->sets[p->glue_sets++] = (glue_set){(uint16_t)(p->count - 1), 12 + 6, (uint16_t)owner_len, (uint16_t)each, p->glue_len};
        for (uint32_t i = 0; i < each; i++) {
            uint8_t *at = d->glue + p->glue_len;
            memcpy(at, owner, owner_len);
            at = put_fixed(at + owner_len, type, type == TYPE_A ? 4 : 16);
            at += address(data, type, first + i);
            memcpy(at - (type == TYPE_A ? 4 : 16), data, type == TYPE_A ? 4 : 16);
            p->glue_len = (uint32_t)(at - d->glue);
            p->glue_count++;
        }
    }
}

void draft_other(draft *d, enum draft_section where, const char *owner, uint32_t type, const void *data, uint32_t len) {
    answer_parts *p = &d->parts;
    uint8_t *section = where == IN_AUTHORITY ? d->authority : d->needed;
    uint32_t *section_len = where == IN_AUTHORITY ? &p->authority_len : &p->needed_len;
    if (*section_len + 256 + 10 + len > DRAFT_PART)
        abort();
    uint8_t *at = section + *section_len;
    at = put_fixed(at + name_wire(at, owner), type, len);
    memcpy(at, data, len);
    *section_len = (uint32_t)(at + len - section);
    *(where == IN_AUTHORITY ? &p->authority_count : &p->needed_count) += 1;
}

uint32_t question(uint8_t *packet, uint16_t id, const char *name, uint32_t type, uint32_t payload) {
    static const uint8_t plain[8] = {0, 1};
    memcpy(put16(put16(packet, id), 0x0100) , plain, 8);
    uint8_t *at = packet + 12;
    at += name_wire(at, name);
    at = put16(put16(at, type), 1);
    if (payload) {
        packet[11] = 1;
        *at++ = 0;
        at = put16(put32(put16(put16(at, 41), payload), 0), 0);
    }
    return (uint32_t)(at - packet);
}

void zone_fill(zone_entry *zone, const char *origin, uint64_t names_hash, uint8_t flags, uint8_t label, uint32_t serial) {
    memset(zone, 0, sizeof *zone);
    zone->origin_len = (uint8_t)name_wire(zone->origin, origin);
    zone->names_hash = names_hash, zone->flags = flags, zone->label = label;
    uint8_t *at = zone->soa;
    memcpy(at, zone->origin, zone->origin_len);
    at = put_fixed(at + zone->origin_len, TYPE_SOA, 0);
    uint8_t *data = at;
    at += name_wire(at, "ns1.example");
    at += name_wire(at, "root.ns1.example");
    at = put32(put32(put32(put32(put32(at, serial), 60), 600), 86400), 60);
    put16(data - 2, (uint32_t)(at - data));
    zone->soa_len = (uint16_t)(at - zone->soa);
}
