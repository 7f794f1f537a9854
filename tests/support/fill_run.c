/* SPDX-License-Identifier: Apache-2.0 */
/* fill_run RUN FILES [SHARE] - journals as a long sweep leaves them, without the sweep: the first
 * SHARE of RUN's planned trials (default 1) are begun and finished, round robin over FILES
 * journals, with the record and samples of one trial that RUN has finished already. Not synced. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "cli/plan.h"
#include "journal/journal.h"
#include "journal/line.h"

enum { MAX_FILES = 64, FIRST_RANK = 1, LINE_BYTES = 1 << 24 };

typedef struct run {
    const char *path;
    int n_files;
    double share;
    char (*ids)[SSMQ_SHA256_HEX_BYTES];
    size_t n_ids;
    ssmq_record record;
    ssmq_samples samples;
} run;

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

static ssmq_status write_trial(run *r, FILE *file, size_t i, ssmq_rng *rng, ssmq_str *line,
                               ssmq_err *err) {
    ssmq_field_set(r->record.trial_id, sizeof r->record.trial_id, r->ids[i]);
    r->record.nll_mean = 2.0 + ssmq_rng_f64(rng);
    r->record.runtime_s = 1.0 + ssmq_rng_f64(rng);
    SSMQ_TRY(journal_line_started(line, r->ids[i], 1, err));
    (void)fwrite(line->text, 1, line->n_bytes, file);
    SSMQ_TRY(journal_line_finished(line, &r->record, &r->samples, err));
    (void)fwrite(line->text, 1, line->n_bytes, file);
    return SSMQ_OK;
}

static ssmq_status write_journals(run *r, ssmq_err *err) {
    ssmq_rng rng = ssmq_rng_from_seed(1);
    ssmq_str line;
    ssmq_status status = SSMQ_OK;
    const size_t n = (size_t)(r->share * (double)r->n_ids);
    ssmq_str_init(&line, LINE_BYTES);
    for (int f = 0; f < r->n_files && status == SSMQ_OK; f++) {
        char name[32];
        char path[SSMQ_PATH_BYTES];
        (void)snprintf(name, sizeof name, "journal.%d.jsonl", FIRST_RANK + f);
        status = ssmq_path_join(path, r->path, name, err);
        FILE *file = status == SSMQ_OK ? fopen(path, "wb") : NULL;
        if (file == NULL) break;
        for (size_t i = (size_t)f; i < n && status == SSMQ_OK; i += (size_t)r->n_files) {
            status = write_trial(r, file, i, &rng, &line, err);
        }
        if (fclose(file) != 0) status = SSMQ_FAIL(err, IO, "%s: cannot write", path);
    }
    ssmq_str_free(&line);
    return status;
}

static ssmq_status fill(run *r, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    SSMQ_TRY(ssmq_path_join(path, r->path, "plan.csv", err));
    SSMQ_TRY(ssmq_plan_read(path, &r->ids, &r->n_ids, err));
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
    ssmq_free(r.ids);
    return status == SSMQ_OK ? 0 : 1;
}
