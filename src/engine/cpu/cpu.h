/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/cpu.h - the parts of the CPU engine, the definition of correct. Internal to this
 * folder.
 *
 * One layer, for rows = B sequences of T tokens each, row = b * T + t (spec section 3):
 *     u      = norm(residual)                          [rows, d]         rounded
 *     zxbcdt = in_proj(u)                              [rows, R]         rounded
 *     xbc    = silu(conv(zxbcdt[x|B|C]))               [rows, conv_dim]  rounded
 *     dt     = clamp(softplus(zxbcdt[dt] + dt_bias))   [rows, H]         fp32
 *     y      = scan(xbc, dt) + D x                     [rows, di]        rounded
 *     u      = gated_norm(y * silu(z))                 [rows, di]        rounded
 *     residual += out_proj(u)                          [rows, d]         product rounded, sum fp32
 * "rounded" means: to the compute type, once, where a 16-bit engine stores the tensor (spec section
 * 4, column A). Everything between is fp32, statistics are fp64.
 *
 * Determinism: a float product of prefill is cut into tiles of fixed height, each one
 * single-threaded BLAS call, and decode takes one row at a time in loops of our own; so neither the
 * number of threads nor the other rows of a batch change a bit. Products of fp8 values are such
 * float products; those of integers are exact in any order. */
#ifndef SSMQ_ENGINE_CPU_CPU_H
#define SSMQ_ENGINE_CPU_CPU_H

#include "base/status.h"
#include "engine/engine.h"
#include "engine/reuse.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CPU_CHUNK_TOKENS = 64, /* Q of the chunked scan; segments are multiples of it */
    CPU_MAX_ROWS = 4096,   /* rows of one segment over all sequences, where Q allows */
    CPU_TILE_ROWS = 256, /* tokens of one product tile; the last tile is padded to a multiple of */
    CPU_PAD_ROWS = 64,   /* this height, at which BLAS computes a row as in a full tile */
    CPU_TILE_OUT = 1024, /* output channels of one product tile */
    /* Below this many weights all tiles have CPU_PAD_ROWS. OpenBLAS 0.3.21 on AVX-512 has other
     * kernels, which sum in another order, for products of up to 10^6 multiplications, so that rows
     * of 64-row and 256-row tiles differed in the last bit for up to 16 channels. */
    CPU_SMALL_TILE = 65536
};

/* Output channels of a linear layer that are computed alike. */
typedef struct cpu_block {
    int64_t first_row, rows;
    bool is_quantized; /* w holds values of a format, to be scaled, and activations likewise */
    float *w;          /* [rows, columns], in the linear's own slab */
    float *scales;     /* [rows, n_scales] of a quantized block */
    int64_t n_scales;
    int64_t group_columns; /* columns a scale; all of them if n_scales is 1 */
} cpu_block;

enum { CPU_MAX_BLOCKS = SSMQ_IN_PROJ_BLOCKS };

/* y = W x + bias */
typedef struct cpu_linear {
    int64_t rows, columns;
    float *w;      /* [rows, columns]: weights, or unscaled values of quantized blocks */
    float *scales; /* of all quantized blocks */
    float *bias;   /* [rows], NULL if none */
    int n_blocks;
    cpu_block blocks[CPU_MAX_BLOCKS];
    bool has_quantized;
    bool has_integer_sums; /* of quantized blocks: both formats are integers */
    ssmq_format a_format;  /* of quantized blocks' activations */
} cpu_linear;

typedef struct cpu_layer {
    float *norm;       /* [d] */
    float *conv;       /* [K, conv_dim]: tap by tap, so that channels are contiguous */
    float *conv_bias;  /* [conv_dim], zeros if none */
    float *dt_bias;    /* [H] */
    float *A;          /* [H], negative */
    float *D;          /* [H] */
    float *gated_norm; /* [di] */
    cpu_linear in_proj, out_proj;
} cpu_layer;

typedef struct cpu_weights {
    float *embeddings;    /* [V, d] */
    float *norm_f;        /* [d] */
    cpu_linear head;      /* [V, d] */
    cpu_layer *layers;    /* [L] */
    int64_t stored_bytes; /* as the spec stores them */
} cpu_weights;

/* State of B sequences; layer by layer. */
typedef struct cpu_state {
    float *ssm;  /* [L, B, H, P, N] */
    float *conv; /* [L, B, K-1, conv_dim], raw inputs, oldest first */
    int64_t n_bytes;
    int64_t position; /* tokens that every sequence has consumed */
} cpu_state;

