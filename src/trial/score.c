/* SPDX-License-Identifier: Apache-2.0 */
/* Windows of the perplexity protocols, and their run: windows of equal length go to the engine
 * together, each from a zero state, in segments; NLLs come back by position of the text. */
#include "trial/score.h"

#include <math.h>

#include "base/hash.h"
#include "base/mem.h"
#include "trial/task.h"

static int64_t min_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

int64_t ssmq_protocol_n_windows(const ssmq_protocol_spec *spec, int64_t n_tokens) {
    const int64_t L = spec->seq_len, stride = spec->stride;
    if (n_tokens < (spec->protocol == SSMQ_PROTOCOL_ROLLING ? 1 : 2)) return 0;
    switch (spec->protocol) {
    case SSMQ_PROTOCOL_DISJOINT:
        return L < 2 ? 0 : n_tokens / L;
    case SSMQ_PROTOCOL_SLIDING: {
        if (L < 2 || stride < 1 || stride > L) return 0;
        /* The last window is the first that reaches the end of the text. */
        int64_t n = n_tokens <= L ? 1 : (n_tokens - L + stride - 1) / stride + 1;
        if (stride == L && n_tokens % L == 1) n--;
        return n;
    }
    case SSMQ_PROTOCOL_STREAM:
        return 1;
    case SSMQ_PROTOCOL_ROLLING:
        return L < 1 ? 0 : (n_tokens + L - 1) / L;
    case SSMQ_PROTOCOL_HALF_WINDOW:
        return L < 3 || n_tokens < 2 * L ? 0 : n_tokens / L;
    case SSMQ_N_PROTOCOLS:
        break;
    }
    return 0;
}

ssmq_window ssmq_protocol_window(const ssmq_protocol_spec *spec, int64_t n_tokens, int64_t i) {
    const int64_t L = spec->seq_len;
    ssmq_window window = {0, n_tokens, 1};
    if (spec->protocol == SSMQ_PROTOCOL_DISJOINT) {
        window.begin = i * L;
        window.end = window.begin + L;
        window.first_target = window.begin + 1;
    } else if (spec->protocol == SSMQ_PROTOCOL_SLIDING) {
        window.begin = i * spec->stride;
        window.end = min_i64(window.begin + L, n_tokens);
        /* Targets begin where the window before ended, but a token needs one before it. */
        const int64_t previous_end = i == 0 ? 0 : window.begin - spec->stride + L;
        window.first_target = previous_end > window.begin ? previous_end : window.begin + 1;
    } else if (spec->protocol == SSMQ_PROTOCOL_ROLLING) {
        window.first_target = i * L;
        window.end = min_i64(window.first_target + L, n_tokens);
        window.begin = i == 0 ? -1 : window.end - L - 1;
    } else if (spec->protocol == SSMQ_PROTOCOL_HALF_WINDOW) {
        window.begin = i * L;
        window.end = window.begin + L;
        window.first_target = window.begin + L / 2 + 1;
    }
    return window;
}

ssmq_status ssmq_protocol_prefix(int32_t *out, const ssmq_tokenizer *tokenizer, ssmq_err *err) {
    static const char token[] = "<|endoftext|>";
    ssmq_ids ids = {0};
    *out = 0;
    if (tokenizer == NULL) {
        return SSMQ_FAIL(err, CONFIG, "protocol rolling needs a tokenizer that knows %s", token);
    }
    ssmq_status status = ssmq_tokenizer_encode(tokenizer, token, sizeof token - 1, &ids, err);
    if (status == SSMQ_OK && ids.n == 1) {
        *out = ids.ids[0];
    } else if (status == SSMQ_OK) {
        status = SSMQ_FAIL(err, CONFIG,
                           "protocol rolling needs the token %s, which is no token of "
                           "this tokenizer",
                           token);
    }
    ssmq_ids_free(&ids);
    return status;
}

int32_t ssmq_protocol_token(const ssmq_protocol_spec *spec, const int32_t *ids, int64_t t) {
    return t < 0 ? spec->prefix_id : ids[t];
}

