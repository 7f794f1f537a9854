/* SPDX-License-Identifier: Apache-2.0 */
/* base/rng.h - SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): small, splittable, the same on every
 * machine. Every random draw of ssmq comes from here, seeded from a hash of what it is for. */
#ifndef SSMQ_BASE_RNG_H
#define SSMQ_BASE_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_rng {
    uint64_t state;
} ssmq_rng;

/* A stream that depends on nothing but the text (its SHA-256), e.g. "passkey/len=4096/trial=3". */
ssmq_rng ssmq_rng_from_text(const char *text);
ssmq_rng ssmq_rng_from_seed(uint64_t seed);

uint64_t ssmq_rng_u64(ssmq_rng *rng);
/* Uniform in [0, bound), without modulo bias; bound > 0. */
uint64_t ssmq_rng_below(ssmq_rng *rng, uint64_t bound);
/* Uniform in [0, 1), 53 bits. */
double ssmq_rng_f64(ssmq_rng *rng);
/* Standard normal (Box-Muller, one draw of two kept). */
double ssmq_rng_normal(ssmq_rng *rng);

#ifdef __cplusplus
}
#endif
#endif
