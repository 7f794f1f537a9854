/* SPDX-License-Identifier: Apache-2.0 */
/* The root of the file: one variable a number, over the axes its task has. While rows come, each
 * leaves its coordinates and its task's numbers; when the axes are known, each variable is filled
 * and written in turn. */
#include <hdf5_hl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <hdf5.h>

#include "base/mem.h"
#include "store/parts.h"

typedef enum axis_name {
    AXIS_PROTOCOL,
    AXIS_TEMPLATE,
    AXIS_PRECISION,
    AXIS_SCOPE,
    AXIS_CONTEXT,
    AXIS_BATCH,
    AXIS_SEED,
    N_AXES
} axis_name;

typedef struct axis_row {
    const char *name;
    bool is_text;
    const char *unit;
    const char *long_name;
} axis_row;

static const axis_row axis_rows[N_AXES] = {
    [AXIS_PROTOCOL] = {"protocol", true, NULL, "perplexity protocol"},
    [AXIS_TEMPLATE] = {"prompt_template", true, NULL, "template of passkey prompts"},
    [AXIS_PRECISION] = {"precision", true, NULL, "named precision"},
    [AXIS_SCOPE] = {"scope", true, NULL, "modules that are quantized"},
    [AXIS_CONTEXT] = {"context", false, "token", "window, prompt or prefill length"},
    [AXIS_BATCH] = {"batch", false, "sequence", "sequences run together"},
    [AXIS_SEED] = {"seed", false, "1", "seed of the trial"},
};

enum { MAX_VARIABLES = 20, MAX_COORDINATES = 1 << 20, MAX_ENTRIES = 1 << 30, TEXT_BYTES = 128 };

typedef struct task_row {
    const char *name;
    int n_axes;
    axis_name axes[N_AXES];
    const char *variables[MAX_VARIABLES]; /* fields of the record, NULL-ended */
} task_row;

static const task_row task_rows[] = {
    {"ppl",
     5,
     {AXIS_PROTOCOL, AXIS_PRECISION, AXIS_SCOPE, AXIS_CONTEXT, AXIS_SEED},
     {"ppl", "nll_mean", "nll_sum", "nll_sem", "n_tokens", "word_perplexity", "byte_perplexity",
      "bits_per_byte", "tokens_per_s"}},
    {"passkey",
     5,
     {AXIS_TEMPLATE, AXIS_PRECISION, AXIS_SCOPE, AXIS_CONTEXT, AXIS_SEED},
     {"accuracy", "accuracy_ci_low", "accuracy_ci_high", "n_trials", "n_correct", "digit_accuracy",
      "answer_nll_mean", "answer_rank_mean", "control_accuracy"}},
    {"profile",
     5,
     {AXIS_PRECISION, AXIS_SCOPE, AXIS_CONTEXT, AXIS_BATCH, AXIS_SEED},
     {"prefill_tokens_per_s", "prefill_ms", "prefill_ms_p10", "prefill_ms_p90",
      "decode_tokens_per_s", "decode_ms", "decode_ms_p10", "decode_ms_p90", "prefill_peak_mem_mb",
      "decode_peak_mem_mb", "weight_mem_mb", "state_mem_mb", "activation_mem_mb",
      "workspace_mem_mb"}},
    {"fidelity",
     5,
     {AXIS_PROTOCOL, AXIS_PRECISION, AXIS_SCOPE, AXIS_CONTEXT, AXIS_SEED},
     {"kl_mean", "kl_mean_ci_low", "kl_mean_ci_high", "kl_p50", "kl_p99", "kl_max",
      "kl_worst5_mean", "reverse_kl_mean", "jsd_mean", "delta_p_mean", "delta_p_rms",
      "same_top_share", "top5_overlap", "baseline_ppl", "delta_nll_mean", "delta_nll_sem",
      "delta_nll_ci_low", "delta_nll_ci_high"}},
    {"drift",
     4,
     {AXIS_PRECISION, AXIS_SCOPE, AXIS_CONTEXT, AXIS_SEED},
     {"drift_error_final", "drift_error_final_ci_low", "drift_error_final_ci_high",
      "drift_injected_error_final", "drift_floor", "drift_conv_error_final", "drift_exponent",
      "drift_exponent_ci_low", "drift_exponent_ci_high", "drift_n_heads", "drift_n_resolved",
      "drift_worst_layer"}},
};

