/* SPDX-License-Identifier: Apache-2.0 */
/* base/sha256_blocks.h - the rounds of SHA-256 (FIPS 180-4, section 6.2.2) over whole blocks.
 * Internal to this folder and its tests. */
#ifndef SSMQ_BASE_SHA256_BLOCKS_H
#define SSMQ_BASE_SHA256_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Takes n_blocks of 64 bytes into the state, by the processor's own instructions if it has them. */
void ssmq_sha256_blocks(uint32_t state[8], const unsigned char *bytes, size_t n_blocks);

/* The same by ordinary instructions. */
void ssmq_sha256_blocks_portable(uint32_t state[8], const unsigned char *bytes, size_t n_blocks);

/* True if ssmq_sha256_blocks() has instructions of its own on this processor. */
bool ssmq_sha256_is_fast(void);

#endif
