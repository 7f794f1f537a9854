/* SPDX-License-Identifier: Apache-2.0 */
/* The passkey task: depths x trials prompts of one length, in batches.
 *
 * One pass answers both questions. The prompt is prefilled, and the right answer is forced through
 * the decode path; every step gives the NLL of the right token and the argmax. Greedy decoding
 * yields the right key exactly if every argmax equals the forced token: up to the first difference
 * both have fed the same tokens, and after it greedy has already failed. So "correct" means that
 * greedy decoding gives the key's own token ids (as LongLoRA scores); what follows the key does not
 * count. After a wrong token, the digits that remain are judged given the right ones before.
 *
 * Two controls run the same prompts changed in one place: without the needle, where the key can
 * only be guessed, and with another key in the needle, where that one is the right answer. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "trial/fork.h"
#include "trial/prompt.h"
#include "trial/stats.h"
#include "trial/task.h"

typedef enum variant { VARIANT_PLAIN, VARIANT_NO_NEEDLE, VARIANT_WRONG_KEY } variant;

/* Series of the prompts, and what sums up over them. */
typedef struct outcome {
    int64_t n; /* prompts */
    double *depth, *key, *correct, *digits, *nll, *rank;
    double *control, *wrong_key; /* "correct" of the controls */
    double answer_nll_sum;
    int64_t n_answer_ids;
    int64_t n_digits;
    int64_t n_forced; /* tokens fed after the longest prompt */
} outcome;

/* A batch of prompts under way. */
typedef struct batch {
    const trial_run *run;
    const ssmq_template *template_;
    variant variant;
    int64_t first;        /* prompt index of sequence 0 */
    int64_t B, n_seen;    /* with one prompt more where the batch has but one, to look ahead */
    ssmq_prompt *prompts; /* [n_seen] */
    const int32_t **ids;  /* [n_seen] of each prompt */
    int64_t n_steps;      /* decode steps: ids of the longest answer without its first */
    int32_t *firsts;      /* [B] first ids of the answers */
    float *logits;        /* [B, V] */
    int32_t *answers;     /* [B, n_steps + 1]: what greedy decoding says at each place */
    double *nll;          /* [B, n_steps + 1] of the right ids */
    double *rank;         /* [B] of the first right id */
} batch;

static int64_t n_prompts_of(const trial_run *run) {
    const ssmq_config_passkey *passkey = &run->inputs->config->passkey;
    return (int64_t)passkey->depth.n * passkey->n_trials;
}

static double depth_of(const trial_run *run, int64_t i) {
    const ssmq_config_passkey *passkey = &run->inputs->config->passkey;
    return passkey->depth.values[i / passkey->n_trials];
}

/* Prompt i of the trial: its draw depends on depth and number, never on precision or batch. */
static ssmq_status make_prompt(const batch *b, int64_t i, ssmq_prompt *out, ssmq_err *err) {
    const trial_run *run = b->run;
    const ssmq_config_passkey *passkey = &run->inputs->config->passkey;
    char draw[SSMQ_TRIAL_KEY_BYTES + 64];
    (void)snprintf(draw, sizeof draw, "%s/depth=%.17g/trial=%lld", run->trial->draw,
                   depth_of(run, i), (long long)(i % passkey->n_trials));
    const bool has_text = strcmp(passkey->filler, "text") == 0;
    SSMQ_CHECK(!has_text || run->inputs->filler_ids != NULL, err);
    const ssmq_prompt_spec spec = {
        .template_ = b->template_,
        .filler_ids = has_text ? run->inputs->filler_ids : NULL,
        .n_filler_ids = has_text ? run->inputs->n_filler_ids : 0,
        .n_tokens = run->trial->context_length,
        .depth = depth_of(run, i),
        .has_needle = b->variant != VARIANT_NO_NEEDLE,
        .has_wrong_key = b->variant == VARIANT_WRONG_KEY,
        .draw = draw,
    };
    return ssmq_prompt_init(out, run->inputs->tokenizer, &spec, err);
}

