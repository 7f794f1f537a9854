/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/source.cu - the checkpoint as it is stored, in device memory: one set of weights
 * after another is made from it without the way through the host, and ranks send it each other. */
#include <string.h>

#include "base/mem.h"
#include "engine/cuda/cuda_engine.h"
#include "engine/cuda/device.cuh"

namespace {

enum { THREADS = 256, BLOCKS = 1024 };

/* A layer is its tensors and nothing else. */
const int64_t layer_tensors = (int64_t)(sizeof(ssmq_layer) / sizeof(ssmq_tensor));
static_assert(sizeof(ssmq_layer) % sizeof(ssmq_tensor) == 0, "a layer is its tensors");

/* The model's tensors by number, each once; NULL behind the last. */
ssmq_tensor *tensor_at(ssmq_model *model, int64_t i) {
    const int64_t n_in_layers = model->shape.L * layer_tensors;
    if (i < n_in_layers) {
        return (ssmq_tensor *)&model->layers[i / layer_tensors] + i % layer_tensors;
    }
    ssmq_tensor *const others[] = {&model->embeddings, &model->norm_f,
                                   model->shape.is_tied ? NULL : &model->lm_head};
    return i - n_in_layers < 3 ? others[i - n_in_layers] : NULL;
}

int64_t bytes_of(const ssmq_tensor *tensor) {
    if (tensor->bytes == NULL) return 0;
    return tensor->rows * tensor->columns * (int64_t)ssmq_dtype_bytes(tensor->dtype);
}

int64_t aligned(int64_t n_bytes) {
    return (n_bytes + CUDA_ALIGN_BYTES - 1) / CUDA_ALIGN_BYTES * CUDA_ALIGN_BYTES;
}

/* The model with its tensors in device memory one after another, and their bytes in all. */
ssmq_status place(cuda_source *source, const ssmq_model *model, ssmq_err *err) {
    ssmq_model *placed = &source->model;
    ssmq_layer *layers = NULL;
    SSMQ_TRY(ssmq_calloc(&layers, (size_t)model->shape.L, sizeof *layers, err));
    memcpy(layers, model->layers, (size_t)model->shape.L * sizeof *layers);
    *placed = *model;
    placed->layers = layers;
    placed->files = NULL;
    source->n_bytes = 0;
    for (int64_t i = 0; tensor_at(placed, i) != NULL; i++) {
        source->n_bytes += aligned(bytes_of(tensor_at(placed, i)));
    }
    return SSMQ_OK;
}

void point_to(cuda_source *source) {
    char *next = source->bytes;
    for (int64_t i = 0; tensor_at(&source->model, i) != NULL; i++) {
        ssmq_tensor *tensor = tensor_at(&source->model, i);
        const int64_t n_bytes = aligned(bytes_of(tensor));
        if (tensor->bytes != NULL) tensor->bytes = next;
        next += n_bytes;
    }
    if (source->model.shape.is_tied) source->model.lm_head = source->model.embeddings;
}

__device__ uint64_t mixed(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* Sum over i of a mix of word i and its place: of integers, and so the same in every order. */
__global__ void k_checksum(const uint64_t *words, int64_t n, unsigned long long *sum) {
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    uint64_t mine = 0;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        mine += mixed(words[i] + 0x9e3779b97f4a7c15ull * (uint64_t)(i + 1));
    }
    for (int lane = 16; lane > 0; lane /= 2) mine += __shfl_xor_sync(~0u, mine, lane);
    if (threadIdx.x % 32 == 0) atomicAdd(sum, (unsigned long long)mine);
}

ssmq_status sum_up(const cuda_source *source, unsigned long long *sum, cudaStream_t stream,
                   uint64_t *out, ssmq_err *err) {
    CUDA_TRY(cudaMemsetAsync(sum, 0, sizeof *sum, stream), err);
    k_checksum<<<BLOCKS, THREADS, 0, stream>>>((const uint64_t *)source->bytes,
                                               source->n_bytes / (int64_t)sizeof *out, sum);
    CUDA_LAUNCHED(err);
    CUDA_TRY(cudaMemcpyAsync(out, sum, sizeof *out, cudaMemcpyDeviceToHost, stream), err);
    CUDA_TRY(cudaStreamSynchronize(stream), err);
    return SSMQ_OK;
}

ssmq_status reserve(cuda_engine *e, const ssmq_model *model, ssmq_err *err) {
    const int64_t most_of_free = 4; /* parts, of which it may take one: trials need the rest */
    size_t n_free = 0, n_all = 0;
    cuda_source_drop(e);
    if (e->reuse == NULL) {
        return SSMQ_FAIL(err, SKIP, "sweep.reuse_mb is 0: trials share nothing");
    }
    SSMQ_TRY(place(&e->source, model, err));
    CUDA_TRY(cudaMemGetInfo(&n_free, &n_all), err);
    if (e->source.n_bytes > (int64_t)n_free / most_of_free) {
        return SSMQ_FAIL(err, SKIP,
                         "the checkpoint's %lld bytes are over a quarter of what is free",
                         (long long)e->source.n_bytes);
    }
    CUDA_TRY(cudaMalloc((void **)&e->source.bytes, (size_t)e->source.n_bytes), err);
    /* What lies between tensors is part of the checksum. */
    CUDA_TRY(cudaMemsetAsync(e->source.bytes, 0, (size_t)e->source.n_bytes, e->stream), err);
    point_to(&e->source);
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    return SSMQ_OK;
}

ssmq_status fill(cuda_engine *e, const ssmq_model *model, ssmq_err *err) {
    ssmq_model host = *model;
    for (int64_t i = 0; tensor_at(&host, i) != NULL; i++) {
        const ssmq_tensor *from = tensor_at(&host, i), *to = tensor_at(&e->source.model, i);
        if (from->bytes == NULL) continue;
        CUDA_TRY(cudaMemcpyAsync((void *)to->bytes, from->bytes, (size_t)bytes_of(from),
                                 cudaMemcpyHostToDevice, e->stream),
                 err);
    }
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    e->source.is_whole = true;
    return SSMQ_OK;
}

} // namespace

void cuda_source_drop(cuda_engine *e) {
    (void)cudaFree(e->source.bytes);
    ssmq_free(e->source.model.layers);
    memset(&e->source, 0, sizeof e->source);
}

ssmq_status cuda_source_hold(cuda_engine *e, const ssmq_model *model, bool is_filled,
                             ssmq_err *err) {
    ssmq_status status = reserve(e, model, err);
    if (status == SSMQ_OK && is_filled) status = fill(e, model, err);
    if (status != SSMQ_OK) cuda_source_drop(e);
    return status;
}

ssmq_status cuda_source_seal(cuda_engine *e, uint64_t *checksum, ssmq_err *err) {
    unsigned long long *sum = NULL;
    SSMQ_CHECK(e->source.bytes != NULL, err);
    CUDA_TRY(cudaMalloc((void **)&sum, sizeof *sum), err);
    const ssmq_status status = sum_up(&e->source, sum, e->stream, checksum, err);
    (void)cudaFree(sum);
    e->source.is_whole = status == SSMQ_OK;
    return status;
}

const ssmq_model *cuda_source_of(cuda_engine *e, const ssmq_model *model) {
    ssmq_err why = {};
    if (e->source.is_whole && strcmp(e->source.model.sha256, model->sha256) == 0) {
        return &e->source.model;
    }
    return cuda_source_hold(e, model, true, &why) == SSMQ_OK ? &e->source.model : NULL;
}
