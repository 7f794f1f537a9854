/* SPDX-License-Identifier: Apache-2.0 */
/* engine/engine.h - the one interface to a model that runs: loaded weights and a mutable state of
 * B sequences, behind a table of calls. The CPU engine defines what is correct.
 *
 * Life: open, then load, reset, any number of prefill and decode, again reset or load, close.
 * A call that fails leaves the engine usable after the next reset, unless alive() is false.
 * Buffers belong to the caller; the model is borrowed from load() until the next load() or close().
 * No call allocates after reset() has returned. */
#ifndef SSMQ_ENGINE_ENGINE_H
#define SSMQ_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/stage.h"
#include "model/model.h"
#include "quant/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_engine_api ssmq_engine_api;

/* Every engine's handle begins with its table. */
typedef struct ssmq_engine {
    const ssmq_engine_api *api;
} ssmq_engine;

typedef struct ssmq_engine_options {
    int device_idx;     /* among the visible devices; ignored by engines without */
    int n_threads;      /* host threads; 0: as many as cores. Results do not depend on it */
    const char *script; /* faults for the null engine; NULL elsewhere */
    /* File that keeps the measured choices of GEMM algorithms, shared by ranks and reruns; NULL:
     * choices live as long as the engine. Ignored by engines without. */
    const char *algorithms_path;
    int64_t reuse_bytes; /* the engine's memory for layers that trials share (reuse.h); 0: none */
} ssmq_engine_options;

/* Sizes the state and workspace are made for, and what the calls that follow are for. */
typedef struct ssmq_engine_extent {
    int64_t n_sequences;        /* B */
    int64_t max_segment_tokens; /* longest prefill call; longer contexts come in segments */
    /* GEMM algorithms by measurement on this device instead of by a fixed function of shape, type
     * and device: faster, and other low bits are possible. For speed, not for accuracy. */
    bool is_timed;
    /* Times each stage (stage_ns), launched piece by piece: the whole is slower than without. */
    bool has_stages;
    bool has_gemv;  /* steps of few sequences by products of the engine's own, not the library's */
    bool is_forked; /* all sequences go on from the state of keep_state(), not from zero */
    /* SHA-256 of all tokens that prefill will get until the next reset, reuse_tokens a sequence, or
     * NULL. Given, only NLL and logits of prefill are wanted (decode fails), and an engine may
     * leave out layers that it has computed from them before (reuse.h). Borrowed during reset. */
    const unsigned char *reuse_key;
    int64_t reuse_tokens;
} ssmq_engine_extent;

/* Consumes T tokens of each of B sequences, continuing from the current state. */
typedef struct ssmq_prefill {
    const int32_t *tokens;  /* [B, T] */
    int64_t n_tokens;       /* T >= 1; any length, split into segments inside */
    const int32_t *targets; /* [B, T] next-token ids to score, -1 where none; NULL: no scoring */
    float *nll; /* [B, T] -log p(targets[t] | tokens <= t), nats; 0 where -1; NULL iff targets is */
    float *logits;     /* [B, V] after the last token, or NULL */
    float *all_logits; /* [B, T, V] after each token with a target, others untouched; or NULL */
} ssmq_prefill;

/* Feeds n_steps tokens one at a time through the decode path, continuing from the state. */
typedef struct ssmq_decode {
    const int32_t *first; /* [B] token fed at step 0 */
    int64_t n_steps;
    const int32_t *forced; /* [B, n_steps] token s+1 to feed instead of step s's argmax, or NULL */
    int32_t *argmax;       /* [B, n_steps] lowest id of the largest logit after each step */
    float *nll;            /* [B, n_steps] -log p(forced[s] | ...), nats; NULL unless forced */
    float *logits;         /* [B, V] after the last step, or NULL */
    int64_t *step_ns;      /* [n_steps] time of each step by the engine's timer, or NULL */
} ssmq_decode;

/* Peak bytes since the last call of take_stats, by what they hold. */
typedef struct ssmq_engine_stats {
    int64_t weight_bytes;     /* quantized weights at their stored size, scales counted */
    int64_t state_bytes;      /* recurrent and conv state of B sequences */
    int64_t activation_bytes; /* buffers between operations */
    int64_t workspace_bytes;  /* scratch of libraries and of unpacked weights */
    int64_t peak_bytes;       /* largest sum at any moment */
    int64_t last_call_ns;     /* duration of the last prefill or decode by the engine's timer */
    int64_t stage_ns[SSMQ_N_STAGES]; /* of the last call, if the extent has stages; else 0 */
    /* Layers times tokens of prefill, computed and left out; 0 in engines without reuse. */
    int64_t computed_layer_tokens, reused_layer_tokens;
    /* The device while it worked, as far as it tells; -1 where it does not. */
    int32_t sm_clock_mhz, memory_clock_mhz, temperature_c;
    int64_t throttle_reasons; /* NVML clocks event reasons, a bit mask */
} ssmq_engine_stats;

/* Where numbers come from; texts go into records. */
typedef struct ssmq_engine_facts {
    char device[16];   /* "cpu", "cuda", "null" */
    char gpu_name[96]; /* "" without one */
    char driver[32];   /* "" where there is none */
    char cuda[32];
    char cublaslt[32];
    char quant_backend[48]; /* who computed the products, e.g. "openblas 0.3.21 + exact int32" */
    char compute_type[32];  /* of quantized products, e.g. "int32" */
    char algo_id[48];    /* the library's numbers of the algorithms that ran, "" if it has none */
    char fallback[96];   /* what runs instead of what was asked for; "" if nothing */
    char timer[32];      /* "host clock" | "cuda events" */
    char algorithms[32]; /* of GEMMs: "fixed" | "measured"...; "" where there is no choice */
    char decode_products[16]; /* whose a step's are: "library" | "own" | "both"; "": no choice */
    char memory_source[32];   /* who counted the memory, e.g. "allocator; weights as stored" */
    char cpu_name[96];
    int32_t n_threads;
} ssmq_engine_facts;

