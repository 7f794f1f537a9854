/* SPDX-License-Identifier: Apache-2.0 */
/* Filter expressions: comparisons joined by " and ". */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "grid/grid.h"

static const char JOIN[] = " and ";
static const char FIELDS[] = "task, protocol, precision, scope, context_length, batch_size, seed";

enum { VALUE_BYTES = 160, MAX_TERMS = 32 };

/* FIELD=VALUES or FIELD!=VALUES, as pieces of the expression. */
typedef struct term {
    char field[24];
    bool is_negated;
    const char *values;
    size_t n_bytes;
} term;

/* Text of a trial's field that values are compared with; false if there is no such field. */
static bool field_text(const ssmq_trial *trial, const char *field, char *out) {
    const char *text = NULL;
    int64_t number = 0;
    if (strcmp(field, "task") == 0) {
        text = ssmq_task_name(trial->task);
    } else if (strcmp(field, "protocol") == 0) {
        text = ssmq_task_is_of_text(trial->task) ? ssmq_protocol_name(trial->protocol) : "";
    } else if (strcmp(field, "precision") == 0) {
        text = trial->precision.name;
    } else if (strcmp(field, "scope") == 0) {
        text = trial->scope;
    } else if (strcmp(field, "context_length") == 0) {
        number = trial->context_length;
    } else if (strcmp(field, "batch_size") == 0) {
        number = trial->batch_size;
    } else if (strcmp(field, "seed") == 0) {
        number = trial->seed;
    } else {
        return false;
    }
    if (text != NULL) {
        (void)snprintf(out, VALUE_BYTES, "%s", text);
    } else {
        (void)snprintf(out, VALUE_BYTES, "%" PRId64, number);
    }
    return true;
}

static bool is_text(const char *text, const char *bytes, size_t n_bytes) {
    return n_bytes > 0 && strlen(text) == n_bytes && memcmp(text, bytes, n_bytes) == 0;
}

/* The values are one text, for scopes with commas of their own, or a list. */
static bool is_among(const char *text, const term *t) {
    if (is_text(text, t->values, t->n_bytes)) return true;
    size_t begin = 0;
    for (size_t i = 0; i <= t->n_bytes; i++) {
        if (i < t->n_bytes && t->values[i] != ',') continue;
        if (is_text(text, t->values + begin, i - begin)) return true;
        begin = i + 1;
    }
    return false;
}

static bool holds(const ssmq_trial *trial, const term *t) {
    char text[VALUE_BYTES] = "";
    return field_text(trial, t->field, text) && is_among(text, t) != t->is_negated;
}

static ssmq_status read_term(term *out, const char *text, size_t n_bytes, ssmq_err *err) {
    const char *equals = memchr(text, '=', n_bytes);
    size_t n_field = equals != NULL ? (size_t)(equals - text) : 0;
    bool is_negated = n_field > 0 && text[n_field - 1] == '!';
    if (is_negated) n_field--;
    if (n_field == 0 || n_field >= sizeof out->field) {
        return SSMQ_FAIL(err, CONFIG,
                         "--only: \"%.*s\" is not FIELD=VALUE or FIELD!=VALUE; fields: "
                         "%s",
                         (int)(n_bytes < 80 ? n_bytes : 80), text, FIELDS);
    }
    memset(out, 0, sizeof *out);
    memcpy(out->field, text, n_field);
    out->is_negated = is_negated;
    out->values = equals + 1;
    out->n_bytes = n_bytes - (size_t)(equals + 1 - text);
    char unused[VALUE_BYTES];
    const ssmq_trial any = {0};
    if (!field_text(&any, out->field, unused)) {
        return SSMQ_FAIL(err, CONFIG, "--only: unknown field \"%s\"; fields: %s", out->field,
                         FIELDS);
    }
    if (out->n_bytes == 0) {
        return SSMQ_FAIL(err, CONFIG, "--only: \"%s\" has no value", out->field);
    }
    return SSMQ_OK;
}

ssmq_status ssmq_grid_only(ssmq_grid *grid, const char *expression, ssmq_err *err) {
    term terms[MAX_TERMS] = {0};
    size_t n_terms = 0;
    for (const char *p = expression; p != NULL;) {
        const char *end = strstr(p, JOIN);
        if (n_terms == MAX_TERMS) {
            return SSMQ_FAIL(err, CONFIG, "--only: more than %d comparisons", MAX_TERMS);
        }
        SSMQ_TRY(read_term(&terms[n_terms++], p, end != NULL ? (size_t)(end - p) : strlen(p), err));
        p = end != NULL ? end + strlen(JOIN) : NULL;
    }
    size_t n_kept = 0;
    size_t n_terms_held[MAX_TERMS] = {0};
    for (size_t i = 0; i < grid->n_trials; i++) {
        bool is_kept = true;
        for (size_t j = 0; j < n_terms; j++) {
            bool is_held = holds(&grid->trials[i], &terms[j]);
            n_terms_held[j] += is_held ? 1 : 0;
            is_kept = is_kept && is_held;
        }
        if (is_kept && n_kept != i) grid->trials[n_kept] = grid->trials[i];
        n_kept += is_kept ? 1 : 0;
    }
    grid->n_trials = n_kept;
    for (size_t j = 0; j < n_terms && n_kept == 0; j++) {
        if (n_terms_held[j] > 0) continue;
        return SSMQ_FAIL(err, CONFIG, "--only: no trial has %s%s%.*s", terms[j].field,
                         terms[j].is_negated ? "!=" : "=",
                         (int)(terms[j].n_bytes < 80 ? terms[j].n_bytes : 80), terms[j].values);
    }
    if (n_kept == 0) return SSMQ_FAIL(err, CONFIG, "--only: no trial is left");
    return SSMQ_OK;
}
