/* SPDX-License-Identifier: Apache-2.0 */
/* The named series of numbers beside a record, and their JSON: {"name": [1.5, null, ...], ...}. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "record/record.h"

typedef struct series_row {
    const char *name;
    const char *unit;
    const char *doc;
} series_row;

static const series_row table[] = {
#define X(name, unit, doc) {name, unit, doc},
    SSMQ_SERIES_TABLE(X)
#undef X
};

enum { N_TABLE = sizeof table / sizeof table[0] };

_Static_assert(sizeof table / sizeof table[0] <= SSMQ_MAX_SERIES,
               "a trial may have each series of the table");
#define X(name, unit, doc) _Static_assert(sizeof(name) <= 48, "name of a series is too long");
SSMQ_SERIES_TABLE(X)
#undef X

static const series_row *row_named(const char *name) {
    for (size_t i = 0; i < N_TABLE; i++) {
        if (strcmp(table[i].name, name) == 0) return &table[i];
    }
    return NULL;
}

size_t ssmq_series_count(void) {
    return N_TABLE;
}

const char *ssmq_series_name(size_t i) {
    return i < N_TABLE ? table[i].name : NULL;
}

const char *ssmq_series_unit(const char *name) {
    const series_row *row = row_named(name);
    return row != NULL ? row->unit : NULL;
}

const char *ssmq_series_doc(const char *name) {
    const series_row *row = row_named(name);
    return row != NULL ? row->doc : NULL;
}

const ssmq_series *ssmq_samples_get(const ssmq_samples *samples, const char *name) {
    for (size_t i = 0; i < samples->n_series; i++) {
        if (strcmp(samples->series[i].name, name) == 0) return &samples->series[i];
    }
    return NULL;
}

/* A series of n zeros at the end of the list. */
static ssmq_status append(ssmq_samples *samples, const char *name, size_t n, ssmq_err *err) {
    if (row_named(name) == NULL) return SSMQ_FAIL(err, INTERNAL, "%s: no such series", name);
    if (ssmq_samples_get(samples, name) != NULL) {
        return SSMQ_FAIL(err, INTERNAL, "%s: the trial has this series already", name);
    }
    if (n > SSMQ_MAX_SERIES_VALUES) {
        return SSMQ_FAIL(err, INTERNAL, "%s: %zu values, more than the limit of %d", name, n,
                         SSMQ_MAX_SERIES_VALUES);
    }
    ssmq_series *series = &samples->series[samples->n_series];
    SSMQ_TRY(ssmq_calloc(&series->values, n, sizeof *series->values, err));
    ssmq_field_set(series->name, sizeof series->name, name);
    series->n = n;
    samples->n_series++;
    return SSMQ_OK;
}

ssmq_status ssmq_samples_add(ssmq_samples *samples, const char *name, const double *values,
                             size_t n, ssmq_err *err) {
    SSMQ_TRY(append(samples, name, n, err));
    if (n > 0) memcpy(samples->series[samples->n_series - 1].values, values, n * sizeof *values);
    return SSMQ_OK;
}

void ssmq_samples_free(ssmq_samples *samples) {
    for (size_t i = 0; i < samples->n_series; i++) ssmq_free(samples->series[i].values);
    memset(samples, 0, sizeof *samples);
}

void ssmq_samples_add_json(const ssmq_samples *samples, ssmq_str *out) {
    ssmq_str_add(out, "{", 1);
    for (size_t i = 0; i < samples->n_series; i++) {
        const ssmq_series *series = &samples->series[i];
        ssmq_str_addf(out, "%s\"%s\": [", i == 0 ? "" : ", ", series->name);
        for (size_t k = 0; k < series->n; k++) {
            ssmq_str_add(out, ", ", k == 0 ? 0 : 2);
            ssmq_str_add_json_f64(out, series->values[k]);
        }
        ssmq_str_add(out, "]", 1);
    }
    ssmq_str_add(out, "}", 1);
}

static ssmq_status read_series(ssmq_samples *out, const char *name, const ssmq_json *array,
                               ssmq_err *err) {
    if (row_named(name) == NULL) return SSMQ_FAIL(err, CONFIG, "%s: no such series", name);
    if (ssmq_json_type_of(array) != SSMQ_JSON_ARRAY) {
        return SSMQ_FAIL(err, CONFIG, "%s: is %s, must be an array", name,
                         ssmq_json_type_name(ssmq_json_type_of(array)));
    }
    size_t n = ssmq_json_n_items(array);
    if (n > SSMQ_MAX_SERIES_VALUES) {
        return SSMQ_FAIL(err, CONFIG, "%s: %zu values, more than the limit of %d", name, n,
                         SSMQ_MAX_SERIES_VALUES);
    }
    SSMQ_TRY(append(out, name, n, err));
    double *values = out->series[out->n_series - 1].values;
    for (size_t i = 0; i < n; i++) {
        const ssmq_json *item = ssmq_json_item(array, i);
        values[i] = NAN;
        if (ssmq_json_type_of(item) == SSMQ_JSON_NULL) continue;
        if (!ssmq_json_f64(item, &values[i])) {
            return SSMQ_FAIL(err, CONFIG, "%s: value %zu is %s, must be a number or null", name, i,
                             ssmq_json_type_name(ssmq_json_type_of(item)));
        }
    }
    return SSMQ_OK;
}

ssmq_status ssmq_samples_from_json(ssmq_samples *out, const ssmq_json *object, ssmq_err *err) {
    memset(out, 0, sizeof *out);
    if (ssmq_json_type_of(object) != SSMQ_JSON_OBJECT) {
        return SSMQ_FAIL(err, CONFIG, "samples: are %s, must be an object",
                         ssmq_json_type_name(ssmq_json_type_of(object)));
    }
    for (ssmq_json_iter it = ssmq_json_begin(object); ssmq_json_next(&it);) {
        ssmq_status status = read_series(out, it.key, it.value, err);
        if (status != SSMQ_OK) {
            ssmq_samples_free(out);
            return status;
        }
    }
    return SSMQ_OK;
}
