/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/cuda_engine.h - the engine's own structure, and the calls that its files offer one
 * another. Internal to this folder. Nothing is allocated between reset and the next reset. */
#ifndef SSMQ_ENGINE_CUDA_CUDA_ENGINE_H
#define SSMQ_ENGINE_CUDA_CUDA_ENGINE_H

#include "engine/cuda/cuda.h"
#include "engine/cuda/gemm.h"
#include "engine/cuda/layout.h"
#include "engine/cuda/nvml.h"
#include "engine/device.h"
#include "engine/reuse.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CUDA_MAX_GRAPHS = 8,
    CUDA_MAX_CHECKED = 64,
    CUDA_MAX_MARKS = 8 * SSMQ_MAX_LAYERS + 8 /* ends of stages in one graph */
};

typedef struct cuda_graph {
    int64_t T; /* 0: one decode step */
    cudaGraphExec_t exec;
    int n_marks;
    ssmq_stage stage_of[CUDA_MAX_MARKS];
} cuda_graph;

/* Marks at the ends of stages, recorded on the device while a graph runs. */
typedef struct cuda_stage_clock {
    bool is_on;
    int n_marks; /* in the order of recording; the first is the beginning */
    cudaEvent_t marks[CUDA_MAX_MARKS];
    ssmq_stage stage_of[CUDA_MAX_MARKS];
    int64_t ns[SSMQ_N_STAGES]; /* of the call */
} cuda_stage_clock;

typedef struct cuda_slab {
    char *bytes;
    int64_t n_bytes;
} cuda_slab;

/* A product of codes that has passed its check. */
typedef struct cuda_checked {
    int64_t rows, columns, n_groups;
    ssmq_format w_format, a_format;
} cuda_checked;

/* The checkpoint as it is stored, in device memory; none where the engine shares nothing between
 * trials or memory is short. Not counted with the weights: a model runs without it. */
typedef struct cuda_source {
    char *bytes; /* its tensors, each aligned, zeros between them */
    int64_t n_bytes;
    ssmq_model model; /* the host's, but for where its tensors lie; owns its layers */
    bool is_whole;    /* all bytes are there */
} cuda_source;

typedef struct cuda_engine {
    ssmq_engine base;
    int device_idx;
    struct cudaDeviceProp device;
    cudaStream_t stream;
    cuda_gemms *gemms;
    cuda_nvml *nvml; /* NULL where there is none */
    bool is_lost;    /* the context answers nothing but errors */
    ssmq_shape shape;
    ssmq_spec spec;
    cuda_checked checked[CUDA_MAX_CHECKED];
    int n_checked;
    bool is_loaded, is_ready; /* ready: reset was called after load */
    cuda_slab weight_slab, state_slab, activation_slab, workspace_slab;
    cuda_slab kept_slab; /* one sequence's state, laid out as cuda_state; NULL: none */
    int64_t kept_position;
    cuda_source source;
    cuda_weights weights;
    ssmq_engine_extent extent;
    cuda_layout layout;
    cuda_state state;
    cuda_buffers buffers;
    cuda_staging staging;
    int64_t position; /* tokens that every sequence has consumed; *state.position or K less */
    cuda_graph graphs[CUDA_MAX_GRAPHS];
    int n_graphs;
    cuda_stage_clock stages;
    cudaEvent_t call_begin, call_end, staged;
    cudaEvent_t step_ends[CUDA_STEP_BLOCK + 1];
    int64_t last_call_ns;
    ssmq_engine_stats peaks; /* since the last take_stats; and counts of layers */
    ssmq_reuse *reuse;       /* NULL: none. Its numbers lie on the device, beside the slabs */
    bool is_reused;          /* for the tokens since reset */
    /* Of the segment that is launched: the layer it begins with, whose input is in the residual
     * stream; 0 where that comes from the embeddings. */
    int64_t first_layer;
} cuda_engine;

/* slab.c: at least n_bytes, whatever the slab held is lost; and none.  Fails: NOMEM, DEVICE. */
SSMQ_MUST_USE ssmq_status cuda_slab_reserve(cuda_slab *slab, int64_t n_bytes, ssmq_err *err);
void cuda_slab_free(cuda_slab *slab);

/* ceilings.cu: ssmq_engine_ceilings(). */
SSMQ_MUST_USE ssmq_status cuda_measure_ceilings(int device_idx, ssmq_dtype dtype,
                                                ssmq_ceilings *out, ssmq_err *err);
/* load.cu: fills the weight slab from the checkpoint, whose tensors lie in host memory or, with
 * is_on_device, in device memory.  Fails: DEVICE, NOMEM. */
SSMQ_MUST_USE ssmq_status cuda_load_weights(cuda_engine *e, const ssmq_model *model,
                                            bool is_on_device, ssmq_err *err);

/* source.cu: hold makes room in e->source and, with is_filled, copies the model there; seal says
 * that another has filled it, and sums its bytes.
 * Fails: SKIP (nothing is shared between trials, memory is short), NOMEM, DEVICE. */
SSMQ_MUST_USE ssmq_status cuda_source_hold(cuda_engine *e, const ssmq_model *model, bool is_filled,
                                           ssmq_err *err);
