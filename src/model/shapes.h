/* SPDX-License-Identifier: Apache-2.0 */
/* model/shapes.h - the letters that stand for sizes, everywhere in ssmq:
 *
 *   d   hidden size                 H  heads            T  tokens of one sequence
 *   di  inner size, (int)(E * d)    P  head size        B  sequences in a batch
 *   E   expansion                   N  state size       Q  chunk of the chunked scan
 *   L   layers                      G  groups of B, C   R  in_proj rows, 2*di + 2*G*N + H
 *   V   padded vocabulary           K  conv kernel      conv_dim = di + 2*G*N
 *
 * Linear weights are [rows, columns] row-major, y = W x. */
#ifndef SSMQ_MODEL_SHAPES_H
#define SSMQ_MODEL_SHAPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Number type of stored or rounded tensors. */
typedef enum ssmq_dtype { SSMQ_F32, SSMQ_F16, SSMQ_BF16 } ssmq_dtype;

/* "fp32", "fp16", "bf16". */
const char *ssmq_dtype_name(ssmq_dtype dtype);
/* Bytes of one number. */
size_t ssmq_dtype_bytes(ssmq_dtype dtype);

/* Largest sizes a checkpoint may declare; they keep every product of sizes inside 63 bits. */
enum {
    SSMQ_MAX_LAYERS = 256,
    SSMQ_MAX_HIDDEN = 65536,
    SSMQ_MAX_INNER = 262144,
    SSMQ_MAX_VOCAB = 1 << 24,
    SSMQ_MAX_CONV_KERNEL = 4
};

typedef struct ssmq_shape {
    int64_t d, di, H, P, N, G, K, L, V;
    int64_t R;        /* in_proj rows */
    int64_t conv_dim; /* conv channels: x, B, C */
    double expand;    /* E as written; may be fractional */
    float eps;        /* of every RMSNorm */
    float dt_min;     /* limits of dt after softplus */
    float dt_max;
    bool has_bias; /* on in_proj and out_proj */
    bool has_conv_bias;
    bool is_tied; /* lm_head is the embedding */
    bool residual_in_fp32;
    int32_t bos_id, eos_id, pad_id;
} ssmq_shape;

#ifdef __cplusplus
}
#endif
#endif