enum { N_TASKS = sizeof task_rows / sizeof task_rows[0] };

/* One of the two; the other is zero, so that equal places are equal bytes. */
typedef struct coordinate {
    char text[TEXT_BYTES];
    int64_t number;
} coordinate;

/* Values in order of their first row; numbers are sorted at the end. */
typedef struct axis {
    coordinate *values;
    size_t n, capacity;
    size_t last;   /* found last: rows come in grid order, so the next is near */
    size_t *place; /* [n] of each value along the finished axis */
    hid_t scale;
} axis;

typedef struct entry {
    int8_t task;
    int8_t status;
    int32_t at[N_AXES]; /* value along each axis of the task */
    size_t first_value; /* in values */
} entry;

struct cube {
    axis axes[N_AXES];
    const ssmq_field *fields[N_TASKS][MAX_VARIABLES]; /* of the variables */
    entry *entries;
    size_t n_entries, entry_capacity;
    double *values;
    size_t n_values, value_capacity;
};

static ssmq_status axis_find(axis *a, const coordinate *value, int32_t *out, ssmq_err *err) {
    for (size_t step = 0; step < a->n; step++) {
        size_t i = (a->last + step) % a->n;
        if (memcmp(&a->values[i], value, sizeof *value) != 0) continue;
        a->last = i;
        *out = (int32_t)i;
        return SSMQ_OK;
    }
    SSMQ_TRY(
        ssmq_grow(&a->values, &a->capacity, a->n + 1, sizeof *a->values, MAX_COORDINATES, err));
    a->values[a->n] = *value;
    a->last = a->n;
    *out = (int32_t)a->n++;
    return SSMQ_OK;
}

ssmq_status cube_open(cube **out, ssmq_err *err) {
    /* These are always there, so that a reader may ask for one by name. */
    static const char *const protocols[] = {"disjoint", "sliding", "stream", "rolling",
                                            "half_window"};
    ssmq_status status = SSMQ_OK;
    cube *c = NULL;
    *out = NULL;
    SSMQ_TRY(ssmq_calloc(&c, 1, sizeof *c, err));
    for (int i = 0; i < N_AXES; i++) c->axes[i].scale = -1;
    for (int task = 0; task < N_TASKS; task++) {
        for (int i = 0; i < MAX_VARIABLES && task_rows[task].variables[i] != NULL; i++) {
            c->fields[task][i] = ssmq_record_field_named(task_rows[task].variables[i]);
        }
    }
    for (size_t i = 0; i < sizeof protocols / sizeof protocols[0]; i++) {
        coordinate value = {0};
        int32_t at = 0;
        ssmq_field_set(value.text, sizeof value.text, protocols[i]);
        SSMQ_TRY_OR(axis_find(&c->axes[AXIS_PROTOCOL], &value, &at, err), close_cube);
    }
    *out = c;
    return SSMQ_OK;
close_cube:
    cube_close(c);
    return status;
}

void cube_close(cube *c) {
    if (c == NULL) return;
    for (int i = 0; i < N_AXES; i++) {
        if (c->axes[i].scale >= 0) (void)H5Dclose(c->axes[i].scale);
        ssmq_free(c->axes[i].values);
        ssmq_free(c->axes[i].place);
    }
    ssmq_free(c->entries);
    ssmq_free(c->values);
    ssmq_free(c);
}

/* The record's place along an axis; false if the record has none. */
static bool coordinate_of(coordinate *out, const ssmq_record *record, int task, axis_name name) {
    const char *text = NULL;
    memset(out, 0, sizeof *out);
    switch (name) {
    case AXIS_PROTOCOL:
        text = record->protocol;
        break;
    case AXIS_TEMPLATE:
        text = record->prompt_template_version;
        break;
    case AXIS_PRECISION:
        text = record->precision;
        break;
    case AXIS_SCOPE:
        text = record->scope[0] != '\0' ? record->scope : "none";
        break;
    case AXIS_CONTEXT:
        /* A perplexity trial's context is its window. */
        out->number = strcmp(task_rows[task].name, "ppl") == 0 && record->seq_len >= 0
                          ? record->seq_len
                          : record->context_length;
        return out->number >= 0;
    case AXIS_BATCH:
        out->number = record->batch_size;
        return out->number >= 0;
    case AXIS_SEED:
        out->number = record->seed;
        return true;
    case N_AXES:
        return false;
    }
    ssmq_field_set(out->text, sizeof out->text, text);
    return text[0] != '\0';
}

