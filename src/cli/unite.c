/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/unite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/plan.h"
#include "cli/provenance.h"
#include "cli/run_rows.h"
#include "config/config.h"
#include "journal/journal.h"

enum { CONFIG_BYTES = 1 << 22 };

static const char config_name[] = "config_resolved.yaml";

static ssmq_status read_config(ssmq_config *out, const char *run_dir, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    const char *file = path;
    ssmq_str unused;
    SSMQ_TRY(ssmq_path_join(path, run_dir, config_name, err));
    ssmq_str_init(&unused, CONFIG_BYTES);
    const ssmq_config_sources sources = {.files = &file, .n_files = 1};
    const ssmq_status status = ssmq_config_read(out, &sources, &unused, err);
    ssmq_str_free(&unused);
    return status;
}

/* ---- the same grid ---- */

/* Which of the facts that ids depend on makes two grids of one configuration differ. */
static ssmq_status explain(const char *first, const char *other, ssmq_err *err) {
    static const char *const names[] = {"model_sha256",  "tokenizer_sha256", "text_sha256",
                                        "filler_sha256", "device",           "numerics_version"};
    ssmq_provenance a = {0};
    ssmq_provenance b = {0};
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY_OR(ssmq_provenance_read(&a, first, err), free_both);
    SSMQ_TRY_OR(ssmq_provenance_read(&b, other, err), free_both);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *of_a = ssmq_provenance_get(&a, names[i]);
        const char *of_b = ssmq_provenance_get(&b, names[i]);
        if (of_a == NULL || of_b == NULL || strcmp(of_a, of_b) == 0) continue;
        status = SSMQ_FAIL(err, CONFIG, "%s: %s is %s, in %s it is %s", other, names[i], of_b,
                           first, of_a);
        goto free_both;
    }
    status = SSMQ_FAIL(err, CONFIG, "%s: its plan.csv is not that of %s", other, first);
free_both:
    ssmq_provenance_free(&a);
    ssmq_provenance_free(&b);
    return status;
}

static ssmq_status check_same_plan(const char *first, const char *other, ssmq_err *err) {
    char paths[2][SSMQ_PATH_BYTES];
    char *texts[2] = {NULL, NULL};
    size_t n_bytes[2] = {0, 0};
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY(ssmq_run_plan_path(paths[0], first, err));
    SSMQ_TRY(ssmq_run_plan_path(paths[1], other, err));
    for (int i = 0; i < 2; i++) {
        SSMQ_TRY_OR(ssmq_file_read(&texts[i], &n_bytes[i], paths[i], SSMQ_MAX_PLAN_BYTES, err),
                    free_texts);
    }
    if (n_bytes[0] != n_bytes[1] || memcmp(texts[0], texts[1], n_bytes[0]) != 0) {
        status = explain(first, other, err);
    }
free_texts:
    ssmq_free(texts[0]);
    ssmq_free(texts[1]);
    return status;
}

static ssmq_status check_same_config(const ssmq_config *config, const char *first,
                                     const char *other, ssmq_err *err) {
    ssmq_config others;
    ssmq_str differences;
    SSMQ_TRY(read_config(&others, other, err));
    ssmq_str_init(&differences, CONFIG_BYTES);
    ssmq_status status = ssmq_config_diff(config, &others, &differences, err);
    if (status == SSMQ_OK && differences.n_bytes > 0) {
        status = SSMQ_FAIL(err, CONFIG, "%s: another configuration than %s: %s", other, first,
                           ssmq_str_get(&differences));
    }
    ssmq_str_free(&differences);
    return status;
}

/* ---- the same results ---- */

