/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cuda/linear.h"

#include "engine/cuda/check.h"
#include "engine/cuda/gemv.h"
#include "engine/cuda/quant.h"
#include "quant/quantize.h"

/* How a block is computed. */
typedef enum way { WAY_FLOAT, WAY_WEIGHT_ONLY, WAY_INTEGER, WAY_FP8 } way;

static int64_t round_up(int64_t n, int64_t step) {
    return (n + step - 1) / step * step;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static way way_of(const cuda_linear *l, const cuda_block *k) {
    if (!k->is_quantized) return WAY_FLOAT;
    if (l->a_format == SSMQ_FORMAT_FLOAT) return WAY_WEIGHT_ONLY;
    return l->w_format == SSMQ_FORMAT_FP8_E4M3 ? WAY_FP8 : WAY_INTEGER;
}

bool cuda_block_has_codes(const cuda_linear *l, const cuda_block *k) {
    return way_of(l, k) == WAY_INTEGER || way_of(l, k) == WAY_FP8;
}

static bool is_last(const cuda_linear *l, const cuda_block *k) {
    return k->first_row + k->rows == l->rows;
}

/* ---- shapes ---- */

static cuda_code_shape code_shape_of(int64_t columns, int32_t group_size) {
    const int64_t n_groups = ssmq_scales_per_row(columns, group_size);
    const int64_t group_columns = n_groups > 1 ? group_size : columns;
    const int64_t group_ld = round_up(group_columns, CUDA_CODE_ALIGN);
    const cuda_code_shape shape = {columns, n_groups, group_columns, group_ld, n_groups * group_ld};
    return shape;
}

/* Blocks of block_rows[n] rows, bit i of quantized for block i; neighbours that are alike are one.
 */
static cuda_linear linear_of(const int64_t *block_rows, int n, uint32_t quantized,
                             const ssmq_precision *precision) {
    cuda_linear l = {.dtype = precision->dtype,
                     .w_format = precision->w_format,
                     .a_format = precision->a_format};
    for (int i = 0; i < n; i++) {
        const bool in_scope = (quantized >> i & 1u) != 0;
        cuda_block *last = l.n_blocks > 0 ? &l.blocks[l.n_blocks - 1] : NULL;
        if (last != NULL && last->is_quantized == in_scope) {
            last->rows += block_rows[i];
        } else {
            l.blocks[l.n_blocks++] =
                (cuda_block){.first_row = l.rows, .rows = block_rows[i], .is_quantized = in_scope};
        }
        l.rows += block_rows[i];
        l.is_quantized |= in_scope;
    }
    return l;
}

/* Y's leading dimension, K, and what follows from them. A product that writes Y itself must not
 * write into the columns of the next block, and may fill the padding behind the last. */
static void finish(cuda_linear *l, int64_t y_ld, int64_t columns, int32_t group_size) {
    l->y_ld = y_ld;
    l->columns = columns;
    l->codes = code_shape_of(columns, group_size);
    for (int i = 0; i < l->n_blocks; i++) {
        cuda_block *k = &l->blocks[i];
        const way how = way_of(l, k);
        k->N = is_last(l, k) ? y_ld - k->first_row : k->rows;
        if (how == WAY_INTEGER || how == WAY_FP8) k->N = round_up(k->rows, CUDA_PAD_ROWS);
    }
}

cuda_linear cuda_linear_in_proj(const ssmq_shape *s, const ssmq_spec *spec, int64_t layer_idx) {
    const int64_t rows[SSMQ_IN_PROJ_BLOCKS] = {s->di, s->di, s->G * s->N, s->G * s->N, s->H};
    cuda_linear l =
        linear_of(rows, SSMQ_IN_PROJ_BLOCKS, spec->layer_modules[layer_idx], &spec->precision);
    finish(&l, round_up(s->R, CUDA_PAD_ROWS), s->d, spec->precision.group_size);
    l.has_bias = s->has_bias;
    return l;
}

cuda_linear cuda_linear_out_proj(const ssmq_shape *s, const ssmq_spec *spec, int64_t layer_idx) {
    const uint32_t in_scope = spec->layer_modules[layer_idx] >> SSMQ_OUT_PROJ & 1u;
    cuda_linear l = linear_of(&s->d, 1, in_scope, &spec->precision);
    finish(&l, s->d, s->di, spec->precision.group_size);
    l.has_bias = s->has_bias;
    return l;
}

int64_t cuda_block_bytes(const cuda_linear *l, const cuda_block *k) {
    if (!k->is_quantized) return k->N * l->columns * (int64_t)ssmq_dtype_bytes(l->dtype);
    return k->N * l->codes.ld * ssmq_format_get(l->w_format)->bits / 8;
}

int64_t cuda_block_scales(const cuda_linear *l, const cuda_block *k) {
    return k->is_quantized ? l->codes.n_groups * k->N : 0;
}

/* ---- scratch ---- */

/* True if the product writes Y itself: not int32, and aligned as fp8 products must be. */
static bool is_direct(const cuda_linear *l, const cuda_block *k) {
    enum { FP8_ALIGN_BYTES = 16 };
    const int64_t size = (int64_t)ssmq_dtype_bytes(l->dtype);
    const int64_t room = is_last(l, k) ? l->y_ld - k->first_row : k->rows;
    if (way_of(l, k) == WAY_INTEGER) return false;
    if (way_of(l, k) != WAY_FP8) return true;
    return !l->has_bias && k->N <= room && k->first_row * size % FP8_ALIGN_BYTES == 0 &&
           l->y_ld * size % FP8_ALIGN_BYTES == 0;
}

bool cuda_linear_takes_codes(const cuda_linear *l) {
    return l->n_blocks == 1 && cuda_block_has_codes(l, &l->blocks[0]) &&
           l->codes.ld == l->codes.columns;
}

bool cuda_linear_keeps_sums(const cuda_linear *l) {
    return l->n_blocks == 1 && way_of(l, &l->blocks[0]) == WAY_INTEGER && l->codes.n_groups == 1 &&
           !l->has_bias;
}

static bool leaves_sums(const cuda_linear_call *c) {
    return c->is_fused && cuda_linear_keeps_sums(c->linear);
}

int64_t cuda_linear_y_bytes(const cuda_linear *l, int64_t rows) {
    if (!cuda_linear_keeps_sums(l)) return rows * l->y_ld * (int64_t)ssmq_dtype_bytes(l->dtype);
    return round_up(rows, CUDA_GEMM_PAD_ROWS) * l->blocks[0].N * (int64_t)sizeof(int32_t);
}

cuda_product cuda_linear_product(const cuda_linear_call *c) {
    const cuda_linear *l = c->linear;
    if (!leaves_sums(c)) return (cuda_product){c->y, l->y_ld, NULL, NULL};
    return (cuda_product){c->y, l->blocks[0].N, c->scratch.scales, l->blocks[0].scales};
}

static int64_t sum_row_bytes(const cuda_linear *l, const cuda_block *k) {
    return l->codes.n_groups * k->N * (int64_t)sizeof(int32_t);
}

int64_t cuda_block_tile_rows(const cuda_linear *l, const cuda_block *k, int64_t M) {
    enum { COARSE = 128 };
    if (is_direct(l, k)) return M;
    const int64_t fitting = smaller(CUDA_SUM_BYTES / sum_row_bytes(l, k), CUDA_MAX_TILE_ROWS);
    const int64_t step = fitting >= COARSE ? COARSE : CUDA_GEMM_PAD_ROWS;
    const int64_t most = larger(fitting / step * step, step);
    const int64_t n_tiles = (M + most - 1) / most;
    return n_tiles > 1 ? round_up((M + n_tiles - 1) / n_tiles, step) : M;
}

void cuda_linear_need_add(cuda_linear_need *need, const cuda_linear *l, int64_t rows,
                          bool is_fused) {
    for (int i = 0; i < l->n_blocks; i++) {
        const cuda_block *k = &l->blocks[i];
        const way how = way_of(l, k);
        if (how == WAY_FLOAT) continue;
        if (how == WAY_WEIGHT_ONLY) {
            const int64_t n_bytes = k->N * l->columns * (int64_t)ssmq_dtype_bytes(l->dtype);
            need->unpacked_bytes = larger(need->unpacked_bytes, n_bytes);
            continue;
        }
        need->code_ld = larger(need->code_ld, l->codes.ld);
        if (l->w_format == SSMQ_FORMAT_INT4) {
            need->unpacked_bytes = larger(need->unpacked_bytes, k->N * l->codes.ld);
        }
        if (is_direct(l, k) || (is_fused && cuda_linear_keeps_sums(l))) continue;
        /* A step runs in whole pads of rows. */
        const int64_t most = larger(CUDA_SUM_BYTES, CUDA_GEMM_PAD_ROWS * sum_row_bytes(l, k));
        const int64_t all = round_up(rows, CUDA_GEMM_PAD_ROWS) * sum_row_bytes(l, k);
        need->sum_bytes = larger(need->sum_bytes, smaller(all, most));
    }
}

/* ---- products ---- */

static bool is_unpacked_first(const cuda_linear *l, const cuda_block *k) {
    return way_of(l, k) == WAY_WEIGHT_ONLY ||
           (way_of(l, k) == WAY_INTEGER && l->w_format == SSMQ_FORMAT_INT4);
}

/* The product of rows [first, first + M) with one block. */
static cuda_gemm_call product_of(const cuda_linear_call *c, const cuda_block *k, int64_t first,
                                 int64_t M) {
    const cuda_linear *l = c->linear;
    const way how = way_of(l, k);
    const int64_t size = (int64_t)ssmq_dtype_bytes(l->dtype);
    char *y = (char *)c->y + (first * l->y_ld + k->first_row) * size;
    cuda_gemm_call call = {
        .shape = {.M = M,
                  .N = k->N,
                  .K = l->columns,
                  .y_ld = l->y_ld,
                  .y_first = k->first_row,
                  .dtype = l->dtype,
                  .y_dtype = l->dtype,
                  .has_bias = l->has_bias,
                  .is_decode = c->is_decode},
        .x = (const char *)c->x + first * l->columns * size,
        .w = is_unpacked_first(l, k) ? c->scratch.unpacked : k->w,
        .bias = l->has_bias ? (const char *)l->bias + k->first_row * size : NULL,
        .y = y,
        .stream = c->stream,
    };
    if (how == WAY_FLOAT || how == WAY_WEIGHT_ONLY) return call;
    call.shape.format = how == WAY_FP8 ? SSMQ_FORMAT_FP8_E4M3 : SSMQ_FORMAT_INT8;
    call.shape.K = l->codes.group_ld;
    call.shape.n_groups = l->codes.n_groups;
    call.shape.has_bias = false;
    call.x = c->scratch.codes + first * l->codes.ld;
    call.x_scales = c->scratch.scales + first;
    call.w_scales = k->scales;
    if (!is_direct(l, k)) {
        call.shape.y_ld = k->N;
        call.shape.y_first = 0;
        call.shape.y_dtype = SSMQ_F32;
        call.y = leaves_sums(c) ? c->y : c->scratch.sums;
    }
    return call;
}

static ssmq_status quantize(const cuda_linear_call *c, ssmq_err *err) {
    const cuda_linear *l = c->linear;
    const cuda_quantize_call call = {
        .x = c->x,
        .dtype = l->dtype,
        .rows = c->M,
        .shape = l->codes,
        .format = l->a_format,
        .codes = c->scratch.codes,
        .scales = c->scratch.scales,
        .is_chained = c->is_chained,
        .stream = c->stream,
    };
    return cuda_quantize(&call, err);
}

static ssmq_status unpack(const cuda_linear_call *c, const cuda_block *k, ssmq_err *err) {
    const cuda_linear *l = c->linear;
    if (way_of(l, k) == WAY_WEIGHT_ONLY) {
        return cuda_dequantize_weights(l, k, c->scratch.unpacked, c->stream, err);
    }
    return cuda_unpack_int4(k->w, k->N * l->codes.ld, c->scratch.unpacked, c->stream, err);
}

/* Not of weights that a kernel unpacks just before: cuda_gemv() reads weights before it waits. */
static bool is_own(const cuda_linear_call *c, const cuda_gemm_call *product) {
    return c->has_gemv && product->w != c->scratch.unpacked &&
           cuda_gemv_serves(&product->shape, c->n_sm, c->shared_bytes);
}

void cuda_linear_count(const cuda_linear_call *c, int64_t *n_own, int64_t *n_all) {
    for (int i = 0; i < c->linear->n_blocks; i++) {
        const cuda_gemm_call product = product_of(c, &c->linear->blocks[i], 0, c->M);
        *n_own += is_own(c, &product);
        *n_all += 1;
    }
}

static ssmq_status multiply(const cuda_linear_call *c, const cuda_gemm_call *product,
                            ssmq_err *err) {
    if (is_own(c, product)) return cuda_gemv(product, c->n_sm, c->is_chained, err);
    return cuda_gemm(c->gemms, product, err);
}

static ssmq_status multiply_block(const cuda_linear_call *c, const cuda_block *k, ssmq_err *err) {
    const cuda_linear *l = c->linear;
    const int64_t height = leaves_sums(c) ? c->M : cuda_block_tile_rows(l, k, c->M);
    if (is_unpacked_first(l, k)) SSMQ_TRY(unpack(c, k, err));
    for (int64_t first = 0; first < c->M; first += height) {
        const int64_t M = smaller(height, c->M - first);
        const cuda_gemm_call product = product_of(c, k, first, M);
        SSMQ_TRY(multiply(c, &product, err));
        if (is_direct(l, k) || leaves_sums(c)) continue;
        const cuda_dequantize_call dequantize = {
            .linear = l,
            .block = k,
            .sums = c->scratch.sums,
            .x_scales = c->scratch.scales + first,
            .M = M,
            .y = (char *)c->y + first * l->y_ld * (int64_t)ssmq_dtype_bytes(l->dtype),
            .is_chained = c->is_chained,
            .stream = c->stream,
        };
        SSMQ_TRY(cuda_dequantize(&dequantize, err));
    }
    return SSMQ_OK;
}

ssmq_status cuda_linear_multiply(const cuda_linear_call *call, ssmq_err *err) {
    const cuda_linear *l = call->linear;
    const bool has_codes = l->is_quantized && l->a_format != SSMQ_FORMAT_FLOAT;
    if (has_codes && !(call->is_fused && cuda_linear_takes_codes(l))) SSMQ_TRY(quantize(call, err));
    for (int i = 0; i < l->n_blocks; i++) {
        SSMQ_TRY(multiply_block(call, &l->blocks[i], err));
    }
    return SSMQ_OK;
}

/* ---- algorithms ---- */

static bool same_block(const cuda_block *a, const cuda_block *b) {
    return a->first_row == b->first_row && a->rows == b->rows && a->is_quantized == b->is_quantized;
}

/* Weights of blocks like this one, of all layers that have one. */
static int64_t gather(const cuda_linear *const *linears, int64_t n, const cuda_block *like,
                      const void **w) {
    int64_t n_w = 0;
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < linears[i]->n_blocks; k++) {
            if (same_block(&linears[i]->blocks[k], like)) w[n_w++] = linears[i]->blocks[k].w;
        }
    }
    return n_w;
}

