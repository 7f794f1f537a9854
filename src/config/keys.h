/* SPDX-License-Identifier: Apache-2.0 */
/* config/keys.h - SSMQ_CONFIG_KEYS as data, and where each key lies in the structure. */
#ifndef SSMQ_CONFIG_KEYS_H
#define SSMQ_CONFIG_KEYS_H

#include "config/config.h"
#include "config/config_keys.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ssmq_key_kind {
    SSMQ_KEY_TEXT,
    SSMQ_KEY_NEEDED, /* a text that may not be empty */
    SSMQ_KEY_NAME,   /* name of a precision */
    SSMQ_KEY_FOLDER, /* a plain file name, or empty */
    SSMQ_KEY_I64,
    SSMQ_KEY_F64,
    SSMQ_KEY_BOOL,
    SSMQ_KEY_TASK,
    SSMQ_KEY_PROTOCOL,
    SSMQ_KEY_PRECISION,
    SSMQ_KEY_SCOPE
} ssmq_key_kind;

typedef struct ssmq_key {
    const char *section;
    const char *name;
    const char *default_yaml;
    const char *choices;
    const char *meaning;
    ssmq_key_kind kind;
    bool is_list;
    size_t offset;     /* of the value or of the first element */
    size_t bytes;      /* of one element */
    size_t n_offset;   /* of the count of a list */
    size_t max_values; /* of a list */
    double least;
    double greatest;
} ssmq_key;

typedef enum ssmq_key_id {
#define X(section, key, ...) SSMQ_KEY_ID_##section##_##key,
    SSMQ_CONFIG_KEYS(X, X, X)
#undef X
        SSMQ_N_KEYS
} ssmq_key_id;

const ssmq_key *ssmq_key_get(size_t i);
/* NULL if there is none. */
const ssmq_key *ssmq_key_find(const char *section, const char *name);
bool ssmq_key_section_exists(const char *section);

/* Number of values: 1, or the count of the list. */
size_t ssmq_key_count(const ssmq_key *key, const ssmq_config *config);
void ssmq_key_set_count(const ssmq_key *key, ssmq_config *config, size_t n);
/* The i-th value. */
const void *ssmq_key_value(const ssmq_key *key, const ssmq_config *config, size_t i);
void *ssmq_key_value_mut(const ssmq_key *key, ssmq_config *config, size_t i);

#ifdef __cplusplus
}
#endif
#endif
