/* SPDX-License-Identifier: Apache-2.0 */
/* config/yaml_tree.h - one YAML document as a tree of nodes that know where they stand.
 * A small YAML on purpose: one document, mappings, lists and texts; anchors, aliases, tags,
 * directives, deep nesting and control characters are faults. */
#ifndef SSMQ_CONFIG_YAML_TREE_H
#define SSMQ_CONFIG_YAML_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "base/str.h"
#include "config/fault.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SSMQ_YAML_MAX_BYTES = 1 << 20, /* of a source */
    SSMQ_YAML_MAX_NODES = 20000,
    SSMQ_YAML_MAX_DEPTH = 8,
    SSMQ_YAML_MAX_PAIRS = 256 /* keys of one mapping */
};

typedef enum ssmq_yaml_kind {
    SSMQ_YAML_TEXT,
    SSMQ_YAML_LIST,
    SSMQ_YAML_MAP, /* children are key, value, key, value, ... */
    SSMQ_YAML_BAD  /* already reported */
} ssmq_yaml_kind;

typedef struct ssmq_yaml_node {
    ssmq_yaml_kind kind;
    bool is_plain; /* a text without quotes */
    ssmq_mark mark;
    size_t text_at; /* into pool; zero-terminated, without zeros inside */
    int first_child;
    int last_child; /* indices into nodes; -1: none */
    int next;
    int n_children;
} ssmq_yaml_node;

typedef struct ssmq_yaml {
    ssmq_yaml_node *nodes;
    size_t n_nodes;
    size_t capacity;
    ssmq_str pool;
    int root; /* -1: an empty document, or one that could not be read */
} ssmq_yaml;

typedef struct ssmq_yaml_source {
    const char *name; /* goes into marks */
    const char *bytes;
    size_t n_bytes;
    int first_column; /* added to the columns of line 1 */
} ssmq_yaml_source;

/* Parses a source; what is wrong with it goes to faults and is not a failure of the call.
 * Owns: *out, ssmq_yaml_free().  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_yaml_parse(ssmq_yaml *out, const ssmq_yaml_source *source,
                                          ssmq_faults *faults, ssmq_err *err);
void ssmq_yaml_free(ssmq_yaml *yaml);

const ssmq_yaml_node *ssmq_yaml_get(const ssmq_yaml *yaml, int i);
/* Text of a TEXT node. */
const char *ssmq_yaml_text(const ssmq_yaml *yaml, const ssmq_yaml_node *node);
/* "a mapping", "a list", "a text": for messages. */
const char *ssmq_yaml_kind_name(ssmq_yaml_kind kind);

#ifdef __cplusplus
}
#endif
#endif
