/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/products.c - linear layers over OpenBLAS.
 *
 * Integer products also run in fp32 and are exact: every operand is an integer of at most 127, so
 * a sum over at most 1040 columns stays below 2^24, where fp32 holds every integer and no order of
 * summation or fused multiply-add can round. Such sums are then added as int32.
 *
 * Products with fp8 values are exact in fp32 (8 significant bits at most), their sums are not: they
 * are added in fp32 in the order of the float products, all columns of a scale at once; in a tile
 * as OpenBLAS has it, in decode as dot() does. */
#include <math.h>
#include <string.h>

#include <cblas.h>
#include <omp.h>

#include "engine/cpu/cpu.h"
#include "quant/quantize.h"

enum {
    EXACT_COLUMNS = 1024, /* 1024 * 127 * 127 < 2^24 */
    STEP_OUT = 128        /* output channels of a tile of decode, few to keep all threads busy */
};

/* A tile of the result: `rows` tokens from row0, `outs` channels from out0 of a block. */
typedef struct tile {
    int64_t row0, rows;
    int64_t out0, outs;
} tile;

/* Columns [first, first + n) of both operands. */
typedef struct operands {
    const float *x; /* [rows, columns] of all tokens */
    int64_t x_stride;
    const float *w; /* [outs, columns] of the block */
    int64_t first, n;
} operands;

/* In 16 partial sums, so that the order of addition does not depend on the width of vectors. Three
 * times as fast as OpenBLAS 0.3.21 sgemv of the demo's shapes (2.5 ms against 0.85 ms for all of
 * its weights, EPYC 9004, 2026-11-23). */
static float dot(const float *a, const float *b, int64_t n) {
    enum { LANES = 16 };
    float part[LANES] = {0.0f};
    float sum = 0.0f;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int lane = 0; lane < LANES; lane++) part[lane] += a[i + lane] * b[i + lane];
    }
    for (; i < n; i++) sum += a[i] * b[i];
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int lane = 0; lane < half; lane++) part[lane] += part[lane + half];
    }
    return part[0] + sum;
}

/* out = sum over the operands' columns for the tile. */
static void multiply_columns(const cpu_product *p, const tile *t, const operands *o, float *out,
                             int64_t out_stride) {
    const int64_t columns = p->linear->columns;
    const float *x = o->x + t->row0 * o->x_stride + o->first;
    const float *w = o->w + t->out0 * columns + o->first;
    if (p->by_row) {
        for (int64_t i = 0; i < t->outs; i++) out[i] = dot(w + i * columns, x, o->n);
    } else {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)t->rows, (int)t->outs, (int)o->n,
                    1.0f, x, (int)o->x_stride, w, (int)columns, 0.0f, out, (int)out_stride);
    }
}

static int32_t integer_dot(const float *a, const float *b, int64_t n) {
    int32_t sum = 0;
    for (int64_t k = 0; k < n; k += EXACT_COLUMNS) {
        sum += (int32_t)dot(a + k, b + k, n - k < EXACT_COLUMNS ? n - k : EXACT_COLUMNS);
    }
    return sum;
}

/* Columns that a group's scale stands for. */
static int64_t group_width(const cpu_block *block, int64_t columns, int64_t group) {
    const int64_t left = columns - group * block->group_columns;
    return left < block->group_columns ? left : block->group_columns;
}

/* As multiply_quantized() for one token: weights are read once, in their order. */
static void multiply_quantized_row(const cpu_engine *e, const cpu_product *p,
                                   const cpu_block *block, const tile *t) {
    const int64_t columns = p->linear->columns;
    const bool has_integer_sums = p->linear->has_integer_sums;
    const float *x = e->buffers.quantized + t->row0 * columns;
    const float s_x = e->buffers.scales[t->row0];
    float *y = p->y + t->row0 * p->y_stride + block->first_row;
    for (int64_t n = t->out0; n < t->out0 + t->outs; n++) {
        float sum = 0.0f;
        for (int64_t group = 0; group < block->n_scales; group++) {
            const int64_t first = group * block->group_columns;
            const int64_t width = group_width(block, columns, group);
            const float *w = block->w + n * columns + first;
            const float acc = has_integer_sums ? (float)integer_dot(w, x + first, width)
                                               : dot(w, x + first, width);
            const float term = acc * s_x * block->scales[n * block->n_scales + group];
            sum = group > 0 ? sum + term : term;
        }
        y[n] = sum;
    }
}

