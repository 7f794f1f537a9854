/* SPDX-License-Identifier: Apache-2.0 */
/* config/reading.h - a configuration while its sources are read one over the other. */
#ifndef SSMQ_CONFIG_READING_H
#define SSMQ_CONFIG_READING_H

#include <sys/types.h>

#include "config/fault.h"
#include "config/keys.h"
#include "config/yaml_tree.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SSMQ_MAX_INCLUDE_DEPTH = 16,
    SSMQ_MAX_CONFIG_FILES = 256, /* read in all, a file as often as it is included */
    SSMQ_MAX_SOURCES = SSMQ_MAX_CONFIG_FILES + 1
};

/* A file of the chain of includes that is being read. */
typedef struct ssmq_open_file {
    dev_t device;
    ino_t inode;
} ssmq_open_file;

typedef struct ssmq_reading {
    ssmq_config *config;
    ssmq_faults faults;
    ssmq_mark origin[SSMQ_N_KEYS]; /* where a key was set last */
    bool is_default[SSMQ_N_KEYS];  /* no source has set it */
    bool is_bad[SSMQ_N_KEYS];      /* reported; checks across keys leave it alone */
    bool reads_defaults;
    char *names[SSMQ_MAX_SOURCES]; /* of files, for marks; owned */
    size_t n_names;
    ssmq_open_file chain[SSMQ_MAX_INCLUDE_DEPTH];
    int depth;
} ssmq_reading;

/* merge.c: sets what a file, with its includes before it, says.  Fails: NOMEM, IO. */
SSMQ_MUST_USE ssmq_status ssmq_reading_add_file(ssmq_reading *reading, const char *path,
                                                ssmq_err *err);
/* "section.key=value".  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_reading_add_set(ssmq_reading *reading, const char *text,
                                               ssmq_err *err);
/* The defaults of the table.  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_reading_add_defaults(ssmq_reading *reading, ssmq_err *err);
void ssmq_reading_free(ssmq_reading *reading);

/* check.c: defaults that follow from other keys, then checks across keys. */
void ssmq_reading_check(ssmq_reading *reading);

#ifdef __cplusplus
}
#endif
#endif
