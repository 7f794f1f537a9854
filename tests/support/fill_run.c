/* SPDX-License-Identifier: Apache-2.0 */
/* fill_run RUN FILES [SHARE] - journals as a long sweep leaves them, without the sweep: the first
 * SHARE of RUN's planned trials (default 1) are begun and finished, round robin over FILES
 * journals, with the record and samples of one trial that RUN has finished already. Not synced. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "cli/inputs.h"
#include "journal/journal.h"
#include "journal/line.h"

enum { MAX_FILES = 64, FIRST_RANK = 1, LINE_BYTES = 1 << 24, FAULTS_BYTES = 1 << 20 };

typedef struct run {
    const char *path;
    int n_files;
    double share;
    ssmq_config config;
    ssmq_loaded loaded;
    ssmq_grid grid;
    ssmq_record record;
    ssmq_samples samples;
} run;

static ssmq_status read_grid(run *r, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    ssmq_str faults;
    SSMQ_TRY(ssmq_path_join(path, r->path, "config_resolved.yaml", err));
    const char *const files[] = {path};
    const ssmq_config_sources sources = {.files = files, .n_files = 1};
    ssmq_str_init(&faults, FAULTS_BYTES);
    ssmq_status status = ssmq_config_read(&r->config, &sources, &faults, err);
    (void)fputs(ssmq_str_get(&faults), stderr);
    ssmq_str_free(&faults);
    if (status == SSMQ_OK) {
        status = ssmq_loaded_open(&r->loaded, &r->config, SSMQ_NEEDS_BUILD, err);
    }
    if (status == SSMQ_OK) {
        status = ssmq_grid_init(&r->grid, &r->config, &r->loaded.inputs, err);
    }
    return status;
}

static ssmq_status read_template(run *r, ssmq_err *err) {
    ssmq_replay replay;
    ssmq_replay_reader *reader = NULL;
    SSMQ_TRY(ssmq_replay_init(&replay, r->path, err));
    ssmq_status status = SSMQ_FAIL(err, CONFIG, "%s: no trial is finished", r->path);
    for (size_t i = 0; i < replay.n_entries; i++) {
        if (replay.entries[i].status != SSMQ_OK) continue;
        ssmq_err_clear(err);
        status = ssmq_replay_reader_open(&reader, &replay, r->path, err);
        if (status != SSMQ_OK) break;
        status =
            ssmq_replay_reader_get(reader, &replay.entries[i], &r->record, &r->samples, NULL, err);
        break;
    }
    ssmq_replay_reader_close(reader);
    ssmq_replay_free(&replay);
    return status;
}

static ssmq_status write_trial(run *r, FILE *file, const ssmq_trial *trial, ssmq_rng *rng,
                               ssmq_str *line, ssmq_err *err) {
    ssmq_record *record = &r->record;
    ssmq_field_set(record->trial_id, sizeof record->trial_id, trial->id);
    ssmq_field_set(record->trial_key, sizeof record->trial_key, trial->key);
    ssmq_field_set(record->precision, sizeof record->precision, trial->precision.name);
    ssmq_field_set(record->scope, sizeof record->scope, trial->scope);
    record->seq_len = record->context_length = trial->context_length;
    record->seed = trial->seed;
    record->nll_mean = 2.0 + ssmq_rng_f64(rng);
    record->runtime_s = 1.0 + ssmq_rng_f64(rng);
    SSMQ_TRY(journal_line_started(line, trial->id, 1, err));
    (void)fwrite(line->text, 1, line->n_bytes, file);
    SSMQ_TRY(journal_line_finished(line, record, &r->samples, err));
    (void)fwrite(line->text, 1, line->n_bytes, file);
    return SSMQ_OK;
}

static ssmq_status write_journals(run *r, ssmq_err *err) {
    ssmq_rng rng = ssmq_rng_from_seed(1);
    ssmq_str line;
    ssmq_status status = SSMQ_OK;
    const size_t n = (size_t)(r->share * (double)r->grid.n_trials);
    ssmq_str_init(&line, LINE_BYTES);
    for (int f = 0; f < r->n_files && status == SSMQ_OK; f++) {
        char name[32];
        char path[SSMQ_PATH_BYTES];
        (void)snprintf(name, sizeof name, "journal.%d.jsonl", FIRST_RANK + f);
        status = ssmq_path_join(path, r->path, name, err);
        FILE *file = status == SSMQ_OK ? fopen(path, "wb") : NULL;
        if (file == NULL) break;
        for (size_t i = (size_t)f; i < n && status == SSMQ_OK; i += (size_t)r->n_files) {
            status = write_trial(r, file, &r->grid.trials[i], &rng, &line, err);
        }
        if (fclose(file) != 0) status = SSMQ_FAIL(err, IO, "%s: cannot write", path);
    }
    ssmq_str_free(&line);
    return status;
}

static ssmq_status fill(run *r, ssmq_err *err) {
    SSMQ_TRY(read_grid(r, err));
    SSMQ_TRY(read_template(r, err));
    return write_journals(r, err);
}

int main(int argc, char **argv) {
    static run r;
    ssmq_err err = {0};
    r.path = argc > 2 ? argv[1] : "";
    r.n_files = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
    r.share = argc > 3 ? strtod(argv[3], NULL) : 1.0;
    if (r.n_files < 1 || r.n_files > MAX_FILES || !(r.share > 0.0 && r.share <= 1.0)) {
        (void)fprintf(stderr, "usage: fill_run RUN FILES [SHARE]\n");
        return 2;
    }
    const ssmq_status status = fill(&r, &err);
    if (status != SSMQ_OK) (void)fprintf(stderr, "fill_run: %s\n", err.text);
    ssmq_samples_free(&r.samples);
    ssmq_grid_free(&r.grid);
    ssmq_loaded_close(&r.loaded);
    return status == SSMQ_OK ? 0 : 1;
}