static double number_of(const ssmq_record *record, const ssmq_field *field) {
    const char *place = (const char *)record + field->offset;
    double number = 0.0;
    int64_t integer = 0;
    if (field->type == SSMQ_FIELD_F64) {
        memcpy(&number, place, sizeof number);
        return number;
    }
    memcpy(&integer, place, sizeof integer);
    return integer == -1 ? (double)NAN : (double)integer;
}

ssmq_status cube_add(cube *c, const ssmq_record *record, ssmq_err *err) {
    coordinate at[N_AXES];
    entry added = {0};
    ssmq_status outcome = SSMQ_OK;
    int task = 0;
    while (task < N_TASKS && strcmp(task_rows[task].name, record->task) != 0) task++;
    if (task == N_TASKS || !ssmq_status_from_name(record->status, &outcome)) return SSMQ_OK;
    const task_row *row = &task_rows[task];
    for (int i = 0; i < row->n_axes; i++) {
        if (!coordinate_of(&at[i], record, task, row->axes[i])) return SSMQ_OK;
    }
    for (int i = 0; i < row->n_axes; i++) {
        SSMQ_TRY(axis_find(&c->axes[row->axes[i]], &at[i], &added.at[i], err));
    }
    added.task = (int8_t)task;
    added.status = (int8_t)outcome;
    added.first_value = c->n_values;
    SSMQ_TRY(ssmq_grow(&c->values, &c->value_capacity, c->n_values + MAX_VARIABLES,
                       sizeof *c->values, (size_t)MAX_ENTRIES * MAX_VARIABLES, err));
    for (int i = 0; i < MAX_VARIABLES && row->variables[i] != NULL; i++) {
        c->values[c->n_values++] = number_of(record, c->fields[task][i]);
    }
    SSMQ_TRY(ssmq_grow(&c->entries, &c->entry_capacity, c->n_entries + 1, sizeof *c->entries,
                       MAX_ENTRIES, err));
    c->entries[c->n_entries++] = added;
    return SSMQ_OK;
}

typedef struct sort_row {
    int64_t number;
    size_t i;
} sort_row;

static int compare_numbers(const void *a, const void *b) {
    const sort_row *left = a;
    const sort_row *right = b;
    return (left->number > right->number) - (left->number < right->number);
}

static ssmq_status write_number_axis(axis *a, const h5_file *file, const h5_spec *spec,
                                     ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    int64_t *numbers = NULL;
    sort_row *rows = NULL;
    SSMQ_TRY_OR(ssmq_calloc(&numbers, a->n, sizeof *numbers, err), free_all);
    SSMQ_TRY_OR(ssmq_calloc(&rows, a->n, sizeof *rows, err), free_all);
    for (size_t i = 0; i < a->n; i++) rows[i] = (sort_row){a->values[i].number, i};
    qsort(rows, a->n, sizeof *rows, compare_numbers);
    for (size_t i = 0; i < a->n; i++) {
        a->place[rows[i].i] = i;
        numbers[i] = rows[i].number;
    }
    SSMQ_TRY_OR(h5_create(&a->scale, file, file->id, spec, err), free_all);
    if (a->n > 0) SSMQ_TRY_OR(h5_write(file, a->scale, H5T_NATIVE_INT64, numbers, err), free_all);
free_all:
    ssmq_free(rows);
    ssmq_free(numbers);
    return status;
}

static ssmq_status write_text_axis(axis *a, const h5_file *file, const h5_spec *spec,
                                   ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    const char **texts = NULL;
    SSMQ_TRY_OR(ssmq_calloc(&texts, a->n, sizeof *texts, err), free_all);
    for (size_t i = 0; i < a->n; i++) {
        a->place[i] = i;
        texts[i] = a->values[i].text;
    }
    SSMQ_TRY_OR(h5_create(&a->scale, file, file->id, spec, err), free_all);
    if (a->n > 0) SSMQ_TRY_OR(h5_write(file, a->scale, spec->type, texts, err), free_all);
free_all:
    ssmq_free(texts);
    return status;
}