static void batch_free(batch *b) {
    for (int64_t s = 0; b->prompts != NULL && s < b->n_seen; s++) ssmq_prompt_free(&b->prompts[s]);
    ssmq_free(b->prompts);
    ssmq_free(b->ids);
    ssmq_free(b->firsts);
    ssmq_free(b->logits);
    ssmq_free(b->answers);
    ssmq_free(b->nll);
    ssmq_free(b->rank);
}

static ssmq_status batch_init(batch *b, ssmq_err *err) {
    const size_t B = (size_t)b->B, V = (size_t)b->run->inputs->model->shape.V;
    SSMQ_TRY(ssmq_calloc(&b->prompts, (size_t)b->n_seen, sizeof *b->prompts, err));
    SSMQ_TRY(ssmq_calloc(&b->ids, (size_t)b->n_seen, sizeof *b->ids, err));
    for (int64_t s = 0; s < b->n_seen; s++) {
        SSMQ_TRY(make_prompt(b, b->first + s, &b->prompts[s], err));
        b->ids[s] = b->prompts[s].prompt.ids;
    }
    for (int64_t s = 0; s < b->B; s++) {
        const int64_t n_steps = (int64_t)b->prompts[s].answer.n - 1;
        if (n_steps > b->n_steps) b->n_steps = n_steps;
    }
    const size_t n_answer = (size_t)b->n_steps + 1;
    SSMQ_TRY(ssmq_calloc(&b->firsts, B, sizeof *b->firsts, err));
    SSMQ_TRY(ssmq_calloc_aligned(&b->logits, B * V, sizeof *b->logits, err));
    SSMQ_TRY(ssmq_calloc(&b->answers, B * n_answer, sizeof *b->answers, err));
    SSMQ_TRY(ssmq_calloc(&b->nll, B * n_answer, sizeof *b->nll, err));
    return ssmq_calloc(&b->rank, B, sizeof *b->rank, err);
}

/* Greedy choice, NLL and rank of the first answer id. Ties count as the engine's argmax breaks
 * them, so that rank 1 is the argmax. */
static ssmq_status judge_first(batch *b, int64_t s, ssmq_err *err) {
    const int64_t V = b->run->inputs->model->shape.V;
    const float *logits = b->logits + s * V;
    const int32_t right = b->prompts[s].answer.ids[0];
    int32_t best = 0;
    int64_t rank = 1;
    for (int32_t v = 0; v < V; v++) {
        if (!isfinite(logits[v])) {
            return SSMQ_FAIL(err, NUMERIC, "prompt %lld: logit %d after the prompt is not finite",
                             (long long)(b->first + s), v);
        }
        if (logits[v] > logits[best]) best = v;
        if (logits[v] > logits[right] || (logits[v] == logits[right] && v < right)) rank++;
    }
    /* Without the largest, whose term is 1: small NLLs keep their digits. */
    double sum = 0;
    for (int64_t v = 0; v < V; v++) {
        if (v != best) sum += exp((double)logits[v] - (double)logits[best]);
    }
    b->answers[s * (b->n_steps + 1)] = best;
    b->nll[s * (b->n_steps + 1)] = log1p(sum) + ((double)logits[best] - (double)logits[right]);
    b->rank[s] = (double)rank;
    return SSMQ_OK;
}

/* Forces the rest of the answers. Shorter ones are drawn out with their last id; what follows
 * cannot change what came before. */
