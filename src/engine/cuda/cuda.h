/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/cuda.h - the parts of the CUDA engine. Internal to this folder.
 *
 * A layer, for rows = B sequences of T tokens each, row = b * T + t; CT is the compute type (fp32,
 * fp16 or bf16), and every tensor of type CT is rounded once, where it is stored (spec section 4,
 * column A):
 *     u      = norm(residual += o)                     [rows, d]         CT, residual fp32
 *     zxbcdt = in_proj(u)                              [rows, R]         CT or sums
 *     xbc    = silu(conv(zxbcdt[x|B|C]))               [rows, conv_dim]  CT
 *     dt     = clamp(softplus(zxbcdt[dt] + dt_bias))   [B, H, T_pad]     fp32
 *     cs     = dt A cumulated inside each chunk of Q   [B, H, T_pad]     fp32
 *     y      = scan(xbc, dt) + D x                     [rows, di]        CT
 *     u      = gated_norm(y * silu(z))                 [rows, di]        CT
 *     o      = out_proj(u)                             [rows, d]         CT or sums
 * T_pad is T rounded up to whole chunks; dt and cs of the padding are 0 and the last cs.
 *
 * Where a quantized product allows it (cuda_linear_call.is_fused), u is stored as codes, and zxbcdt
 * or o stay exact sums; every number is what it would be otherwise.
 *
 * Where a segment's gated norm is deferred (cuda_gate_is_deferred), y is not stored, and a row's
 * norm, one factor, waits until after the product, with sums of squares in fp32 from the scan:
 *     u         = (scan(xbc, dt) + D x) silu(z) weight  [rows, di]  CT
 *     o         = out_proj(u)                           [rows, d]   CT
 *     residual += o / sqrt(mean(gated^2) + eps)
 *
 * Determinism: no float atomics; every sum has an order fixed by shape alone, and no value of one
 * row depends on another row of the batch.
 *
 * Every launcher works on a stream, never waits, never allocates, and can be captured in a graph.
 * Offsets that grow with tokens are 64-bit. Pointers are device pointers unless said otherwise,
 * tensors are row-major, dense unless a leading dimension is named, and 256-byte aligned.
 * Every launcher fails with DEVICE, and only then. */
#ifndef SSMQ_ENGINE_CUDA_CUDA_H
#define SSMQ_ENGINE_CUDA_CUDA_H

#include <cuda_runtime_api.h>

#include "base/status.h"
#include "engine/cuda/linear.h"
#include "engine/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CUDA_CHUNK_TOKENS = 128, /* Q; segments are multiples of it */
    CUDA_ALIGN_BYTES = 256,
    /* Longest rows of a norm: d, and di / G. */
    CUDA_MAX_ROW = 32768,
    CUDA_MAX_ODD_ROW = 4096, /* where they are no multiple of 8 */
    CUDA_STEP_BLOCK = 256    /* decode steps between two looks of the host */
};

/* Weights of one layer. */
typedef struct cuda_layer {
    void *norm;           /* CT [d] */
    cuda_linear in_proj;  /* of zxbcdt; what it writes past R is zero or nothing */
    void *conv;           /* CT [K, conv_dim]: tap by tap, so that channels are contiguous */
    void *conv_bias;      /* CT [conv_dim], zeros if none */
    float *dt_bias;       /* [H] */
    float *A;             /* [H], negative */
    float *D;             /* [H] */
    void *gated_norm;     /* CT [di] */
    cuda_linear out_proj; /* of o [rows, d] */
} cuda_layer;

/* Weights that the product after a kernel reads; nothing if n_bytes is 0. */
typedef struct cuda_prefetch {
    const void *bytes;
    int64_t n_bytes;
} cuda_prefetch;

/* What every launcher of one layer's work needs. */
typedef struct cuda_pass {
    const ssmq_shape *shape;
    const cuda_layer *layer; /* NULL outside of layers */
    ssmq_dtype dtype;        /* CT */
    ssmq_dtype state_dtype;  /* ST, of the recurrent state */
    int64_t B, T;            /* rows = B * T; T is 1 in decode */
    int64_t R_ld;            /* leading dimension of zxbcdt in CT, in numbers */
    int layer_idx;           /* names the layer in faults */
    int n_sm;                /* multiprocessors of the device */
    int64_t shared_bytes;    /* that one block may take of a multiprocessor */
    cuda_prefetch next;      /* what norm and step may bring into the L2 cache */
    bool is_chained;         /* kernels may begin while their predecessor ends (chain.cuh) */
    bool has_wgmma;          /* device and build have what wgmma.cuh asks for */
    cudaStream_t stream;
} cuda_pass;

/* The first fault of a call: (layer_idx << 40 | row) of the first row whose norm is not finite, by
 * atomicMin; CUDA_NO_FAULT if none. layer_idx is L for the final norm, L + 1 for logits. */
#define CUDA_NO_FAULT (~0ull)

/* Where a kernel leaves the numbers of a row as the codes of the product that reads them, with one
 * scale a row (design section 5): rounded to CT first, as if they had been stored. */
