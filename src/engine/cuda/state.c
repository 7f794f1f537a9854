/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/state.c - one layer's state as fp32 on the host, and back. Numbers of 16 bits travel
 * as such: down into the upper half of the caller's fp32 places, widened there in ascending order,
 * which overtakes none that is still to be read; up in pieces that the stack holds.
 *
 * The ring has the raw input of token n at slot n mod K. A state may be written at a position
 * below K, where kernels take inputs of tokens before the first for zeros; so writing sets the
 * device's position K tokens ahead, which names the same slots. */
#include <string.h>

#include "engine/cuda/check.h"
#include "engine/cuda/cuda_engine.h"

enum { PIECE_NUMBERS = 4096 };

static float widen(uint16_t bits, ssmq_dtype dtype) {
    return dtype == SSMQ_BF16 ? ssmq_f32_from_bf16(bits) : ssmq_f32_from_f16(bits);
}

static uint16_t narrow(float x, ssmq_dtype dtype) {
    return dtype == SSMQ_BF16 ? ssmq_bf16_from_f32(x) : ssmq_f16_from_f32(x);
}

/* n numbers from the device; waits for them. */
static ssmq_status fetch(cuda_engine *e, float *out, const char *from, int64_t n, ssmq_dtype dtype,
                         ssmq_err *err) {
    const size_t size = ssmq_dtype_bytes(dtype);
    char *to = (char *)out + (size_t)n * (sizeof *out - size);
    CUDA_TRY(cudaMemcpyAsync(to, from, (size_t)n * size, cudaMemcpyDeviceToHost, e->stream), err);
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    if (dtype == SSMQ_F32) return SSMQ_OK;
    for (int64_t i = 0; i < n; i++) {
        uint16_t bits = 0;
        memcpy(&bits, to + (size_t)i * sizeof bits, sizeof bits);
        out[i] = widen(bits, dtype);
    }
    return SSMQ_OK;
}

/* n numbers to the device, rounded; the host's may change once this has returned. */
static ssmq_status send(cuda_engine *e, char *to, const float *from, int64_t n, ssmq_dtype dtype,
                        ssmq_err *err) {
    uint16_t piece[PIECE_NUMBERS];
    if (dtype == SSMQ_F32) {
        CUDA_TRY(
            cudaMemcpyAsync(to, from, (size_t)n * sizeof *from, cudaMemcpyHostToDevice, e->stream),
            err);
        CUDA_TRY(cudaStreamSynchronize(e->stream), err);
        return SSMQ_OK;
    }
    for (int64_t first = 0; first < n; first += PIECE_NUMBERS) {
        const int64_t n_piece = n - first < PIECE_NUMBERS ? n - first : PIECE_NUMBERS;
        for (int64_t i = 0; i < n_piece; i++) piece[i] = narrow(from[first + i], dtype);
        CUDA_TRY(cudaMemcpyAsync(to + (size_t)first * sizeof piece[0], piece,
                                 (size_t)n_piece * sizeof piece[0], cudaMemcpyHostToDevice,
                                 e->stream),
                 err);
        CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    }
    return SSMQ_OK;
}

static int64_t ssm_numbers(const cuda_engine *e) {
    const ssmq_shape *s = &e->shape;
    return e->extent.n_sequences * s->H * s->P * s->N;
}

char *cuda_layer_state(const cuda_engine *e, int64_t layer_idx) {
    const size_t size = ssmq_dtype_bytes(e->spec.precision.state_dtype);
    return e->state.ssm + (size_t)(layer_idx * ssm_numbers(e)) * size;
}

char *cuda_layer_ring(const cuda_engine *e, int64_t layer_idx) {
    const ssmq_shape *s = &e->shape;
    const size_t size = ssmq_dtype_bytes(e->spec.precision.dtype);
    return e->state.ring + (size_t)(layer_idx * e->extent.n_sequences * s->K * s->conv_dim) * size;
}

/* Where the ring of a layer and sequence has its i-th of K - 1 inputs, oldest first. */
static char *input_of(const cuda_engine *e, int64_t layer_idx, int64_t b, int64_t i) {
    const ssmq_shape *s = &e->shape;
    const size_t size = ssmq_dtype_bytes(e->spec.precision.dtype);
    const int64_t slot = (e->position + 1 + i) % s->K;
    return cuda_layer_ring(e, layer_idx) + (size_t)((b * s->K + slot) * s->conv_dim) * size;
}

