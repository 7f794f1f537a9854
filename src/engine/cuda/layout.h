/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/layout.h - what lies in the engine's memory. Internal to this folder.
 *
 * Device memory is four slabs: weights (made by load), state, activations and workspace (made by
 * reset). Their layout is a pure function of shape, spec and extent, which also answers
 * ssmq_engine_sizes(). */
#ifndef SSMQ_ENGINE_CUDA_LAYOUT_H
#define SSMQ_ENGINE_CUDA_LAYOUT_H

#include "engine/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CUDA_MAX_ROWS = 8192,  /* rows of one segment over all sequences, where Q allows */
    CUDA_HEAD_ROWS = 1024, /* rows of one tile of logits */
    CUDA_FAULT_SLOTS = 256 /* segments or steps between two looks at the fault word */
};

/* Weights outside of layers. */
typedef struct cuda_weights {
    void *embeddings; /* CT [V_ld, d] */
    void *head;       /* CT [V_ld, d]; the embeddings if tied */
    void *norm_f;     /* CT [d] */
    cuda_layer layers[SSMQ_MAX_LAYERS];
} cuda_weights;

/* State of B sequences. */
typedef struct cuda_state {
    char *ssm;         /* ST [L, B, H, P, N] */
    char *ring;        /* CT [L, B, K, conv_dim], see cuda.h */
    int64_t *position; /* tokens that every sequence has consumed, or K more; see state.c */
} cuda_state;

/* What the sampling kernel reads and moves on. */
typedef struct cuda_step_control {
    int64_t step;       /* within the block of steps */
    int64_t has_forced; /* feed forced[step] instead of the argmax */
} cuda_step_control;

/* Buffers of one segment of at most B * segment_tokens rows. */
typedef struct cuda_buffers {
    float *residual;    /* [rows, d] */
    void *u;            /* CT [rows, max(d, di)] */
    void *zxbcdt;       /* [rows, R] as the product leaves it */
    void *xbc;          /* CT [rows, conv_dim] */
    float *dt, *cs;     /* [B, H, T_pad] */
    void *y;            /* CT [rows, di] */
    void *o;            /* [rows, d] as the product leaves it */
    float *squares;     /* [rows, H] of a deferred gated norm, see cuda.h */
    uint8_t *codes;     /* [rows, code_ld] of a quantized product's input, if there are any, */
    float *in_scales;   /* [rows] and their scales: of in_proj's input, */
    float *out_scales;  /* [rows] and of out_proj's */
    void *chunk_states; /* CT [B, T_pad / Q, H, P, N], if the scan is chunked */
    int32_t *tokens;    /* [rows] of a segment, or [B] of a step */
    int64_t *listed;    /* [rows] rows whose logits are wanted, */
    int32_t *targets;   /* [rows] their targets */
    float *nll;         /* [rows] and the negative log likelihoods of those */
    int32_t *forced;    /* [CUDA_STEP_BLOCK, B] of decode */
    int32_t *argmax;    /* [CUDA_STEP_BLOCK, B] */
    float *step_nll;    /* [CUDA_STEP_BLOCK, B] */
    cuda_step_control *control;
    unsigned long long *fault;      /* see cuda.h, and one more word that nobody reads */
    unsigned long long *step_fault; /* [CUDA_STEP_BLOCK] fault after each step */
    /* workspace */
    float *logits; /* [head_rows, V_ld] */
    void *partial; /* of the sampling kernel */
    void *gemm_workspace;
    void *sums;     /* of a tile of a quantized product, */
    void *unpacked; /* and its weights where they are stored packed; see linear.h */
} cuda_buffers;

/* Sizes that follow from shape and extent. */
typedef struct cuda_layout {
    int64_t B, segment_tokens, rows, head_rows;
    int64_t R_ld, V_ld;
    int64_t weight_bytes, state_bytes, activation_bytes, workspace_bytes;
} cuda_layout;

/* Rows on their way between host and device; pinned. */
typedef struct cuda_staging {
    int32_t *tokens;           /* [rows] */
    int64_t *listed;           /* [rows] */
    int32_t *targets;          /* [rows] */
    float *nll;                /* [rows] */
    int32_t *forced;           /* [CUDA_STEP_BLOCK, B] */
    int32_t *argmax;           /* [CUDA_STEP_BLOCK, B] */
    float *step_nll;           /* [CUDA_STEP_BLOCK, B] */
    unsigned long long *fault; /* [CUDA_FAULT_SLOTS] after each segment or step */
    cuda_step_control *control;
    char *slab;
} cuda_staging;

/* Whether out_proj is called fused: its input must leave the gated norm a row at a time. */
bool cuda_out_proj_is_fused(const ssmq_shape *shape);

/* Cuts a slab into its pieces and returns its bytes; with a NULL slab it only counts. */
void cuda_layout_init(cuda_layout *out, const ssmq_shape *shape, const ssmq_spec *spec,
                      const ssmq_engine_extent *extent);
int64_t cuda_carve_weights(cuda_weights *out, char *slab, const ssmq_shape *shape,
                           const ssmq_spec *spec);
int64_t cuda_carve_state(cuda_state *out, char *slab, const ssmq_shape *shape,
                         const ssmq_spec *spec, int64_t B);
int64_t cuda_carve_activations(cuda_buffers *out, char *slab, const ssmq_shape *shape,
                               const ssmq_spec *spec, int64_t B, int64_t T);
/* For products of at most `rows` rows. */
int64_t cuda_carve_workspace(cuda_buffers *out, char *slab, const ssmq_shape *shape,
                             const ssmq_spec *spec, int64_t rows, int64_t head_rows);
int64_t cuda_carve_staging(cuda_staging *out, char *slab, int64_t B, int64_t rows);

/* ssmq_engine_sizes(). */
void cuda_plan_bytes(const ssmq_shape *shape, const ssmq_spec *spec,
                     const ssmq_engine_extent *extent, ssmq_engine_stats *out);

#ifdef __cplusplus
}
#endif
#endif
