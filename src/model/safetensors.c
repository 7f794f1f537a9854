/* SPDX-License-Identifier: Apache-2.0 */
/* The format (huggingface/safetensors, README): 8 bytes of little-endian header length n, n bytes
 * of JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {...}}, then
 * the data. A file is valid if and only if
 *   - the header lies inside the file and starts with '{';
 *   - no name occurs twice, and __metadata__ maps strings to strings;
 *   - end - begin is what dtype and shape ask for, computed without overflow;
 *   - the tensors in order of begin cover the data without holes or overlaps, to its last byte. */
#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { LENGTH_BYTES = 8 };

static const struct {
    const char *name;
    unsigned bits;
} dtypes[] = {
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
};

/* The file under check. */
typedef struct reader {
    const char *path;
    const unsigned char *data;
    uint64_t data_bytes;
} reader;

static bool is_plain(const char *text) {
    size_t n = strlen(text);
    if (n == 0 || n > SSMQ_SAFETENSORS_MAX_NAME_BYTES) return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7F) return false;
    }
    return true;
}

static ssmq_status read_dtype(const reader *r, const ssmq_json *entry, ssmq_safetensor *tensor,
                              unsigned *bits, ssmq_err *err) {
    const ssmq_json *value = NULL;
    size_t n_bytes = 0;
    (void)ssmq_json_get(entry, "dtype", &value);
    const char *text = ssmq_json_string(value, &n_bytes);
    if (text == NULL) {
        return SSMQ_FAIL(err, CONFIG, "%s: tensor %s: no dtype", r->path, tensor->name);
    }
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strlen(dtypes[i].name) == n_bytes && memcmp(dtypes[i].name, text, n_bytes) == 0) {
            tensor->dtype = dtypes[i].name;
            *bits = dtypes[i].bits;
            return SSMQ_OK;
        }
    }
    return SSMQ_FAIL(err, CONFIG, "%s: tensor %s: unknown dtype %s", r->path, tensor->name,
                     is_plain(text) ? text : "?");
}

/* Shape, and the bytes it needs at `bits` a number. */
static ssmq_status read_shape(const reader *r, const ssmq_json *entry, unsigned bits,
                              ssmq_safetensor *tensor, uint64_t *needed, ssmq_err *err) {
    const ssmq_json *value = NULL;
    (void)ssmq_json_get(entry, "shape", &value);
    size_t n_dims = ssmq_json_n_items(value);
    if (ssmq_json_type_of(value) != SSMQ_JSON_ARRAY || n_dims > SSMQ_SAFETENSORS_MAX_DIMS) {
        return SSMQ_FAIL(err, CONFIG, "%s: tensor %s: shape is no list of at most %d sizes",
                         r->path, tensor->name, SSMQ_SAFETENSORS_MAX_DIMS);
    }
    tensor->n_dims = (int)n_dims;
    uint64_t n_bits = bits;
    for (size_t i = 0; i < n_dims; i++) {
        const ssmq_json *size = ssmq_json_item(value, i);
        if (ssmq_json_type_of(size) != SSMQ_JSON_INT || !ssmq_json_i64(size, &tensor->shape[i]) ||
            tensor->shape[i] < 0) {
            return SSMQ_FAIL(err, CONFIG, "%s: tensor %s: size %zu of the shape is no whole number",
                             r->path, tensor->name, i);
        }
        if (__builtin_mul_overflow(n_bits, (uint64_t)tensor->shape[i], &n_bits)) {
            return SSMQ_FAIL(err, CONFIG, "%s: tensor %s: the shape is too large", r->path,
                             tensor->name);
        }
    }
    if (n_bits % 8 != 0) {
        return SSMQ_FAIL(err, CONFIG, "%s: tensor %s: its numbers do not fill whole bytes", r->path,
                         tensor->name);
    }
    *needed = n_bits / 8;
    return SSMQ_OK;
}

static ssmq_status read_offsets(const reader *r, const ssmq_json *entry, uint64_t needed,
                                ssmq_safetensor *tensor, ssmq_err *err) {
    const ssmq_json *value = NULL;
    int64_t offsets[2] = {0, 0};
    (void)ssmq_json_get(entry, "data_offsets", &value);
    bool is_pair = ssmq_json_n_items(value) == 2;
    for (size_t i = 0; i < 2 && is_pair; i++) {
        const ssmq_json *item = ssmq_json_item(value, i);
        is_pair = ssmq_json_type_of(item) == SSMQ_JSON_INT && ssmq_json_i64(item, &offsets[i]) &&
                  offsets[i] >= 0;
    }
    if (!is_pair || offsets[0] > offsets[1]) {
        return SSMQ_FAIL(err, CONFIG, "%s: tensor %s: data_offsets are no [begin, end]", r->path,
                         tensor->name);
    }
    uint64_t begin = (uint64_t)offsets[0];
    uint64_t end = (uint64_t)offsets[1];
    if (end > r->data_bytes) {
        return SSMQ_FAIL(err, CONFIG, "%s: tensor %s ends at byte %llu of %llu bytes of data",
                         r->path, tensor->name, (unsigned long long)end,
                         (unsigned long long)r->data_bytes);
    }
    if (end - begin != needed) {
        return SSMQ_FAIL(
            err, CONFIG, "%s: tensor %s: %llu bytes stored, dtype and shape ask for %llu", r->path,
            tensor->name, (unsigned long long)(end - begin), (unsigned long long)needed);
    }
    tensor->bytes = r->data + begin;
    tensor->n_bytes = (size_t)needed;
    return SSMQ_OK;
}

