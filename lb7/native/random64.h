/* Numbers of 64 bits: by chance (cheap, for spreading load; no secrets), and hashed alike in every process. */
#ifndef PHAROS_RANDOM64_H
#define PHAROS_RANDOM64_H

#include <stddef.h>
#include <stdint.h>

/* Each bit of the result depends on each of the value (the finalizer of SplitMix64). */
static inline uint64_t mixed64(uint64_t value) {
    value = (value ^ (value >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94D049BB133111EB);
    return value ^ (value >> 31);
}

/* FNV-1a, mixed. */
static inline uint64_t hash64(const char *octets, size_t length) {
    uint64_t value = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < length; i++)
        value = (value ^ (unsigned char)octets[i]) * UINT64_C(0x100000001B3);
    return mixed64(value);
}

/* The next number by chance (xorshift64*); `state` is never 0. */
static inline uint64_t random64(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545F4914F6CDD1D);
}

/* A number as one of 0 to bound - 1. */
static inline int scaled64(uint64_t value, int bound) {
    return (int)(((value >> 32) * (uint64_t)bound) >> 32);
}

/* A number as one between 0 and 1, both excluded. */
static inline double fraction64(uint64_t value) {
    return ((double)(value >> 12) + 0.5) * 0x1p-52;
}

#endif
