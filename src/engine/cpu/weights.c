/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/weights.c - the checkpoint as the products want it: fp32 numbers rounded to the
 * compute type; values of the weights' format, as fp32 numbers to be scaled, where the spec
 * quantizes (see products.c). */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "engine/cpu/cpu.h"
#include "quant/quantize.h"

/* A tensor in fp32; rounded to the compute type unless dtype is F32. Absent tensors are zeros. */
static ssmq_status copy_vector(float **out, const ssmq_tensor *tensor, int64_t n, ssmq_dtype dtype,
                               ssmq_err *err) {
    SSMQ_TRY(ssmq_calloc_aligned(out, (size_t)n, sizeof **out, err));
    if (tensor->bytes == NULL) return SSMQ_OK;
    ssmq_tensor_f32(tensor, 0, n, *out);
    cpu_round(*out, n, dtype);
    return SSMQ_OK;
}

/* Rows [first, first + rows) as one block of the linear, merged with the last one if alike: how a
 * matrix is cut may change the last bit of fp32 products, so a layer without anything in scope is
 * cut as in the baseline. Sets bit i of *fake_blocks if block i is quantized and back. */
static void add_block(cpu_linear *linear, int64_t first, int64_t rows, bool is_quantized,
                      bool is_fake, uint32_t *fake_blocks) {
    const int n = linear->n_blocks;
    cpu_block *last = n > 0 ? &linear->blocks[n - 1] : NULL;
    if (last != NULL && last->is_quantized == is_quantized &&
        (*fake_blocks >> (n - 1) & 1u) == (is_fake ? 1u : 0u)) {
        last->rows += rows;
        return;
    }
    linear->blocks[n] = (cpu_block){.first_row = first, .rows = rows, .is_quantized = is_quantized};
    if (is_fake) *fake_blocks |= 1u << n;
    linear->n_blocks++;
}

typedef struct quantizer {
    const ssmq_precision *precision;
    int8_t *q; /* [largest block] */
} quantizer;

/* Values of the block into its w, and its scales. Weights in the compute type are values of scale
 * 1. */
static void quantize_block(cpu_block *block, int64_t columns, const quantizer *z) {
    if (z->precision->w_format == SSMQ_FORMAT_FLOAT) {
        for (int64_t row = 0; row < block->rows; row++) block->scales[row] = 1.0f;
        cpu_round(block->w, block->rows * columns, z->precision->dtype);
        return;
    }
    ssmq_quantize_weight(block->w, block->rows, columns, z->precision->w_format,
                         z->precision->group_size, z->q, block->scales);
    ssmq_quantize_decode(z->q, block->rows * columns, z->precision->w_format, block->w);
}

/* Weight-only: quantized and back, value * scale; the caller rounds to the compute type. */
static void fake_quantize_block(cpu_block *block, int64_t columns, const quantizer *z) {
    quantize_block(block, columns, z);
    for (int64_t row = 0; row < block->rows; row++) {
        for (int64_t i = 0; i < columns; i++) {
            block->w[row * columns + i] *=
                block->scales[row * block->n_scales + i / block->group_columns];
        }
    }
}

static ssmq_status fill_blocks(cpu_linear *linear, const ssmq_precision *precision,
                               uint32_t fake_blocks, ssmq_err *err) {
    const int64_t columns = linear->columns;
    const int64_t n_scales = ssmq_scales_per_row(columns, precision->group_size);
    quantizer z = {.precision = precision};
    SSMQ_TRY(ssmq_calloc_aligned(&linear->scales, (size_t)(linear->rows * n_scales), sizeof(float),
                                 err));
    SSMQ_TRY(ssmq_calloc(&z.q, (size_t)(linear->rows * columns), 1, err));
    for (int i = 0; i < linear->n_blocks; i++) {
        cpu_block *block = &linear->blocks[i];
        block->w = linear->w + block->first_row * columns;
        block->scales = linear->scales + block->first_row * n_scales;
        block->n_scales = n_scales;
        block->group_columns = n_scales > 1 ? precision->group_size : columns;
        if (block->is_quantized) {
            quantize_block(block, columns, &z);
        } else {
            if ((fake_blocks >> i & 1u) != 0) fake_quantize_block(block, columns, &z);
            cpu_round(block->w, block->rows * columns, precision->dtype);
        }
    }
    ssmq_free(z.q);
    return SSMQ_OK;
}

/* One linear of `n` row blocks; bit i of quantized says whether block i is in scope. */
static ssmq_status make_linear(cpu_linear *out, const ssmq_tensor *w, const ssmq_tensor *bias,
                               const int64_t *block_rows, int n, uint32_t quantized,
                               const ssmq_precision *precision, ssmq_err *err) {
    const bool is_weight_only = precision->a_format == SSMQ_FORMAT_FLOAT;
    uint32_t fake_blocks = 0;
    int64_t first = 0;
    out->rows = w->rows;
    out->columns = w->columns;
    out->a_format = precision->a_format;
    out->has_integer_sums = ssmq_precision_has_integer_sums(precision);
    for (int i = 0; i < n; i++) {
        const bool in_scope = (quantized >> i & 1u) != 0;
        add_block(out, first, block_rows[i], in_scope && !is_weight_only,
                  in_scope && is_weight_only, &fake_blocks);
        out->has_quantized |= in_scope && !is_weight_only;
        first += block_rows[i];
    }
    SSMQ_TRY(ssmq_calloc_aligned(&out->w, (size_t)(w->rows * w->columns), sizeof(float), err));
    ssmq_tensor_f32(w, 0, w->rows * w->columns, out->w);
    if (bias->bytes != NULL) {
        SSMQ_TRY(copy_vector(&out->bias, bias, w->rows, precision->dtype, err));
    }
    return fill_blocks(out, precision, fake_blocks, err);
}

