/* SPDX-License-Identifier: Apache-2.0 */
/* model/safetensors.h - one safetensors file: its header checked, a view of every tensor. */
#ifndef SSMQ_MODEL_SAFETENSORS_H
#define SSMQ_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "json/json.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SSMQ_SAFETENSORS_MAX_DIMS = 8,
    SSMQ_SAFETENSORS_MAX_NAME_BYTES = 200,
    /* A model of 256 layers has a header of about 0.6 MB; a hostile one would be parsed into a
     * hundred times its size. */
    SSMQ_SAFETENSORS_MAX_HEADER_BYTES = 4 << 20
};

/* A tensor as stored: row-major, little-endian, possibly unaligned. Borrowed from its file. */
typedef struct ssmq_safetensor {
    const char *name;
    const char *dtype; /* as in the format: "F32", "BF16", ... */
    int n_dims;
    int64_t shape[SSMQ_SAFETENSORS_MAX_DIMS];
    const unsigned char *bytes;
    size_t n_bytes;
} ssmq_safetensor;

typedef struct ssmq_safetensors {
    ssmq_safetensor *tensors; /* by name */
    size_t n;
    ssmq_json *header; /* owns the names */
} ssmq_safetensors;

/* Checks a whole file in memory. `name` is what messages call it. The views borrow `bytes`.
 * Owns: *out, ssmq_safetensors_free().  Fails: CONFIG, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_safetensors_parse(ssmq_safetensors *out, const unsigned char *bytes,
                                                 size_t n_bytes, const char *name, ssmq_err *err);
void ssmq_safetensors_free(ssmq_safetensors *file);

/* NULL if there is no such tensor. */
const ssmq_safetensor *ssmq_safetensors_find(const ssmq_safetensors *file, const char *name);

#ifdef __cplusplus
}
#endif
#endif