/* acc [rows, outs] = sums of the tile over the columns of one group, before scales. */
static void sum_group(const cpu_engine *e, const cpu_product *p, const cpu_block *block,
                      const tile *t, int64_t group, float *acc) {
    const int64_t columns = p->linear->columns;
    const int64_t width = group_width(block, columns, group);
    const int64_t step = p->linear->has_integer_sums ? EXACT_COLUMNS : width;
    int32_t *sum = (int32_t *)(acc + CPU_TILE_ROWS * CPU_TILE_OUT);
    for (int64_t k = 0; k < width; k += step) {
        const operands o = {.x = e->buffers.quantized,
                            .x_stride = columns,
                            .w = block->w,
                            .first = group * block->group_columns + k,
                            .n = width - k < step ? width - k : step};
        multiply_columns(p, t, &o, acc, t->outs);
        /* A sum of one step is exact in fp32 as it is. */
        for (int64_t i = 0; width > step && i < t->rows * t->outs; i++) {
            sum[i] = (k > 0 ? sum[i] : 0) + (int32_t)acc[i];
        }
    }
    for (int64_t i = 0; width > step && i < t->rows * t->outs; i++) acc[i] = (float)sum[i];
}

/* y = acc * s_x * s_w, left to right, groups added in ascending order (design section 5). */
static void multiply_quantized(const cpu_engine *e, const cpu_product *p, const cpu_block *block,
                               const tile *t, float *scratch) {
    float *y = p->y + t->row0 * p->y_stride + block->first_row + t->out0;
    for (int64_t group = 0; group < block->n_scales; group++) {
        const float *s_w = block->scales + t->out0 * block->n_scales + group;
        sum_group(e, p, block, t, group, scratch);
        for (int64_t r = 0; r < t->rows; r++) {
            const float s_x = e->buffers.scales[t->row0 + r];
            for (int64_t n = 0; n < t->outs; n++) {
                const float term = scratch[r * t->outs + n] * s_x * s_w[n * block->n_scales];
                y[r * p->y_stride + n] = group > 0 ? y[r * p->y_stride + n] + term : term;
            }
        }
    }
}

static void finish_tile(const cpu_product *p, const cpu_block *block, const tile *t) {
    const int64_t out0 = block->first_row + t->out0;
    const float *bias = p->linear->bias;
    for (int64_t r = 0; r < t->rows; r++) {
        float *y = p->y + (t->row0 + r) * p->y_stride + out0;
        for (int64_t n = 0; bias != NULL && n < t->outs; n++) y[n] += bias[out0 + n];
        cpu_round(y, t->outs, p->dtype);
    }
}

static void multiply_tile(const cpu_engine *e, const cpu_product *p, const cpu_block *block,
                          const tile *t, float *scratch) {
    if (block->is_quantized && p->by_row) {
        multiply_quantized_row(e, p, block, t);
    } else if (block->is_quantized) {
        multiply_quantized(e, p, block, t, scratch);
    } else {
        float *y = p->y + t->row0 * p->y_stride + block->first_row + t->out0;
        const operands o = {
            .x = p->x, .x_stride = p->x_stride, .w = block->w, .n = p->linear->columns};
        multiply_columns(p, t, &o, y, p->y_stride);
    }
    finish_tile(p, block, t);
}

static int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* Columns of the shortest sum of the block. */
static int64_t least_columns(const cpu_block *block, int64_t columns) {
    return block->is_quantized ? group_width(block, columns, block->n_scales - 1) : columns;
}

/* Tiles of all tokens and channels of one block, spread over the threads. Channels are shared out
 * evenly, lest the last tile be narrow, which would make all of them low. */
static void multiply_block(const cpu_engine *e, const cpu_product *p, const cpu_block *block) {
    const int64_t n_across = divide_up(block->rows, p->by_row ? STEP_OUT : CPU_TILE_OUT);
    const int64_t width = divide_up(block->rows, n_across);
    const int64_t last_width = block->rows - (n_across - 1) * width;
    const bool is_small = last_width * least_columns(block, p->linear->columns) < CPU_SMALL_TILE;
    const int64_t height = p->by_row ? 1 : (is_small ? CPU_PAD_ROWS : CPU_TILE_ROWS);
    const int64_t padded = p->by_row ? p->rows : divide_up(p->rows, CPU_PAD_ROWS) * CPU_PAD_ROWS;
    const int64_t n_down = divide_up(padded, height);
#pragma omp parallel for schedule(dynamic) num_threads(e->n_threads)
    for (int64_t i = 0; i < n_down * n_across; i++) {
        tile t = {.row0 = i / n_across * height, .out0 = i % n_across * width};
        t.rows = padded - t.row0 < height ? padded - t.row0 : height;
        t.outs = i % n_across + 1 < n_across ? width : last_width;
        float *scratch = e->buffers.scratch + omp_get_thread_num() * e->buffers.scratch_floats;
        multiply_tile(e, p, block, &t, scratch);
    }
}

void cpu_multiply(cpu_engine *e, const cpu_product *product) {
    const cpu_linear *linear = product->linear;
    if (linear->has_quantized) {
#pragma omp parallel for schedule(static) num_threads(e->n_threads)
        for (int64_t r = 0; r < product->rows; r++) {
            e->buffers.scales[r] =
                ssmq_quantize_values(product->x + r * product->x_stride, linear->columns,
                                     linear->a_format, e->buffers.quantized + r * linear->columns);
        }
    }
    for (int i = 0; i < linear->n_blocks; i++) {
        multiply_block(e, product, &linear->blocks[i]);
    }
}
