/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/worker.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/version.h"

static const double ns_per_s = 1e9;

/* What only the program knows of a record. */
static void describe_run(const ssmq_worker_context *context, int64_t attempt, ssmq_record *record) {
    ssmq_field_set(record->run_id, sizeof record->run_id, context->run_id);
    ssmq_field_set(record->git_commit, sizeof record->git_commit, ssmq_git_commit());
    ssmq_field_set(record->engine_version, sizeof record->engine_version, ssmq_version());
    char host[sizeof record->host] = "";
    (void)gethostname(host, sizeof host - 1);
    ssmq_field_set(record->host, sizeof record->host, host);
    record->attempt = attempt;
    record->rank = context->rank;
}

/* A journal line that fails is tried once more: a full disk may have been a neighbour's spike. */
static ssmq_status note_started(ssmq_worker_context *context, const char *trial_id, int64_t attempt,
                                ssmq_err *err) {
    ssmq_status status = ssmq_journal_started(context->journal, trial_id, attempt, err);
    if (status != SSMQ_IO) return status;
    ssmq_log_err(SSMQ_LOG_WARN, err);
    ssmq_err_clear(err);
    return ssmq_journal_started(context->journal, trial_id, attempt, err);
}

static ssmq_status note_finished(ssmq_worker_context *context, const ssmq_record *record,
                                 const ssmq_samples *samples, ssmq_err *err) {
    ssmq_status status = ssmq_journal_finished(context->journal, record, samples, err);
    if (status != SSMQ_IO) return status;
    ssmq_log_err(SSMQ_LOG_WARN, err);
    ssmq_err_clear(err);
    return ssmq_journal_finished(context->journal, record, samples, err);
}

/* One trial from its started line to its finished line. *outcome and *runtime_s are the record's
 * status and runtime_s. */
static ssmq_status run_trial(ssmq_worker_context *context, ssmq_worker *worker,
                             const ssmq_message *order, ssmq_status *outcome, double *runtime_s,
                             ssmq_err *err) {
    const ssmq_trial *trial = &context->grid->trials[order->trial_idx];
    ssmq_record record;
    ssmq_samples samples = {0};
    char started[SSMQ_UTC_BYTES];
    ssmq_utc_iso(started);
    SSMQ_TRY(note_started(context, trial->id, order->value, err));
    ssmq_status health =
        ssmq_trial_run(trial, &context->loaded->trial, worker, &record, &samples, err);
    describe_run(context, order->value, &record);
    ssmq_field_set(record.started_utc, sizeof record.started_utc, started);
    if (!ssmq_status_from_name(record.status, outcome)) *outcome = SSMQ_INTERNAL;
    *runtime_s = record.runtime_s;
    ssmq_err journal_err = {0};
    ssmq_status noted = note_finished(context, &record, &samples, &journal_err);
    ssmq_samples_free(&samples);
    if (noted != SSMQ_OK) {
        *err = journal_err;
        return noted;
    }
    return health;
}

static ssmq_status work(ssmq_worker_context *context, ssmq_worker *worker, ssmq_err *err) {
    ssmq_message say = {.kind = SSMQ_WORD_IDLE, .trial_idx = -1};
    for (;;) {
        const int64_t ask_ns = ssmq_now_ns();
        SSMQ_TRY(ssmq_channel_send(&context->channel, &say, err));
        ssmq_message order;
        SSMQ_TRY(ssmq_channel_receive(&context->channel, &order, err));
        say.idle_s = (double)(ssmq_now_ns() - ask_ns) / ns_per_s;
        if (order.kind == SSMQ_WORD_STOP) return SSMQ_OK;
        SSMQ_CHECK(order.kind == SSMQ_WORD_RUN && order.trial_idx >= 0 &&
                       (size_t)order.trial_idx < context->grid->n_trials,
                   err);
        ssmq_status outcome = SSMQ_OK;
        int64_t start_ns = ssmq_now_ns();
        ssmq_status status = run_trial(context, worker, &order, &outcome, &say.runtime_s, err);
        say.kind = SSMQ_WORD_FINISHED;
        say.value = (int32_t)outcome;
        say.trial_idx = order.trial_idx;
        say.seconds = (double)(ssmq_now_ns() - start_ns) / ns_per_s;
        /* A lost device's trial has its record; a trial without one goes back to the queue. */
        if (status == SSMQ_POISONED) say.kind = SSMQ_WORD_RETIRED;
        if (status != SSMQ_OK && status != SSMQ_POISONED) return status;
        if (status == SSMQ_POISONED) {
            ssmq_status sent = ssmq_channel_send(&context->channel, &say, err);
            return sent != SSMQ_OK ? sent : status;
        }
    }
}

ssmq_status ssmq_worker_run(ssmq_worker_context *context, ssmq_err *err) {
    ssmq_worker worker = {.engine = context->engine, .options = context->options};
    ssmq_status status = work(context, &worker, err);
    ssmq_worker_end(&worker);
    if (status == SSMQ_OK || status == SSMQ_POISONED) return status;
    ssmq_err ignored = {0};
    ssmq_message say = {.kind = SSMQ_WORD_RETIRED, .value = (int32_t)status, .trial_idx = -1};
    ssmq_status sent = ssmq_channel_send(&context->channel, &say, &ignored);
    if (sent != SSMQ_OK) ssmq_log_err(SSMQ_LOG_ERROR, &ignored);
    return status;
}

ssmq_status ssmq_worker_record_crashed(const ssmq_worker_context *context, int64_t trial_idx,
                                       int64_t attempt, ssmq_err *err) {
    ssmq_record record;
    ssmq_samples none = {0};
    ssmq_record_init(&record);
    ssmq_trial_describe(&context->grid->trials[trial_idx], &context->loaded->trial, context->engine,
                        &record);
    describe_run(context, attempt, &record);
    ssmq_utc_iso(record.started_utc);
    ssmq_field_set(record.status, sizeof record.status, ssmq_status_name(SSMQ_CRASHED));
    ssmq_field_set(record.status_reason, sizeof record.status_reason,
                   ssmq_status_meaning(SSMQ_CRASHED));
    return ssmq_journal_finished(context->journal, &record, &none, err);
}
