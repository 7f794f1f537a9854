/* SPDX-License-Identifier: Apache-2.0 */
#include "config/keys.h"

#include <string.h>

#define MEMBER_BYTES(member) sizeof(((ssmq_config *)NULL)->member)

/* Names of members cannot stand in parentheses.
 * NOLINTBEGIN(bugprone-macro-parentheses) */
static const ssmq_key keys[SSMQ_N_KEYS] = {
#define ONE(section_, key_, kind_, default_, least_, greatest_, choices_, meaning_)                \
    {.section = #section_,                                                                         \
     .name = #key_,                                                                                \
     .default_yaml = default_,                                                                     \
     .choices = choices_,                                                                          \
     .meaning = meaning_,                                                                          \
     .kind = SSMQ_KEY_##kind_,                                                                     \
     .offset = offsetof(ssmq_config, section_.key_),                                               \
     .bytes = MEMBER_BYTES(section_.key_),                                                         \
     .max_values = 1,                                                                              \
     .least = least_,                                                                              \
     .greatest = greatest_},
#define MANY(section_, key_, kind_, default_, least_, greatest_, choices_, meaning_, n_, values_)  \
    {.section = #section_,                                                                         \
     .name = #key_,                                                                                \
     .default_yaml = default_,                                                                     \
     .choices = choices_,                                                                          \
     .meaning = meaning_,                                                                          \
     .kind = SSMQ_KEY_##kind_,                                                                     \
     .is_list = true,                                                                              \
     .offset = offsetof(ssmq_config, section_.values_),                                            \
     .bytes = MEMBER_BYTES(section_.values_[0]),                                                   \
     .n_offset = offsetof(ssmq_config, section_.n_),                                               \
     .max_values = MEMBER_BYTES(section_.values_) / MEMBER_BYTES(section_.values_[0]),             \
     .least = least_,                                                                              \
     .greatest = greatest_},
#define AXIS(section_, key_, kind_, default_, least_, greatest_, choices_, meaning_)               \
    MANY(section_, key_, kind_, default_, least_, greatest_, choices_, meaning_, key_.n,           \
         key_.values)
#define LIST(section_, key_, kind_, default_, least_, greatest_, choices_, meaning_)               \
    MANY(section_, key_, kind_, default_, least_, greatest_, choices_, meaning_, n_##key_, key_)
    SSMQ_CONFIG_KEYS(ONE, AXIS, LIST)
#undef LIST
#undef AXIS
#undef MANY
#undef ONE
};
/* NOLINTEND(bugprone-macro-parentheses) */

const ssmq_key *ssmq_key_get(size_t i) {
    return &keys[i];
}

const ssmq_key *ssmq_key_find(const char *section, const char *name) {
    for (size_t i = 0; i < SSMQ_N_KEYS; i++) {
        if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

bool ssmq_key_section_exists(const char *section) {
    for (size_t i = 0; i < SSMQ_N_KEYS; i++) {
        if (strcmp(keys[i].section, section) == 0) return true;
    }
    return false;
}

size_t ssmq_key_count(const ssmq_key *key, const ssmq_config *config) {
    if (!key->is_list) return 1;
    size_t n = 0;
    memcpy(&n, (const char *)config + key->n_offset, sizeof n);
    return n <= key->max_values ? n : key->max_values;
}

void ssmq_key_set_count(const ssmq_key *key, ssmq_config *config, size_t n) {
    if (key->is_list) memcpy((char *)config + key->n_offset, &n, sizeof n);
}

const void *ssmq_key_value(const ssmq_key *key, const ssmq_config *config, size_t i) {
    return (const char *)config + key->offset + i * key->bytes;
}

void *ssmq_key_value_mut(const ssmq_key *key, ssmq_config *config, size_t i) {
    return (char *)config + key->offset + i * key->bytes;
}
