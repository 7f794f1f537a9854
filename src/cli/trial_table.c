/* SPDX-License-Identifier: Apache-2.0 */
/* A column is a field of the record under its own name. Columns without any value are left out, and
 * so are settings that are the same in every row where the column says so. */
#include "cli/trial_table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "grid/grid.h"

enum { CELL_BYTES = 192, MAX_COLUMNS = 24 };

typedef enum presence { ALWAYS, IF_IT_VARIES, IF_NOT_OK } presence;

typedef struct table_column {
    const char *name;
    int decimals; /* of numbers */
    presence shown;
} table_column;

/* Not a field: the standard error of ppl by the delta method, ppl * nll_sem. */
static const char ppl_se[] = "ppl_se";

static const table_column ppl_columns[] = {
    {"protocol", 0, ALWAYS},     {"seq_len", 0, ALWAYS},
    {"stride", 0, ALWAYS},       {"batch_size", 0, IF_IT_VARIES},
    {"seed", 0, IF_IT_VARIES},   {"precision", 0, ALWAYS},
    {"scope", 0, ALWAYS},        {"status", 0, IF_NOT_OK},
    {"ppl", 4, ALWAYS},          {ppl_se, 4, ALWAYS},
    {"nll_mean", 6, ALWAYS},     {"n_tokens", 0, ALWAYS},
    {"tokens_per_s", 1, ALWAYS},
};
static const table_column passkey_columns[] = {
    {"prompt_template_version", 0, IF_IT_VARIES},
    {"context_length", 0, ALWAYS},
    {"batch_size", 0, IF_IT_VARIES},
    {"seed", 0, IF_IT_VARIES},
    {"precision", 0, ALWAYS},
    {"scope", 0, ALWAYS},
    {"status", 0, IF_NOT_OK},
    {"accuracy", 3, ALWAYS},
    {"accuracy_ci_low", 3, ALWAYS},
    {"accuracy_ci_high", 3, ALWAYS},
    {"n_trials", 0, ALWAYS},
    {"digit_accuracy", 3, ALWAYS},
    {"answer_nll_mean", 4, ALWAYS},
    {"control_accuracy", 3, ALWAYS},
};
static const table_column profile_columns[] = {
    {"context_length", 0, ALWAYS},
    {"batch_size", 0, ALWAYS},
    {"seed", 0, IF_IT_VARIES},
    {"precision", 0, ALWAYS},
    {"scope", 0, ALWAYS},
    {"status", 0, IF_NOT_OK},
    {"prefill_tokens_per_s", 1, ALWAYS},
    {"decode_tokens_per_s", 1, ALWAYS},
    {"prefill_peak_mem_mb", 1, ALWAYS},
    {"decode_peak_mem_mb", 1, ALWAYS},
    {"weight_mem_mb", 1, ALWAYS},
};

static const table_column drift_columns[] = {
    {"context_length", 0, ALWAYS},
    {"batch_size", 0, IF_IT_VARIES},
    {"seed", 0, IF_IT_VARIES},
    {"precision", 0, ALWAYS},
    {"scope", 0, ALWAYS},
    {"status", 0, IF_NOT_OK},
    {"drift_error_final", 5, ALWAYS},
    {"drift_injected_error_final", 5, ALWAYS},
    {"drift_floor", 8, ALWAYS},
    {"drift_verdict", 0, ALWAYS},
    {"drift_exponent", 3, ALWAYS},
    {"drift_exponent_ci_low", 3, ALWAYS},
    {"drift_exponent_ci_high", 3, ALWAYS},
    {"drift_n_resolved", 0, ALWAYS},
    {"drift_worst_layer", 0, ALWAYS},
};

static const struct {
    const char *task;
    const char *title;
    const table_column *columns;
    size_t n_columns;
} tables[] = {
    {"ppl", "perplexity", ppl_columns, sizeof ppl_columns / sizeof ppl_columns[0]},
    {"passkey", "passkey retrieval", passkey_columns,
     sizeof passkey_columns / sizeof passkey_columns[0]},
    {"profile", "speed and memory", profile_columns,
     sizeof profile_columns / sizeof profile_columns[0]},
    {"drift", "drift of the recurrent state", drift_columns,
     sizeof drift_columns / sizeof drift_columns[0]},
};
enum { N_TABLES = sizeof tables / sizeof tables[0] };