static ssmq_status read_tensor(const reader *r, const char *name, const ssmq_json *entry,
                               ssmq_safetensor *tensor, ssmq_err *err) {
    if (!is_plain(name)) {
        return SSMQ_FAIL(err, CONFIG,
                         "%s: a tensor name is empty, over %d bytes or holds control characters",
                         r->path, SSMQ_SAFETENSORS_MAX_NAME_BYTES);
    }
    tensor->name = name;
    unsigned bits = 0;
    uint64_t needed = 0;
    if (ssmq_json_type_of(entry) != SSMQ_JSON_OBJECT) {
        return SSMQ_FAIL(err, CONFIG, "%s: tensor %s: its entry is no object", r->path, name);
    }
    SSMQ_TRY(read_dtype(r, entry, tensor, &bits, err));
    SSMQ_TRY(read_shape(r, entry, bits, tensor, &needed, err));
    return read_offsets(r, entry, needed, tensor, err);
}

static ssmq_status check_metadata(const reader *r, const ssmq_json *metadata, ssmq_err *err) {
    bool is_map = ssmq_json_type_of(metadata) == SSMQ_JSON_OBJECT;
    for (ssmq_json_iter it = ssmq_json_begin(metadata); is_map && ssmq_json_next(&it);) {
        is_map = ssmq_json_type_of(it.value) == SSMQ_JSON_STRING;
    }
    if (is_map) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: __metadata__ does not map strings to strings", r->path);
}

static int by_place(const void *a, const void *b) {
    const ssmq_safetensor *x = a;
    const ssmq_safetensor *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const ssmq_safetensor *)a)->name, ((const ssmq_safetensor *)b)->name);
}

/* Sorts the tensors by place. */
static ssmq_status check_cover(const reader *r, ssmq_safetensors *file, ssmq_err *err) {
    if (file->n > 0) qsort(file->tensors, file->n, sizeof *file->tensors, by_place);
    uint64_t covered = 0;
    for (size_t i = 0; i < file->n; i++) {
        const ssmq_safetensor *tensor = &file->tensors[i];
        uint64_t begin = (uint64_t)(tensor->bytes - r->data);
        if (begin != covered) {
            return SSMQ_FAIL(err, CONFIG, "%s: tensor %s begins at byte %llu of the data, %s %llu",
                             r->path, tensor->name, (unsigned long long)begin,
                             begin > covered ? "after a hole from" : "inside another that ends at",
                             (unsigned long long)covered);
        }
        covered += tensor->n_bytes;
    }
    if (covered == r->data_bytes) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: %llu bytes of data, the tensors cover %llu", r->path,
                     (unsigned long long)r->data_bytes, (unsigned long long)covered);
}

static ssmq_status read_header(const reader *r, ssmq_safetensors *file, ssmq_err *err) {
    SSMQ_TRY(
        ssmq_calloc(&file->tensors, ssmq_json_n_members(file->header), sizeof *file->tensors, err));
    for (ssmq_json_iter it = ssmq_json_begin(file->header); ssmq_json_next(&it);) {
        if (strcmp(it.key, "__metadata__") == 0) {
            SSMQ_TRY(check_metadata(r, it.value, err));
        } else {
            SSMQ_TRY(read_tensor(r, it.key, it.value, &file->tensors[file->n++], err));
        }
    }
    SSMQ_TRY(check_cover(r, file, err));
    if (file->n > 0) qsort(file->tensors, file->n, sizeof *file->tensors, by_name);
    return SSMQ_OK;
}

ssmq_status ssmq_safetensors_parse(ssmq_safetensors *out, const unsigned char *bytes,
                                   size_t n_bytes, const char *name, ssmq_err *err) {
    memset(out, 0, sizeof *out);
    if (n_bytes < LENGTH_BYTES) {
        return SSMQ_FAIL(err, CONFIG, "%s: %zu bytes, too short for a safetensors file", name,
                         n_bytes);
    }
    uint64_t header_bytes = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) header_bytes = header_bytes << 8 | bytes[i];
    if (header_bytes > n_bytes - LENGTH_BYTES) {
        return SSMQ_FAIL(
            err, CONFIG,
            "%s: truncated or no safetensors file: a header of %llu bytes in a file of "
            "%zu",
            name, (unsigned long long)header_bytes, n_bytes);
    }
    if (header_bytes > SSMQ_SAFETENSORS_MAX_HEADER_BYTES) {
        return SSMQ_FAIL(err, CONFIG, "%s: a header of %llu bytes, more than the limit of %d", name,
                         (unsigned long long)header_bytes, SSMQ_SAFETENSORS_MAX_HEADER_BYTES);
    }
    if (header_bytes == 0 || bytes[LENGTH_BYTES] != '{') {
        return SSMQ_FAIL(err, CONFIG, "%s: the header does not start with '{'", name);
    }
    reader r = {.path = name,
                .data = bytes + LENGTH_BYTES + header_bytes,
                .data_bytes = n_bytes - LENGTH_BYTES - header_bytes};
    SSMQ_TRY(ssmq_json_parse(&out->header, (const char *)bytes + LENGTH_BYTES, (size_t)header_bytes,
                             name, err));
    ssmq_status status = read_header(&r, out, err);
    if (status != SSMQ_OK) ssmq_safetensors_free(out);
    return status;
}

void ssmq_safetensors_free(ssmq_safetensors *file) {
    ssmq_free(file->tensors);
    ssmq_json_free(file->header);
    memset(file, 0, sizeof *file);
}

const ssmq_safetensor *ssmq_safetensors_find(const ssmq_safetensors *file, const char *name) {
    if (file->n == 0) return NULL;
    ssmq_safetensor wanted = {.name = name};
    return bsearch(&wanted, file->tensors, file->n, sizeof *file->tensors, by_name);
}
