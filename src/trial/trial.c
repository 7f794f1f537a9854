/* SPDX-License-Identifier: Apache-2.0 */
/* One trial from description to record: weights loaded if others are, the task run, and whatever
 * happens turned into a status. Statuses and their effects: the table in base/status.h. */
#include "trial/trial.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "trial/task.h"

static const double ns_per_s = 1e9;

ssmq_status trial_check_deadline(int64_t deadline_ns, ssmq_err *err) {
    if (deadline_ns == 0 || ssmq_now_ns() < deadline_ns) return SSMQ_OK;
    return SSMQ_FAIL(err, TIMEOUT, "over its time limit");
}

ssmq_status trial_add_series(ssmq_samples *samples, const char *name, const double *values,
                             size_t n, ssmq_err *err) {
    const size_t n_kept = n < SSMQ_MAX_SERIES_VALUES ? n : SSMQ_MAX_SERIES_VALUES;
    return ssmq_samples_add(samples, name, values, n_kept, err);
}

/* Field by field: padding and unused layers say nothing. */
static bool specs_equal(const ssmq_spec *a, const ssmq_spec *b, int64_t n_layers) {
    const ssmq_precision *p = &a->precision, *q = &b->precision;
    return strcmp(p->name, q->name) == 0 && p->dtype == q->dtype && p->w_bits == q->w_bits &&
           p->a_bits == q->a_bits && p->w_format == q->w_format && p->a_format == q->a_format &&
           p->group_size == q->group_size && p->state_dtype == q->state_dtype &&
           p->state_format == q->state_format && p->state_is_stochastic == q->state_is_stochastic &&
           a->model_modules == b->model_modules &&
           memcmp(a->layer_modules, b->layer_modules,
                  (size_t)n_layers * sizeof a->layer_modules[0]) == 0;
}

static ssmq_status load(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                        ssmq_worker *worker, ssmq_err *err) {
    ssmq_engine *engine = worker->engine;
    const ssmq_shape *shape = &inputs->model->shape;
    ssmq_spec spec;
    SSMQ_TRY(ssmq_spec_init(&spec, &trial->precision, trial->scope, shape, err));
    SSMQ_TRY(engine->api->supports(engine, shape, &spec, err));
    if (worker->is_loaded && specs_equal(&spec, &worker->loaded, shape->L)) return SSMQ_OK;
    worker->is_loaded = false;
    SSMQ_TRY(engine->api->load(engine, inputs->model, &spec, err));
    worker->loaded = spec;
    worker->is_loaded = true;
    return SSMQ_OK;
}

/* The baseline as it is compared with: quantized, if at all, in every module. */
static ssmq_status load_baseline(const ssmq_trial_inputs *inputs, ssmq_worker *worker,
                                 ssmq_err *err) {
    const ssmq_engine_api *api = worker->engine->api;
    const ssmq_shape *shape = &inputs->model->shape;
    ssmq_engine_options options = worker->options;
    ssmq_precision precision;
    ssmq_spec spec;
    if (worker->baseline != NULL) return SSMQ_OK;
    options.reuse_bytes = 0;
    SSMQ_TRY(ssmq_config_baseline(&precision, inputs->config, err));
    const char *scope = ssmq_precision_is_quantized(&precision) ? "all" : "none";
    SSMQ_TRY(ssmq_spec_init(&spec, &precision, scope, shape, err));
    SSMQ_TRY(api->open(&worker->baseline, &options, err));
    ssmq_status status = api->supports(worker->baseline, shape, &spec, err);
    if (status == SSMQ_OK) status = api->load(worker->baseline, inputs->model, &spec, err);
    if (status != SSMQ_OK) ssmq_worker_end(worker);
    return status;
}

void ssmq_worker_end(ssmq_worker *worker) {
    if (worker->baseline != NULL) worker->baseline->api->close(worker->baseline);
    worker->baseline = NULL;
}