static ssmq_status write_axes(cube *c, const h5_file *file, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    hid_t text = h5_text_type();
    H5_TRY(file, text, "write a coordinate", err);
    for (int i = 0; i < N_AXES; i++) {
        axis *a = &c->axes[i];
        const axis_row *row = &axis_rows[i];
        /* Seeds may need 64 bits; token counts and batches are int32, which every reader has. */
        hid_t integer = i == AXIS_SEED ? H5T_STD_I64LE : H5T_STD_I32LE;
        const h5_spec spec = {.name = row->name,
                              .type = row->is_text ? text : integer,
                              .rank = 1,
                              .dims = {a->n},
                              .unit = row->unit,
                              .long_name = row->long_name};
        SSMQ_TRY_OR(ssmq_calloc(&a->place, a->n, sizeof *a->place, err), close_type);
        SSMQ_TRY_OR(row->is_text ? write_text_axis(a, file, &spec, err)
                                 : write_number_axis(a, file, &spec, err),
                    close_type);
        H5_TRY_OR(file, H5DSset_scale(a->scale, row->name), "make a dimension scale", err,
                  close_type);
    }
close_type:
    (void)H5Tclose(text);
    return status;
}

/* What a task's variables share: their cells, and the row that fills each. */
typedef struct plan {
    const task_row *task;
    int32_t task_idx;
    hsize_t dims[H5_MAX_RANK];
    size_t n_cells;
    int64_t *owner; /* [n_cells] entry; -1 for none */
} plan;

static size_t cell_of(const cube *c, const plan *p, const entry *e) {
    size_t cell = 0;
    for (int i = 0; i < p->task->n_axes; i++) {
        cell = cell * (size_t)p->dims[i] + c->axes[p->task->axes[i]].place[e->at[i]];
    }
    return cell;
}

/* Of several rows for a cell the first counts, one that is ok before one that is not. */
static ssmq_status plan_init(plan *p, const cube *c, int task, ssmq_err *err) {
    *p = (plan){.task = &task_rows[task], .task_idx = task, .n_cells = 1};
    for (int i = 0; i < p->task->n_axes; i++) {
        p->dims[i] = c->axes[p->task->axes[i]].n;
        if (p->dims[i] > 0 && p->n_cells > SIZE_MAX / 16 / p->dims[i]) {
            return SSMQ_FAIL(err, NOMEM, "out of memory: the cube of %s has too many cells",
                             p->task->name);
        }
        p->n_cells *= (size_t)p->dims[i];
    }
    SSMQ_TRY(ssmq_calloc(&p->owner, p->n_cells, sizeof *p->owner, err));
    memset(p->owner, 0xff, p->n_cells * sizeof *p->owner);
    for (size_t i = 0; i < c->n_entries; i++) {
        const entry *e = &c->entries[i];
        if (e->task != task) continue;
        int64_t *owner = &p->owner[cell_of(c, p, e)];
        bool is_better = *owner < 0 || (e->status == SSMQ_OK && //
                                        c->entries[*owner].status != SSMQ_OK);
        if (is_better) *owner = (int64_t)i;
    }
    return SSMQ_OK;
}

static ssmq_status create_variable(hid_t *out, const cube *c, const plan *p, const h5_file *file,
                                   h5_spec *spec, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    spec->rank = p->task->n_axes;
    memcpy(spec->dims, p->dims, sizeof spec->dims);
    SSMQ_TRY(h5_create(out, file, file->id, spec, err));
    for (int i = 0; i < p->task->n_axes && status == SSMQ_OK; i++) {
        status = h5_attach(file, *out, c->axes[p->task->axes[i]].scale, i, err);
    }
    if (status == SSMQ_OK) return SSMQ_OK;
    (void)H5Dclose(*out);
    *out = -1;
    return status;
}

