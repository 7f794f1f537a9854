/* SPDX-License-Identifier: Apache-2.0 */
/* base/sha256_blocks.c - rounds of SHA-256 in C, and by the SHA extensions of x86 (Intel SDM,
 * volume 2, SHA256RNDS2 and its neighbours), which are about nine times as fast: a checkpoint is
 * gigabytes, and every rank hashes it. */
#include "base/sha256_blocks.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

enum { BLOCK_BYTES = 64 };

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate_right(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

static uint32_t load_be32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static void add_block(uint32_t state[8], const unsigned char *block) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++) w[i] = load_be32(block + 4 * (size_t)i);
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotate_right(w[i - 15], 7) ^ rotate_right(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate_right(w[i - 2], 17) ^ rotate_right(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t v[8];
    memcpy(v, state, sizeof v);
    /* Eight rounds at a time, so that the variables change their roles and not their places. */
    for (int i = 0; i < 64; i += 8) {
        for (int j = 0; j < 8; j++) {
            uint32_t *const a = &v[(8 - j) & 7], *const b = &v[(9 - j) & 7];
            uint32_t *const c = &v[(10 - j) & 7], *const d = &v[(11 - j) & 7];
            uint32_t *const e = &v[(12 - j) & 7], *const f = &v[(13 - j) & 7];
            uint32_t *const g = &v[(14 - j) & 7], *const h = &v[(15 - j) & 7];
            uint32_t s1 = rotate_right(*e, 6) ^ rotate_right(*e, 11) ^ rotate_right(*e, 25);
            uint32_t choice = (*e & *f) ^ (~*e & *g);
            uint32_t t1 = *h + s1 + choice + round_constants[i + j] + w[i + j];
            uint32_t s0 = rotate_right(*a, 2) ^ rotate_right(*a, 13) ^ rotate_right(*a, 22);
            uint32_t majority = (*a & *b) ^ (*a & *c) ^ (*b & *c);
            *d += t1;
            *h = t1 + s0 + majority;
        }
    }
    for (int i = 0; i < 8; i++) state[i] += v[i];
}

void ssmq_sha256_blocks_portable(uint32_t state[8], const unsigned char *bytes, size_t n_blocks) {
    for (; n_blocks > 0; n_blocks--, bytes += BLOCK_BYTES) add_block(state, bytes);
}

#if defined(__x86_64__)

static bool g_has_sha;
static pthread_once_t g_asked = PTHREAD_ONCE_INIT;

static void ask_processor(void) {
    const unsigned ssse3 = 1u << 9, sse41 = 1u << 19, sha = 1u << 29; /* leaf 1 ecx, leaf 7 ebx */
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & ssse3) == 0 || (c & sse41) == 0) return;
    g_has_sha = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & sha) != 0;
}

bool ssmq_sha256_is_fast(void) {
    (void)pthread_once(&g_asked, ask_processor);
    return g_has_sha;
}

/* The instructions want the eight words as (a, b, e, f) and (c, d, g, h), the first one highest. */
__attribute__((target("sha,sse4.1,ssse3"))) static void
blocks_by_extension(uint32_t state[8], const unsigned char *bytes, size_t n_blocks) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    const __m128i dcba = _mm_loadu_si128((const __m128i *)state);
    const __m128i hgfe = _mm_loadu_si128((const __m128i *)(state + 4));
    const __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1), efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
    for (; n_blocks > 0; n_blocks--, bytes += BLOCK_BYTES) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4] = {0}; /* the last 16 words of the schedule */
        for (int i = 0; i < 16; i++) {
            __m128i *now = &w[i % 4];
            const __m128i last = w[(i + 3) % 4];
            if (i < 4) {
                const __m128i raw = _mm_loadu_si128((const __m128i *)(bytes + (size_t)i * 16));
                *now = _mm_shuffle_epi8(raw, big_endian);
            } else {
                const __m128i seven_back = _mm_alignr_epi8(last, w[(i + 2) % 4], 4);
                const __m128i sum =
                    _mm_add_epi32(_mm_sha256msg1_epu32(*now, w[(i + 1) % 4]), seven_back);
                *now = _mm_sha256msg2_epu32(sum, last);
            }
            const __m128i constants =
                _mm_loadu_si128((const __m128i *)(round_constants + (size_t)i * 4));
            const __m128i words = _mm_add_epi32(*now, constants);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, words);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(words, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

void ssmq_sha256_blocks(uint32_t state[8], const unsigned char *bytes, size_t n_blocks) {
    if (ssmq_sha256_is_fast()) {
        blocks_by_extension(state, bytes, n_blocks);
    } else {
        ssmq_sha256_blocks_portable(state, bytes, n_blocks);
    }
}

#else

bool ssmq_sha256_is_fast(void) {
    return false;
}

void ssmq_sha256_blocks(uint32_t state[8], const unsigned char *bytes, size_t n_blocks) {
    ssmq_sha256_blocks_portable(state, bytes, n_blocks);
}

#endif