/* Integer products of M rows as they will run, on codes of all kinds: the algorithm may be another
 * than the one that cuda_linear_check() saw. */
static ssmq_status try_product(const cuda_linear_call *c, const cuda_block *k, int64_t M,
                               ssmq_err *err) {
    const cuda_linear *l = c->linear;
    const cuda_gemm_call product = product_of(c, k, 0, M);
    const cuda_count_call count = {
        .shape = l->codes,
        .x = c->scratch.codes,
        .w = product.w,
        .sums = product.y,
        .M = M,
        .N = k->N,
        .n_wrong = (int32_t *)c->scratch.scales,
        .stream = c->stream,
    };
    int32_t n_wrong = 0;
    if (is_unpacked_first(l, k)) SSMQ_TRY(unpack(c, k, err));
    SSMQ_TRY(cuda_draw_codes(c->scratch.codes, M * l->codes.ld, l->a_format, c->stream, err));
    SSMQ_TRY(multiply(c, &product, err));
    SSMQ_TRY(cuda_count_wrong(&count, err));
    CUDA_TRY(
        cudaMemcpyAsync(&n_wrong, count.n_wrong, sizeof n_wrong, cudaMemcpyDeviceToHost, c->stream),
        err);
    CUDA_TRY(cudaStreamSynchronize(c->stream), err);
    if (n_wrong == 0) return SSMQ_OK;
    return SSMQ_FAIL(err, SKIP,
                     "the int8 product of M %lld, N %lld, K %lld in %lld groups is wrong on "
                     "this device: %d sums of 3 rows are not exact",
                     (long long)M, (long long)k->N, (long long)l->columns,
                     (long long)l->codes.n_groups, (int)n_wrong);
}

