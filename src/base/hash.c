/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

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

static void add_block(uint32_t state[8], const unsigned char block[64]) {
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

void ssmq_sha256_init(ssmq_sha256 *sha) {
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memset(sha, 0, sizeof *sha);
    memcpy(sha->state, initial, sizeof initial);
}

void ssmq_sha256_add(ssmq_sha256 *sha, const void *bytes, size_t n_bytes) {
    const unsigned char *p = bytes;
    size_t used = sha->n_bytes % sizeof sha->block;
    sha->n_bytes += n_bytes;
    if (used > 0) {
        size_t part = sizeof sha->block - used < n_bytes ? sizeof sha->block - used : n_bytes;
        memcpy(sha->block + used, p, part);
        p += part;
        n_bytes -= part;
        if (used + part < sizeof sha->block) return;
        add_block(sha->state, sha->block);
    }
    for (; n_bytes >= sizeof sha->block; n_bytes -= sizeof sha->block, p += sizeof sha->block) {
        add_block(sha->state, p);
    }
    if (n_bytes > 0) memcpy(sha->block, p, n_bytes);
}

void ssmq_sha256_end(ssmq_sha256 *sha, unsigned char digest[SSMQ_SHA256_BYTES]) {
    static const unsigned char padding[64] = {0x80};
    uint64_t n_bits = sha->n_bytes * 8;
    size_t used = sha->n_bytes % sizeof sha->block;
    ssmq_sha256_add(sha, padding, used < 56 ? 56 - used : 120 - used);
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)(n_bits >> (56 - 8 * i));
    ssmq_sha256_add(sha, length, sizeof length);
    for (int i = 0; i < SSMQ_SHA256_BYTES; i++) {
        digest[i] = (unsigned char)(sha->state[i / 4] >> (24 - 8 * (i % 4)));
    }
}

void ssmq_sha256_hex(const unsigned char digest[SSMQ_SHA256_BYTES],
                     char hex[SSMQ_SHA256_HEX_BYTES]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < SSMQ_SHA256_BYTES; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[SSMQ_SHA256_HEX_BYTES - 1] = '\0';
}

void ssmq_sha256_of(const void *bytes, size_t n_bytes, char hex[SSMQ_SHA256_HEX_BYTES]) {
    ssmq_sha256 sha;
    unsigned char digest[SSMQ_SHA256_BYTES];
    ssmq_sha256_init(&sha);
    ssmq_sha256_add(&sha, bytes, n_bytes);
    ssmq_sha256_end(&sha, digest);
    ssmq_sha256_hex(digest, hex);
}

/* crc_tables[k][b]: what byte b does to the CRC when k more bytes follow it, so that eight bytes
 * take eight look-ups that do not wait for each other. */
static uint32_t crc_tables[8][256];
static pthread_once_t crc_tables_once = PTHREAD_ONCE_INIT;

static void fill_crc_tables(void) {
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1u)));
        crc_tables[0][b] = crc;
    }
    for (int k = 1; k < 8; k++) {
        for (int b = 0; b < 256; b++) {
            uint32_t before = crc_tables[k - 1][b];
            crc_tables[k][b] = before >> 8 ^ crc_tables[0][before & 0xff];
        }
    }
}

static uint32_t crc_by_table(uint32_t crc, const unsigned char *p, size_t n_bytes) {
    (void)pthread_once(&crc_tables_once, fill_crc_tables);
    for (; n_bytes >= 8; n_bytes -= 8, p += 8) {
        uint32_t next =
            crc_tables[3][p[4]] ^ crc_tables[2][p[5]] ^ crc_tables[1][p[6]] ^ crc_tables[0][p[7]];
        for (int k = 0; k < 4; k++) next ^= crc_tables[7 - k][(crc >> 8 * k & 0xff) ^ p[k]];
        crc = next;
    }
    for (; n_bytes > 0; n_bytes--, p++) crc = crc >> 8 ^ crc_tables[0][(crc ^ *p) & 0xff];
    return crc;
}

#if defined(__x86_64__)
/* The processor's own instruction, three times as fast. */
__attribute__((target("sse4.2"))) static uint32_t
crc_by_processor(uint32_t crc, const unsigned char *p, size_t n_bytes) {
    uint64_t wide = crc;
    for (; n_bytes >= sizeof wide; n_bytes -= sizeof wide, p += sizeof wide) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; n_bytes > 0; n_bytes--, p++) crc = __builtin_ia32_crc32qi(crc, *p);
    return crc;
}

uint32_t ssmq_crc32c(uint32_t crc, const void *bytes, size_t n_bytes) {
    const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
    return ~(has_instruction ? crc_by_processor : crc_by_table)(~crc, bytes, n_bytes);
}
#else
uint32_t ssmq_crc32c(uint32_t crc, const void *bytes, size_t n_bytes) {
    return ~crc_by_table(~crc, bytes, n_bytes);
}
#endif
