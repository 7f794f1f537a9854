/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cuda/algorithms.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/cuda/check.h"

enum { MAX_FILE_BYTES = 1 << 24, MAX_LINE_BYTES = 1024 };

struct cuda_algorithms {
    char path[SSMQ_PATH_BYTES]; /* "" without a file */
};

/* The columns of types: "int8*20" for 20 groups, "bf16+24" where Y begins at column 24. */
static void name_types(const cuda_gemm_shape *s, char *x_name, char *y_name, size_t n_bytes) {
    const bool is_float = s->format == SSMQ_FORMAT_FLOAT;
    const char *x = is_float ? ssmq_dtype_name(s->dtype) : ssmq_format_get(s->format)->name;
    const char *y = s->format == SSMQ_FORMAT_INT8 ? "int32" : ssmq_dtype_name(s->y_dtype);
    ssmq_field_set(x_name, n_bytes, x);
    ssmq_field_set(y_name, n_bytes, y);
    if (s->n_groups > 1) (void)snprintf(x_name, n_bytes, "%s*%lld", x, (long long)s->n_groups);
    if (s->y_first > 0) (void)snprintf(y_name, n_bytes, "%s+%lld", y, (long long)s->y_first);
}

ssmq_status cuda_algorithm_key_init(cuda_algorithm_key *out, const cuda_gemm_shape *shape,
                                    size_t version, ssmq_err *err) {
    enum { NAME_BYTES = 48 };
    struct cudaDeviceProp device;
    char x_name[NAME_BYTES], y_name[NAME_BYTES];
    int device_idx = 0;
    name_types(shape, x_name, y_name, NAME_BYTES);
    CUDA_TRY(cudaGetDevice(&device_idx), err);
    CUDA_TRY(cudaGetDeviceProperties(&device, device_idx), err);
    (void)snprintf(out->text, sizeof out->text, "%zu\t%s\t%d\t%lld\t%lld\t%lld\t%lld\t%s\t%s\t%d\t",
                   version, device.name, device.multiProcessorCount, (long long)shape->M,
                   (long long)shape->N, (long long)shape->K, (long long)shape->y_ld, x_name, y_name,
                   shape->has_bias);
    return SSMQ_OK;
}

ssmq_status cuda_algorithms_open(cuda_algorithms **out, const char *path, ssmq_err *err) {
    *out = NULL;
    if (path != NULL && strlen(path) >= SSMQ_PATH_BYTES) {
        return SSMQ_FAIL(err, CONFIG, "%s: path too long", path);
    }
    SSMQ_TRY(ssmq_calloc(out, 1, sizeof **out, err));
    if (path != NULL) ssmq_field_set((*out)->path, sizeof(*out)->path, path);
    return SSMQ_OK;
}

void cuda_algorithms_close(cuda_algorithms *algorithms) {
    ssmq_free(algorithms);
}

static int digit_of(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Exactly n_bytes in hexadecimal and the end of the line; a torn line is not one. */
static bool read_hex(const char *text, unsigned char *bytes, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i++) {
        const int high = digit_of(text[2 * i]);
        const int low = high < 0 ? -1 : digit_of(text[2 * i + 1]);
        if (low < 0) return false;
        bytes[i] = (unsigned char)(high << 4 | low);
    }
    return text[2 * n_bytes] == '\n';
}

bool cuda_algorithms_find(cuda_algorithms *algorithms, const cuda_algorithm_key *key, void *bytes,
                          size_t n_bytes) {
    char *text = NULL;
    size_t n_text = 0;
    bool is_found = false;
    if (algorithms->path[0] == '\0' || access(algorithms->path, R_OK) != 0) return false;
    if (ssmq_file_read(&text, &n_text, algorithms->path, MAX_FILE_BYTES, NULL) != SSMQ_OK) {
        return false;
    }
    const size_t n_key = strlen(key->text);
    for (const char *line = text; line != NULL && !is_found;) {
        is_found = strncmp(line, key->text, n_key) == 0 && read_hex(line + n_key, bytes, n_bytes);
        line = strchr(line, '\n');
        if (line != NULL) line++;
    }
    ssmq_free(text);
    return is_found;
}

ssmq_status cuda_algorithms_add(cuda_algorithms *algorithms, const cuda_algorithm_key *key,
                                const void *bytes, size_t n_bytes, ssmq_err *err) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *from = bytes;
    char line[MAX_LINE_BYTES];
    size_t n = strlen(key->text);
    if (algorithms->path[0] == '\0') return SSMQ_OK;
    SSMQ_CHECK(n + 2 * n_bytes + 1 <= sizeof line, err);
    memcpy(line, key->text, n);
    for (size_t i = 0; i < n_bytes; i++) {
        line[n++] = digits[from[i] >> 4];
        line[n++] = digits[from[i] & 15];
    }
    line[n++] = '\n';
    const int fd = open(algorithms->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return SSMQ_FAIL(err, IO, "%s: %s", algorithms->path, strerror(errno));
    ssmq_status status = ssmq_fd_write(fd, line, n, algorithms->path, err);
    if (close(fd) != 0 && status == SSMQ_OK) {
        status = SSMQ_FAIL(err, IO, "%s: %s", algorithms->path, strerror(errno));
    }
    return status;
}