ssmq_status ssmq_trial_list_add(ssmq_trial_list *list, const ssmq_record *record, ssmq_err *err) {
    SSMQ_TRY(ssmq_grow(&list->records, &list->capacity, list->n + 1, sizeof *list->records,
                       SSMQ_MAX_TRIALS, err));
    list->records[list->n++] = *record;
    return SSMQ_OK;
}

void ssmq_trial_list_free(ssmq_trial_list *list) {
    ssmq_free(list->records);
    memset(list, 0, sizeof *list);
}

static int compare_i64(int64_t a, int64_t b) {
    return (a > b) - (a < b);
}

static int dtype_rank(const char *dtype) {
    static const char *const ladder[] = {"fp32", "fp16", "bf16"};
    int rank = 0;
    while (rank < 3 && strcmp(dtype, ladder[rank]) != 0) rank++;
    return rank;
}

static int task_rank(const char *task) {
    int rank = 0;
    while (rank < N_TABLES && strcmp(task, tables[rank].task) != 0) rank++;
    return rank;
}

static int compare_precisions(const ssmq_record *a, const ssmq_record *b) {
    int order = compare_i64(b->w_bits, a->w_bits);
    if (order == 0) order = compare_i64(b->a_bits, a->a_bits);
    if (order == 0) order = dtype_rank(a->dtype) - dtype_rank(b->dtype);
    if (order == 0) order = strcmp(a->precision, b->precision);
    return order;
}

static int compare_rows(const void *left, const void *right) {
    const ssmq_record *a = *(const ssmq_record *const *)left;
    const ssmq_record *b = *(const ssmq_record *const *)right;
    int order = task_rank(a->task) - task_rank(b->task);
    if (order == 0) order = strcmp(a->protocol, b->protocol);
    if (order == 0) order = strcmp(a->prompt_template_version, b->prompt_template_version);
    if (order == 0) order = compare_i64(a->seq_len, b->seq_len);
    if (order == 0) order = compare_i64(a->context_length, b->context_length);
    if (order == 0) order = compare_i64(a->stride, b->stride);
    if (order == 0) order = compare_i64(a->batch_size, b->batch_size);
    if (order == 0) order = compare_i64(a->seed, b->seed);
    if (order == 0) order = compare_precisions(a, b);
    /* Records lie in the order they came in, which is the plan's. */
    return order != 0 ? order : (a > b) - (a < b);
}

static void format_number(char cell[CELL_BYTES], double value, int decimals) {
    /* Beyond these a quantized model has no perplexity worth its digits. */
    const double widest = 1e9;
    if (!isfinite(value)) {
        cell[0] = '\0';
    } else if (fabs(value) >= widest) {
        (void)snprintf(cell, CELL_BYTES, "%.4g", value);
    } else {
        (void)snprintf(cell, CELL_BYTES, "%.*f", decimals, value);
    }
}

/* The cell's text, empty for null. */
static void format_cell(char cell[CELL_BYTES], const ssmq_record *record,
                        const table_column *column) {
    if (column->name == ppl_se) {
        format_number(cell, record->ppl * record->nll_sem, column->decimals);
        return;
    }
    const ssmq_field *field = ssmq_record_field_named(column->name);
    const char *place = (const char *)record + field->offset;
    cell[0] = '\0';
    if (field->type == SSMQ_FIELD_STR) {
        ssmq_field_set(cell, CELL_BYTES, place);
    } else if (field->type == SSMQ_FIELD_I64) {
        int64_t value;
        memcpy(&value, place, sizeof value);
        if (value != -1) (void)snprintf(cell, CELL_BYTES, "%" PRId64, value);
    } else {
        double value;
        memcpy(&value, place, sizeof value);
        format_number(cell, value, column->decimals);
    }
}

static bool is_text(const table_column *column) {
    const ssmq_field *field = ssmq_record_field_named(column->name);
    return field != NULL && field->type == SSMQ_FIELD_STR;
}