static ssmq_status force(batch *b, int32_t *forced, int32_t *argmax, float *nll, ssmq_err *err) {
    ssmq_engine *engine = b->run->engine;
    const int64_t n = b->n_steps;
    for (int64_t s = 0; s < b->B; s++) {
        const ssmq_ids *answer = &b->prompts[s].answer;
        b->firsts[s] = answer->ids[0];
        for (int64_t i = 0; i < n; i++) {
            const size_t at = (size_t)i + 1 < answer->n ? (size_t)i + 1 : answer->n - 1;
            forced[s * n + i] = answer->ids[at];
        }
    }
    const ssmq_decode call = {
        .first = b->firsts, .n_steps = n, .forced = forced, .argmax = argmax, .nll = nll};
    SSMQ_TRY(engine->api->decode(engine, &call, err));
    for (int64_t s = 0; s < b->B; s++) {
        for (int64_t i = 0; i < n; i++) {
            b->answers[s * (n + 1) + 1 + i] = argmax[s * n + i];
            b->nll[s * (n + 1) + 1 + i] = (double)nll[s * n + i];
        }
    }
    return SSMQ_OK;
}

static ssmq_status run_batch(batch *b, trial_trunk *trunk, ssmq_err *err) {
    const trial_prompts prompts = {
        .ids = b->ids, .B = b->B, .n_seen = b->n_seen, .n_tokens = b->run->trial->context_length};
    SSMQ_TRY(trial_prefill_prompts(b->run, trunk, &prompts, b->logits, err));
    for (int64_t s = 0; s < b->B; s++) SSMQ_TRY(judge_first(b, s, err));
    if (b->n_steps == 0) return SSMQ_OK;
    const size_t n = (size_t)(b->B * b->n_steps);
    int32_t *forced = NULL, *argmax = NULL;
    float *nll = NULL;
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY_OR(ssmq_calloc(&forced, n, sizeof *forced, err), out);
    SSMQ_TRY_OR(ssmq_calloc(&argmax, n, sizeof *argmax, err), out);
    SSMQ_TRY_OR(ssmq_calloc(&nll, n, sizeof *nll, err), out);
    status = force(b, forced, argmax, nll, err);
out:
    ssmq_free(forced);
    ssmq_free(argmax);
    ssmq_free(nll);
    return status;
}

static bool is_correct(const batch *b, int64_t s) {
    const ssmq_prompt *prompt = &b->prompts[s];
    return memcmp(b->answers + s * (b->n_steps + 1), prompt->answer.ids,
                  prompt->n_key_ids * sizeof *prompt->answer.ids) == 0;
}

/* Text of one id without the space before a number. */
static ssmq_status spell(const batch *b, int32_t id, ssmq_str *out, const char **text,
                         ssmq_err *err) {
    ssmq_str_clear(out);
    SSMQ_TRY(ssmq_tokenizer_decode(b->run->inputs->tokenizer, &id, 1, out, err));
    *text = ssmq_str_get(out);
    if (**text == ' ') ++*text;
    return SSMQ_OK;
}

static bool is_counted(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
}

/* Digits of the key, or letters of the names, that greedy ids spell at the same position. Ids are
 * compared one by one, because each was said given the right ones before it. */
static ssmq_status count_digits(const batch *b, int64_t s, double *out, ssmq_err *err) {
    enum { MAX_ID_BYTES = 4096 };
    const ssmq_prompt *prompt = &b->prompts[s];
    const int32_t *answer = b->answers + s * (b->n_steps + 1);
    ssmq_str right_str, said_str;
    ssmq_str_init(&right_str, MAX_ID_BYTES);
    ssmq_str_init(&said_str, MAX_ID_BYTES);
    ssmq_status status = SSMQ_OK;
    int n_right = 0;
    for (size_t k = 0; k < prompt->n_key_ids; k++) {
        const char *right = NULL, *said = NULL;
        SSMQ_TRY_OR(spell(b, prompt->answer.ids[k], &right_str, &right, err), out);
        SSMQ_TRY_OR(spell(b, answer[k], &said_str, &said, err), out);
        for (; *right != '\0' && *said != '\0'; right++, said++) {
            if (is_counted(*right) && *right == *said) n_right++;
        }
    }
    *out = n_right;
out:
    ssmq_str_free(&right_str);
    ssmq_str_free(&said_str);
    return status;
}

static double number_of(const char *digits) {
    double value = 0;
    for (; *digits != '\0'; digits++) value = value * 10 + (*digits - '0');
    return value;
}

