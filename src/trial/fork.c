/* SPDX-License-Identifier: Apache-2.0 */
/* The trunk grows from batch to batch as long as prompts go along it: those of an evenly filled
 * context, in ascending depths, differ only from their needles on. A batch begins at the end of the
 * trunk if all its prompts go along it, and leaves none if not.
 *
 * It grows where that spares LEAST_SAVED tokens of prefill or more: those that it grows by, once
 * for each prompt seen but one. They stand for what a fork costs, two resets, which on a GPU
 * capture graphs anew; copies of a state within the device's memory cost, by their bytes, about ten
 * tokens each. Whether it pays depends on tokens alone, so that a trial's record does too.
 *
 * A state that is stored in fewer bits than it is computed in is rounded where a call ends, so
 * that its bits depend on the cuts; there is no trunk then. */
#include "trial/fork.h"

#include <string.h>

#include "base/mem.h"

enum { LEAST_SAVED = 512 };

/* A prefill under way. */
typedef struct feeding {
    const trial_run *run;
    const trial_prompts *prompts;
    int32_t *tokens; /* [B, segment] */
    int64_t segment;
} feeding;

void trial_trunk_free(trial_trunk *trunk) {
    ssmq_free(trunk->ids);
    *trunk = (trial_trunk){0};
}

int64_t trial_common_tokens(const trial_prompts *prompts, int64_t n_prompts) {
    int64_t n = prompts->n_tokens - 1;
    for (int64_t i = 1; i < n_prompts; i++) {
        int64_t n_same = 0;
        while (n_same < n && prompts->ids[i][n_same] == prompts->ids[0][n_same]) n_same++;
        n = n_same;
    }
    return n / TRIAL_FORK_STEP * TRIAL_FORK_STEP;
}

static ssmq_status reset(const feeding *f, int64_t n_sequences, bool is_forked, ssmq_err *err) {
    ssmq_engine *engine = f->run->engine;
    const ssmq_engine_extent extent = {
        .n_sequences = n_sequences, .max_segment_tokens = f->segment, .is_forked = is_forked};
    SSMQ_TRY(trial_check_deadline(f->run->deadline_ns, err));
    return engine->api->reset(engine, &extent, err);
}

/* Tokens [first, end) of the first n_sequences prompts; logits after the last, or NULL. */
static ssmq_status feed(const feeding *f, int64_t n_sequences, int64_t first, int64_t end,
                        float *logits, ssmq_err *err) {
    ssmq_engine *engine = f->run->engine;
    for (int64_t offset = first; offset < end; offset += f->segment) {
        const int64_t left = end - offset, n = left < f->segment ? left : f->segment;
        for (int64_t s = 0; s < n_sequences; s++) {
            memcpy(f->tokens + s * n, f->prompts->ids[s] + offset, (size_t)n * sizeof *f->tokens);
        }
        const ssmq_prefill call = {
            .tokens = f->tokens, .n_tokens = n, .logits = n == left ? logits : NULL};
        if (offset > first) SSMQ_TRY(trial_check_deadline(f->run->deadline_ns, err));
        SSMQ_TRY(engine->api->prefill(engine, &call, err));
    }
    return SSMQ_OK;
}

static bool may_fork(const trial_run *run) {
    return run->inputs->config->sweep.reuse_mb > 0 && run->engine->api->keep_state != NULL &&
           !ssmq_precision_rounds_state(&run->trial->precision);
}

/* Leaves the trunk at the end of what the prompts seen share, if it pays, or where it was. */
static ssmq_status grow(const feeding *f, trial_trunk *trunk, ssmq_err *err) {
    const trial_prompts *p = f->prompts;
    const ssmq_engine_api *api = f->run->engine->api;
    const int64_t n_shared = trial_common_tokens(p, p->n_seen);
    if ((n_shared - trunk->n) * (p->n_seen - 1) < LEAST_SAVED) return SSMQ_OK;
    if (trunk->ids == NULL) {
        SSMQ_TRY(ssmq_calloc(&trunk->ids, (size_t)p->n_tokens, sizeof *trunk->ids, err));
    }
    SSMQ_TRY(reset(f, 1, trunk->n > 0, err));
    SSMQ_TRY(feed(f, 1, trunk->n, n_shared, NULL, err));
    SSMQ_TRY(api->keep_state(f->run->engine, err));
    memcpy(trunk->ids, p->ids[0], (size_t)n_shared * sizeof *trunk->ids);
    trunk->n = n_shared;
    return SSMQ_OK;
}

/* The batch's sequences at the end of the trunk. */
static ssmq_status begin_forked(const feeding *f, trial_trunk *trunk, ssmq_err *err) {
    const trial_prompts *p = f->prompts;
    const size_t n_bytes = (size_t)trunk->n * sizeof *trunk->ids;
    if (trunk->n > trial_common_tokens(p, p->B) ||
        (trunk->n > 0 && memcmp(trunk->ids, p->ids[0], n_bytes) != 0)) {
        trunk->n = 0;
    }
    SSMQ_TRY(grow(f, trunk, err));
    return reset(f, p->B, trunk->n > 0, err);
}

static ssmq_status begin(const feeding *f, trial_trunk *trunk, ssmq_err *err) {
    if (may_fork(f->run) && !trunk->is_off) {
        const ssmq_status status = begin_forked(f, trunk, err);
        if (status != SSMQ_NOMEM) return status;
        /* The kept state is beside what the trial needs. */
        if (err != NULL) ssmq_err_clear(err);
        trunk->n = 0;
        trunk->is_off = true;
    }
    return reset(f, f->prompts->B, false, err);
}

ssmq_status trial_prefill_prompts(const trial_run *run, trial_trunk *trunk,
                                  const trial_prompts *prompts, float *logits, ssmq_err *err) {
    const int64_t n = prompts->n_tokens;
    feeding f = {.run = run, .prompts = prompts};
    f.segment = n < TRIAL_SEGMENT_TOKENS ? n : TRIAL_SEGMENT_TOKENS;
    SSMQ_TRY(ssmq_calloc(&f.tokens, (size_t)(prompts->B * f.segment), sizeof *f.tokens, err));
    ssmq_status status = begin(&f, trunk, err);
    if (status == SSMQ_OK) status = feed(&f, prompts->B, trunk->n, n, logits, err);
    ssmq_free(f.tokens);
    return status;
}
