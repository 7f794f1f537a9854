/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/run_rows.h"

#include <string.h>

#include "base/mem.h"
#include "cli/plan.h"
#include "store/store.h"

static ssmq_status sort_entries(ssmq_run_rows *out, const char *plan_path, ssmq_err *err) {
    char(*ids)[SSMQ_SHA256_HEX_BYTES] = NULL;
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY(ssmq_plan_read(plan_path, &ids, &out->n_planned, err));
    SSMQ_TRY_OR(ssmq_replay_init(&out->replay, out->run_dir, err), free_ids);
    SSMQ_TRY_OR(ssmq_replay_reader_open(&out->reader, &out->replay, out->run_dir, err), free_ids);
    SSMQ_TRY_OR(ssmq_calloc(&out->finished, out->n_planned, sizeof(void *), err), free_ids);
    for (size_t i = 0; i < out->n_planned; i++) {
        const ssmq_journal_entry *entry = ssmq_replay_find(&out->replay, ids[i]);
        if (entry == NULL) continue;
        if (entry->status == SSMQ_N_STATUSES) {
            out->n_begun++;
        } else {
            out->finished[out->n++] = entry;
        }
    }
free_ids:
    ssmq_free(ids);
    return status;
}

ssmq_status ssmq_run_plan_path(char out[SSMQ_PATH_BYTES], const char *run_dir, ssmq_err *err) {
    SSMQ_TRY(ssmq_path_join(out, run_dir, "plan.csv", err));
    if (!ssmq_path_is_folder(run_dir)) {
        return SSMQ_FAIL(err, CONFIG, "%s: no such run folder", run_dir);
    }
    if (!ssmq_path_exists(out)) {
        return SSMQ_FAIL(err, CONFIG, "%s: not a run folder (it has no plan.csv)", run_dir);
    }
    return SSMQ_OK;
}

ssmq_status ssmq_run_rows_open(ssmq_run_rows *out, const char *run_dir, ssmq_err *err) {
    char plan_path[SSMQ_PATH_BYTES];
    memset(out, 0, sizeof *out);
    SSMQ_TRY(ssmq_run_plan_path(plan_path, run_dir, err));
    ssmq_field_set(out->run_dir, sizeof out->run_dir, run_dir);
    ssmq_status status = sort_entries(out, plan_path, err);
    if (status != SSMQ_OK) ssmq_run_rows_close(out);
    return status;
}

void ssmq_run_rows_close(ssmq_run_rows *rows) {
    ssmq_replay_reader_close(rows->reader);
    ssmq_replay_free(&rows->replay);
    ssmq_free((void *)rows->finished);
    memset(rows, 0, sizeof *rows);
}

ssmq_status ssmq_run_rows_get(const ssmq_run_rows *rows, size_t i, ssmq_record *record,
                              ssmq_err *err) {
    ssmq_samples samples = {0};
    SSMQ_TRY(ssmq_replay_reader_get(rows->reader, rows->finished[i], record, &samples, NULL, err));
    ssmq_samples_free(&samples);
    return SSMQ_OK;
}

ssmq_status ssmq_run_each(const char *path,
                          ssmq_status (*row)(void *context, const ssmq_record *record,
                                             ssmq_err *err),
                          void *context, ssmq_err *err) {
    ssmq_run_rows rows;
    if (!ssmq_path_exists(path)) {
        return SSMQ_FAIL(err, CONFIG, "%s: no such run folder or results file", path);
    }
    if (!ssmq_path_is_folder(path)) return ssmq_store_read(path, row, context, err);
    SSMQ_TRY(ssmq_run_rows_open(&rows, path, err));
    ssmq_status status = SSMQ_OK;
    for (size_t i = 0; i < rows.n && status == SSMQ_OK; i++) {
        ssmq_record record;
        status = ssmq_run_rows_get(&rows, i, &record, err);
        if (status == SSMQ_OK) status = row(context, &record, err);
    }
    ssmq_run_rows_close(&rows);
    return status;
}
