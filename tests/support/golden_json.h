/* SPDX-License-Identifier: Apache-2.0 */
/* support/golden_json.h - expected numbers out of golden JSON files; a test fails where they lack.
 */
#ifndef SUPPORT_GOLDEN_JSON_H
#define SUPPORT_GOLDEN_JSON_H

#include <stdint.h>

#include "json/json.h"

/* Release with ssmq_json_free(). */
ssmq_json *golden_read(const char *path);

const ssmq_json *golden_member(const ssmq_json *object, const char *key);

/* Items of the array `key`, of which there are *n. Release with ssmq_free(). */
double *golden_numbers(const ssmq_json *object, const char *key, int64_t *n);
int32_t *golden_ids(const ssmq_json *object, const char *key, int64_t *n);

#endif