/* Text of a field whose values differ; false if they are equal. */
static bool differs(const ssmq_field *field, const ssmq_record *a, const ssmq_record *b, char *out,
                    size_t out_bytes) {
    const char *at_a = (const char *)a + field->offset;
    const char *at_b = (const char *)b + field->offset;
    if (field->type == SSMQ_FIELD_STR) {
        if (strcmp(at_a, at_b) == 0) return false;
        (void)snprintf(out, out_bytes, "%s is '%s' and '%s'", field->name, at_a, at_b);
        return true;
    }
    if (memcmp(at_a, at_b, sizeof(double)) == 0) return false;
    if (field->type == SSMQ_FIELD_I64) {
        int64_t x = 0;
        int64_t y = 0;
        memcpy(&x, at_a, sizeof x);
        memcpy(&y, at_b, sizeof y);
        (void)snprintf(out, out_bytes, "%s is %lld and %lld", field->name, (long long)x,
                       (long long)y);
        return true;
    }
    double x = 0.0;
    double y = 0.0;
    memcpy(&x, at_a, sizeof x);
    memcpy(&y, at_b, sizeof y);
    (void)snprintf(out, out_bytes, "%s is %.17g and %.17g", field->name, x, y);
    return !(isnan(x) && isnan(y));
}

static ssmq_status compare_records(const ssmq_record *a, const ssmq_record *b, const char *dir_a,
                                   const char *dir_b, ssmq_err *err) {
    char difference[256];
    for (size_t i = 0; i < ssmq_record_n_fields(); i++) {
        const ssmq_field *field = ssmq_record_field(i);
        if (field->kind != SSMQ_KIND_RESULT) continue;
        if (!differs(field, a, b, difference, sizeof difference)) continue;
        return SSMQ_FAIL(err, CONFIG, "%s and %s have different results of %s: %s", dir_a, dir_b,
                         a->trial_key, difference);
    }
    return SSMQ_OK;
}

/* Trials that went well in both. */
static ssmq_status compare_rows(const ssmq_run_rows *a, const ssmq_run_rows *b, ssmq_err *err) {
    size_t j = 0;
    /* Both in the order of the plan: what a has and b has not is passed over. */
    for (size_t i = 0; i < a->n && j < b->n; i++) {
        if (ssmq_replay_find(&b->replay, a->finished[i]->trial_id) == NULL) continue;
        while (j < b->n && strcmp(b->finished[j]->trial_id, a->finished[i]->trial_id) != 0) j++;
        if (j == b->n) break;
        if (a->finished[i]->status != SSMQ_OK || b->finished[j]->status != SSMQ_OK) continue;
        ssmq_record of_a;
        ssmq_record of_b;
        SSMQ_TRY(ssmq_run_rows_get(a, i, &of_a, err));
        SSMQ_TRY(ssmq_run_rows_get(b, j, &of_b, err));
        SSMQ_TRY(compare_records(&of_a, &of_b, a->run_dir, b->run_dir, err));
    }
    return SSMQ_OK;
}

static ssmq_status check_same_results(const char *const *runs, size_t n_runs, ssmq_err *err) {
    ssmq_run_rows *rows = NULL;
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY(ssmq_calloc(&rows, n_runs, sizeof *rows, err));
    for (size_t i = 0; i < n_runs && status == SSMQ_OK; i++) {
        status = ssmq_run_rows_open(&rows[i], runs[i], err);
        for (size_t k = 0; k < i && status == SSMQ_OK; k++) {
            status = compare_rows(&rows[k], &rows[i], err);
        }
    }
    for (size_t i = 0; i < n_runs; i++) ssmq_run_rows_close(&rows[i]);
    ssmq_free(rows);
    return status;
}

/* ---- copying ---- */

static ssmq_status copy_plan(const char *into, const char *from, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    char *text = NULL;
    size_t n_bytes = 0;
    SSMQ_TRY(ssmq_run_plan_path(path, from, err));
    SSMQ_TRY(ssmq_file_read(&text, &n_bytes, path, SSMQ_MAX_PLAN_BYTES, err));
    ssmq_status status = ssmq_path_join(path, into, "plan.csv", err);
    if (status == SSMQ_OK) status = ssmq_file_replace(path, text, n_bytes, err);
    ssmq_free(text);
    return status;
}

