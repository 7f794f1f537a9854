/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/step.c - the recurrence itself, one token (spec section 3, step 5):
 *     S = exp(dt A) S + dt x B^T,  y = S C + D x. */
#include <math.h>

#include "engine/cpu/cpu.h"

static void step_head(const cpu_engine *e, const cpu_layer *layer, float *states, int64_t index) {
    const ssmq_shape *s = &e->shape;
    const int64_t b = index / s->H, h = index % s->H;
    const int64_t g = h / (s->H / s->G);
    const float *xbc = e->buffers.xbc + b * s->conv_dim;
    const float *x = xbc + h * s->P;
    const float *B = xbc + s->di + g * s->N;
    const float *C = xbc + s->di + (s->G + g) * s->N;
    const float dt = e->buffers.dt[b * s->H + h];
    const float decay = expf(dt * layer->A[h]);
    float *y = e->buffers.y + b * s->di + h * s->P;
    for (int64_t p = 0; p < s->P; p++) {
        float *S = states + (index * s->P + p) * s->N;
        const float dt_x = dt * x[p];
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t n = 0; n < s->N; n++) {
            S[n] = decay * S[n] + dt_x * B[n];
            sum += S[n] * C[n];
        }
        y[p] = sum + layer->D[h] * x[p];
    }
    cpu_round(y, s->P, e->spec.precision.dtype);
}

void cpu_step(cpu_engine *e, int64_t layer_idx) {
    const ssmq_shape *s = &e->shape;
    const cpu_layer *layer = &e->weights.layers[layer_idx];
    const int64_t B = e->extent.n_sequences;
    float *states = e->state.ssm + layer_idx * B * s->H * s->P * s->N;
#pragma omp parallel for schedule(static) num_threads(e->n_threads)
    for (int64_t i = 0; i < B * s->H; i++) step_head(e, layer, states, i);
}