static ssmq_status collect(const batch *b, outcome *o, ssmq_sha256 *sha, ssmq_err *err) {
    if (b->n_steps > o->n_forced) o->n_forced = b->n_steps;
    for (int64_t s = 0; s < b->B; s++) {
        const int64_t i = b->first + s;
        const ssmq_prompt *prompt = &b->prompts[s];
        if (b->variant != VARIANT_PLAIN) {
            double *control = b->variant == VARIANT_WRONG_KEY ? o->wrong_key : o->control;
            control[i] = is_correct(b, s) ? 1 : 0;
            continue;
        }
        double nll_sum = 0;
        for (size_t k = 0; k < prompt->answer.n; k++) {
            const double nll = b->nll[s * (b->n_steps + 1) + (int64_t)k];
            if (!isfinite(nll)) {
                return SSMQ_FAIL(err, NUMERIC, "prompt %lld: NLL of answer token %zu is not finite",
                                 (long long)i, k);
            }
            nll_sum += nll;
        }
        o->depth[i] = depth_of(b->run, i);
        o->key[i] = number_of(prompt->key);
        o->correct[i] = is_correct(b, s) ? 1 : 0;
        SSMQ_TRY(count_digits(b, s, &o->digits[i], err));
        o->nll[i] = nll_sum / (double)prompt->answer.n;
        o->rank[i] = b->rank[s];
        o->answer_nll_sum += nll_sum;
        o->n_answer_ids += (int64_t)prompt->answer.n;
        o->n_digits += prompt->n_characters;
        ssmq_sha256_add(sha, prompt->prompt.ids, prompt->prompt.n * sizeof *prompt->prompt.ids);
    }
    return SSMQ_OK;
}

static ssmq_status run_prompts(const trial_run *run, variant which, outcome *o, ssmq_sha256 *sha,
                               ssmq_err *err) {
    const ssmq_template *template_ = ssmq_template_find(run->trial->prompt_template);
    SSMQ_CHECK(template_ != NULL && run->inputs->tokenizer != NULL, err);
    trial_trunk trunk = {0};
    ssmq_status status = SSMQ_OK;
    for (int64_t first = 0; first < o->n && status == SSMQ_OK; first += run->trial->batch_size) {
        const int64_t left = o->n - first;
        batch b = {.run = run, .template_ = template_, .variant = which, .first = first};
        b.B = left < run->trial->batch_size ? left : run->trial->batch_size;
        b.n_seen = b.B == 1 && left > 1 ? 2 : b.B;
        status = batch_init(&b, err);
        if (status == SSMQ_OK) status = run_batch(&b, &trunk, err);
        if (status == SSMQ_OK) status = collect(&b, o, sha, err);
        batch_free(&b);
    }
    trial_trunk_free(&trunk);
    return status;
}

static ssmq_status outcome_init(outcome *o, int64_t n, ssmq_err *err) {
    double **const series[] = {&o->depth, &o->key,  &o->correct, &o->digits,
                               &o->nll,   &o->rank, &o->control, &o->wrong_key};
    o->n = n;
    for (size_t i = 0; i < sizeof series / sizeof series[0]; i++) {
        SSMQ_TRY(ssmq_calloc(series[i], (size_t)n, sizeof **series[i], err));
    }
    return SSMQ_OK;
}

static void outcome_free(outcome *o) {
    ssmq_free(o->depth);
    ssmq_free(o->key);
    ssmq_free(o->correct);
    ssmq_free(o->digits);
    ssmq_free(o->nll);
    ssmq_free(o->rank);
    ssmq_free(o->control);
    ssmq_free(o->wrong_key);
}

static double sum_of(const double *values, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += values[i];
    return sum;
}