static ssmq_status copy_journals(const char *into, const char *from, ssmq_err *err) {
    char(*names)[SSMQ_JOURNAL_NAME_BYTES] = NULL;
    size_t n_names = 0;
    char origin[SSMQ_PATH_BYTES];
    ssmq_path_name(origin, sizeof origin, from);
    ssmq_status status = ssmq_journal_list(&names, &n_names, from, err);
    for (size_t i = 0; i < n_names && status == SSMQ_OK; i++) {
        char *bytes = NULL;
        size_t n_bytes = 0;
        bool is_news = false;
        status = ssmq_journal_read(&bytes, &n_bytes, from, names[i], err);
        if (status == SSMQ_OK) {
            status = ssmq_journal_keep_copy(into, origin, ssmq_journal_number(names[i]), bytes,
                                            n_bytes, &is_news, err);
        }
        ssmq_free(bytes);
    }
    ssmq_free(names);
    return status;
}

/* The configuration comes last: with it the folder is a run. */
static ssmq_status write_config(const char *into, ssmq_config *config, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    ssmq_str text;
    SSMQ_TRY(ssmq_path_join(path, into, config_name, err));
    if (ssmq_path_exists(path)) return SSMQ_OK;
    ssmq_path_name(config->run.run_id, sizeof config->run.run_id, into);
    ssmq_str_init(&text, CONFIG_BYTES);
    ssmq_status status = ssmq_config_write(config, false, &text, err);
    if (status == SSMQ_OK) status = ssmq_file_replace(path, text.text, text.n_bytes, err);
    ssmq_str_free(&text);
    return status;
}

static ssmq_status copy_all(const char *into, const char *const *runs, size_t n_runs,
                            ssmq_config *config, ssmq_err *err) {
    char run_id[SSMQ_PATH_BYTES];
    ssmq_path_name(run_id, sizeof run_id, into);
    SSMQ_TRY(ssmq_folder_make(into, err));
    SSMQ_TRY(copy_plan(into, runs[0], err));
    for (size_t i = 0; i < n_runs; i++) SSMQ_TRY(copy_journals(into, runs[i], err));
    SSMQ_TRY(ssmq_provenance_unite(into, run_id, runs, n_runs, err));
    return write_config(into, config, err);
}

/* What stands in `into` already must be of this grid too, and has results like the runs'. */
static ssmq_status check_all(const char *into, const char *const *runs, size_t n_runs,
                             const ssmq_config *config, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    const char **all = NULL;
    size_t n_all = n_runs;
    for (size_t i = 1; i < n_runs; i++) {
        SSMQ_TRY(check_same_config(config, runs[0], runs[i], err));
        SSMQ_TRY(check_same_plan(runs[0], runs[i], err));
    }
    SSMQ_TRY(ssmq_calloc((void *)&all, n_runs + 1, sizeof *all, err));
    memcpy((void *)all, runs, n_runs * sizeof *runs);
    ssmq_status status = ssmq_path_join(path, into, "plan.csv", err);
    if (status == SSMQ_OK && ssmq_path_exists(path)) {
        status = check_same_plan(runs[0], into, err);
        all[n_all++] = into;
    } else if (status == SSMQ_OK && ssmq_path_is_folder(into) && rmdir(into) != 0) {
        status = SSMQ_FAIL(err, CONFIG, "%s: neither empty nor a run folder", into);
    }
    if (status == SSMQ_OK) status = check_same_results(all, n_all, err);
    ssmq_free((void *)all);
    return status;
}

ssmq_status ssmq_unite(const char *into, const char *const *runs, size_t n_runs, ssmq_err *err) {
    ssmq_config config;
    char path[SSMQ_PATH_BYTES];
    for (size_t i = 0; i < n_runs; i++) SSMQ_TRY(ssmq_run_plan_path(path, runs[i], err));
    SSMQ_TRY(read_config(&config, runs[0], err));
    SSMQ_TRY(check_all(into, runs, n_runs, &config, err));
    return copy_all(into, runs, n_runs, &config, err);
}
