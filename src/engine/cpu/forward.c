/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/forward.c - a segment, or one token of each sequence, through all layers. */
#include <stdio.h>
#include <string.h>

#include "engine/cpu/cpu.h"

static void embed(cpu_engine *e, const int32_t *tokens, int64_t stride, int64_t T) {
    const int64_t d = e->shape.d;
    for (int64_t row = 0; row < e->extent.n_sequences * T; row++) {
        const int32_t id = tokens[row / T * stride + row % T];
        memcpy(e->buffers.residual + row * d, e->weights.embeddings + id * d,
               (size_t)d * sizeof(float));
    }
}

/* residual += out_proj(u), whose result lies in y. */
static void add_residual(cpu_engine *e, int64_t rows) {
    const int64_t d = e->shape.d;
#pragma omp parallel for schedule(static) num_threads(e->n_threads)
    for (int64_t row = 0; row < rows; row++) {
        float *r = e->buffers.residual + row * d;
        const float *o = e->buffers.y + row * d;
        for (int64_t c = 0; c < d; c++) r[c] += o[c];
        if (!e->shape.residual_in_fp32) cpu_round(r, d, e->spec.precision.dtype);
    }
}

static ssmq_status forward_layer(cpu_engine *e, int64_t layer_idx, int64_t T, bool is_decode,
                                 ssmq_err *err) {
    const ssmq_shape *s = &e->shape;
    const cpu_layer *layer = &e->weights.layers[layer_idx];
    const int64_t rows = e->extent.n_sequences * T;
    char place[48];
    (void)snprintf(place, sizeof place, "input of layer %lld", (long long)layer_idx);
    SSMQ_TRY(cpu_norm(e, layer->norm, NULL, rows, place, err));
    cpu_product product = {
        .linear = &layer->in_proj,
        .x = e->buffers.u,
        .y = e->buffers.zxbcdt,
        .rows = rows,
        .x_stride = s->d,
        .y_stride = s->R,
        .dtype = e->spec.precision.dtype,
        .by_row = is_decode,
    };
    cpu_multiply(e, &product);
    cpu_conv(e, layer_idx, T);
    if (is_decode) {
        cpu_step(e, layer_idx);
    } else {
        cpu_scan(e, layer_idx, T);
    }
    cpu_gated_norm(e, layer, rows);
    product.linear = &layer->out_proj;
    product.y = e->buffers.y;
    product.x_stride = s->di;
    product.y_stride = s->d;
    cpu_multiply(e, &product);
    add_residual(e, rows);
    return SSMQ_OK;
}

/* The input of the first layer that is computed; returns which that is. */
static int64_t begin(cpu_engine *e, const int32_t *tokens, int64_t stride, int64_t T) {
    const int64_t n = e->extent.n_sequences * T * e->shape.d;
    const float *start = e->is_reused ? ssmq_reuse_start(e->reuse) : NULL;
    if (start == NULL) {
        embed(e, tokens, stride, T);
        return 0;
    }
    memcpy(e->buffers.residual, start, (size_t)n * sizeof *start);
    return ssmq_reuse_first_layer(e->reuse);
}

ssmq_status cpu_forward(cpu_engine *e, const int32_t *tokens, int64_t stride, int64_t T,
                        bool is_decode, ssmq_err *err) {
    const int64_t rows = e->extent.n_sequences * T, L = e->shape.L;
    e->row_tokens = T;
    const int64_t first = begin(e, tokens, stride, T);
    for (int64_t i = first; i < L; i++) {
        float *keep = e->is_reused ? ssmq_reuse_keep(e->reuse, i) : NULL;
        if (keep != NULL) {
            memcpy(keep, e->buffers.residual, (size_t)(rows * e->shape.d) * sizeof *keep);
        }
        SSMQ_TRY(forward_layer(e, i, T, is_decode, err));
    }
    if (e->is_reused) ssmq_reuse_end_segment(e->reuse, T);
    if (is_decode) return SSMQ_OK;
    e->computed_layer_tokens += (L - first) * rows;
    e->reused_layer_tokens += first * rows;
    return SSMQ_OK;
}
