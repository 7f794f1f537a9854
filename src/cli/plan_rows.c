/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a plan.csv by the names of its columns (RFC 4180, no line feeds inside fields). */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/plan.h"
#include "grid/grid.h"

enum { MAX_COLUMNS = 64 };

/* Cuts a line into its fields, in place; quotes are taken off. Returns their number. */
static size_t split(char *line, char **fields) {
    size_t n = 0;
    char *to = line;
    bool is_quoted = false;
    fields[n++] = to;
    for (char *c = line; *c != '\0'; c++) {
        if (*c == '"' && is_quoted && c[1] == '"') {
            *to++ = *c++;
        } else if (*c == '"') {
            is_quoted = !is_quoted;
        } else if (*c == ',' && !is_quoted && n < MAX_COLUMNS) {
            *to++ = '\0';
            fields[n++] = to;
        } else {
            *to++ = *c;
        }
    }
    *to = '\0';
    return n;
}

static size_t column_of(char *const *names, size_t n, const char *name) {
    size_t i = 0;
    while (i < n && strcmp(names[i], name) != 0) i++;
    return i;
}

/* The next line of a text, cut off from what follows; NULL at its end. */
static char *next_line(char **rest) {
    char *line = *rest;
    if (line[0] == '\0') return NULL;
    char *feed = strchr(line, '\n');
    *rest = feed != NULL ? feed + 1 : line + strlen(line);
    if (feed != NULL) *feed = '\0';
    return line;
}

ssmq_status ssmq_plan_rows_read(ssmq_plan_rows *out, const char *path, ssmq_err *err) {
    char *fields[MAX_COLUMNS];
    size_t n_bytes = 0;
    size_t capacity = 0;
    memset(out, 0, sizeof *out);
    SSMQ_TRY(ssmq_file_read(&out->text, &n_bytes, path, SSMQ_MAX_PLAN_BYTES, err));
    char *rest = out->text;
    char *line = next_line(&rest);
    const size_t n_columns = line != NULL ? split(line, fields) : 0;
    const size_t id = column_of(fields, n_columns, "trial_id");
    const size_t key = column_of(fields, n_columns, "trial_key");
    const size_t cost = column_of(fields, n_columns, "cost_s");
    if (id == n_columns || key == n_columns) {
        return SSMQ_FAIL(err, CONFIG, "%s: has no columns trial_id and trial_key", path);
    }
    while ((line = next_line(&rest)) != NULL) {
        if (split(line, fields) != n_columns) {
            return SSMQ_FAIL(err, CONFIG, "%s:%zu: must have %zu fields", path, out->n + 2,
                             n_columns);
        }
        SSMQ_TRY(
            ssmq_grow(&out->rows, &capacity, out->n + 1, sizeof *out->rows, SSMQ_MAX_TRIALS, err));
        out->rows[out->n++] = (ssmq_plan_row){
            .id = fields[id],
            .key = fields[key],
            .cost_s = cost < n_columns ? strtod(fields[cost], NULL) : 0.0,
        };
    }
    return SSMQ_OK;
}

void ssmq_plan_rows_free(ssmq_plan_rows *plan) {
    ssmq_free(plan->rows);
    ssmq_free(plan->text);
    memset(plan, 0, sizeof *plan);
}
