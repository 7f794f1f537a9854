/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/head.c - final norm, lm_head and what is read off the logits, a tile of rows at a
 * time, so that no [T, V] buffer exists. Logits stay fp32; log-sum-exp is fp64. */
#include <math.h>
#include <string.h>

#include "engine/cpu/cpu.h"

static int32_t lowest_largest(const float *logits, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return (int32_t)best;
}

static bool all_finite(const float *x, int64_t n) {
    bool finite = true;
    for (int64_t i = 0; i < n; i++) finite &= fabsf(x[i]) < INFINITY;
    return finite;
}

static double log_sum_exp(const float *logits, int64_t n) {
    float largest = logits[0];
    for (int64_t i = 1; i < n; i++) largest = fmaxf(largest, logits[i]);
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += exp((double)logits[i] - (double)largest);
    return log(sum) + (double)largest;
}

/* Reads one row off; false if it is not finite. */
static bool read_row(const cpu_engine *e, const cpu_head_want *want, int64_t i,
                     const float *logits) {
    const int64_t V = e->shape.V;
    if (want->logits != NULL) {
        memcpy(want->logits + i * V, logits, (size_t)V * sizeof *logits);
    }
    if (want->all_logits != NULL) {
        const int64_t row = e->buffers.listed[i], T = e->row_tokens;
        const int64_t at = row / T * want->n_tokens + want->first_token + row % T;
        memcpy(want->all_logits + at * V, logits, (size_t)V * sizeof *logits);
    }
    if (want->argmax != NULL) want->argmax[i] = lowest_largest(logits, V);
    if (want->nll) {
        const double target = (double)logits[e->buffers.targets[i]];
        e->buffers.nll[i] = (float)(log_sum_exp(logits, V) - target);
    }
    return all_finite(logits, V);
}

static ssmq_status head_tile(cpu_engine *e, const cpu_head_want *want, int64_t first, int64_t rows,
                             ssmq_err *err) {
    const ssmq_shape *s = &e->shape;
    SSMQ_TRY(cpu_norm(e, e->weights.norm_f, e->buffers.listed + first, rows, "final norm", err));
    const cpu_product product = {
        .linear = &e->weights.head,
        .x = e->buffers.u,
        .y = e->buffers.logits,
        .rows = rows,
        .x_stride = s->d,
        .y_stride = s->V,
        .dtype = SSMQ_F32,
        .by_row = want->by_row,
    };
    cpu_multiply(e, &product);
    int64_t bad = INT64_MAX;
#pragma omp parallel for schedule(static) num_threads(e->n_threads) reduction(min : bad)
    for (int64_t r = 0; r < rows; r++) {
        bool is_finite = read_row(e, want, first + r, e->buffers.logits + r * s->V);
        if (!is_finite && first + r < bad) bad = first + r;
    }
    if (bad == INT64_MAX) return SSMQ_OK;
    const int64_t row = e->buffers.listed[bad];
    return SSMQ_FAIL(err, NUMERIC, "logits: not finite at token %lld of sequence %lld",
                     (long long)(e->state.position + row % e->row_tokens),
                     (long long)(row / e->row_tokens));
}

ssmq_status cpu_head(cpu_engine *e, const cpu_head_want *want, ssmq_err *err) {
    for (int64_t first = 0; first < want->n_listed; first += CPU_TILE_ROWS) {
        const int64_t left = want->n_listed - first;
        SSMQ_TRY(head_tile(e, want, first, left < CPU_TILE_ROWS ? left : CPU_TILE_ROWS, err));
    }
    return SSMQ_OK;
}
