/* SPDX-License-Identifier: Apache-2.0 */
/* model/model.h - a Mamba2 checkpoint in host memory: its shape and a view of every tensor.
 *
 * A folder with config.json and model.safetensors | model.safetensors.index.json |
 * consolidated.safetensors (Transformers, state-spaces or Mistral naming; spec sections 1, 2, 11),
 * or "random:mamba2-130m" and its sisters: published shapes with random weights, for speed only. */
#ifndef SSMQ_MODEL_MODEL_H
#define SSMQ_MODEL_MODEL_H

#include "base/hash.h"
#include "base/status.h"
#include "model/shapes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A tensor of the checkpoint as stored; borrowed from the model. bytes may be unaligned: read
 * them through ssmq_tensor_f32(). */
typedef struct ssmq_tensor {
    const void *bytes; /* NULL if the checkpoint has no such tensor */
    int64_t rows;      /* 1 for vectors */
    int64_t columns;
    ssmq_dtype dtype;
} ssmq_tensor;

typedef struct ssmq_layer {
    ssmq_tensor norm;          /* [d] */
    ssmq_tensor in_proj;       /* [R, d], rows z | x | B | C | dt */
    ssmq_tensor in_proj_bias;  /* [R] or absent */
    ssmq_tensor conv;          /* [conv_dim, K] */
    ssmq_tensor conv_bias;     /* [conv_dim] or absent */
    ssmq_tensor dt_bias;       /* [H] */
    ssmq_tensor A_log;         /* [H] */
    ssmq_tensor D;             /* [H] */
    ssmq_tensor gated_norm;    /* [di] */
    ssmq_tensor out_proj;      /* [d, di] */
    ssmq_tensor out_proj_bias; /* [d] or absent */
} ssmq_layer;

enum { SSMQ_MODEL_NAME_BYTES = 128 };

typedef struct ssmq_model_files ssmq_model_files;

typedef struct ssmq_model {
    ssmq_shape shape;
    ssmq_tensor embeddings;             /* [V, d] */
    ssmq_tensor lm_head;                /* [V, d]; the embeddings if tied */
    ssmq_tensor norm_f;                 /* [d] */
    ssmq_layer *layers;                 /* [L] */
    char name[SSMQ_MODEL_NAME_BYTES];   /* last part of the path, or the random: name */
    char sha256[SSMQ_SHA256_HEX_BYTES]; /* of config.json and the tensor files, in name order */
    ssmq_dtype stored_dtype;            /* of layer 0's in_proj */
    int64_t n_params;                   /* numbers stored, tied tensors once */
    int64_t stored_bytes;
    bool is_random;
    ssmq_model_files *files; /* mappings behind the views */
} ssmq_model;

/* Opens and checks a checkpoint. Every tensor is found by name, of the right shape, and none is
 * left over.  Owns: *out, release with ssmq_model_close().
 * Fails: CONFIG (one line that names the file and what is wrong), IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_model_open(ssmq_model **out, const char *path, ssmq_err *err);
void ssmq_model_close(ssmq_model *model);

/* Shape only, without touching tensors.  Fails: as ssmq_model_open. */
SSMQ_MUST_USE ssmq_status ssmq_shape_read(ssmq_shape *out, const char *path, ssmq_err *err);

/* True for "random:..." paths. */
bool ssmq_model_path_is_random(const char *path);

/* Numbers [first, first + n) of a tensor, upcast to fp32 into out[n]; exact. */
void ssmq_tensor_f32(const ssmq_tensor *tensor, int64_t first, int64_t n, float *out);

/* Round to nearest even through fp16 or bf16 and back; F32 returns x. NaN stays NaN, fp16
 * overflow becomes infinity. */
float ssmq_round_to(float x, ssmq_dtype dtype);
float ssmq_f32_from_f16(uint16_t bits);
uint16_t ssmq_f16_from_f32(float x);
float ssmq_f32_from_bf16(uint16_t bits);
uint16_t ssmq_bf16_from_f32(float x);

#ifdef __cplusplus
}
#endif
#endif
