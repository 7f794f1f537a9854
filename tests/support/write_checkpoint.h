/* SPDX-License-Identifier: Apache-2.0 */
/* support/write_checkpoint.h - writes small random Mamba2 checkpoints for tests, in the three
 * naming families, whole or in shards, with deliberate faults on request. It shares no code with
 * the reader except the conversions to 16 bits. */
#ifndef SUPPORT_WRITE_CHECKPOINT_H
#define SUPPORT_WRITE_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "model/shapes.h"

typedef enum checkpoint_naming {
    CHECKPOINT_HF,           /* config.json, model.safetensors, backbone.embeddings.weight */
    CHECKPOINT_STATE_SPACES, /* config.json, model.safetensors, backbone.embedding.weight */
    CHECKPOINT_MISTRAL       /* params.json, consolidated.safetensors, model.backbone...; needs
                              * P = 64, N = 128, K = 4, H * P = 2 * d, no dt limits */
} checkpoint_naming;

typedef enum checkpoint_head {
    CHECKPOINT_TIED,           /* lm_head.weight is not stored */
    CHECKPOINT_UNTIED,         /* both are stored and differ */
    CHECKPOINT_TIED_BOTH,      /* tied, yet both are stored (and equal) */
    CHECKPOINT_TIED_HEAD_ONLY, /* tied, and only lm_head.weight is stored */
} checkpoint_head;

/* Zero in a size means its default. Tensor names in the fault fields are the Transformers ones. */
struct checkpoint_options {
    int64_t d;         /* 32 */
    int64_t L;         /* 2 */
    int64_t H;         /* 2 * d / P; H * P / d is written as `expand`, fractional or not */
    int64_t P;         /* 16 */
    int64_t N;         /* 16 */
    int64_t G;         /* 1 */
    int64_t K;         /* 4 */
    int64_t V;         /* 64 */
    bool has_bias;     /* on in_proj and out_proj */
    bool no_conv_bias; /* leave conv1d.bias out */
    bool residual_16;  /* residual_in_fp32 false */
    bool fp32_ssm;     /* A_log, D and dt_bias in fp32 whatever dtype says */
    checkpoint_head head;
    checkpoint_naming naming;
    ssmq_dtype dtype;     /* of the tensors; SSMQ_F32 is zero */
    double dt_min;        /* time_step_limit; [0, Infinity] while both are zero */
    double dt_max;        /* may be INFINITY */
    int n_shards;         /* over 1: model-0000i-of-0000n.safetensors and an index */
    const char *seed;     /* text that names the random draws; "checkpoint" if NULL */
    const char *skip;     /* tensor to leave out */
    const char *misshape; /* tensor to write with one more row */
    const char *extra;    /* name of an additional tensor */
    const char *as_dtype; /* safetensors dtype to claim for the tensor as_dtype_of ("F64") */
    const char *as_dtype_of;
};

/* Makes the folder and writes the checkpoint; the test fails if that is not possible. The numbers
 * of a tensor depend on seed, its Transformers name and its shape only. */
void write_checkpoint(const char *folder, const struct checkpoint_options *options);

/* A new folder under $TMPDIR (or /tmp) into out[1024]; remove it with remove_folder(). */
void make_temp_folder(char *out);
/* Deletes the plain files of the folder and the folder. */
void remove_folder(const char *folder);

#endif
