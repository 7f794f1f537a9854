/* SPDX-License-Identifier: Apache-2.0 */
/* cli/trial_table.h - the main columns of trials as aligned text or Markdown, a table a task. */
#ifndef SSMQ_CLI_TRIAL_TABLE_H
#define SSMQ_CLI_TRIAL_TABLE_H

#include <stddef.h>

#include "base/status.h"
#include "base/str.h"
#include "record/record.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_trial_list {
    ssmq_record *records;
    size_t n;
    size_t capacity;
} ssmq_trial_list;

/* Appends a copy.  Owns: list, ssmq_trial_list_free().  Fails: NOMEM, CONFIG (too many). */
SSMQ_MUST_USE ssmq_status ssmq_trial_list_add(ssmq_trial_list *list, const ssmq_record *record,
                                              ssmq_err *err);
void ssmq_trial_list_free(ssmq_trial_list *list);

typedef enum ssmq_table_style { SSMQ_TABLE_TEXT, SSMQ_TABLE_MARKDOWN } ssmq_table_style;

/* Sorts the list by task, protocol, prompt template, context, stride, batch, seed and precision
 * (more bits first), equal ones in the order they came in, and appends a table for each task that
 * occurs. Fails: NOMEM, CONFIG (over out's maximum). */
SSMQ_MUST_USE ssmq_status ssmq_trial_tables_add(ssmq_trial_list *list, ssmq_table_style style,
                                                ssmq_str *out, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
