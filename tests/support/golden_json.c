/* SPDX-License-Identifier: Apache-2.0 */
#include "support/golden_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"

enum { MAX_JSON_BYTES = 1 << 20 };

ssmq_json *golden_read(const char *path) {
    ssmq_json *document = NULL;
    ssmq_err err = {0};
    if (ssmq_json_read(&document, path, MAX_JSON_BYTES, &err) != SSMQ_OK) fail_msg("%s", err.text);
    return document;
}

const ssmq_json *golden_member(const ssmq_json *object, const char *key) {
    const ssmq_json *value = NULL;
    if (!ssmq_json_get(object, key, &value)) fail_msg("no member %s", key);
    return value;
}

double *golden_numbers(const ssmq_json *object, const char *key, int64_t *n) {
    const ssmq_json *array = golden_member(object, key);
    double *out = NULL;
    *n = (int64_t)ssmq_json_n_items(array);
    assert_true(*n > 0);
    assert_int_equal(ssmq_calloc(&out, (size_t)*n, sizeof *out, NULL), SSMQ_OK);
    for (int64_t i = 0; i < *n; i++) {
        assert_true(ssmq_json_f64(ssmq_json_item(array, (size_t)i), &out[i]));
    }
    return out;
}

int32_t *golden_ids(const ssmq_json *object, const char *key, int64_t *n) {
    double *numbers = golden_numbers(object, key, n);
    int32_t *out = NULL;
    assert_int_equal(ssmq_calloc(&out, (size_t)*n, sizeof *out, NULL), SSMQ_OK);
    for (int64_t i = 0; i < *n; i++) out[i] = (int32_t)numbers[i];
    ssmq_free(numbers);
    return out;
}
