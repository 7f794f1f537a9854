/* SPDX-License-Identifier: Apache-2.0 */
#include "comm/nccl_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Brings the CUDA runtime's calls with it. */
#include <nccl.h>

#include "base/clock.h"
#include "base/mem.h"

enum { POLL_NS = 20000 };
static const double patience_s = 60.0;
static const double least_bytes_per_s = 1e8;
static const double ns_per_s = 1e9;

struct ssmq_nccl {
    ncclComm_t comm;
    cudaStream_t stream;
};

_Static_assert(sizeof(ncclUniqueId) == SSMQ_NCCL_ID_BYTES, "size of NCCL's unique id");
_Static_assert(sizeof(cudaUUID_t) == SSMQ_GPU_UUID_BYTES, "size of a GPU's id");

#define CUDA_TRY(call, err)                                                                        \
    do {                                                                                           \
        const cudaError_t cuda_try_ = (call);                                                      \
        if (cuda_try_ != cudaSuccess) {                                                            \
            (void)cudaGetLastError();                                                              \
            return SSMQ_FAIL((err), DEVICE, "%s in %s", cudaGetErrorString(cuda_try_), #call);     \
        }                                                                                          \
    } while (0)

static ssmq_status nccl_failed(ncclResult_t result, const char *what, ssmq_err *err) {
    return SSMQ_FAIL(err, DEVICE, "NCCL: %s in %s", ncclGetErrorString(result), what);
}

static int64_t deadline_after(double seconds) {
    return ssmq_now_ns() + (int64_t)(seconds * ns_per_s);
}

/* Until the communicator has nothing in progress. */
static ssmq_status settle(ssmq_nccl *nccl, ncclResult_t result, const char *what, ssmq_err *err) {
    const int64_t deadline_ns = deadline_after(patience_s);
    while (result == ncclInProgress) {
        ncclResult_t asked = ncclCommGetAsyncError(nccl->comm, &result);
        if (asked != ncclSuccess) result = asked;
        if (result == ncclInProgress && ssmq_now_ns() > deadline_ns) {
            return SSMQ_FAIL(err, DEVICE, "NCCL: no end of %s in %.0f s", what, patience_s);
        }
        if (result == ncclInProgress) ssmq_sleep_ns(POLL_NS);
    }
    return result == ncclSuccess ? SSMQ_OK : nccl_failed(result, what, err);
}

ssmq_status ssmq_nccl_gpu_uuid(const void *device_bytes, unsigned char uuid[SSMQ_GPU_UUID_BYTES],
                               ssmq_err *err) {
    struct cudaPointerAttributes place;
    struct cudaDeviceProp properties;
    CUDA_TRY(cudaPointerGetAttributes(&place, device_bytes), err);
    CUDA_TRY(cudaSetDevice(place.device), err);
    CUDA_TRY(cudaGetDeviceProperties(&properties, place.device), err);
    memcpy(uuid, &properties.uuid, SSMQ_GPU_UUID_BYTES);
    return SSMQ_OK;
}

ssmq_status ssmq_nccl_name(unsigned char id[SSMQ_NCCL_ID_BYTES], ssmq_err *err) {
    ncclUniqueId unique;
    (void)setenv("NCCL_NVLS_ENABLE", "0", 1);
    const ncclResult_t result = ncclGetUniqueId(&unique);
    if (result != ncclSuccess) return nccl_failed(result, "ncclGetUniqueId", err);
    memcpy(id, &unique, SSMQ_NCCL_ID_BYTES);
    return SSMQ_OK;
}

ssmq_status ssmq_nccl_connect(ssmq_nccl **out, const unsigned char id[SSMQ_NCCL_ID_BYTES], int rank,
                              int n_ranks, ssmq_err *err) {
    ncclUniqueId unique;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    memcpy(&unique, id, SSMQ_NCCL_ID_BYTES);
    (void)setenv("NCCL_NVLS_ENABLE", "0", 1);
    SSMQ_TRY(ssmq_calloc(out, 1, sizeof **out, err));
    CUDA_TRY(cudaStreamCreateWithFlags(&(*out)->stream, cudaStreamNonBlocking), err);
    const ncclResult_t result =
        ncclCommInitRankConfig(&(*out)->comm, n_ranks, unique, rank, &config);
    return settle(*out, result, "ncclCommInitRankConfig", err);
}

ssmq_status ssmq_nccl_broadcast(ssmq_nccl *nccl, void *device_bytes, int64_t n_bytes,
                                ssmq_err *err) {
    const int64_t deadline_ns = deadline_after(patience_s + (double)n_bytes / least_bytes_per_s);
    const ncclResult_t result = ncclBroadcast(device_bytes, device_bytes, (size_t)n_bytes,
                                              ncclUint8, 0, nccl->comm, nccl->stream);
    SSMQ_TRY(settle(nccl, result, "ncclBroadcast", err));
    for (;;) {
        const cudaError_t state = cudaStreamQuery(nccl->stream);
        if (state == cudaSuccess) return SSMQ_OK;
        if (state != cudaErrorNotReady) CUDA_TRY(state, err);
        ncclResult_t trouble = ncclSuccess;
        const ncclResult_t asked = ncclCommGetAsyncError(nccl->comm, &trouble);
        if (asked != ncclSuccess) trouble = asked;
        if (trouble != ncclSuccess && trouble != ncclInProgress) {
            return nccl_failed(trouble, "ncclBroadcast", err);
        }
        if (ssmq_now_ns() > deadline_ns) {
            return SSMQ_FAIL(err, DEVICE, "NCCL: the broadcast does not end");
        }
        ssmq_sleep_ns(POLL_NS);
    }
}

void ssmq_nccl_close(ssmq_nccl *nccl, bool is_orderly) {
    if (nccl == NULL) return;
    ssmq_err ignored = {0};
    /* What cannot be released now goes with the process. */
    if (nccl->comm != NULL) {
        is_orderly = is_orderly && settle(nccl, ncclCommFinalize(nccl->comm), "ncclCommFinalize",
                                          &ignored) == SSMQ_OK;
        (void)(is_orderly ? ncclCommDestroy(nccl->comm) : ncclCommAbort(nccl->comm));
    }
    if (nccl->stream != NULL) (void)cudaStreamDestroy(nccl->stream);
    (void)cudaGetLastError();
    ssmq_free(nccl);
}

void ssmq_nccl_version(char *out, size_t out_bytes) {
    int version = 0;
    (void)ncclGetVersion(&version);
    (void)snprintf(out, out_bytes, "nccl %d.%d.%d", version / 10000, version / 100 % 100,
                   version % 100);
}