static ssmq_status prepare_product(const cuda_linear_call *c, const cuda_block *k, int64_t M,
                                   const void *const *w, int64_t n_w, ssmq_err *err) {
    const cuda_gemm_call product = product_of(c, k, 0, M);
    if (!is_own(c, &product)) SSMQ_TRY(cuda_gemms_prepare(c->gemms, &product, w, n_w, err));
    return way_of(c->linear, k) == WAY_INTEGER ? try_product(c, k, M, err) : SSMQ_OK;
}

static ssmq_status prepare_block(const cuda_linear_call *c, const cuda_block *k, const void **w,
                                 int64_t n_w, ssmq_err *err) {
    const int64_t height = leaves_sums(c) ? c->M : cuda_block_tile_rows(c->linear, k, c->M);
    const int64_t last = c->M - (c->M - 1) / height * height;
    if (is_unpacked_first(c->linear, k)) {
        w[0] = c->scratch.unpacked;
        n_w = 1;
    }
    SSMQ_TRY(prepare_product(c, k, height, w, n_w, err));
    return last < height ? prepare_product(c, k, last, w, n_w, err) : SSMQ_OK;
}

ssmq_status cuda_linear_prepare(const cuda_linear_call *call, const cuda_linear *const *linears,
                                int64_t n, ssmq_err *err) {
    const void *w[SSMQ_MAX_LAYERS];
    cuda_linear_call c = *call;
    for (int64_t i = 0; i < n; i++) {
        c.linear = linears[i];
        for (int k = 0; k < c.linear->n_blocks; k++) {
            const cuda_block *block = &c.linear->blocks[k];
            /* Layers that are alike share their products' algorithms. */
            if (gather(linears, i, block, w) > 0) continue;
            const int64_t n_w = gather(linears, n, block, w);
            SSMQ_TRY(prepare_block(&c, block, w, n_w, err));
        }
    }
    return SSMQ_OK;
}
