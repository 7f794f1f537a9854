/* SPDX-License-Identifier: Apache-2.0 */
/* The perplexity task: scores the text by its protocol and sums up by window and by position. */
#include <math.h>

#include "base/mem.h"
#include "trial/positions.h"
#include "trial/score.h"
#include "trial/stats.h"
#include "trial/task.h"

static const double ln_2 = 0.69314718055994530942;

/* Blocks that the standard error counts as independent: the windows, or the seq_len long pieces of
 * a stream, whose one window would have no spread. */
typedef struct blocks {
    size_t n;
    double *sums;
    int64_t *counts;
    double *means;
    double *tokens; /* counts, as a series holds them */
} blocks;

typedef struct buckets {
    size_t n;
    double sums[TRIAL_MAX_BUCKETS];
    double counts[TRIAL_MAX_BUCKETS];
    double means[TRIAL_MAX_BUCKETS];
    double sems[TRIAL_MAX_BUCKETS];
    trial_positions by_block;
} buckets;

static ssmq_status protocol_of(ssmq_protocol_spec *out, const trial_run *run, ssmq_err *err) {
    const ssmq_trial *trial = run->trial;
    *out = (ssmq_protocol_spec){
        .protocol = trial->protocol,
        .seq_len = trial->context_length,
        .stride = trial->stride,
        .batch_size = trial->batch_size,
        .deadline_ns = run->deadline_ns,
    };
    if (trial->protocol != SSMQ_PROTOCOL_ROLLING) return SSMQ_OK;
    return ssmq_protocol_prefix(&out->prefix_id, run->inputs->tokenizer, err);
}

static void blocks_free(blocks *b) {
    ssmq_free(b->sums);
    ssmq_free(b->counts);
    ssmq_free(b->means);
    ssmq_free(b->tokens);
}

static ssmq_status blocks_init(blocks *b, size_t n, ssmq_err *err) {
    b->n = n;
    SSMQ_TRY(ssmq_calloc(&b->sums, n, sizeof *b->sums, err));
    SSMQ_TRY(ssmq_calloc(&b->counts, n, sizeof *b->counts, err));
    SSMQ_TRY(ssmq_calloc(&b->means, n, sizeof *b->means, err));
    return ssmq_calloc(&b->tokens, n, sizeof *b->tokens, err);
}

static void add_token(blocks *b, size_t block, buckets *by_position, int64_t position, double nll) {
    b->sums[block] += nll;
    b->counts[block]++;
    const size_t k = trial_bucket_of(position);
    by_position->sums[k] += nll;
    by_position->counts[k] += 1;
    trial_positions_add(&by_position->by_block, k, block, nll);
    if (k + 1 > by_position->n) by_position->n = k + 1;
}

/* Every scored token into its block and into the bucket of its position in its window. */
static void sort_tokens(const ssmq_protocol_spec *spec, const double *nll, int64_t n_tokens,
                        blocks *b, buckets *by_position) {
    const bool is_stream = spec->protocol == SSMQ_PROTOCOL_STREAM;
    const int64_t n_windows = ssmq_protocol_n_windows(spec, n_tokens);
    for (int64_t i = 0; i < n_windows; i++) {
        const ssmq_window window = ssmq_protocol_window(spec, n_tokens, i);
        for (int64_t t = window.first_target; t < window.end; t++) {
            const int64_t block = is_stream ? t / spec->seq_len : i;
            add_token(b, (size_t)block, by_position, t - window.begin, nll[t]);
        }
    }
    for (size_t i = 0; i < b->n; i++) {
        b->tokens[i] = (double)b->counts[i];
        b->means[i] = b->counts[i] > 0 ? b->sums[i] / (double)b->counts[i] : NAN;
    }
    for (size_t k = 0; k < by_position->n; k++) {
        by_position->means[k] = by_position->sums[k] / by_position->counts[k];
    }
}

