/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"

ssmq_rng ssmq_rng_from_seed(uint64_t seed) {
    ssmq_rng rng = {.state = seed};
    return rng;
}

ssmq_rng ssmq_rng_from_text(const char *text) {
    ssmq_sha256 sha;
    unsigned char digest[SSMQ_SHA256_BYTES];
    ssmq_sha256_init(&sha);
    ssmq_sha256_add(&sha, text, strlen(text));
    ssmq_sha256_end(&sha, digest);
    uint64_t seed = 0;
    for (int i = 0; i < 8; i++) seed = seed << 8 | digest[i];
    return ssmq_rng_from_seed(seed);
}

uint64_t ssmq_rng_u64(ssmq_rng *rng) {
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t ssmq_rng_below(ssmq_rng *rng, uint64_t bound) {
    /* Draws below 2^64 mod bound are thrown away, so that the rest divides evenly. */
    uint64_t rejected = (0 - bound) % bound;
    uint64_t draw = ssmq_rng_u64(rng);
    while (draw < rejected) draw = ssmq_rng_u64(rng);
    return draw % bound;
}

double ssmq_rng_f64(ssmq_rng *rng) {
    return (double)(ssmq_rng_u64(rng) >> 11) * 0x1p-53;
}

double ssmq_rng_normal(ssmq_rng *rng) {
    const double two_pi = 6.283185307179586476925286766559;
    double radius = sqrt(-2.0 * log(1.0 - ssmq_rng_f64(rng)));
    return radius * cos(two_pi * ssmq_rng_f64(rng));
}
