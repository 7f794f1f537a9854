/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "engine/cpu/cpu.h"

/* 1 / sqrt(mean(x^2) + eps); statistics in fp64. NaN or 0 for a row that is not finite. */
static float inverse_rms(const float *x, int64_t n, float eps) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return (float)(1.0 / sqrt(sum / (double)n + (double)eps));
}

ssmq_status cpu_norm(cpu_engine *e, const float *weight, const int64_t *listed, int64_t rows,
                     const char *place, ssmq_err *err) {
    const int64_t d = e->shape.d;
    int64_t bad_row = INT64_MAX;
#pragma omp parallel for schedule(static) num_threads(e->n_threads) reduction(min : bad_row)
    for (int64_t i = 0; i < rows; i++) {
        const int64_t row = listed != NULL ? listed[i] : i;
        const float *r = e->buffers.residual + row * d;
        float *u = e->buffers.u + i * d;
        const float inverse = inverse_rms(r, d, e->shape.eps);
        if (!(inverse > 0.0f && inverse < INFINITY) && row < bad_row) bad_row = row;
        for (int64_t c = 0; c < d; c++) u[c] = r[c] * inverse * weight[c];
        cpu_round(u, d, e->spec.precision.dtype);
    }
    if (bad_row == INT64_MAX) return SSMQ_OK;
    return SSMQ_FAIL(err, NUMERIC, "%s: not finite at token %lld of sequence %lld", place,
                     (long long)(e->state.position + bad_row % e->row_tokens),
                     (long long)(bad_row / e->row_tokens));
}

static float silu(float x) {
    return x / (1.0f + expf(-x));
}

void cpu_gated_norm(cpu_engine *e, const cpu_layer *layer, int64_t rows) {
    const ssmq_shape *s = &e->shape;
    const int64_t width = s->di / s->G;
#pragma omp parallel for schedule(static) num_threads(e->n_threads)
    for (int64_t row = 0; row < rows; row++) {
        const float *z = e->buffers.zxbcdt + row * s->R;
        float *y = e->buffers.y + row * s->di;
        float *u = e->buffers.u + row * s->di;
        for (int64_t c = 0; c < s->di; c++) y[c] *= silu(z[c]);
        for (int64_t g = 0; g < s->G; g++) {
            const float inverse = inverse_rms(y + g * width, width, s->eps);
            for (int64_t c = g * width; c < (g + 1) * width; c++) {
                u[c] = y[c] * inverse * layer->gated_norm[c];
            }
        }
        cpu_round(u, s->di, e->spec.precision.dtype);
    }
}