/* Width of a column, 0 if it is not shown. */
static int column_width(const ssmq_record *const *rows, size_t n_rows, const table_column *column) {
    char first[CELL_BYTES];
    char cell[CELL_BYTES];
    size_t width = strlen(column->name);
    bool has_value = false;
    bool varies = false;
    bool all_ok = true;
    format_cell(first, rows[0], column);
    for (size_t i = 0; i < n_rows; i++) {
        format_cell(cell, rows[i], column);
        has_value |= cell[0] != '\0';
        varies |= strcmp(cell, first) != 0;
        all_ok &= strcmp(rows[i]->status, "ok") == 0;
        if (strlen(cell) > width) width = strlen(cell);
    }
    if (!has_value || (column->shown == IF_IT_VARIES && !varies)) return 0;
    if (column->shown == IF_NOT_OK && all_ok) return 0;
    return (int)width;
}

static void add_cell(ssmq_str *out, const char *text, int width, bool is_left,
                     ssmq_table_style style) {
    if (style == SSMQ_TABLE_TEXT) {
        ssmq_str_addf(out, is_left ? "%-*s  " : "%*s  ", width, text);
        return;
    }
    ssmq_str_add(out, " ", 1);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '|') ssmq_str_add(out, "\\", 1);
        ssmq_str_add(out, c, 1);
    }
    ssmq_str_add(out, " |", 2);
}

static void end_line(ssmq_str *out) {
    while (out->n_bytes > 0 && out->text[out->n_bytes - 1] == ' ') out->n_bytes--;
    ssmq_str_add(out, "\n", 1);
}

static void add_table(ssmq_str *out, const ssmq_record *const *rows, size_t n_rows, int table,
                      ssmq_table_style style) {
    const table_column *columns = tables[table].columns;
    const size_t n_columns = tables[table].n_columns;
    const char *bar = style == SSMQ_TABLE_MARKDOWN ? "|" : "";
    int widths[MAX_COLUMNS];
    char cell[CELL_BYTES];
    ssmq_str_addf(out, style == SSMQ_TABLE_MARKDOWN ? "### %s (%s)\n\n%s" : "%s (%s)\n%s",
                  tables[table].task, tables[table].title, bar);
    for (size_t c = 0; c < n_columns; c++) {
        widths[c] = column_width(rows, n_rows, &columns[c]);
        if (widths[c] > 0) add_cell(out, columns[c].name, widths[c], is_text(&columns[c]), style);
    }
    end_line(out);
    if (style == SSMQ_TABLE_MARKDOWN) {
        ssmq_str_add(out, bar, 1);
        for (size_t c = 0; c < n_columns; c++) {
            if (widths[c] > 0) ssmq_str_addf(out, "%s|", is_text(&columns[c]) ? "---" : "---:");
        }
        end_line(out);
    }
    for (size_t i = 0; i < n_rows; i++) {
        ssmq_str_addf(out, "%s", bar);
        for (size_t c = 0; c < n_columns; c++) {
            if (widths[c] == 0) continue;
            format_cell(cell, rows[i], &columns[c]);
            add_cell(out, cell[0] != '\0' ? cell : "-", widths[c], is_text(&columns[c]), style);
        }
        end_line(out);
    }
}

ssmq_status ssmq_trial_tables_add(ssmq_trial_list *list, ssmq_table_style style, ssmq_str *out,
                                  ssmq_err *err) {
    const ssmq_record **rows = NULL;
    SSMQ_TRY(ssmq_calloc(&rows, list->n, sizeof(void *), err));
    for (size_t i = 0; i < list->n; i++) rows[i] = &list->records[i];
    if (list->n > 0) qsort((void *)rows, list->n, sizeof(void *), compare_rows);
    bool is_first = true;
    for (size_t begin = 0, end = 0; begin < list->n; begin = end) {
        int table = task_rank(rows[begin]->task);
        while (end < list->n && task_rank(rows[end]->task) == table) end++;
        if (table == N_TABLES) continue;
        if (!is_first) ssmq_str_add(out, "\n", 1);
        is_first = false;
        add_table(out, rows + begin, end - begin, table, style);
    }
    ssmq_free((void *)rows);
    return ssmq_str_check(out, "table", err);
}