static ssmq_status write_variable(const cube *c, const plan *p, const h5_file *file, int variable,
                                  ssmq_err *err) {
    static const double missing = NAN;
    ssmq_status status = SSMQ_OK;
    const ssmq_field *field = ssmq_record_field_named(p->task->variables[variable]);
    hid_t dataset = -1;
    double *cells = NULL;
    h5_spec spec = {.name = field->name,
                    .type = H5T_IEEE_F64LE,
                    .fill = &missing,
                    .unit = field->unit,
                    .long_name = field->doc};
    SSMQ_TRY(ssmq_calloc(&cells, p->n_cells, sizeof *cells, err));
    for (size_t i = 0; i < p->n_cells; i++) {
        int64_t owner = p->owner[i];
        cells[i] =
            owner < 0 ? missing : c->values[c->entries[owner].first_value + (size_t)variable];
    }
    SSMQ_TRY_OR(create_variable(&dataset, c, p, file, &spec, err), free_cells);
    SSMQ_TRY_OR(h5_set_numbers(file, dataset, "_FillValue", H5T_IEEE_F64LE, &missing, 1, err),
                close_dataset);
    if (p->n_cells > 0) status = h5_write(file, dataset, H5T_NATIVE_DOUBLE, cells, err);
close_dataset:
    (void)H5Dclose(dataset);
free_cells:
    ssmq_free(cells);
    return status;
}

/* CF flags: -1 for cells without a row, else the status of the row. */
static ssmq_status set_flags(const h5_file *file, hid_t dataset, ssmq_err *err) {
    int8_t values[SSMQ_N_STATUSES + 1];
    ssmq_str meanings;
    ssmq_str_init(&meanings, 4096);
    ssmq_str_add(&meanings, "not_run", 7);
    values[0] = -1;
    for (int i = 0; i < SSMQ_N_STATUSES; i++) {
        values[i + 1] = (int8_t)i;
        ssmq_str_addf(&meanings, " %s", ssmq_status_name((ssmq_status)i));
    }
    ssmq_status status = ssmq_str_check(&meanings, "flag_meanings", err);
    if (status == SSMQ_OK) {
        status = h5_set_numbers(file, dataset, "flag_values", H5T_STD_I8LE, values,
                                SSMQ_N_STATUSES + 1, err);
    }
    if (status == SSMQ_OK) {
        status = h5_set_text(file, dataset, "flag_meanings", ssmq_str_get(&meanings), err);
    }
    ssmq_str_free(&meanings);
    return status;
}

static ssmq_status write_status(const cube *c, const plan *p, const h5_file *file, ssmq_err *err) {
    static const int8_t missing = -1;
    ssmq_status status = SSMQ_OK;
    hid_t dataset = -1;
    int8_t *cells = NULL;
    ssmq_str name;
    ssmq_str_init(&name, 64);
    ssmq_str_addf(&name, "%s_status", p->task->name);
    SSMQ_TRY_OR(ssmq_str_check(&name, "name of a variable", err), free_all);
    SSMQ_TRY_OR(ssmq_calloc(&cells, p->n_cells, 1, err), free_all);
    for (size_t i = 0; i < p->n_cells; i++) {
        cells[i] = p->owner[i] < 0 ? missing : c->entries[p->owner[i]].status;
    }
    h5_spec spec = {.name = ssmq_str_get(&name),
                    .type = H5T_STD_I8LE,
                    .fill = &missing,
                    .long_name = "outcome of the trial"};
    SSMQ_TRY_OR(create_variable(&dataset, c, p, file, &spec, err), free_all);
    SSMQ_TRY_OR(set_flags(file, dataset, err), free_all);
    if (p->n_cells > 0) status = h5_write(file, dataset, H5T_NATIVE_INT8, cells, err);
free_all:
    if (dataset >= 0) (void)H5Dclose(dataset);
    ssmq_free(cells);
    ssmq_str_free(&name);
    return status;
}

ssmq_status cube_finish(cube *c, const h5_file *file, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY(write_axes(c, file, err));
    for (int task = 0; task < N_TASKS; task++) {
        plan p;
        SSMQ_TRY(plan_init(&p, c, task, err));
        SSMQ_CHECK(p.owner != NULL, err);
        status = write_status(c, &p, file, err);
        for (int i = 0; i < MAX_VARIABLES && p.task->variables[i] != NULL && status == SSMQ_OK;
             i++) {
            status = write_variable(c, &p, file, i, err);
        }
        ssmq_free(p.owner);
        if (status != SSMQ_OK) return status;
    }
    return SSMQ_OK;
}