static ssmq_status report(const outcome *o, const ssmq_config_passkey *passkey, ssmq_record *record,
                          ssmq_samples *samples, ssmq_err *err) {
    const double n = (double)o->n;
    record->n_trials = o->n;
    record->n_correct = (int64_t)sum_of(o->correct, o->n);
    record->accuracy = (double)record->n_correct / n;
    const ssmq_interval interval = ssmq_wilson(record->n_correct, o->n);
    record->accuracy_ci_low = interval.low;
    record->accuracy_ci_high = interval.high;
    record->digit_accuracy = sum_of(o->digits, o->n) / (double)o->n_digits;
    record->answer_nll_mean = o->answer_nll_sum / (double)o->n_answer_ids;
    record->answer_rank_mean = ssmq_mean(o->rank, (size_t)o->n);
    const struct {
        const char *name;
        const double *values;
    } series[] = {
        {"passkey_depth", o->depth},     {"passkey_key", o->key},
        {"passkey_correct", o->correct}, {"passkey_digits", o->digits},
        {"passkey_answer_nll", o->nll},  {"passkey_answer_rank", o->rank},
    };
    for (size_t i = 0; i < sizeof series / sizeof series[0]; i++) {
        SSMQ_TRY(trial_add_series(samples, series[i].name, series[i].values, (size_t)o->n, err));
    }
    if (passkey->control) {
        record->control_accuracy = ssmq_mean(o->control, (size_t)o->n);
        SSMQ_TRY(trial_add_series(samples, "passkey_control", o->control, (size_t)o->n, err));
    }
    if (!passkey->wrong_key) return SSMQ_OK;
    record->wrong_key_accuracy = ssmq_mean(o->wrong_key, (size_t)o->n);
    return trial_add_series(samples, "passkey_wrong_key", o->wrong_key, (size_t)o->n, err);
}

/* Of what the prompts one by one would compute in prefill; NaN from engines that do not count. */
static double reused_share(const trial_run *run, int64_t n_prompts) {
    ssmq_engine_stats stats;
    run->engine->api->take_stats(run->engine, &stats);
    const double alone = (double)run->inputs->model->shape.L * (double)n_prompts *
                         (double)run->trial->context_length;
    const double computed = (double)stats.computed_layer_tokens;
    return computed > 0 ? fmax(1.0 - computed / alone, 0.0) : NAN;
}

ssmq_status trial_run_passkey(const trial_run *run, ssmq_record *record, ssmq_samples *samples,
                              ssmq_err *err) {
    const ssmq_config_passkey *passkey = &run->inputs->config->passkey;
    const int64_t n_prompts = n_prompts_of(run);
    SSMQ_CHECK(n_prompts > 0 && run->trial->batch_size > 0, err);
    const int64_t n_variants = 1 + (passkey->control ? 1 : 0) + (passkey->wrong_key ? 1 : 0);
    outcome o = {0};
    ssmq_engine_stats before;
    ssmq_sha256 sha;
    unsigned char digest[SSMQ_SHA256_BYTES];
    ssmq_sha256_init(&sha);
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY_OR(outcome_init(&o, n_prompts, err), out);
    run->engine->api->take_stats(run->engine, &before);
    SSMQ_TRY_OR(run_prompts(run, VARIANT_PLAIN, &o, &sha, err), out);
    if (passkey->control) SSMQ_TRY_OR(run_prompts(run, VARIANT_NO_NEEDLE, &o, &sha, err), out);
    if (passkey->wrong_key) SSMQ_TRY_OR(run_prompts(run, VARIANT_WRONG_KEY, &o, &sha, err), out);
    record->reused_share = reused_share(run, n_variants * n_prompts);
    SSMQ_TRY_OR(report(&o, passkey, record, samples, err), out);
    record->max_context_tokens = run->trial->context_length + o.n_forced;
    char hex[SSMQ_SHA256_HEX_BYTES];
    ssmq_sha256_end(&sha, digest);
    ssmq_sha256_hex(digest, hex);
    ssmq_field_set(record->prompt_hash, sizeof record->prompt_hash, hex);
out:
    outcome_free(&o);
    return status;
}
