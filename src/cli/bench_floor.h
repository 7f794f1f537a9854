/* SPDX-License-Identifier: Apache-2.0 */
/* cli/bench_floor.h - what a prefill and a decode step must compute and move at least, and the time
 * that a device with these rates needs for it.
 *
 * Decode, bytes of a step of B sequences: every weight once (in_proj, out_proj and lm_head as they
 * are stored; norms, conv and the rest in the compute type), and for each sequence the recurrent
 * and the conv state read and written. The head is read once also where it is the embedding.
 *
 * Prefill, of B * T tokens: products of in_proj and out_proj, and the scan by chunks of 128 with
 * causal tiles of 64 skipped, on tensor cores; and the bytes that go through device memory between
 * the products (n bytes a number of the compute type): residual and norm (8 + 2n) d, conv
 * 2n conv_dim, dt (8 + n) H, scan n (conv_dim + di), gated norm 3n di, a layer and token. Both
 * times are added: no overlap. Weights, the states between chunks and the head of the last token
 * are not counted. A cache that holds a segment's activations can therefore beat this floor. */
#ifndef SSMQ_CLI_BENCH_FLOOR_H
#define SSMQ_CLI_BENCH_FLOOR_H

#include "engine/device.h"
#include "engine/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_bench_work {
    double flops; /* floating point operations on tensor cores; 0 in decode, where bytes decide */
    double bytes; /* through device memory */
} ssmq_bench_work;

ssmq_bench_work ssmq_bench_prefill_work(const ssmq_shape *shape, const ssmq_spec *spec, int64_t B,
                                        int64_t T);
/* Of one step. */
ssmq_bench_work ssmq_bench_decode_work(const ssmq_shape *shape, const ssmq_spec *spec, int64_t B);

/* Milliseconds; NaN if a rate that is needed is not known (0). */
double ssmq_bench_floor_ms(const ssmq_bench_work *work, const ssmq_ceilings *ceilings);

#ifdef __cplusplus
}
#endif
#endif