/* Where every token is scored, the text itself is the unit that tokenizers share. */
static void report_text(const trial_run *run, ssmq_record *record) {
    const ssmq_text_counts *counts = &run->inputs->text_counts;
    if (run->trial->protocol != SSMQ_PROTOCOL_ROLLING || counts->n_words == 0) return;
    record->n_words = counts->n_words;
    record->n_bytes = counts->n_bytes;
    record->word_perplexity = exp(record->nll_sum / (double)counts->n_words);
    record->byte_perplexity = exp(record->nll_sum / (double)counts->n_bytes);
    record->bits_per_byte = record->nll_sum / (double)counts->n_bytes / ln_2;
}

static ssmq_status report(const trial_run *run, const ssmq_protocol_spec *spec, const double *nll,
                          ssmq_record *record, ssmq_samples *samples, ssmq_err *err) {
    const int64_t n_tokens = run->inputs->n_text_ids;
    const int64_t n_windows = ssmq_protocol_n_windows(spec, n_tokens);
    const int64_t n_blocks = spec->protocol == SSMQ_PROTOCOL_STREAM
                                 ? (n_tokens + spec->seq_len - 1) / spec->seq_len
                                 : n_windows;
    const ssmq_score score = ssmq_score_sum(nll, n_tokens);
    record->nll_sum = score.nll_sum;
    record->nll_mean = score.nll_mean;
    record->ppl = score.ppl;
    record->n_tokens = score.n_tokens;
    record->n_windows = n_windows;
    report_text(run, record);
    buckets by_position = {0};
    blocks b = {0};
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY_OR(blocks_init(&b, (size_t)n_blocks, err), out);
    SSMQ_TRY_OR(trial_positions_init(&by_position.by_block, n_tokens + 1, b.n, err), out);
    sort_tokens(spec, nll, n_tokens, &b, &by_position);
    record->nll_sem = ssmq_ratio_sem(b.sums, b.counts, b.n);
    SSMQ_TRY_OR(trial_add_series(samples, "nll_window", b.means, b.n, err), out);
    SSMQ_TRY_OR(trial_add_series(samples, "nll_window_tokens", b.tokens, b.n, err), out);
    SSMQ_TRY_OR(trial_add_series(samples, "nll_bucket_mean", by_position.means, by_position.n, err),
                out);
    SSMQ_TRY_OR(
        trial_add_series(samples, "nll_bucket_tokens", by_position.counts, by_position.n, err),
        out);
    SSMQ_TRY_OR(trial_positions_sem(&by_position.by_block, by_position.n, by_position.sems, err),
                out);
    SSMQ_TRY_OR(trial_add_series(samples, "nll_bucket_sem", by_position.sems, by_position.n, err),
                out);
out:
    trial_positions_free(&by_position.by_block);
    blocks_free(&b);
    return status;
}

ssmq_status trial_run_ppl(const trial_run *run, ssmq_record *record, ssmq_samples *samples,
                          ssmq_err *err) {
    const int64_t n_tokens = run->inputs->n_text_ids;
    SSMQ_CHECK(run->inputs->text_ids != NULL, err);
    ssmq_protocol_spec spec;
    SSMQ_TRY(protocol_of(&spec, run, err));
    double *nll = NULL;
    ssmq_engine_stats stats;
    SSMQ_TRY(ssmq_calloc(&nll, (size_t)n_tokens, sizeof *nll, err));
    run->engine->api->take_stats(run->engine, &stats);
    ssmq_status status =
        ssmq_score_text(run->engine, &spec, run->inputs->text_ids, n_tokens, nll, err);
    if (status == SSMQ_OK) status = report(run, &spec, nll, record, samples, err);
    run->engine->api->take_stats(run->engine, &stats);
    const int64_t n_layer_tokens = stats.computed_layer_tokens + stats.reused_layer_tokens;
    if (status == SSMQ_OK && n_layer_tokens > 0) {
        record->reused_share = (double)stats.reused_layer_tokens / (double)n_layer_tokens;
    }
    ssmq_free(nll);
    return status;
}
