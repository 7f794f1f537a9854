/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cmd_export.c - ssmq export: the finished trials of a run as Markdown, CSV, JSON lines or
 * SQL, for tools that read no HDF5. The SQL is plain enough for SQLite and PostgreSQL. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/commands.h"
#include "cli/run_rows.h"
#include "cli/trial_table.h"
#include "config/config.h"

static const size_t max_text_bytes = (size_t)1 << 30;

static const ssmq_option options[] = {
    {"format", 'f', "NAME", false, "md (main columns), csv, jsonl or sql (every field)"},
    {"task", 0, "T", false, "only ppl, passkey or profile"},
    {"help", 'h', NULL, false, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

typedef enum format { FORMAT_MD, FORMAT_CSV, FORMAT_JSONL, FORMAT_SQL, N_FORMATS } format;
static const char *const format_names[N_FORMATS] = {"md", "csv", "jsonl", "sql"};

typedef struct exporter {
    format format;
    const char *task; /* NULL: every task */
    ssmq_str line;
    ssmq_trial_list list; /* md alone needs all rows at once */
} exporter;

static void add_sql_text(ssmq_str *out, const char *text) {
    ssmq_str_add(out, "'", 1);
    for (const char *c = text; *c != '\0'; c++)
        ssmq_str_add(out, *c == '\'' ? "''" : c, *c == '\'' ? 2 : 1);
    ssmq_str_add(out, "'", 1);
}

static void add_sql_value(ssmq_str *out, const ssmq_record *record, const ssmq_field *field) {
    const char *place = (const char *)record + field->offset;
    if (field->type == SSMQ_FIELD_STR) {
        add_sql_text(out, place);
        return;
    }
    int64_t integer = -1;
    double number = NAN;
    if (field->type == SSMQ_FIELD_I64) {
        memcpy(&integer, place, sizeof integer);
    } else {
        memcpy(&number, place, sizeof number);
    }
    if (integer != -1) {
        ssmq_str_addf(out, "%" PRId64, integer);
    } else if (isfinite(number)) {
        ssmq_str_addf(out, "%.17g", number);
    } else {
        ssmq_str_add(out, "NULL", 4);
    }
}

static void add_sql_row(ssmq_str *out, const ssmq_record *record) {
    ssmq_str_addf(out, "INSERT INTO trials VALUES (");
    for (size_t i = 0; i < ssmq_record_n_fields(); i++) {
        if (i > 0) ssmq_str_add(out, ", ", 2);
        add_sql_value(out, record, ssmq_record_field(i));
    }
    ssmq_str_addf(out, ");\n");
}

static void add_sql_table(ssmq_str *out) {
    static const char *const types[] = {[SSMQ_FIELD_STR] = "TEXT",
                                        [SSMQ_FIELD_I64] = "BIGINT",
                                        [SSMQ_FIELD_F64] = "DOUBLE PRECISION"};
    size_t n = ssmq_record_n_fields();
    ssmq_str_addf(out, "BEGIN;\nCREATE TABLE trials (\n");
    for (size_t i = 0; i < n; i++) {
        const ssmq_field *field = ssmq_record_field(i);
        bool has_unit = strcmp(field->unit, "1") != 0;
        ssmq_str_addf(out, "  \"%s\" %s%s -- %s%s%s%s\n", field->name, types[field->type],
                      i + 1 < n ? "," : "", field->doc, has_unit ? " [" : "",
                      has_unit ? field->unit : "", has_unit ? "]" : "");
    }
    ssmq_str_addf(out, ");\n");
}

static ssmq_status put(ssmq_str *text, ssmq_err *err) {
    SSMQ_TRY(ssmq_str_check(text, "export", err));
    if (fputs(ssmq_str_get(text), stdout) < 0) {
        return SSMQ_FAIL(err, IO, "standard output: cannot write");
    }
    ssmq_str_clear(text);
    return SSMQ_OK;
}

static ssmq_status export_row(void *context, const ssmq_record *record, ssmq_err *err) {
    exporter *e = context;
    if (e->task != NULL && strcmp(e->task, record->task) != 0) return SSMQ_OK;
    switch (e->format) {
    case FORMAT_MD:
        return ssmq_trial_list_add(&e->list, record, err);
    case FORMAT_CSV:
        ssmq_record_add_csv(record, &e->line);
        break;
    case FORMAT_JSONL:
        ssmq_record_add_json(record, &e->line);
        ssmq_str_add(&e->line, "\n", 1);
        break;
    case FORMAT_SQL:
        add_sql_row(&e->line, record);
        break;
    case N_FORMATS:
        break;
    }
    return put(&e->line, err);
}

static ssmq_status export_run(exporter *e, const char *path, ssmq_err *err) {
    /* The head waits in the buffer until the first row proves that the run can be read. */
    if (e->format == FORMAT_CSV) ssmq_record_add_csv_header(&e->line);
    if (e->format == FORMAT_SQL) add_sql_table(&e->line);
    SSMQ_TRY(ssmq_run_each(path, export_row, e, err));
    if (e->format == FORMAT_MD) {
        SSMQ_TRY(ssmq_trial_tables_add(&e->list, SSMQ_TABLE_MARKDOWN, &e->line, err));
    }
    if (e->format == FORMAT_SQL) ssmq_str_addf(&e->line, "COMMIT;\n");
    return put(&e->line, err);
}

static ssmq_status read_args(exporter *out, const ssmq_args *args, ssmq_err *err) {
    const char *name = ssmq_args_get(args, "format");
    if (name == NULL) {
        return SSMQ_FAIL(err, CONFIG, "--format is missing; allowed are md, csv, jsonl, sql");
    }
    while (out->format < N_FORMATS && strcmp(name, format_names[out->format]) != 0) out->format++;
    if (out->format == N_FORMATS) {
        return SSMQ_FAIL(err, CONFIG,
                         "--format: '%s' is no format; allowed are md, csv, jsonl, sql", name);
    }
    out->task = ssmq_args_get(args, "task");
    if (out->task == NULL) return SSMQ_OK;
    for (int i = 0; i < SSMQ_N_TASKS; i++) {
        if (strcmp(out->task, ssmq_task_name((ssmq_task)i)) == 0) return SSMQ_OK;
    }
    return SSMQ_FAIL(err, CONFIG, "--task: '%s' is no task; allowed are ppl, passkey, profile",
                     out->task);
}

ssmq_status ssmq_command_export(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    const char *path = NULL;
    exporter e = {0};
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        (void)printf("usage: ssmq export RUN --format md|csv|jsonl|sql [--task T]\n\n"
                     "The finished trials on standard output. RUN is a run folder, whose journals "
                     "are read, or a\nresults.h5. SQL is one table, trials: ssmq export RUN -f "
                     "sql | sqlite3 run.db\n\n");
        ssmq_args_print_help(options, N_OPTIONS);
        return SSMQ_OK;
    }
    SSMQ_TRY(ssmq_args_positional(&args, "RUN", &path, err));
    SSMQ_TRY(read_args(&e, &args, err));
    ssmq_str_init(&e.line, max_text_bytes);
    ssmq_status status = export_run(&e, path, err);
    ssmq_str_free(&e.line);
    ssmq_trial_list_free(&e.list);
    return status;
}
