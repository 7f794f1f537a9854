/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/state.c - the state as its type keeps it between calls, and in and out of the engine.
 * Numbers lie in fp32 whatever the type is: what the type would lose is lost by rounding when
 * a call of prefill or a step of decode ends, after outputs were computed from what was there
 * before; not at the ends of the engine's own segments, which depend on the batch. */
#include <string.h>

#include "engine/cpu/cpu.h"
#include "quant/state_round.h"

/* Numbers of one layer's states of all sequences. */
static int64_t ssm_numbers(const cpu_engine *e) {
    const ssmq_shape *s = &e->shape;
    return e->extent.n_sequences * s->H * s->P * s->N;
}

static int64_t conv_numbers(const cpu_engine *e) {
    const ssmq_shape *s = &e->shape;
    return e->extent.n_sequences * (s->K - 1) * s->conv_dim;
}

void cpu_store_state(cpu_engine *e) {
    const ssmq_shape *s = &e->shape;
    const ssmq_precision *p = &e->spec.precision;
    const int64_t n_head_rows = s->H * s->P, n_layer_rows = e->extent.n_sequences * n_head_rows;
    const bool is_plain = p->state_format == SSMQ_FORMAT_FLOAT && !p->state_is_stochastic;
    if (!ssmq_precision_rounds_state(p)) return;
#pragma omp parallel for schedule(static) num_threads(e->n_threads)
    for (int64_t i = 0; i < s->L * n_layer_rows; i++) {
        const ssmq_state_place place = {
            .layer = i / n_layer_rows, .token = e->state.position, .row = i % n_head_rows};
        float *row = e->state.ssm + i * s->N;
        if (is_plain) {
            cpu_round(row, s->N, p->state_dtype);
        } else {
            ssmq_state_round(p, &place, row, s->N);
        }
    }
}

void cpu_read_state(const cpu_engine *e, int64_t layer_idx, float *ssm, float *conv) {
    const int64_t n_ssm = ssm_numbers(e), n_conv = conv_numbers(e);
    memcpy(ssm, e->state.ssm + layer_idx * n_ssm, (size_t)n_ssm * sizeof *ssm);
    memcpy(conv, e->state.conv + layer_idx * n_conv, (size_t)n_conv * sizeof *conv);
}

void cpu_write_state(cpu_engine *e, int64_t layer_idx, const float *ssm, const float *conv) {
    const int64_t n_ssm = ssm_numbers(e), n_conv = conv_numbers(e);
    float *ssm_to = e->state.ssm + layer_idx * n_ssm;
    float *conv_to = e->state.conv + layer_idx * n_conv;
    memcpy(ssm_to, ssm, (size_t)n_ssm * sizeof *ssm);
    memcpy(conv_to, conv, (size_t)n_conv * sizeof *conv);
    cpu_round(ssm_to, n_ssm, e->spec.precision.state_dtype);
    cpu_round(conv_to, n_conv, e->spec.precision.dtype);
}
