/* SPDX-License-Identifier: Apache-2.0 */
/* config/values.h - one value of a key: from YAML, with every check that needs no other key, and
 * back to YAML. */
#ifndef SSMQ_CONFIG_VALUES_H
#define SSMQ_CONFIG_VALUES_H

#include "config/fault.h"
#include "config/keys.h"
#include "config/yaml_tree.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a value is read: `path` is the key as faults name it, "section.key". */
typedef struct ssmq_value_place {
    const ssmq_yaml *yaml;
    const ssmq_yaml_node *node;
    const char *path;
    ssmq_faults *faults;
} ssmq_value_place;

/* Reads place->node into out (one element of the key). False if it is wrong; then there is at
 * least one fault, and out is undefined. */
bool ssmq_value_read(const ssmq_key *key, const ssmq_value_place *place, void *out);

/* Appends an element as YAML that reads back to the same element. */
void ssmq_value_write(const ssmq_key *key, const void *value, ssmq_str *out);

/* Whether two elements are the same axis value: equal, or of the same name. */
bool ssmq_value_is_equal(const ssmq_key *key, const void *a, const void *b);

/* Strict decimal numbers: no leading zeros, no plus sign, nothing after the number. False if text
 * is none; a number that does not fit becomes INT64_MIN, INT64_MAX or an infinity. */
bool ssmq_text_to_i64(const char *text, int64_t *out);
bool ssmq_text_to_f64(const char *text, double *out);

/* Shortest decimal text that reads back to the same double, into out[32]. */
void ssmq_f64_to_text(char *out, double value);

/* precision_yaml.c: a name, or a mapping {name, dtype, w_bits, a_bits, w_format, a_format,
 * group_size, state_dtype}; what is left out follows from dtype and bits. */
bool ssmq_precision_read(const ssmq_value_place *place, ssmq_precision *out);
void ssmq_precision_write(const ssmq_precision *precision, ssmq_str *out);
/* True if both stand for the same computation, whatever they are called. */
bool ssmq_precision_is_same(const ssmq_precision *a, const ssmq_precision *b);

#ifdef __cplusplus
}
#endif
#endif
