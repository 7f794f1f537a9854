/* SPDX-License-Identifier: Apache-2.0 */
/* Every step that may fail on one rank alone ends in an agreement before the next step waits for
 * all ranks. NCCL's own calls do not block here: each is asked for its end until a deadline. */
#include "comm/gpu_broadcast.h"

#include <string.h>

#include "comm/nccl_link.h"

enum { ROOT = 0 };

#ifdef SSMQ_HAVE_NCCL

#include "base/clock.h"
#include "base/mem.h"

static const double ns_per_s = 1e9;

static ssmq_status find_twins(const unsigned char *all, int n_ranks, ssmq_err *err) {
    for (int a = 0; a < n_ranks; a++) {
        for (int b = a + 1; b < n_ranks; b++) {
            const unsigned char *uuid_of_a = all + (size_t)a * SSMQ_GPU_UUID_BYTES;
            const unsigned char *uuid_of_b = all + (size_t)b * SSMQ_GPU_UUID_BYTES;
            if (memcmp(uuid_of_a, uuid_of_b, SSMQ_GPU_UUID_BYTES) != 0) continue;
            return SSMQ_FAIL(err, SKIP, "ranks %d and %d are on one GPU", a, b);
        }
    }
    return SSMQ_OK;
}

/* NCCL refuses two ranks on one GPU, but only after all ranks have met. */
static ssmq_status check_distinct(ssmq_comm *comm, const void *device_bytes, ssmq_err *err) {
    const int n_ranks = ssmq_comm_size(comm);
    unsigned char mine[SSMQ_GPU_UUID_BYTES];
    unsigned char *all = NULL;
    ssmq_status status = ssmq_nccl_gpu_uuid(device_bytes, mine, err);
    if (status == SSMQ_OK) status = ssmq_calloc(&all, (size_t)n_ranks, sizeof mine, err);
    status = ssmq_comm_agree(comm, status, err);
    if (status == SSMQ_OK && all != NULL) {
        status = ssmq_comm_gather(comm, mine, all, sizeof mine, err);
        if (status == SSMQ_OK) status = find_twins(all, n_ranks, err);
    }
    ssmq_free(all);
    return status;
}

static ssmq_status connect_all(ssmq_nccl **nccl, ssmq_comm *comm, ssmq_err *err) {
    unsigned char id[SSMQ_NCCL_ID_BYTES] = {0};
    const int rank = ssmq_comm_rank(comm);
    ssmq_status status = rank == ROOT ? ssmq_nccl_name(id, err) : SSMQ_OK;
    SSMQ_TRY(ssmq_comm_agree(comm, status, err));
    SSMQ_TRY(ssmq_comm_broadcast(comm, id, sizeof id, err));
    status = ssmq_nccl_connect(nccl, id, rank, ssmq_comm_size(comm), err);
    return ssmq_comm_agree(comm, status, err);
}

ssmq_status ssmq_comm_broadcast_on_gpus(ssmq_comm *comm, void *device_bytes, int64_t n_bytes,
                                        ssmq_gpu_broadcast *out, ssmq_err *err) {
    ssmq_nccl *nccl = NULL;
    memset(out, 0, sizeof *out);
    SSMQ_TRY(check_distinct(comm, device_bytes, err));
    ssmq_status status = connect_all(&nccl, comm, err);
    if (status == SSMQ_OK) {
        const int64_t start_ns = ssmq_now_ns();
        status = ssmq_nccl_broadcast(nccl, device_bytes, n_bytes, err);
        out->seconds = (double)(ssmq_now_ns() - start_ns) / ns_per_s;
        status = ssmq_comm_agree(comm, status, err);
    }
    ssmq_nccl_close(nccl, status == SSMQ_OK);
    ssmq_nccl_version(out->library, sizeof out->library);
    return status;
}

#else

ssmq_status ssmq_comm_broadcast_on_gpus(ssmq_comm *comm, void *device_bytes, int64_t n_bytes,
                                        ssmq_gpu_broadcast *out, ssmq_err *err) {
    (void)comm;
    (void)device_bytes;
    (void)n_bytes;
    memset(out, 0, sizeof *out);
    return SSMQ_FAIL(err, SKIP, "this build has no NCCL");
}

#endif
