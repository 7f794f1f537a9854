/* SPDX-License-Identifier: Apache-2.0 */
/* base/hash.h - SHA-256 (FIPS 180-4) for identities, CRC-32C (RFC 3720, appendix B.4) for torn
 * lines. */
#ifndef SSMQ_BASE_HASH_H
#define SSMQ_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_SHA256_BYTES = 32, SSMQ_SHA256_HEX_BYTES = 65 };

typedef struct ssmq_sha256 {
    uint32_t state[8];
    uint64_t n_bytes;
    unsigned char block[64];
} ssmq_sha256;

void ssmq_sha256_init(ssmq_sha256 *sha);
void ssmq_sha256_add(ssmq_sha256 *sha, const void *bytes, size_t n_bytes);
/* The digest of everything added; sha must be initialized again before its next use. */
void ssmq_sha256_end(ssmq_sha256 *sha, unsigned char digest[SSMQ_SHA256_BYTES]);

/* Digest as 64 lower-case hexadecimal digits and a zero. */
void ssmq_sha256_hex(const unsigned char digest[SSMQ_SHA256_BYTES],
                     char hex[SSMQ_SHA256_HEX_BYTES]);
/* Hex digest of one buffer. */
void ssmq_sha256_of(const void *bytes, size_t n_bytes, char hex[SSMQ_SHA256_HEX_BYTES]);

/* CRC-32C of the bytes. crc is 0 or the result for the bytes before these. */
uint32_t ssmq_crc32c(uint32_t crc, const void *bytes, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