typedef struct cuda_codes {
    uint8_t *codes; /* [rows, columns]; NULL: numbers of CT are stored instead */
    float *scales;  /* [rows] */
    ssmq_format format;
} cuda_codes;

/* ---- norm.cu ---- */

/* residual [rows, d] fp32 = embeddings [V, d] of tokens [B * T]. */
ssmq_status cuda_embed(const cuda_pass *p, const void *embeddings, const int32_t *tokens,
                       float *residual, ssmq_err *err);

/* residual += o (skipped where o is NULL; rounded to CT after the sum unless
 * shape->residual_in_fp32), then
 * u = residual / sqrt(mean(residual^2) + eps) * weight.
 * rows counts what is normed: row i reads residual row listed[i] (NULL: i) and writes u row i.
 * With a list, o must be NULL. */
typedef struct cuda_norm_call {
    float *residual;       /* [B * T, d] */
    cuda_product o;        /* [B * T, d]; y NULL: none */
    const void *weight;    /* CT [d] */
    const int64_t *listed; /* [rows] or NULL */
    int64_t rows;
    void *u; /* CT [rows, d]; not written where codes are */
    cuda_codes codes;
    unsigned long long *fault;
    /* Of a deferred gated norm: o of a row counts 1 / sqrt(sum of its squares / di + eps) times. */
    const float *squares; /* [B * T, H], or NULL */
} cuda_norm_call;
ssmq_status cuda_norm(const cuda_pass *p, const cuda_norm_call *call, ssmq_err *err);

/* u CT [rows, di], or codes, = gated_norm(y * silu(z)): groups of di / G channels are normed apart;
 * z is the first di columns of zxbcdt, y CT [rows, di]. u may be y. Codes need G = 1. */
typedef struct cuda_gated_norm_call {
    cuda_product zxbcdt;
    const void *y;
    void *u; /* not written where codes are */
    cuda_codes codes;
} cuda_gated_norm_call;
ssmq_status cuda_gated_norm(const cuda_pass *p, const cuda_gated_norm_call *call, ssmq_err *err);

/* ---- conv.cu ---- */

/* The conv state is a ring: [B, K, conv_dim] CT of one layer, raw inputs of token n of a sequence
 * (counted from its first) at slot n mod K. *position (device) is how many tokens every sequence
 * has consumed before this call; nobody here changes it. */

/* xbc, dt and cs of a segment; tokens before it come from the ring (zeros before the start), and
 * its last min(T, K) raw inputs go there. */
typedef struct cuda_conv_call {
    cuda_product zxbcdt;
    void *ring;
    const int64_t *position;
    void *xbc;      /* CT [rows, conv_dim] */
    float *dt, *cs; /* [B, H, T_pad] */
} cuda_conv_call;
ssmq_status cuda_conv(const cuda_pass *p, const cuda_conv_call *call, ssmq_err *err);

/* ---- ssd.cu ---- */

/* How y leaves the scan where the gated norm is deferred; squares NULL: it is not. */
typedef struct cuda_gate {
    const void *zxbcdt; /* CT [rows, R_ld]; z is its first di columns */
    const void *weight; /* CT [di] of the gated norm */
    float *squares;     /* [rows, H], of the gated y of each head */
} cuda_gate;

/* True if the norm of what goes into out_proj waits until after it, in a segment: one group, no
 * bias, and numbers whose range does not need the norm. Not for a product that quantizes its input,
 * and not in a step, where a launch of its own is cheaper than sums across the blocks of a row. */
bool cuda_gate_is_deferred(const cuda_pass *p);

typedef struct cuda_ssd_call {
    const void *xbc;      /* CT [rows, conv_dim] */
    const float *dt, *cs; /* [B, H, T_pad] */
    void *state;          /* ST [B, H, P, N] of the layer; moved on by T tokens */
    void *chunk_states;   /* CT [B, T_pad / Q, H, P, N]: state before each chunk; scratch */
    void *y;              /* CT [rows, di], D skip included; gated if the gate is there */
    cuda_gate gate;
} cuda_ssd_call;

/* True if the tensor-core scan serves these shapes and types; otherwise, and on devices whose
 * blocks get too little shared memory (compute capability 8.6 and 8.9), cuda_ssd() takes the
 * recurrence token by token, and needs no chunk_states. */
bool cuda_ssd_is_chunked(const ssmq_shape *shape, ssmq_dtype dtype);
ssmq_status cuda_ssd(const cuda_pass *p, const cuda_ssd_call *call, ssmq_err *err);

/* ---- step.cu ---- */

/* One token of each sequence: conv with the ring (and its new slot written), dt, state update, y
 * with D skip.  y CT [B, di]. */
typedef struct cuda_step_call {
    cuda_product zxbcdt; /* [B, R] */
    void *ring;
    const int64_t *position;
    void *state; /* ST [B, H, P, N] of the layer */
    void *y;
} cuda_step_call;
ssmq_status cuda_step(const cuda_pass *p, const cuda_step_call *call, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