int64_t ssmq_protocol_n_together(const ssmq_protocol_spec *spec, int64_t n_tokens, int64_t i) {
    const int64_t n_windows = ssmq_protocol_n_windows(spec, n_tokens);
    const ssmq_window window = ssmq_protocol_window(spec, n_tokens, i);
    int64_t B = 1;
    while (B < spec->batch_size && i + B < n_windows) {
        const ssmq_window next = ssmq_protocol_window(spec, n_tokens, i + B);
        if (next.end - next.begin != window.end - window.begin) break;
        B++;
    }
    return B;
}

ssmq_status ssmq_protocol_no_window(const ssmq_protocol_spec *spec, int64_t n_tokens,
                                    ssmq_err *err) {
    return SSMQ_FAIL(err, CONFIG,
                     "%lld tokens hold no window to score: protocol %s, seq_len %lld, stride "
                     "%lld, batch_size %lld",
                     (long long)n_tokens, ssmq_protocol_name(spec->protocol),
                     (long long)spec->seq_len, (long long)spec->stride,
                     (long long)spec->batch_size);
}

/* Scoring under way: the text, and buffers of one prefill call. */
typedef struct scoring {
    ssmq_engine *engine;
    const ssmq_protocol_spec *spec;
    const int32_t *ids;
    int64_t n_tokens;
    double *nll;
    int64_t segment_tokens;
    int32_t *tokens;  /* [B, segment_tokens] */
    int32_t *targets; /* likewise */
    float *call_nll;  /* likewise */
    int64_t n_scored;
    int64_t n_nonfinite;
    int64_t first_nonfinite;
} scoring;

static void take_nll(scoring *s, int64_t t, double nll) {
    s->nll[t] = nll;
    s->n_scored++;
    if (isfinite(nll)) return;
    if (s->n_nonfinite == 0) s->first_nonfinite = t;
    s->n_nonfinite++;
}

/* Tokens [offset, offset + n) of windows [first, first + B), all of the same length. */
static ssmq_status run_segment(scoring *s, int64_t first, int64_t B, int64_t offset, int64_t n,
                               ssmq_err *err) {
    for (int64_t b = 0; b < B; b++) {
        const ssmq_window window = ssmq_protocol_window(s->spec, s->n_tokens, first + b);
        for (int64_t i = 0; i < n; i++) {
            const int64_t target = window.begin + offset + i + 1;
            const bool is_scored = target >= window.first_target && target < window.end;
            s->tokens[b * n + i] = ssmq_protocol_token(s->spec, s->ids, target - 1);
            s->targets[b * n + i] = is_scored ? s->ids[target] : -1;
        }
    }
    const ssmq_prefill call = {
        .tokens = s->tokens, .n_tokens = n, .targets = s->targets, .nll = s->call_nll};
    SSMQ_TRY(s->engine->api->prefill(s->engine, &call, err));
    for (int64_t b = 0; b < B; b++) {
        const ssmq_window window = ssmq_protocol_window(s->spec, s->n_tokens, first + b);
        for (int64_t i = 0; i < n; i++) {
            if (s->targets[b * n + i] < 0) continue;
            take_nll(s, window.begin + offset + i + 1, (double)s->call_nll[b * n + i]);
        }
    }
    return SSMQ_OK;
}

/* Names the tokens of windows [first, first + B), so that trials can share layers. */
static void name_tokens(const scoring *s, int64_t first, int64_t B,
                        unsigned char key[SSMQ_SHA256_BYTES]) {
    ssmq_sha256 sha;
    ssmq_sha256_init(&sha);
    for (int64_t b = 0; b < B; b++) {
        const ssmq_window window = ssmq_protocol_window(s->spec, s->n_tokens, first + b);
        const int64_t begin = window.begin < 0 ? 0 : window.begin;
        if (window.begin < 0) ssmq_sha256_add(&sha, &s->spec->prefix_id, sizeof *s->ids);
        ssmq_sha256_add(&sha, s->ids + begin, (size_t)(window.end - begin) * sizeof *s->ids);
    }
    ssmq_sha256_end(&sha, key);
}