/* Buffers of one segment; padded to whole tiles. */
typedef struct cpu_buffers {
    int64_t rows;     /* capacity */
    float *residual;  /* [rows, d] */
    float *u;         /* [rows, max(d, di)] */
    float *zxbcdt;    /* [rows, R] */
    float *xbc;       /* [rows, conv_dim] */
    float *dt;        /* [rows, H] */
    float *y;         /* [rows, max(d, di)] */
    float *gram;      /* [B, G, chunks, Q, Q]: C B^T */
    float *quantized; /* [rows, max(d, di)] activations as values of their format */
    float *scales;    /* [rows] of those */
    int64_t *listed;  /* [rows] rows whose logits are wanted, */
    int32_t *targets; /* [rows] their targets */
    float *nll;       /* [rows] and the negative log likelihoods of those */
    int32_t *tokens;  /* [B] of a decode step */
    int64_t activation_bytes;
    float *logits;  /* [CPU_TILE_ROWS, V] */
    float *scratch; /* [n_threads, scratch_floats] */
    int64_t scratch_floats;
    int64_t workspace_bytes;
} cpu_buffers;

typedef struct cpu_engine {
    ssmq_engine base;
    int n_threads;
    ssmq_shape shape;
    ssmq_spec spec;
    bool is_loaded;
    cpu_weights weights;
    ssmq_engine_extent extent;
    int64_t segment_tokens; /* longest segment of one sequence, a multiple of Q */
    cpu_state state, kept;  /* kept: of one sequence; NULLs: none */
    cpu_buffers buffers;
    int64_t row_tokens; /* T of the rows in the buffers */
    int64_t last_call_ns;
    ssmq_reuse *reuse; /* NULL: none */
    bool is_reused;    /* the extent has a reuse_key, and the state is not to be trusted */
    int64_t computed_layer_tokens, reused_layer_tokens;
} cpu_engine;

/* weights.c.  Owns: *out, cpu_weights_free().  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status cpu_weights_init(cpu_weights *out, const ssmq_model *model,
                                           const ssmq_spec *spec, ssmq_err *err);
void cpu_weights_free(cpu_weights *weights, int64_t L);

/* buffers.c: state and buffers for e->extent.  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status cpu_buffers_init(cpu_engine *e, ssmq_err *err);
void cpu_buffers_free(cpu_engine *e);

/* round.c: n values to the compute type and back, in place. */
void cpu_round(float *x, int64_t n, ssmq_dtype dtype);

/* products.c: y [rows, linear.rows] = x [rows, columns] W^T + bias, rounded to dtype. Prefill takes
 * tiles and writes up to rows rounded up to CPU_PAD_ROWS; decode takes row by row.
 * x_stride, y_stride in numbers. */
typedef struct cpu_product {
    const cpu_linear *linear;
    const float *x;
    float *y;
    int64_t rows, x_stride, y_stride;
    ssmq_dtype dtype; /* rounding of y; F32: none */
    bool by_row;      /* decode */
} cpu_product;
void cpu_multiply(cpu_engine *e, const cpu_product *product);

/* norm.c: u = norm(residual), of all rows or of the listed ones (then u is as long as the list);
 * and u = gated_norm(y * silu(z)).  Fails: NUMERIC; `place` names the layer. */
SSMQ_MUST_USE ssmq_status cpu_norm(cpu_engine *e, const float *weight, const int64_t *listed,
                                   int64_t rows, const char *place, ssmq_err *err);
void cpu_gated_norm(cpu_engine *e, const cpu_layer *layer, int64_t rows);

/* conv.c: xbc and dt of a segment of T tokens a sequence; moves the conv state on.
 * scan.c, step.c: y of a segment, or of one token; move the recurrent state on. */
void cpu_conv(cpu_engine *e, int64_t layer_idx, int64_t T);
void cpu_scan(cpu_engine *e, int64_t layer_idx, int64_t T);
void cpu_step(cpu_engine *e, int64_t layer_idx);

/* state.c: rounds all states as their type stores them after a call; read_state, write_state. */
void cpu_store_state(cpu_engine *e);
void cpu_read_state(const cpu_engine *e, int64_t layer_idx, float *ssm, float *conv);
void cpu_write_state(cpu_engine *e, int64_t layer_idx, const float *ssm, const float *conv);

/* forward.c: tokens [B, T] with row stride `stride` through all layers into the residual.
 * Fails: NUMERIC. */
SSMQ_MUST_USE ssmq_status cpu_forward(cpu_engine *e, const int32_t *tokens, int64_t stride,
                                      int64_t T, bool is_decode, ssmq_err *err);

/* head.c: what is wanted of the logits of the rows in e->buffers.listed. */
typedef struct cpu_head_want {
    int64_t n_listed;
    bool nll;        /* into e->buffers.nll, of e->buffers.targets */
    float *logits;   /* [n_listed, V] or NULL */
    int32_t *argmax; /* [n_listed] or NULL; lowest id of the largest logit */
    /* [B, n_tokens, V] or NULL: row b * T + t goes to token first_token + t of sequence b. */
    float *all_logits;
    int64_t n_tokens, first_token;
    bool by_row; /* decode */
} cpu_head_want;
/* Fails: NUMERIC. */
SSMQ_MUST_USE ssmq_status cpu_head(cpu_engine *e, const cpu_head_want *want, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
