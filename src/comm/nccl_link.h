/* SPDX-License-Identifier: Apache-2.0 */
/* comm/nccl_link.h - the one place that calls NCCL, and asks CUDA which GPU some bytes are on. Only
 * in builds with NCCL. */
#ifndef SSMQ_COMM_NCCL_LINK_H
#define SSMQ_COMM_NCCL_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_NCCL_ID_BYTES = 128, SSMQ_GPU_UUID_BYTES = 16 };

typedef struct ssmq_nccl ssmq_nccl;

/* What tells the GPU that holds these bytes apart from others; makes it the current one.
 * Fails: DEVICE. */
SSMQ_MUST_USE ssmq_status ssmq_nccl_gpu_uuid(const void *device_bytes,
                                             unsigned char uuid[SSMQ_GPU_UUID_BYTES],
                                             ssmq_err *err);
/* A name for a new communicator, on one rank.  Fails: DEVICE. */
SSMQ_MUST_USE ssmq_status ssmq_nccl_name(unsigned char id[SSMQ_NCCL_ID_BYTES], ssmq_err *err);
/* Meets the other ranks, on the current GPU.  Owns: *out, ssmq_nccl_close(), also on failure.
 * Fails: DEVICE (also when they do not come within a minute), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_nccl_connect(ssmq_nccl **out,
                                            const unsigned char id[SSMQ_NCCL_ID_BYTES], int rank,
                                            int n_ranks, ssmq_err *err);
/* Rank 0's bytes on its GPU into those of all, and waits for their arrival here.
 * Fails: DEVICE (also when it takes over a minute and a second for every 0.1 GB). */
SSMQ_MUST_USE ssmq_status ssmq_nccl_broadcast(ssmq_nccl *nccl, void *device_bytes, int64_t n_bytes,
                                              ssmq_err *err);
/* Frees all that is on the GPU. Orderly, if every rank comes here with is_orderly; otherwise
 * without a word to others. NULL is a no-op. */
void ssmq_nccl_close(ssmq_nccl *nccl, bool is_orderly);
/* "nccl 2.28.9" of the library at hand. */
void ssmq_nccl_version(char *out, size_t out_bytes);

#ifdef __cplusplus
}
#endif
#endif