typedef struct ssmq_device_bytes {
    void *bytes; /* in a device's memory */
    int64_t n_bytes;
} ssmq_device_bytes;

struct ssmq_engine_api {
    const char *name;
    /* An engine on a device.  Owns: *out, release with close.  Fails: DEVICE, NOMEM, CONFIG. */
    ssmq_status (*open)(ssmq_engine **out, const ssmq_engine_options *options, ssmq_err *err);
    /* OK, or SKIP and the reason; allocates nothing. */
    ssmq_status (*supports)(ssmq_engine *engine, const ssmq_shape *shape, const ssmq_spec *spec,
                            ssmq_err *err);
    /* Makes these weights current.  Fails: SKIP, NOMEM, DEVICE. */
    ssmq_status (*load)(ssmq_engine *engine, const ssmq_model *model, const ssmq_spec *spec,
                        ssmq_err *err);
    /* The checkpoint in the device's own memory, where later loads find it; both NULL in engines
     * without. hold makes room and, with is_filled, copies the model there; otherwise the caller
     * fills *out (borrowed) with another engine's. Nobody uses them before seal, which sums them.
     * Fails: SKIP (the reason why none is kept), NOMEM, DEVICE. */
    ssmq_status (*hold_source)(ssmq_engine *engine, const ssmq_model *model, bool is_filled,
                               ssmq_device_bytes *out, ssmq_err *err);
    ssmq_status (*seal_source)(ssmq_engine *engine, uint64_t *checksum, ssmq_err *err);
    /* State of B new sequences, all zero or forked, and room for the extent.
     * Fails: NOMEM, DEVICE; INTERNAL (forked from nothing, or with a reuse_key). */
    ssmq_status (*reset)(ssmq_engine *engine, const ssmq_engine_extent *extent, ssmq_err *err);
    /* Fails: NUMERIC (NaN or infinite logits or NLL; layer and token in the text), NOMEM, DEVICE,
     * CONFIG (token id outside [0, V)). */
    ssmq_status (*prefill)(ssmq_engine *engine, const ssmq_prefill *call, ssmq_err *err);
    ssmq_status (*decode)(ssmq_engine *engine, const ssmq_decode *call, ssmq_err *err);
    /* One layer's state between two calls, fp32 whatever type it is stored in:
     *     ssm  [B, H, P, N]
     *     conv [B, K-1, conv_dim]: raw inputs of the last K-1 tokens, oldest first, zeros before
     *          the first token
     * Writing rounds to the stored types, to nearest even, so that what was read is written
     * unchanged; the sequences then go on from there in prefill and decode, as if they had consumed
     * `position` tokens, the same for all layers, all of which are then to be written.
     * Fails: INTERNAL (before reset, no such layer, an extent with reuse_key), DEVICE. */
    ssmq_status (*read_state)(ssmq_engine *engine, int64_t layer_idx, float *ssm, float *conv,
                              ssmq_err *err);
    ssmq_status (*write_state)(ssmq_engine *engine, int64_t layer_idx, int64_t position,
                               const float *ssm, const float *conv, ssmq_err *err);
    /* Keeps a copy of the state of the only sequence, bit for bit and beside what take_stats
     * counts, until the next load, keep_state or reset that is not forked. NULL in engines without.
     * Fails: INTERNAL (as read_state; several sequences), NOMEM, DEVICE. */
    ssmq_status (*keep_state)(ssmq_engine *engine, ssmq_err *err);
    /* Peaks since the last call, which it restarts at what is in use now. */
    void (*take_stats)(ssmq_engine *engine, ssmq_engine_stats *out);
    /* A cheap round trip to the device; false: touch it no more. */
    bool (*alive)(ssmq_engine *engine);
    /* NULL is a no-op; safe on a lost device. */
    void (*close)(ssmq_engine *engine);
    /* Fills out: records need names that only the engine knows. */
    void (*describe)(ssmq_engine *engine, ssmq_engine_facts *out);
};

/* For engines: n token ids of a call, each in [least, V). They come from the user's text or
 * tokenizer, and a table look-up must not trust them.  Fails: CONFIG (id and place). */
SSMQ_MUST_USE ssmq_status ssmq_engine_check_ids(const ssmq_shape *shape, const int32_t *ids,
                                                int64_t n, int32_t least, ssmq_err *err);

/* The engine table of a name ("null", "cpu", "cuda"); NULL if it is not in this build. */
const ssmq_engine_api *ssmq_engine_find(const char *name);
const char *ssmq_engine_names(void); /* of this build, separated by ", " */
/* Bytes that an engine's slabs take for a model and an extent, by what they hold: a pure function,
 * the one the engine itself sizes them by. False if the engine has none ("cpu", "null"). */
bool ssmq_engine_sizes(const char *engine, const ssmq_shape *shape, const ssmq_spec *spec,
                       const ssmq_engine_extent *extent, ssmq_engine_stats *out);

#ifdef __cplusplus
}
#endif
#endif
