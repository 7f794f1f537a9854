/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/linear.h - one linear layer in any precision: Y[M, rows] = X[M, K] W^T + bias, CT in
 * and out. Internal to this folder.
 *
 * Its output rows are cut into blocks of neighbours that are computed alike. A block is
 *   float            one product in CT
 *   weight-only      codes to CT in scratch, then as float
 *   integer          X to codes, an exact int32 product a group of columns, then
 *                    y = acc * s_x * s_w, left to right, groups added in ascending order, + bias,
 *                    rounded to CT (design section 5)
 *   fp8              X to codes, a product that applies both scales, rounded to CT
 *
 * A fused call spares two passes: who makes X leaves it as codes, and who reads Y takes the sums of
 * an integer product as they are (cuda_product).
 *
 * Codes are stored group by group: a group begins at a multiple of CUDA_CODE_ALIGN bytes and ends
 * in zeros, so that every product is aligned whatever K and the group size are; int4 lies two to a
 * byte in the same order, and is unpacked into scratch before its product. Integer sums go through
 * scratch, tile by tile of rows; no bit of a result depends on tiles, algorithms or other rows. */
#ifndef SSMQ_ENGINE_CUDA_LINEAR_H
#define SSMQ_ENGINE_CUDA_LINEAR_H

#include <cuda_runtime_api.h>

#include "base/status.h"
#include "engine/cuda/gemm.h"
#include "model/modules.h"
#include "quant/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CUDA_PAD_ROWS = 16,   /* rows of in_proj, lm_head and of codes are padded to a multiple of it */
    CUDA_CODE_ALIGN = 16, /* columns a group of codes is padded to */
    /* Sums of one tile take at most so many bytes, unless 16 rows are more; and at most so many
     * rows. */
    CUDA_SUM_BYTES = 128 << 20,
    CUDA_MAX_TILE_ROWS = 8192
};

/* Where the codes of a row of K numbers lie: number k at
 * k / group_columns * group_ld + k % group_columns. */
typedef struct cuda_code_shape {
    int64_t columns; /* K */
    int64_t n_groups, group_columns;
    int64_t group_ld; /* group_columns and its padding */
    int64_t ld;       /* n_groups * group_ld */
} cuda_code_shape;

typedef struct cuda_block {
    int64_t first_row, rows;
    bool is_quantized;
    int64_t N;     /* output channels of the product: rows, and padding whose weights are zero */
    void *w;       /* CT [N, K], or codes [N, ld] (int4: [N, ld / 2]) */
    float *scales; /* [n_groups, N] of a quantized block */
} cuda_block;

typedef struct cuda_linear {
    int64_t rows, columns;
    int64_t y_ld; /* leading dimension of Y, in numbers, >= rows */
    ssmq_dtype dtype;
    ssmq_format w_format, a_format; /* of quantized blocks */
    cuda_code_shape codes;
    bool has_bias;
    void *bias; /* CT [y_ld], NULL if none */
    int n_blocks;
    cuda_block blocks[SSMQ_IN_PROJ_BLOCKS];
    bool is_quantized; /* some block is */
} cuda_linear;

/* in_proj and out_proj of a layer as the spec asks for them, without memory. */
cuda_linear cuda_linear_in_proj(const ssmq_shape *shape, const ssmq_spec *spec, int64_t layer_idx);
cuda_linear cuda_linear_out_proj(const ssmq_shape *shape, const ssmq_spec *spec, int64_t layer_idx);

/* Bytes of a block's w, and numbers in its scales. */
int64_t cuda_block_bytes(const cuda_linear *linear, const cuda_block *block);
int64_t cuda_block_scales(const cuda_linear *linear, const cuda_block *block);

/* True if all of X is wanted as codes and in no other form, row by row without padding: who makes
 * X may write scratch.codes and scratch.scales itself, with codes of a_format. */
bool cuda_linear_takes_codes(const cuda_linear *linear);

