/* Eight octets at once, as a number of 64 bits: the first octet is its lowest, on every machine. Nothing is read beyond
 * the octets that are named. */
#ifndef PHAROS_WORDS64_H
#define PHAROS_WORDS64_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define EACH_OCTET UINT64_C(0x0101010101010101)

static inline uint64_t little64(uint64_t word) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}

/* Eight octets. */
static inline uint64_t word64(const uint8_t *octets) {
    uint64_t word;
    memcpy(&word, octets, sizeof word);
    return little64(word);
}

/* Up to seven octets; those that are missing are 0. The parts that are read overlap, so that none is longer. */
static inline uint64_t part64(const uint8_t *octets, size_t length) {
    uint32_t first, last;
    if (length >= 4) {
        memcpy(&first, octets, 4);
        memcpy(&last, octets + length - 4, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        first = __builtin_bswap32(first);
        last = __builtin_bswap32(last);
#endif
        return first | (uint64_t)last << (8 * (length - 4));
    }
    if (length == 0)
        return 0;
    return octets[0] | (uint64_t)octets[length / 2] << (8 * (length / 2)) |
           (uint64_t)octets[length - 1] << (8 * (length - 1));
}

/* The same octets, capital letters of ASCII in lower case. */
static inline uint64_t lowered64(uint64_t word) {
    uint64_t seven = word & 0x7f * EACH_OCTET; /* so that no sum carries into the next octet */
    uint64_t from_a = seven + (0x80 - 'A') * EACH_OCTET, beyond_z = seven + (0x7f - 'Z') * EACH_OCTET;
    return word | ((from_a & ~beyond_z & ~word & 0x80 * EACH_OCTET) >> 2);
}

/* Whether these octets in lower case are those, which are in lower case. */
static inline int is_lowered(const uint8_t *octets, const uint8_t *lower, size_t length) {
    size_t at = 0;
    if (length < 8)
        return lowered64(part64(octets, length)) == part64(lower, length);
    for (; at + 8 < length; at += 8)
        if (lowered64(word64(octets + at)) != word64(lower + at))
            return 0;
    return lowered64(word64(octets + length - 8)) == word64(lower + length - 8);
}

/* Sixteen hexadecimal digits of a number, the lowest first. */
static inline void put_hex64(char *to, uint64_t value) {
#ifdef __SSE2__
    const __m128i four_bits = _mm_set1_epi8(15);
    __m128i octets = _mm_loadl_epi64((const __m128i *)&value);
    __m128i low = _mm_and_si128(octets, four_bits), high = _mm_and_si128(_mm_srli_epi16(octets, 4), four_bits);
    __m128i digits = _mm_unpacklo_epi8(low, high), letters = _mm_cmpgt_epi8(digits, _mm_set1_epi8(9));
    digits = _mm_add_epi8(digits, _mm_set1_epi8('0'));
    digits = _mm_add_epi8(digits, _mm_and_si128(letters, _mm_set1_epi8('a' - '0' - 10)));
    _mm_storeu_si128((__m128i *)to, digits);
#else
    for (int half = 0; half < 2; half++, value >>= 32, to += 8) {
        uint64_t digits = value & UINT32_MAX, letters;
        digits = (digits | digits << 16) & UINT64_C(0x0000ffff0000ffff);
        digits = (digits | digits << 8) & UINT64_C(0x00ff00ff00ff00ff);
        digits = (digits | digits << 4) & 0x0f * EACH_OCTET;
        letters = (digits + 6 * EACH_OCTET) >> 4 & EACH_OCTET;
        digits = little64(digits + '0' * EACH_OCTET + letters * ('a' - '0' - 10));
        memcpy(to, &digits, sizeof digits);
    }
#endif
}
#endif
