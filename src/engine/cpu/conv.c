/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/conv.c - depthwise causal convolution with SiLU, and dt (spec section 3, steps 3, 4).
 * Inputs before the segment come from the conv state. */
#include <math.h>
#include <string.h>

#include "engine/cpu/cpu.h"

static float softplus(float v) {
    return v > 20.0f ? v : log1pf(expf(v));
}

/* Raw input of token t of a sequence: of the segment, or of the state for t < 0. */
static const float *input_of(const cpu_engine *e, const float *conv_state, int64_t first_row,
                             int64_t t) {
    const ssmq_shape *s = &e->shape;
    if (t >= 0) return e->buffers.zxbcdt + (first_row + t) * s->R + s->di;
    return conv_state + (s->K - 1 + t) * s->conv_dim;
}

static void conv_token(const cpu_engine *e, const cpu_layer *layer, const float *conv_state,
                       int64_t first_row, int64_t t) {
    const ssmq_shape *s = &e->shape;
    float *out = e->buffers.xbc + (first_row + t) * s->conv_dim;
    memcpy(out, layer->conv_bias, (size_t)s->conv_dim * sizeof *out);
    for (int64_t k = 0; k < s->K; k++) {
        const float *x = input_of(e, conv_state, first_row, t - (s->K - 1) + k);
        const float *w = layer->conv + k * s->conv_dim;
        for (int64_t c = 0; c < s->conv_dim; c++) out[c] += w[c] * x[c];
    }
    for (int64_t c = 0; c < s->conv_dim; c++) out[c] = out[c] / (1.0f + expf(-out[c]));
    cpu_round(out, s->conv_dim, e->spec.precision.dtype);
}

static void dt_token(const cpu_engine *e, const cpu_layer *layer, int64_t row) {
    const ssmq_shape *s = &e->shape;
    const float *raw = e->buffers.zxbcdt + row * s->R + s->di + s->conv_dim;
    float *dt = e->buffers.dt + row * s->H;
    for (int64_t h = 0; h < s->H; h++) {
        /* Comparisons that NaN fails: it must stay visible. */
        const float v = softplus(raw[h] + layer->dt_bias[h]);
        dt[h] = v < s->dt_min ? s->dt_min : (v > s->dt_max ? s->dt_max : v);
    }
}

/* The last K-1 raw inputs of old state and segment together, oldest first. */
static void move_state(const cpu_engine *e, float *conv_state, int64_t first_row, int64_t T) {
    const ssmq_shape *s = &e->shape;
    for (int64_t i = 0; i < s->K - 1; i++) {
        /* Ascending i reads entries of the old state before they are overwritten. */
        const float *from = input_of(e, conv_state, first_row, T - (s->K - 1) + i);
        memmove(conv_state + i * s->conv_dim, from, (size_t)s->conv_dim * sizeof *from);
    }
}

void cpu_conv(cpu_engine *e, int64_t layer_idx, int64_t T) {
    const ssmq_shape *s = &e->shape;
    const cpu_layer *layer = &e->weights.layers[layer_idx];
    const int64_t B = e->extent.n_sequences;
    const int64_t state_floats = (s->K - 1) * s->conv_dim;
    float *states = e->state.conv + layer_idx * B * state_floats;
#pragma omp parallel for schedule(static) num_threads(e->n_threads)
    for (int64_t row = 0; row < B * T; row++) {
        const int64_t b = row / T;
        conv_token(e, layer, states + b * state_floats, b * T, row % T);
        dt_token(e, layer, row);
    }
    for (int64_t b = 0; b < B; b++) move_state(e, states + b * state_floats, b * T, T);
}