SSMQ_MUST_USE ssmq_status cuda_source_seal(cuda_engine *e, uint64_t *checksum, ssmq_err *err);
/* The model in device memory, brought there if it is not; NULL where it cannot be. */
const ssmq_model *cuda_source_of(cuda_engine *e, const ssmq_model *model);
/* Gives its memory back. */
void cuda_source_drop(cuda_engine *e);

/* forward.c */
/* A segment of T tokens of every sequence, whose ids lie in buffers.tokens, through all layers, or
 * those that nothing is kept of (reuse.h), and inputs of layers into the store; the last layer's o
 * is added to the residual.  Fails: DEVICE. */
SSMQ_MUST_USE ssmq_status cuda_forward_segment(cuda_engine *e, int64_t T, ssmq_err *err);
/* One token of every sequence, from buffers.tokens to the next tokens there. */
SSMQ_MUST_USE ssmq_status cuda_forward_step(cuda_engine *e, ssmq_err *err);
/* Logits of the rows in buffers.listed[first, first + n), n <= head_rows, of a segment of T tokens,
 * into buffers.logits; with has_nll also buffers.nll of those rows. */
SSMQ_MUST_USE ssmq_status cuda_forward_head(cuda_engine *e, int64_t first, int64_t n, bool has_nll,
                                            ssmq_err *err);
/* Whose the products of a step are in this extent: "library", "own" or "both". */
const char *cuda_decode_products(const cuda_engine *e);
/* Chooses the algorithms of the products of a segment of T tokens, or of a step (T = 0). */
SSMQ_MUST_USE ssmq_status cuda_forward_prepare(cuda_engine *e, int64_t T, ssmq_err *err);

/* graph.c: as the two calls above, through a graph that is captured at first use, except where
 * inputs of layers are kept or taken: their places change from segment to segment. */
SSMQ_MUST_USE ssmq_status cuda_graph_run(cuda_engine *e, int64_t T, ssmq_err *err);
void cuda_graphs_drop(cuda_engine *e);

/* prefill.c, decode.c: the calls of the table. */
SSMQ_MUST_USE ssmq_status cuda_prefill(cuda_engine *e, const ssmq_prefill *call, ssmq_err *err);
SSMQ_MUST_USE ssmq_status cuda_decode(cuda_engine *e, const ssmq_decode *call, ssmq_err *err);
/* Of both, in prefill.c: waits for the logits of B rows, and copies them from buffers.logits to
 * host memory [B, V].  Fails: DEVICE. */
SSMQ_MUST_USE ssmq_status cuda_fetch_logits(cuda_engine *e, float *logits, ssmq_err *err);
/* fault.c: NUMERIC and where, if one of the first n words of staging.fault is a fault: word i is of
 * T tokens of each sequence that begin at token first + i * step_tokens.  Clears the device's word
 * then. */
typedef struct cuda_fault_words {
    int64_t n, first, step_tokens, T;
} cuda_fault_words;
SSMQ_MUST_USE ssmq_status cuda_check_faults(cuda_engine *e, const cuda_fault_words *words,
                                            ssmq_err *err);

/* state.c: a layer's recurrent state, ST [B, H, P, N], and its ring, CT [B, K, conv_dim], on the
 * device. */
char *cuda_layer_state(const cuda_engine *e, int64_t layer_idx);
char *cuda_layer_ring(const cuda_engine *e, int64_t layer_idx);
/* state.c: read_state and write_state of the table, for a layer that is there, an extent that is
 * ready, and e->position where it is to be. They wait for the device.  Fails: DEVICE. */
SSMQ_MUST_USE ssmq_status cuda_read_state(cuda_engine *e, int64_t layer_idx, float *ssm,
                                          float *conv, ssmq_err *err);
SSMQ_MUST_USE ssmq_status cuda_write_state(cuda_engine *e, int64_t layer_idx, const float *ssm,
                                           const float *conv, ssmq_err *err);

/* state.c: the only sequence's state into the kept slab; and from there to every sequence of an
 * extent that is ready, with the position. Both wait for the device.  Fails: NOMEM, DEVICE. */
SSMQ_MUST_USE ssmq_status cuda_keep_state(cuda_engine *e, ssmq_err *err);
SSMQ_MUST_USE ssmq_status cuda_fork_state(cuda_engine *e, ssmq_err *err);

/* stage.c: times of stages, where the extent asks for them. A graph begins with cuda_stage_begin()
 * and every stage in it ends with cuda_stage_end(); after its run, cuda_stages_collect() waits and
 * adds up. All do nothing while stages are off. */
SSMQ_MUST_USE ssmq_status cuda_stage_begin(cuda_engine *e, ssmq_err *err);
SSMQ_MUST_USE ssmq_status cuda_stage_end(cuda_engine *e, ssmq_stage stage, ssmq_err *err);
SSMQ_MUST_USE ssmq_status cuda_stages_collect(cuda_engine *e, ssmq_err *err);
SSMQ_MUST_USE ssmq_status cuda_stages_set(cuda_engine *e, bool is_on, ssmq_err *err);
void cuda_stages_free(cuda_engine *e);

#ifdef __cplusplus
}
#endif
#endif
