/* SPDX-License-Identifier: Apache-2.0 */
/* config/fault.h - the list of faults of a configuration, one line each:
 *     source:line:column: key: what is wrong; what is allowed */
#ifndef SSMQ_CONFIG_FAULT_H
#define SSMQ_CONFIG_FAULT_H

#include <stddef.h>

#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SSMQ_MAX_FAULTS = 100,   /* lines written; the rest is only counted */
    SSMQ_SHOWN_BYTES = 64,   /* of a quoted value in a message */
    SSMQ_FAULT_BYTES = 2048, /* of one line after its key */
    SSMQ_FAULT_KEY_BYTES = 96
};

/* A place in a source; line and column are counted from 1, the column in characters. */
typedef struct ssmq_mark {
    const char *source; /* file name, "--set" or "defaults"; outlives the read */
    int line;
    int column;
} ssmq_mark;

typedef struct ssmq_faults {
    ssmq_str *text; /* borrowed from the caller of ssmq_config_read */
    size_t n;
} ssmq_faults;

void ssmq_fault(ssmq_faults *faults, ssmq_mark mark, const char *key, const char *format, ...)
    SSMQ_PRINTF(4, 5);

/* text in double quotes into out[SSMQ_SHOWN_BYTES], cut if long, control bytes as '?'.
 * Returns out. */
const char *ssmq_shown(char *out, const char *text);

/* Edits (insert, delete, replace, swap of neighbours) between two words; words over 47 bytes are
 * taken for distant. */
size_t ssmq_edit_distance(const char *a, const char *b);

#ifdef __cplusplus
}
#endif
#endif
