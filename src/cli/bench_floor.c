/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_floor.h"

#include <math.h>

enum { CHUNK_TOKENS = 128, TILE_TOKENS = 64, F32_BYTES = 4 };

static double dtype_bytes(ssmq_dtype dtype) {
    return (double)ssmq_dtype_bytes(dtype);
}

/* Numbers of a layer's projections. */
static double n_projection_weights(const ssmq_shape *s) {
    return (double)(s->R * s->d + s->d * s->di);
}

/* Numbers that no product holds: norms, conv with its bias, dt_bias, A and D, biases. */
static double n_small_weights(const ssmq_shape *s) {
    int64_t n = s->d + s->di + s->conv_dim * (s->K + (s->has_conv_bias ? 1 : 0)) + 3 * s->H;
    if (s->has_bias) n += s->R + s->d;
    return (double)(s->L * n + s->d);
}

ssmq_bench_work ssmq_bench_decode_work(const ssmq_shape *shape, const ssmq_spec *spec, int64_t B) {
    const ssmq_shape *s = shape;
    const double number = dtype_bytes(spec->precision.dtype);
    const double state = (double)(s->L * s->H * s->P * s->N);
    const double ring = (double)(s->L * s->K * s->conv_dim);
    const double moved = state * dtype_bytes(spec->precision.state_dtype) + ring * number;
    return (ssmq_bench_work){.bytes = (double)ssmq_spec_weight_bytes(spec, shape) +
                                      number * n_small_weights(s) + 2.0 * (double)B * moved};
}

/* Operations of the chunked scan, a layer and token: C B^T and (C B^T) X of the tiles below and on
 * the diagonal, the chunk's state and its use. */
static double scan_flops(const ssmq_shape *s) {
    const double Q = CHUNK_TOKENS;
    const double share = (Q + TILE_TOKENS) / (2.0 * Q);
    const double heads = (double)(s->H * s->P), N = (double)s->N;
    return share * (2.0 * Q * N * (double)s->G + 2.0 * Q * heads) + 4.0 * N * heads;
}

/* Bytes between the products, a layer and token. */
static double glue_bytes(const ssmq_shape *s, double number) {
    const double d = (double)s->d, di = (double)s->di, H = (double)s->H;
    const double conv_dim = (double)s->conv_dim;
    const double add_norm = (2.0 * F32_BYTES + 2.0 * number) * d;
    const double conv = 2.0 * number * conv_dim;
    const double dt = (2.0 * F32_BYTES + number) * H;
    const double scan = number * (conv_dim + di);
    const double gated_norm = 3.0 * number * di;
    return add_norm + conv + dt + scan + gated_norm;
}

ssmq_bench_work ssmq_bench_prefill_work(const ssmq_shape *shape, const ssmq_spec *spec, int64_t B,
                                        int64_t T) {
    const double layers_tokens = (double)shape->L * (double)B * (double)T;
    return (ssmq_bench_work){
        .flops = layers_tokens * (2.0 * n_projection_weights(shape) + scan_flops(shape)),
        .bytes = layers_tokens * glue_bytes(shape, dtype_bytes(spec->precision.dtype)),
    };
}

double ssmq_bench_floor_ms(const ssmq_bench_work *work, const ssmq_ceilings *ceilings) {
    const double ms_per_s = 1e3;
    double duration_s = 0;
    if (!(ceilings->copy_bytes_per_s > 0)) return NAN;
    if (work->flops > 0 && !(ceilings->gemm_flops > 0)) return NAN;
    if (work->flops > 0) duration_s += work->flops / ceilings->gemm_flops;
    return ms_per_s * (duration_s + work->bytes / ceilings->copy_bytes_per_s);
}