static ssmq_status run_task(const trial_run *run, ssmq_record *record, ssmq_samples *samples,
                            ssmq_err *err) {
    switch (run->trial->task) {
    case SSMQ_TASK_PPL:
        return trial_run_ppl(run, record, samples, err);
    case SSMQ_TASK_PASSKEY:
        return trial_run_passkey(run, record, samples, err);
    case SSMQ_TASK_PROFILE:
        return trial_run_profile(run, record, samples, err);
    case SSMQ_TASK_FIDELITY:
        return trial_run_fidelity(run, record, samples, err);
    case SSMQ_TASK_DRIFT:
        return trial_run_drift(run, record, samples, err);
    case SSMQ_N_TASKS:
        break;
    }
    return SSMQ_FAIL(err, INTERNAL, "trial of an unknown task %d", (int)run->trial->task);
}

static ssmq_status load_and_run(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                                ssmq_worker *worker, ssmq_record *record, ssmq_samples *samples,
                                ssmq_err *err) {
    const bool has_baseline = ssmq_task_has_baseline(trial->task);
    if (!has_baseline) ssmq_worker_end(worker);
    SSMQ_TRY(load(trial, inputs, worker, err));
    if (has_baseline) SSMQ_TRY(load_baseline(inputs, worker, err));
    trial_describe_loaded(trial, worker->engine, record);
    /* What the record says before results; a failure returns to it. */
    const ssmq_record described = *record;
    const double max_trial_s = inputs->config->sweep.max_trial_s;
    const int64_t start_ns = ssmq_now_ns();
    const trial_run run = {
        .trial = trial,
        .inputs = inputs,
        .engine = worker->engine,
        .baseline = worker->baseline,
        .n_threads = worker->options.n_threads,
        .deadline_ns = max_trial_s > 0 ? start_ns + (int64_t)(max_trial_s * ns_per_s) : 0,
    };
    ssmq_status status = run_task(&run, record, samples, err);
    if (status != SSMQ_OK) {
        *record = described;
        ssmq_samples_free(samples);
        return status;
    }
    trial_describe_done(worker->engine, record);
    record->runtime_s = (double)(ssmq_now_ns() - start_ns) / ns_per_s;
    if (ssmq_task_is_of_text(trial->task) && record->runtime_s > 0) {
        record->tokens_per_s = (double)record->n_tokens / record->runtime_s;
    }
    return SSMQ_OK;
}

static void set_outcome(ssmq_record *record, ssmq_status status, const char *reason) {
    ssmq_field_set(record->status, sizeof record->status, ssmq_status_name(status));
    ssmq_field_set(record->status_reason, sizeof record->status_reason, reason);
}

/* What is recorded for a failure. A trial that its own settings make impossible is skipped, and
 * the reason tells; a device that no longer answers is lost, whatever the call said. */
static ssmq_status outcome_of(ssmq_status status, ssmq_worker *worker) {
    if (status == SSMQ_OK || status == SSMQ_SKIP) return status;
    if (status == SSMQ_CONFIG) return SSMQ_SKIP;
    const ssmq_engine_api *api = worker->engine->api;
    const bool is_alive =
        api->alive(worker->engine) && (worker->baseline == NULL || api->alive(worker->baseline));
    if (status == SSMQ_POISONED || !is_alive) {
        worker->is_retired = true;
        worker->is_loaded = false;
        return SSMQ_POISONED;
    }
    return status;
}

ssmq_status ssmq_trial_run(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                           ssmq_worker *worker, ssmq_record *record, ssmq_samples *samples,
                           ssmq_err *err) {
    memset(samples, 0, sizeof *samples);
    ssmq_trial_describe(trial, inputs, worker->engine, record);
    if (worker->is_retired) {
        set_outcome(record, SSMQ_POISONED, "the device was lost in an earlier trial");
        return SSMQ_FAIL(err, POISONED, "the device was lost in an earlier trial");
    }
    if (trial->skip[0] != '\0') {
        set_outcome(record, SSMQ_SKIP, trial->skip);
        return SSMQ_OK;
    }
    ssmq_err cause = {0};
    const ssmq_status status = load_and_run(trial, inputs, worker, record, samples, &cause);
    const ssmq_status outcome = outcome_of(status, worker);
    if (outcome == SSMQ_TIMEOUT) {
        (void)snprintf(cause.text, sizeof cause.text, "not finished after sweep.max_trial_s = %g",
                       inputs->config->sweep.max_trial_s);
    }
    set_outcome(record, outcome, cause.text);
    if (outcome == SSMQ_POISONED) return SSMQ_FAIL(err, POISONED, "%s", cause.text);
    return SSMQ_OK;
}