static ssmq_status make_layer(cpu_layer *out, const ssmq_layer *layer, const ssmq_shape *s,
                              const ssmq_spec *spec, int64_t layer_idx, ssmq_err *err) {
    const ssmq_dtype dtype = spec->precision.dtype;
    const int64_t in_blocks[SSMQ_IN_PROJ_BLOCKS] = {s->di, s->di, s->G * s->N, s->G * s->N, s->H};
    const uint32_t modules = spec->layer_modules[layer_idx];
    float *taps = NULL;
    SSMQ_TRY(copy_vector(&out->norm, &layer->norm, s->d, dtype, err));
    SSMQ_TRY(copy_vector(&out->gated_norm, &layer->gated_norm, s->di, dtype, err));
    SSMQ_TRY(copy_vector(&out->conv_bias, &layer->conv_bias, s->conv_dim, dtype, err));
    SSMQ_TRY(copy_vector(&out->dt_bias, &layer->dt_bias, s->H, SSMQ_F32, err));
    SSMQ_TRY(copy_vector(&out->D, &layer->D, s->H, SSMQ_F32, err));
    SSMQ_TRY(copy_vector(&out->A, &layer->A_log, s->H, SSMQ_F32, err));
    for (int64_t h = 0; h < s->H; h++) out->A[h] = -expf(out->A[h]);
    SSMQ_TRY(copy_vector(&taps, &layer->conv, s->conv_dim * s->K, dtype, err));
    ssmq_status status =
        ssmq_calloc_aligned(&out->conv, (size_t)(s->conv_dim * s->K), sizeof(float), err);
    for (int64_t i = 0; status == SSMQ_OK && i < s->conv_dim * s->K; i++) {
        out->conv[i % s->K * s->conv_dim + i / s->K] = taps[i];
    }
    ssmq_free(taps);
    SSMQ_TRY(status);
    SSMQ_TRY(make_linear(&out->in_proj, &layer->in_proj, &layer->in_proj_bias, in_blocks,
                         SSMQ_IN_PROJ_BLOCKS, modules, &spec->precision, err));
    return make_linear(&out->out_proj, &layer->out_proj, &layer->out_proj_bias, &s->d, 1,
                       modules >> SSMQ_OUT_PROJ & 1u, &spec->precision, err);
}

/* Everything that is not a linear weight stays in the compute type, A_log, D and dt_bias in fp32.
 * Embeddings share the numbers of a tied head, unless that is quantized. */
static int64_t stored_bytes(const ssmq_model *model, const ssmq_spec *spec) {
    const ssmq_shape *s = &model->shape;
    const int64_t number = (int64_t)ssmq_dtype_bytes(spec->precision.dtype);
    int64_t bias = s->has_bias ? s->R + s->d : 0;
    int64_t conv = s->conv_dim * (s->K + (s->has_conv_bias ? 1 : 0));
    int64_t per_layer = number * (s->d + s->di + bias + conv) + (int64_t)sizeof(float) * 3 * s->H;
    const bool is_head_quantized = (spec->model_modules & SSMQ_MODULE_BIT(SSMQ_LM_HEAD)) != 0;
    int64_t embeddings = s->is_tied && !is_head_quantized ? 0 : s->V * s->d;
    return ssmq_spec_weight_bytes(spec, s) + s->L * per_layer + number * (s->d + embeddings);
}

static ssmq_status fill(cpu_weights *out, const ssmq_model *model, const ssmq_spec *spec,
                        ssmq_err *err) {
    const ssmq_shape *s = &model->shape;
    const ssmq_dtype dtype = spec->precision.dtype;
    const ssmq_tensor no_bias = {0};
    SSMQ_TRY(copy_vector(&out->embeddings, &model->embeddings, s->V * s->d, dtype, err));
    SSMQ_TRY(copy_vector(&out->norm_f, &model->norm_f, s->d, dtype, err));
    SSMQ_TRY(make_linear(&out->head, &model->lm_head, &no_bias, &s->V, 1,
                         spec->model_modules >> SSMQ_LM_HEAD & 1u, &spec->precision, err));
    SSMQ_TRY(ssmq_calloc(&out->layers, (size_t)s->L, sizeof *out->layers, err));
    for (int64_t i = 0; i < s->L; i++) {
        SSMQ_TRY(make_layer(&out->layers[i], &model->layers[i], s, spec, i, err));
    }
    out->stored_bytes = stored_bytes(model, spec);
    return SSMQ_OK;
}

ssmq_status cpu_weights_init(cpu_weights *out, const ssmq_model *model, const ssmq_spec *spec,
                             ssmq_err *err) {
    memset(out, 0, sizeof *out);
    ssmq_status status = fill(out, model, spec, err);
    if (status != SSMQ_OK) cpu_weights_free(out, model->shape.L);
    return status;
}

static void free_linear(cpu_linear *linear) {
    ssmq_free(linear->w);
    ssmq_free(linear->scales);
    ssmq_free(linear->bias);
}

void cpu_weights_free(cpu_weights *weights, int64_t L) {
    for (int64_t i = 0; weights->layers != NULL && i < L; i++) {
        cpu_layer *layer = &weights->layers[i];
        ssmq_free(layer->norm);
        ssmq_free(layer->conv);
        ssmq_free(layer->conv_bias);
        ssmq_free(layer->dt_bias);
        ssmq_free(layer->A);
        ssmq_free(layer->D);
        ssmq_free(layer->gated_norm);
        free_linear(&layer->in_proj);
        free_linear(&layer->out_proj);
    }
    ssmq_free(weights->layers);
    ssmq_free(weights->embeddings);
    ssmq_free(weights->norm_f);
    free_linear(&weights->head);
    memset(weights, 0, sizeof *weights);
}