/* True if Y is one block of int32 sums, without groups or bias, which stay as they are. */
bool cuda_linear_keeps_sums(const cuda_linear *linear);

/* Bytes of a fused call's Y. */
int64_t cuda_linear_y_bytes(const cuda_linear *linear, int64_t rows);

/* Y as it was left: numbers of CT; or, where row_scales is there, exact int32 sums, each of which
 * stands for  sum * row_scales[row] * column_scales[column],  left to right, rounded to CT. */
typedef struct cuda_product {
    const void *y; /* [rows, ld] */
    int64_t ld;
    const float *row_scales, *column_scales; /* [rows], [ld] */
} cuda_product;

/* What products of at most `rows` rows need beside X and Y. */
typedef struct cuda_linear_need {
    int64_t code_ld;        /* bytes of codes a row of X */
    int64_t sum_bytes;      /* int32 or fp32 */
    int64_t unpacked_bytes; /* of weights */
} cuda_linear_need;
/* Widens *need to what this linear needs too. */
void cuda_linear_need_add(cuda_linear_need *need, const cuda_linear *linear, int64_t rows,
                          bool is_fused);

/* Rows of one tile of a block's product of M rows: as few tiles as fit, of much the same height. */
int64_t cuda_block_tile_rows(const cuda_linear *linear, const cuda_block *block, int64_t M);

typedef struct cuda_linear_scratch {
    uint8_t *codes; /* [rows rounded up to CUDA_GEMM_PAD_ROWS, code_ld] */
    float *scales;  /* of those rows */
    void *sums;
    void *unpacked;
} cuda_linear_scratch;

typedef struct cuda_linear_call {
    const cuda_linear *linear;
    cuda_gemms *gemms;
    cuda_linear_scratch scratch;
    const void *x; /* CT [M, K] */
    void *y;       /* CT [M, y_ld] */
    int64_t M;
    /* Where cuda_linear_takes_codes() X is not read, the scratch holds its codes and scales; and
     * where cuda_linear_keeps_sums() Y is int32 [M, N], N that of the block. */
    bool is_fused;
    bool is_decode;
    bool is_chained;      /* kernels may begin while their predecessor ends (chain.cuh) */
    bool has_gemv;        /* products that cuda_gemv() serves are its own */
    int n_sm;             /* multiprocessors of the device */
    int64_t shared_bytes; /* that a block may take of one */
    cudaStream_t stream;
} cuda_linear_call;

/* Launches a layer's product; its shapes must have been prepared if a graph is captured.
 * Fails: SKIP (no algorithm), DEVICE, NOMEM. */
SSMQ_MUST_USE ssmq_status cuda_linear_multiply(const cuda_linear_call *call, ssmq_err *err);

/* How many products a call is, and how many of them are by cuda_gemv(); both are added to. */
void cuda_linear_count(const cuda_linear_call *call, int64_t *n_own, int64_t *n_all);

/* What a call leaves in Y. */
cuda_product cuda_linear_product(const cuda_linear_call *call);

/* Chooses the algorithms of the products of linears[n] of n layers, called as `call` says.
 * Fails: as cuda_gemms_prepare. */
SSMQ_MUST_USE ssmq_status cuda_linear_prepare(const cuda_linear_call *call,
                                              const cuda_linear *const *linears, int64_t n,
                                              ssmq_err *err);

/* True if a block's product is one of codes. */
bool cuda_block_has_codes(const cuda_linear *linear, const cuda_block *block);

/* The check of a product of codes, linear_check.c: random and extreme codes through the fixed
 * algorithms of a step and of a segment. Integer sums must be those of the CPU bit for bit; fp8
 * sums near them. Needs memory for its own time, and leaves `gemms` without a workspace.
 * Fails: SKIP (the product is wrong: which; or there is no algorithm), NOMEM, DEVICE. */
SSMQ_MUST_USE ssmq_status cuda_linear_check(const cuda_linear *linear, const cuda_block *block,
                                            cuda_gemms *gemms, cudaStream_t stream, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