ssmq_status cuda_read_state(cuda_engine *e, int64_t layer_idx, float *ssm, float *conv,
                            ssmq_err *err) {
    const ssmq_shape *s = &e->shape;
    const ssmq_precision *p = &e->spec.precision;
    SSMQ_TRY(fetch(e, ssm, cuda_layer_state(e, layer_idx), ssm_numbers(e), p->state_dtype, err));
    for (int64_t row = 0; row < e->extent.n_sequences * (s->K - 1); row++) {
        const char *from = input_of(e, layer_idx, row / (s->K - 1), row % (s->K - 1));
        SSMQ_TRY(fetch(e, conv + row * s->conv_dim, from, s->conv_dim, p->dtype, err));
    }
    return SSMQ_OK;
}

ssmq_status cuda_write_state(cuda_engine *e, int64_t layer_idx, const float *ssm, const float *conv,
                             ssmq_err *err) {
    const ssmq_shape *s = &e->shape;
    const ssmq_precision *p = &e->spec.precision;
    const int64_t position = e->position + s->K;
    SSMQ_TRY(send(e, cuda_layer_state(e, layer_idx), ssm, ssm_numbers(e), p->state_dtype, err));
    for (int64_t row = 0; row < e->extent.n_sequences * (s->K - 1); row++) {
        char *to = input_of(e, layer_idx, row / (s->K - 1), row % (s->K - 1));
        SSMQ_TRY(send(e, to, conv + row * s->conv_dim, s->conv_dim, p->dtype, err));
    }
    CUDA_TRY(cudaMemcpyAsync(e->state.position, &position, sizeof position, cudaMemcpyHostToDevice,
                             e->stream),
             err);
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    return SSMQ_OK;
}

ssmq_status cuda_keep_state(cuda_engine *e, ssmq_err *err) {
    const size_t n_bytes = (size_t)e->layout.state_bytes;
    SSMQ_TRY(cuda_slab_reserve(&e->kept_slab, e->layout.state_bytes, err));
    CUDA_TRY(cudaMemcpyAsync(e->kept_slab.bytes, e->state_slab.bytes, n_bytes,
                             cudaMemcpyDeviceToDevice, e->stream),
             err);
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    e->kept_position = e->position;
    return SSMQ_OK;
}

/* n_bytes as often as there are sequences; each copy doubles what is there. */
static ssmq_status repeat(cuda_engine *e, char *to, const char *from, size_t n_bytes,
                          ssmq_err *err) {
    const size_t B = (size_t)e->extent.n_sequences;
    CUDA_TRY(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, e->stream), err);
    for (size_t n = 1; n < B; n *= 2) {
        const size_t n_more = n < B - n ? n : B - n;
        CUDA_TRY(cudaMemcpyAsync(to + n * n_bytes, to, n_more * n_bytes, cudaMemcpyDeviceToDevice,
                                 e->stream),
                 err);
    }
    return SSMQ_OK;
}

ssmq_status cuda_fork_state(cuda_engine *e, ssmq_err *err) {
    const ssmq_shape *s = &e->shape;
    const ssmq_precision *p = &e->spec.precision;
    const size_t n_ssm = (size_t)(s->H * s->P * s->N) * ssmq_dtype_bytes(p->state_dtype);
    const size_t n_ring = (size_t)(s->K * s->conv_dim) * ssmq_dtype_bytes(p->dtype);
    cuda_state kept;
    (void)cuda_carve_state(&kept, e->kept_slab.bytes, s, &e->spec, 1);
    for (int64_t i = 0; i < s->L; i++) {
        const size_t layer = (size_t)i;
        SSMQ_TRY(repeat(e, cuda_layer_state(e, i), kept.ssm + layer * n_ssm, n_ssm, err));
        SSMQ_TRY(repeat(e, cuda_layer_ring(e, i), kept.ring + layer * n_ring, n_ring, err));
    }
    CUDA_TRY(cudaMemcpyAsync(e->state.position, kept.position, sizeof *kept.position,
                             cudaMemcpyDeviceToDevice, e->stream),
             err);
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    e->position = e->kept_position;
    return SSMQ_OK;
}
