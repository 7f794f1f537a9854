/* SPDX-License-Identifier: Apache-2.0 */
/* Filter expressions: alternatives joined by " or ", of comparisons joined by " and ". */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "grid/grid.h"

static const char AND[] = " and ", OR[] = " or ";
static const char FIELDS[] =
    "task, protocol, prompt_template, precision, scope, context_length, batch_size, seed";

enum { VALUE_BYTES = 160, MAX_TERMS = 32 };

/* FIELD=VALUES or FIELD!=VALUES, as pieces of the expression. */
typedef struct term {
    char field[24];
    bool is_negated;
    const char *values;
    size_t n_bytes;
    bool is_first; /* of its alternative */
    size_t n_held; /* trials that it held for */
} term;

/* Text of a trial's field that values are compared with; false if there is no such field. */
static bool field_text(const ssmq_trial *trial, const char *field, char *out) {
    const char *text = NULL;
    int64_t number = 0;
    if (strcmp(field, "task") == 0) {
        text = ssmq_task_name(trial->task);
    } else if (strcmp(field, "protocol") == 0) {
        text = ssmq_task_is_of_text(trial->task) ? ssmq_protocol_name(trial->protocol) : "";
    } else if (strcmp(field, "prompt_template") == 0) {
        text = trial->prompt_template;
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

static ssmq_status read_term(term *out, const char *source, const char *text, size_t n_bytes,
                             ssmq_err *err) {
    const char *equals = memchr(text, '=', n_bytes);
    size_t n_field = equals != NULL ? (size_t)(equals - text) : 0;
    bool is_negated = n_field > 0 && text[n_field - 1] == '!';
    if (is_negated) n_field--;
    if (n_field == 0 || n_field >= sizeof out->field) {
        return SSMQ_FAIL(err, CONFIG,
                         "%s: \"%.*s\" is not FIELD=VALUE or FIELD!=VALUE; fields: "
                         "%s",
                         source, (int)(n_bytes < 80 ? n_bytes : 80), text, FIELDS);
    }
    memset(out, 0, sizeof *out);
    memcpy(out->field, text, n_field);
    out->is_negated = is_negated;
    out->values = equals + 1;
    out->n_bytes = n_bytes - (size_t)(equals + 1 - text);
    char unused[VALUE_BYTES];
    const ssmq_trial any = {.scope = ""};
    if (!field_text(&any, out->field, unused)) {
        return SSMQ_FAIL(err, CONFIG, "%s: unknown field \"%s\"; fields: %s", source, out->field,
                         FIELDS);
    }
    if (out->n_bytes == 0) {
        return SSMQ_FAIL(err, CONFIG, "%s: \"%s\" has no value", source, out->field);
    }
    return SSMQ_OK;
}

static ssmq_status read_terms(term *terms, size_t *n_terms, const char *source,
                              const char *expression, ssmq_err *err) {
    const char *p = expression;
    bool is_first = true;
    while (p != NULL) {
        const char *next_and = strstr(p, AND), *next_or = strstr(p, OR);
        /* Of its alternative. */
        const bool is_last = next_or != NULL && (next_and == NULL || next_or < next_and);
        const char *end = is_last ? next_or : next_and;
        if (*n_terms == MAX_TERMS) {
            return SSMQ_FAIL(err, CONFIG, "%s: more than %d comparisons", source, MAX_TERMS);
        }
        term *t = &terms[(*n_terms)++];
        SSMQ_TRY(read_term(t, source, p, end != NULL ? (size_t)(end - p) : strlen(p), err));
        t->is_first = is_first;
        is_first = is_last;
        p = end != NULL ? end + (is_last ? strlen(OR) : strlen(AND)) : NULL;
    }
    return SSMQ_OK;
}

/* Whether an alternative holds; counts every comparison that does. */
static bool is_selected(const ssmq_trial *trial, term *terms, size_t n_terms) {
    bool is_any = false, is_all = false;
    for (size_t i = 0; i < n_terms; i++) {
        if (terms[i].is_first) {
            is_any |= is_all;
            is_all = true;
        }
        const bool is_held = holds(trial, &terms[i]);
        terms[i].n_held += is_held ? 1 : 0;
        is_all &= is_held;
    }
    return is_any || is_all;
}

ssmq_status ssmq_grid_only(ssmq_grid *grid, const char *source, const char *expression,
                           ssmq_err *err) {
    term terms[MAX_TERMS] = {0};
    size_t n_terms = 0, n_kept = 0;
    SSMQ_TRY(read_terms(terms, &n_terms, source, expression, err));
    for (size_t i = 0; i < grid->n_trials; i++) {
        if (!is_selected(&grid->trials[i], terms, n_terms)) continue;
        if (n_kept != i) grid->trials[n_kept] = grid->trials[i];
        n_kept++;
    }
    grid->n_trials = n_kept;
    for (size_t j = 0; j < n_terms && n_kept == 0; j++) {
        const term *t = &terms[j];
        if (t->n_held > 0) continue;
        return SSMQ_FAIL(err, CONFIG, "%s: no trial has %s%s%.*s", source, t->field,
                         t->is_negated ? "!=" : "=", (int)(t->n_bytes < 80 ? t->n_bytes : 80),
                         t->values);
    }
    if (n_kept == 0) return SSMQ_FAIL(err, CONFIG, "%s: no trial is left", source);
    return SSMQ_OK;
}
