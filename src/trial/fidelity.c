/* SPDX-License-Identifier: Apache-2.0 */
/* The fidelity task: baseline and trial's model run the same windows of the text side by side on
 * two handles of one engine, piece by piece with their states carried over; each token's two
 * distributions are compared as soon as both are there, so that no file of logits exists. */
#include "trial/fidelity.h"

#include "base/cores.h"
#include "base/mem.h"
#include "trial/divergence.h"
#include "trial/score.h"
#include "trial/task.h"

/* Tokens of a sequence whose logits the host holds at a time; a multiple of the chunks that engines
 * cut a context into, so that pieces change no bit. */
enum { PIECE_TOKENS = 128 };

typedef struct comparison {
    const trial_run *run;
    ssmq_protocol_spec spec;
    const int32_t *ids;
    int64_t n_tokens, V;
    int n_threads;
    ssmq_divergence *tokens; /* [n_tokens], zero where token t is not scored */
    /* Of one piece: */
    int32_t *inputs, *targets; /* [B, piece] */
    float *nll;                /* [B, piece], which the engines compute with the logits */
    float *baseline, *logits;  /* [B, piece, V] */
} comparison;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t target_of(const comparison *c, int64_t window, int64_t offset) {
    return ssmq_protocol_window(&c->spec, c->n_tokens, window).begin + offset + 1;
}

static void fill_piece(comparison *c, int64_t first, int64_t B, int64_t offset, int64_t n) {
    for (int64_t i = 0; i < B * n; i++) {
        const ssmq_window window = ssmq_protocol_window(&c->spec, c->n_tokens, first + i / n);
        const int64_t target = window.begin + offset + i % n + 1;
        const bool is_scored = target >= window.first_target && target < window.end;
        c->inputs[i] = ssmq_protocol_token(&c->spec, c->ids, target - 1);
        c->targets[i] = is_scored ? c->ids[target] : -1;
    }
}

static void compare_piece(comparison *c, int64_t first, int64_t B, int64_t offset, int64_t n) {
#pragma omp parallel for schedule(dynamic) num_threads(c->n_threads)
    for (int64_t i = 0; i < B * n; i++) {
        if (c->targets[i] < 0) continue;
        c->tokens[target_of(c, first + i / n, offset + i % n)] =
            ssmq_divergence_of(c->baseline + i * c->V, c->logits + i * c->V, c->V, c->targets[i]);
    }
}

/* Tokens [offset, offset + n) of windows [first, first + B), all of the same length. */
static ssmq_status run_piece(comparison *c, int64_t first, int64_t B, int64_t offset, int64_t n,
                             ssmq_err *err) {
    ssmq_engine *engine = c->run->engine, *baseline = c->run->baseline;
    fill_piece(c, first, B, offset, n);
    ssmq_prefill call = {.tokens = c->inputs,
                         .n_tokens = n,
                         .targets = c->targets,
                         .nll = c->nll,
                         .all_logits = c->baseline};
    SSMQ_TRY(baseline->api->prefill(baseline, &call, err));
    call.all_logits = c->logits;
    SSMQ_TRY(engine->api->prefill(engine, &call, err));
    compare_piece(c, first, B, offset, n);
    return SSMQ_OK;
}

static ssmq_status run_windows(comparison *c, int64_t first, int64_t B, ssmq_err *err) {
    ssmq_engine *engine = c->run->engine, *baseline = c->run->baseline;
    const ssmq_window window = ssmq_protocol_window(&c->spec, c->n_tokens, first);
    /* Nothing follows from the last token of a window. */
    const int64_t length = window.end - window.begin - 1;
    const ssmq_engine_extent extent = {.n_sequences = B,
                                       .max_segment_tokens = smaller(PIECE_TOKENS, length)};
    SSMQ_TRY(baseline->api->reset(baseline, &extent, err));
    SSMQ_TRY(engine->api->reset(engine, &extent, err));
    for (int64_t offset = 0; offset < length; offset += PIECE_TOKENS) {
        SSMQ_TRY(trial_check_deadline(c->run->deadline_ns, err));
        SSMQ_TRY(run_piece(c, first, B, offset, smaller(PIECE_TOKENS, length - offset), err));
    }
    return SSMQ_OK;
}

static ssmq_status buffers_init(comparison *c, int64_t n_windows, ssmq_err *err) {
    const int64_t most = smaller(PIECE_TOKENS, c->n_tokens);
    const size_t n = (size_t)(smaller(c->spec.batch_size, n_windows) * most);
    const size_t n_logits = n * (size_t)c->V;
    SSMQ_TRY(ssmq_calloc(&c->tokens, (size_t)c->n_tokens, sizeof *c->tokens, err));
    SSMQ_TRY(ssmq_calloc_aligned(&c->inputs, n, sizeof *c->inputs, err));
    SSMQ_TRY(ssmq_calloc_aligned(&c->targets, n, sizeof *c->targets, err));
    SSMQ_TRY(ssmq_calloc_aligned(&c->nll, n, sizeof *c->nll, err));
    SSMQ_TRY(ssmq_calloc_aligned(&c->baseline, n_logits, sizeof *c->baseline, err));
    return ssmq_calloc_aligned(&c->logits, n_logits, sizeof *c->logits, err);
}

static void buffers_free(comparison *c) {
    ssmq_free(c->tokens);
    ssmq_free(c->inputs);
    ssmq_free(c->targets);
    ssmq_free(c->nll);
    ssmq_free(c->baseline);
    ssmq_free(c->logits);
}

static ssmq_status compare(comparison *c, int64_t n_windows, ssmq_err *err) {
    int64_t B = 0;
    for (int64_t i = 0; i < n_windows; i += B) {
        B = ssmq_protocol_n_together(&c->spec, c->n_tokens, i);
        SSMQ_TRY(run_windows(c, i, B, err));
    }
    return SSMQ_OK;
}

ssmq_status trial_run_fidelity(const trial_run *run, ssmq_record *record, ssmq_samples *samples,
                               ssmq_err *err) {
    const ssmq_trial *trial = run->trial;
    SSMQ_CHECK(run->inputs->text_ids != NULL && run->baseline != NULL, err);
    comparison c = {.run = run,
                    .spec = {.protocol = trial->protocol,
                             .seq_len = trial->context_length,
                             .stride = trial->stride,
                             .batch_size = trial->batch_size},
                    .ids = run->inputs->text_ids,
                    .n_tokens = run->inputs->n_text_ids,
                    .V = run->inputs->model->shape.V};
    c.n_threads = run->n_threads > 0 ? run->n_threads : ssmq_cores_per_rank(1);
    if (c.spec.protocol == SSMQ_PROTOCOL_ROLLING) {
        SSMQ_TRY(ssmq_protocol_prefix(&c.spec.prefix_id, run->inputs->tokenizer, err));
    }
    const int64_t n_windows = ssmq_protocol_n_windows(&c.spec, c.n_tokens);
    if (n_windows == 0) return ssmq_protocol_no_window(&c.spec, c.n_tokens, err);
    ssmq_status status = buffers_init(&c, n_windows, err);
    if (status == SSMQ_OK) status = compare(&c, n_windows, err);
    const trial_fidelity result = {
        .spec = &c.spec, .tokens = c.tokens, .n_tokens = c.n_tokens, .draw = trial->draw};
    if (status == SSMQ_OK) status = trial_report_fidelity(&result, record, samples, err);
    buffers_free(&c);
    return status;
}
