/* SPDX-License-Identifier: Apache-2.0 */
/* comm/gpu_broadcast.h - the root's bytes on its GPU to every other rank's GPU, by NCCL. */
#ifndef SSMQ_COMM_GPU_BROADCAST_H
#define SSMQ_COMM_GPU_BROADCAST_H

#include <stdint.h>

#include "base/status.h"
#include "comm/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_gpu_broadcast {
    char library[32]; /* "nccl 2.28.9" */
    double seconds;   /* the transfer alone, on the root */
} ssmq_gpu_broadcast;

/* n_bytes at device_bytes of each rank, each on a GPU of its own. The communicator and its memory
 * on the GPUs are gone when this returns. Sets NCCL_NVLS_ENABLE=0 in the environment: a broadcast
 * does not use it, and setting it up can fail where GPUs are shared. A rank that gives up does not
 * leave the others waiting for more than a minute.  Ranks: all; the same status on all.
 * Fails: SKIP (this build has no NCCL, two ranks are on one GPU), DEVICE (NCCL or the driver says
 * so, or nothing moves); what device_bytes holds is then undefined on all ranks but the root. */
SSMQ_MUST_USE ssmq_status ssmq_comm_broadcast_on_gpus(ssmq_comm *comm, void *device_bytes,
                                                      int64_t n_bytes, ssmq_gpu_broadcast *out,
                                                      ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