static bool is_rolling(const ssmq_protocol_spec *spec) {
    return spec->protocol == SSMQ_PROTOCOL_ROLLING;
}

static ssmq_status run_windows(scoring *s, int64_t first, int64_t B, ssmq_err *err) {
    const ssmq_window window = ssmq_protocol_window(s->spec, s->n_tokens, first);
    /* Nothing follows from the last token; rolling, whose windows are a token longer, leaves it
     * out, so that its calls have seq_len tokens. */
    const int64_t length = window.end - window.begin - (is_rolling(s->spec) ? 1 : 0);
    unsigned char key[SSMQ_SHA256_BYTES];
    name_tokens(s, first, B, key);
    const ssmq_engine_extent extent = {.n_sequences = B,
                                       .max_segment_tokens = min_i64(s->segment_tokens, length),
                                       .reuse_key = key,
                                       .reuse_tokens = length};
    SSMQ_TRY(trial_check_deadline(s->spec->deadline_ns, err));
    SSMQ_TRY(s->engine->api->reset(s->engine, &extent, err));
    for (int64_t offset = 0; offset < length; offset += s->segment_tokens) {
        if (offset > 0) SSMQ_TRY(trial_check_deadline(s->spec->deadline_ns, err));
        SSMQ_TRY(
            run_segment(s, first, B, offset, min_i64(s->segment_tokens, length - offset), err));
    }
    return SSMQ_OK;
}

static ssmq_status run_all(scoring *s, int64_t n_windows, ssmq_err *err) {
    for (int64_t i = 0; i < n_windows;) {
        const int64_t B = ssmq_protocol_n_together(s->spec, s->n_tokens, i);
        SSMQ_TRY(run_windows(s, i, B, err));
        i += B;
    }
    if (s->n_nonfinite > 0) {
        return SSMQ_FAIL(err, NUMERIC,
                         "%lld of %lld scored tokens have an infinite or NaN NLL, the first at "
                         "token %lld",
                         (long long)s->n_nonfinite, (long long)s->n_scored,
                         (long long)s->first_nonfinite);
    }
    return SSMQ_OK;
}

ssmq_status ssmq_score_text(ssmq_engine *engine, const ssmq_protocol_spec *spec, const int32_t *ids,
                            int64_t n_tokens, double *nll, ssmq_err *err) {
    const int64_t n_windows = ssmq_protocol_n_windows(spec, n_tokens);
    if (n_windows == 0 || spec->seq_len < 1 || spec->batch_size < 1) {
        return ssmq_protocol_no_window(spec, n_tokens, err);
    }
    scoring s = {.engine = engine, .spec = spec, .ids = ids, .n_tokens = n_tokens, .nll = nll};
    s.segment_tokens = min_i64(min_i64(spec->seq_len, TRIAL_SEGMENT_TOKENS), n_tokens);
    const size_t n = (size_t)(min_i64(spec->batch_size, n_windows) * s.segment_tokens);
    for (int64_t t = 0; t < n_tokens; t++) nll[t] = NAN;
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY_OR(ssmq_calloc_aligned(&s.tokens, n, sizeof *s.tokens, err), out);
    SSMQ_TRY_OR(ssmq_calloc_aligned(&s.targets, n, sizeof *s.targets, err), out);
    SSMQ_TRY_OR(ssmq_calloc_aligned(&s.call_nll, n, sizeof *s.call_nll, err), out);
    status = run_all(&s, n_windows, err);
out:
    ssmq_free(s.tokens);
    ssmq_free(s.targets);
    ssmq_free(s.call_nll);
    return status;
}

ssmq_score ssmq_score_sum(const double *nll, int64_t n_tokens) {
    ssmq_score score = {.nll_mean = NAN, .ppl = NAN};
    for (int64_t t = 0; t < n_tokens; t++) {
        if (isnan(nll[t])) continue;
        score.nll_sum += nll[t];
        score.n_tokens++;
    }
    if (score.n_tokens > 0) {
        score.nll_mean = score.nll_sum / (double)score.n_tokens;
        score.ppl = exp(score.nll_mean);
    }
    return score;
}
