/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cmd_show.c - ssmq show: a run folder as tables, also while its sweep is running. */
#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/commands.h"
#include "cli/provenance.h"
#include "cli/run_rows.h"
#include "cli/trial_table.h"
#include "cli/watch.h"

static const size_t max_text_bytes = (size_t)1 << 30;

enum { MAX_SECONDS = 86400 };

static const ssmq_option options[] = {
    {"watch", 'w', "SECONDS", false, "what a running sweep is doing, as often, until it ends"},
    {"help", 'h', NULL, false, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

static void add_line(ssmq_str *out, const char *name, const char *text) {
    if (text[0] != '\0') ssmq_str_addf(out, "%-9s %s\n", name, text);
}

static const char *fact(const ssmq_provenance *provenance, const char *name) {
    for (size_t i = 0; i < provenance->n_facts; i++) {
        if (strcmp(provenance->facts[i].name, name) == 0) return provenance->facts[i].text;
    }
    return "";
}

/* A sweep killed at its start may have left no provenance; the journals are enough for the rest. */
static void add_provenance(ssmq_str *out, const char *run_dir) {
    ssmq_provenance provenance;
    ssmq_err err = {0};
    if (ssmq_provenance_read(&provenance, run_dir, &err) != SSMQ_OK) {
        add_line(out, "warning", err.text);
        return;
    }
    add_line(out, "run", fact(&provenance, "run_id"));
    add_line(out, "created", fact(&provenance, "created_utc"));
    ssmq_str_addf(out, "%-9s %s, sha256 %.12s...\n", "model", fact(&provenance, "model_path"),
                  fact(&provenance, "model_sha256"));
    add_line(out, "device", fact(&provenance, "device"));
    ssmq_str_addf(out, "%-9s %s (%s)\n", "ssmq", fact(&provenance, "ssmq_version"),
                  fact(&provenance, "git_commit"));
    ssmq_provenance_free(&provenance);
}

static void add_state(ssmq_str *out, const ssmq_run_rows *rows) {
    size_t by_status[SSMQ_N_STATUSES] = {0};
    size_t n_left = rows->n_planned - rows->n;
    bool runs = ssmq_run_is_running(rows->run_dir);
    for (size_t i = 0; i < rows->n; i++) by_status[rows->finished[i]->status]++;
    ssmq_str_addf(out, "%-9s ", "state");
    if (runs) {
        ssmq_str_addf(out, "running, %zu trials begun and not finished\n", rows->n_begun);
    } else if (n_left == 0) {
        ssmq_str_addf(out, "complete\n");
    } else {
        ssmq_str_addf(out, "stopped early; ssmq-sweep --resume %s goes on\n", rows->run_dir);
    }
    ssmq_str_addf(out, "%-9s %zu of %zu finished", "trials", rows->n, rows->n_planned);
    for (int i = 0; i < SSMQ_N_STATUSES; i++) {
        if (by_status[i] > 0) {
            ssmq_str_addf(out, ", %zu %s", by_status[i], ssmq_status_name((ssmq_status)i));
        }
    }
    ssmq_str_addf(out, "\n%-9s %s/config_resolved.yaml\n", "config", rows->run_dir);
    if (rows->replay.n_bad_lines > 0) {
        ssmq_str_addf(out, "%-9s %lld damaged or unfinished journal lines left out\n", "warning",
                      (long long)rows->replay.n_bad_lines);
    }
}

static void add_reasons(ssmq_str *out, const ssmq_trial_list *list) {
    bool is_first = true;
    for (size_t i = 0; i < list->n; i++) {
        const ssmq_record *record = &list->records[i];
        if (strcmp(record->status, "ok") == 0) continue;
        if (is_first) ssmq_str_addf(out, "\nnot ok\n");
        is_first = false;
        ssmq_str_addf(out, "%s  %s: %s\n", record->status, record->trial_key,
                      record->status_reason);
    }
}

static ssmq_status add_all(ssmq_str *out, const ssmq_run_rows *rows, ssmq_trial_list *list,
                           ssmq_err *err) {
    add_provenance(out, rows->run_dir);
    add_state(out, rows);
    for (size_t i = 0; i < rows->n; i++) {
        ssmq_record record;
        SSMQ_TRY(ssmq_run_rows_get(rows, i, &record, err));
        SSMQ_TRY(ssmq_trial_list_add(list, &record, err));
    }
    if (list->n > 0) ssmq_str_add(out, "\n", 1);
    SSMQ_TRY(ssmq_trial_tables_add(list, SSMQ_TABLE_TEXT, out, err));
    add_reasons(out, list);
    return ssmq_str_check(out, "table", err);
}

static ssmq_status show_all(const char *run_dir, ssmq_err *err) {
    ssmq_run_rows rows;
    ssmq_trial_list list = {0};
    ssmq_str text;
    SSMQ_TRY(ssmq_run_rows_open(&rows, run_dir, err));
    ssmq_str_init(&text, max_text_bytes);
    ssmq_status status = add_all(&text, &rows, &list, err);
    if (status == SSMQ_OK) (void)fputs(ssmq_str_get(&text), stdout);
    ssmq_str_free(&text);
    ssmq_trial_list_free(&list);
    ssmq_run_rows_close(&rows);
    return status;
}

ssmq_status ssmq_command_show(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    const char *run_dir = NULL;
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        (void)printf("usage: ssmq show RUN [--watch SECONDS]\n\n"
                     "State and results of a run folder, a table a task and the reasons of trials "
                     "that failed or were\nskipped. Reads the journals and changes nothing, also "
                     "while a sweep is at work.\n\n");
        ssmq_args_print_help(options, N_OPTIONS);
        return SSMQ_OK;
    }
    SSMQ_TRY(ssmq_args_positional(&args, "RUN", &run_dir, err));
    int64_t every_s = 0;
    SSMQ_TRY(ssmq_args_i64(&args, "watch", 1, MAX_SECONDS, &every_s, err));
    return every_s > 0 ? ssmq_watch(run_dir, every_s, err) : show_all(run_dir, err);
}
