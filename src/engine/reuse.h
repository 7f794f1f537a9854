/* SPDX-License-Identifier: Apache-2.0 */
/* engine/reuse.h - residual streams that outlive a load, so that a trial which differs from an
 * earlier one only from some layer on begins there: the same bits for less work. For engines; the
 * numbers lie in memory of the engine's choice, which the store takes and gives back unread.
 *
 * The input of layer i depends on the checkpoint, on what is quantized in layers before i, and on
 * the tokens. A digest of all that names an entry. Entries are made for beginnings of the model
 * that are quantized alike: those of the baseline and of a whole precision, which the trials of
 * single layers share.
 *
 * Life: open; begin_load at each load; begin_tokens at each reset; then for every segment, in
 * order: start, keep of every layer that is computed, end_segment. */
#ifndef SSMQ_ENGINE_REUSE_H
#define SSMQ_ENGINE_REUSE_H

#include "engine/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_reuse ssmq_reuse;

/* Where the numbers lie. take: n_bytes, aligned for any number; NULL if there is no room. */
typedef struct ssmq_reuse_memory {
    void *(*take)(int64_t n_bytes);
    void (*give_back)(void *bytes);
} ssmq_reuse_memory;
extern const ssmq_reuse_memory ssmq_reuse_host_memory;

/* A store of at most max_bytes of a memory, which is borrowed.  Owns: *out, ssmq_reuse_close().
 * Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_reuse_open(ssmq_reuse **out, int64_t max_bytes,
                                          const ssmq_reuse_memory *memory, ssmq_err *err);
/* NULL is a no-op. */
void ssmq_reuse_close(ssmq_reuse *reuse);
/* Gives back all memory, between a load and begin_tokens: somebody else needs it more. */
void ssmq_reuse_drop_all(ssmq_reuse *reuse);

/* Other weights: names the inputs of all layers. */
void ssmq_reuse_begin_load(ssmq_reuse *reuse, const ssmq_model *model, const ssmq_spec *spec);

/* Other tokens: the extent's, in segments of segment_tokens. Chooses the layer to begin with and
 * takes room for what will be kept; what finds none is not kept. An extent without reuse_key keeps
 * and takes nothing. */
void ssmq_reuse_begin_tokens(ssmq_reuse *reuse, const ssmq_engine_extent *extent,
                             int64_t segment_tokens);

/* The first layer to compute; 0 if the residual comes from the embeddings. */
int64_t ssmq_reuse_first_layer(const ssmq_reuse *reuse);
/* Input of the first layer for the current segment, [B * T, d]; NULL if the first layer is 0. */
const float *ssmq_reuse_start(const ssmq_reuse *reuse);
/* Where the input of a layer is kept for the current segment, [B * T, d]; NULL if it is not. */
float *ssmq_reuse_keep(const ssmq_reuse *reuse, int64_t layer_idx);
/* The current segment, of T tokens of each sequence, has gone through all layers. */
void ssmq_reuse_end_segment(ssmq_reuse *reuse, int64_t T);

#ifdef __cplusplus
}
#endif
#endif
