/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/layout.c - what lies where in the slabs, and so how large they are: pure functions of
 * shape, spec and extent. */
#include "engine/cuda/layout.h"

#include <string.h>

#include "engine/cuda/gemm.h"
#include "engine/cuda/head.h"

static int64_t round_up(int64_t n, int64_t step) {
    return (n + step - 1) / step * step;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Takes pieces off a slab, or only counts them if there is none. */
typedef struct carver {
    char *slab;
    int64_t n_bytes;
} carver;

static void *take(carver *c, int64_t n, size_t size) {
    void *piece = c->slab != NULL ? c->slab + c->n_bytes : NULL;
    c->n_bytes += round_up(n * (int64_t)size, CUDA_ALIGN_BYTES);
    return piece;
}

static int64_t padded_rows(int64_t rows) {
    return round_up(rows, CUDA_PAD_ROWS);
}

static void take_linear(carver *c, cuda_linear *linear, bool has_bias) {
    for (int i = 0; i < linear->n_blocks; i++) {
        cuda_block *k = &linear->blocks[i];
        const int64_t n_scales = cuda_block_scales(linear, k);
        k->w = take(c, cuda_block_bytes(linear, k), 1);
        k->scales = n_scales > 0 ? take(c, n_scales, sizeof *k->scales) : NULL;
    }
    linear->bias = has_bias ? take(c, linear->y_ld, ssmq_dtype_bytes(linear->dtype)) : NULL;
}

bool cuda_out_proj_is_fused(const ssmq_shape *shape) {
    return shape->G == 1;
}

/* Of the products of all layers, of at most `rows` rows. */
typedef struct products_need {
    cuda_linear_need scratch;
    int64_t zxbcdt_bytes, o_bytes;
} products_need;

static products_need need_of(const ssmq_shape *s, const ssmq_spec *spec, int64_t rows) {
    products_need need = {0};
    for (int64_t i = 0; i < s->L; i++) {
        const cuda_linear in_proj = cuda_linear_in_proj(s, spec, i);
        const cuda_linear out_proj = cuda_linear_out_proj(s, spec, i);
        cuda_linear_need_add(&need.scratch, &in_proj, rows, true);
        cuda_linear_need_add(&need.scratch, &out_proj, rows, cuda_out_proj_is_fused(s));
        need.zxbcdt_bytes = larger(need.zxbcdt_bytes, cuda_linear_y_bytes(&in_proj, rows));
        need.o_bytes = larger(need.o_bytes, cuda_linear_y_bytes(&out_proj, rows));
    }
    return need;
}

int64_t cuda_carve_weights(cuda_weights *out, char *slab, const ssmq_shape *s,
                           const ssmq_spec *spec) {
    const size_t number = ssmq_dtype_bytes(spec->precision.dtype);
    carver c = {.slab = slab};
    out->embeddings = take(&c, padded_rows(s->V) * s->d, number);
    out->head = s->is_tied ? out->embeddings : take(&c, padded_rows(s->V) * s->d, number);
    out->norm_f = take(&c, s->d, number);
    for (int64_t i = 0; i < s->L; i++) {
        cuda_layer *layer = &out->layers[i];
        layer->norm = take(&c, s->d, number);
        layer->in_proj = cuda_linear_in_proj(s, spec, i);
        take_linear(&c, &layer->in_proj, s->has_bias);
        layer->conv = take(&c, s->K * s->conv_dim, number);
        layer->conv_bias = take(&c, s->conv_dim, number);
        layer->dt_bias = take(&c, s->H, sizeof(float));
        layer->A = take(&c, s->H, sizeof(float));
        layer->D = take(&c, s->H, sizeof(float));
        layer->gated_norm = take(&c, s->di, number);
        layer->out_proj = cuda_linear_out_proj(s, spec, i);
        take_linear(&c, &layer->out_proj, s->has_bias);
    }
    return c.n_bytes;
}

int64_t cuda_carve_state(cuda_state *out, char *slab, const ssmq_shape *s, const ssmq_spec *spec,
                         int64_t B) {
    carver c = {.slab = slab};
    out->ssm =
        take(&c, s->L * B * s->H * s->P * s->N, ssmq_dtype_bytes(spec->precision.state_dtype));
    out->ring = take(&c, s->L * B * s->K * s->conv_dim, ssmq_dtype_bytes(spec->precision.dtype));
    out->position = take(&c, 1, sizeof *out->position);
    return c.n_bytes;
}

int64_t cuda_carve_activations(cuda_buffers *out, char *slab, const ssmq_shape *s,
                               const ssmq_spec *spec, int64_t B, int64_t T) {
    const size_t number = ssmq_dtype_bytes(spec->precision.dtype);
    const int64_t rows = B * T, T_pad = round_up(T, CUDA_CHUNK_TOKENS);
    const products_need need = need_of(s, spec, rows);
    carver c = {.slab = slab};
    out->residual = take(&c, rows * s->d, sizeof(float));
    out->u = take(&c, rows * larger(s->d, s->di), number);
    out->zxbcdt = take(&c, need.zxbcdt_bytes, 1);
    out->xbc = take(&c, rows * s->conv_dim, number);
    out->dt = take(&c, B * s->H * T_pad, sizeof(float));
    out->cs = take(&c, B * s->H * T_pad, sizeof(float));
    out->y = take(&c, rows * s->di, number);
    out->o = take(&c, need.o_bytes, 1);
    out->squares = take(&c, rows * s->H, sizeof *out->squares);
    out->codes = NULL;
    out->in_scales = out->out_scales = NULL;
    if (need.scratch.code_ld > 0) {
        out->codes = take(&c, rows * need.scratch.code_ld, sizeof *out->codes);
        out->in_scales = take(&c, rows, sizeof *out->in_scales);
        out->out_scales = take(&c, rows, sizeof *out->out_scales);
    }
    out->chunk_states = NULL;
    if (cuda_ssd_is_chunked(s, spec->precision.dtype)) {
        out->chunk_states = take(&c, B * (T_pad / CUDA_CHUNK_TOKENS) * s->H * s->P * s->N, number);
    }
    out->tokens = take(&c, rows, sizeof *out->tokens);
    out->listed = take(&c, rows, sizeof *out->listed);
    out->targets = take(&c, rows, sizeof *out->targets);
    out->nll = take(&c, rows, sizeof *out->nll);
    out->forced = take(&c, CUDA_STEP_BLOCK * B, sizeof *out->forced);
    out->argmax = take(&c, CUDA_STEP_BLOCK * B, sizeof *out->argmax);
    out->step_nll = take(&c, CUDA_STEP_BLOCK * B, sizeof *out->step_nll);
    out->control = take(&c, 1, sizeof *out->control);
    out->fault = take(&c, 2, sizeof *out->fault);
    out->step_fault = take(&c, CUDA_STEP_BLOCK, sizeof *out->step_fault);
    return c.n_bytes;
}

int64_t cuda_carve_workspace(cuda_buffers *out, char *slab, const ssmq_shape *s,
                             const ssmq_spec *spec, int64_t rows, int64_t head_rows) {
    const cuda_linear_need need = need_of(s, spec, rows).scratch;
    carver c = {.slab = slab};
    out->gemm_workspace = take(&c, CUDA_GEMM_WORKSPACE_BYTES, 1);
    out->logits = take(&c, head_rows * padded_rows(s->V), sizeof(float));
    out->partial = take(&c, cuda_sample_partial_bytes(head_rows), 1);
    out->sums = need.sum_bytes > 0 ? take(&c, need.sum_bytes, 1) : NULL;
    out->unpacked = need.unpacked_bytes > 0 ? take(&c, need.unpacked_bytes, 1) : NULL;
    return c.n_bytes;
}

int64_t cuda_carve_staging(cuda_staging *out, char *slab, int64_t B, int64_t rows) {
    carver c = {.slab = slab};
    out->tokens = take(&c, rows, sizeof *out->tokens);
    out->listed = take(&c, rows, sizeof *out->listed);
    out->targets = take(&c, rows, sizeof *out->targets);
    out->nll = take(&c, rows, sizeof *out->nll);
    out->forced = take(&c, CUDA_STEP_BLOCK * B, sizeof *out->forced);
    out->argmax = take(&c, CUDA_STEP_BLOCK * B, sizeof *out->argmax);
    out->step_nll = take(&c, CUDA_STEP_BLOCK * B, sizeof *out->step_nll);
    out->fault = take(&c, CUDA_FAULT_SLOTS, sizeof *out->fault);
    out->control = take(&c, 1, sizeof *out->control);
    return c.n_bytes;
}

void cuda_layout_init(cuda_layout *out, const ssmq_shape *shape, const ssmq_spec *spec,
                      const ssmq_engine_extent *extent) {
    cuda_weights weights;
    cuda_state state;
    cuda_buffers buffers;
    const int64_t B = extent->n_sequences;
    /* Whole chunks, so that cutting a context into segments changes no bit. */
    const int64_t wanted = round_up(extent->max_segment_tokens, CUDA_CHUNK_TOKENS);
    const int64_t fitting = CUDA_MAX_ROWS / B / CUDA_CHUNK_TOKENS * CUDA_CHUNK_TOKENS;
    out->B = B;
    out->segment_tokens = smaller(wanted, larger(fitting, CUDA_CHUNK_TOKENS));
    out->rows = B * out->segment_tokens;
    out->head_rows = round_up(larger(B, smaller(out->rows, CUDA_HEAD_ROWS)), CUDA_GEMM_PAD_ROWS);
    out->R_ld = padded_rows(shape->R);
    out->V_ld = padded_rows(shape->V);
    out->weight_bytes = cuda_carve_weights(&weights, NULL, shape, spec);
    out->state_bytes = cuda_carve_state(&state, NULL, shape, spec, B);
    out->activation_bytes =
        cuda_carve_activations(&buffers, NULL, shape, spec, B, out->segment_tokens);
    out->workspace_bytes =
        cuda_carve_workspace(&buffers, NULL, shape, spec, out->rows, out->head_rows);
}

void cuda_plan_bytes(const ssmq_shape *shape, const ssmq_spec *spec,
                     const ssmq_engine_extent *extent, ssmq_engine_stats *out) {
    cuda_layout layout;
    cuda_layout_init(&layout, shape, spec, extent);
    memset(out, 0, sizeof *out);
    out->weight_bytes = layout.weight_bytes;
    out->state_bytes = layout.state_bytes;
    out->activation_bytes = layout.activation_bytes;
    out->workspace_bytes = layout.workspace_bytes;
    out->peak_bytes =
        layout.weight_bytes + layout.state_bytes + layout.activation_bytes + layout.workspace_bytes;
}
