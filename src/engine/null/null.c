/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted engine. Every number is a pure function of the tokens that a sequence has consumed,
 * so it does not depend on batches, segments or earlier calls:
 *     key      = hash of the tokens so far, in order
 *     argmax   = key mod V, its logit 2, all other logits in [0, 1)
 *     nll      = 1 + 4 u with u in [0, 1) from a hash of key and target
 *     state    of every layer: the key in four numbers, then hashes of key, layer and place;
 * written, the key is taken from there
 *
 * Script: comma-separated faults, each KIND[@CONDITION...]; all its conditions must hold.
 *     skip        supports() and load() answer SKIP; takes precision= only
 *     oom         NOMEM          at reset(), or where context conditions say
 *     device      DEVICE, and the engine stays alive                 likewise
 *     poison      DEVICE, and alive() is false from then on          likewise
 *     hang        never returns                                      likewise
 *     kill, segv  raises SIGKILL or SIGSEGV                          likewise
 *     exit        leaves the process with code 1 at once             likewise
 *     nan         prefill() and decode() fail with NUMERIC
 *     inf         they answer infinite NLLs and logits and OK, as a careless engine would
 *     delay:TIME  they take that much longer, e.g. delay:5ms
 * Conditions:
 *     reset=N      the N-th reset of this engine, and the calls until the next
 *     context=N    the call in which a sequence reaches N tokens
 *     context>=N   calls that end at N tokens or more
 *     precision=P  the precision of this name is loaded
 * Example: "oom@context>=8192@precision=fp32,delay:2ms,poison@reset=7". */
#include "engine/null/null.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/null/script.h"

/* A key as numbers of a state. */
enum { KEY_PARTS = 4, KEY_PART_BITS = 16, KEY_PART_MASK = 0xffff };

typedef struct null_engine {
    ssmq_engine base;
    null_script script;
    ssmq_shape shape;
    ssmq_spec spec;
    bool is_loaded;
    bool is_lost;
    bool is_infinite; /* the call under way answers infinities */
    int64_t n_resets;
    ssmq_engine_extent extent; /* n_sequences 0: not reset */
    int64_t n_context;         /* tokens each sequence has consumed */
    uint64_t *keys;            /* [B] */
    int64_t last_call_ns;
} null_engine;

static uint64_t mix(uint64_t key, uint64_t value) {
    /* The finalizer of SplitMix64; odd multiples keep zero from being a fixed point. */
    uint64_t z = key * 0x9e3779b97f4a7c15u + value + 0x632be59bd9b4e019u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static float unit_of(uint64_t hash) {
    return (float)(hash >> 40) * 0x1p-24f;
}

static float nll_of(const null_engine *e, uint64_t key, int32_t target) {
    if (e->is_infinite) return INFINITY;
    return 1.0f + 4.0f * unit_of(mix(key, (uint64_t)target));
}

static int32_t argmax_of(const null_engine *e, uint64_t key) {
    return (int32_t)(key % (uint64_t)e->shape.V);
}

static void logits_of(const null_engine *e, uint64_t key, float *logits) {
    for (int64_t v = 0; v < e->shape.V; v++) {
        logits[v] = e->is_infinite ? INFINITY : unit_of(mix(~key, (uint64_t)v));
    }
    if (!e->is_infinite) logits[argmax_of(e, key)] = 2.0f;
}

static ssmq_status strike(null_engine *e, const null_fault *fault, const null_moment *moment,
                          ssmq_err *err) {
    switch (fault->kind) {
    case NULL_FAULT_SKIP:
        return SSMQ_FAIL(err, SKIP, "null script: precision %s is skipped", moment->precision);
    case NULL_FAULT_OOM:
        return SSMQ_FAIL(err, NOMEM, "null script: out of memory at %lld tokens",
                         (long long)moment->context_after);
    case NULL_FAULT_NAN:
        return SSMQ_FAIL(err, NUMERIC, "null script: NaN in layer 0 at token %lld",
                         (long long)moment->context_after);
    case NULL_FAULT_INF:
        e->is_infinite = true;
        return SSMQ_OK;
    case NULL_FAULT_DEVICE:
        return SSMQ_FAIL(err, DEVICE, "null script: device error");
    case NULL_FAULT_POISON:
        e->is_lost = true;
        return SSMQ_FAIL(err, DEVICE, "null script: device lost");
    case NULL_FAULT_DELAY:
        ssmq_sleep_ns(fault->delay_ns);
        return SSMQ_OK;
    case NULL_FAULT_HANG:
        for (;;) ssmq_sleep_ns(1000000000);
    case NULL_FAULT_KILL:
        (void)raise(SIGKILL);
        return SSMQ_OK;
    case NULL_FAULT_SEGV:
        (void)raise(SIGSEGV);
        return SSMQ_OK;
    case NULL_FAULT_EXIT:
        _exit(1);
    case NULL_N_FAULTS:
        break;
    }
    return SSMQ_FAIL(err, INTERNAL, "null script: unknown fault");
}

static ssmq_status check_lost(const null_engine *e, ssmq_err *err) {
    if (e->is_lost) return SSMQ_FAIL(err, DEVICE, "null script: the device was lost earlier");
    return SSMQ_OK;
}

static ssmq_status play(null_engine *e, null_site site, const ssmq_spec *spec, int64_t n_tokens,
                        ssmq_err *err) {
    SSMQ_TRY(check_lost(e, err));
    const null_moment moment = {
        .site = site,
        .n_resets = e->n_resets,
        .context_before = e->n_context,
        .context_after = e->n_context + n_tokens,
        .precision = spec->precision.name,
    };
    e->is_infinite = false;
    for (size_t i = 0; i < e->script.n_faults; i++) {
        const null_fault *fault = &e->script.faults[i];
        if (null_fault_strikes(fault, &moment)) SSMQ_TRY(strike(e, fault, &moment, err));
    }
    return SSMQ_OK;
}

static void close_null(ssmq_engine *engine) {
    if (engine == NULL) return;
    null_engine *e = (null_engine *)engine;
    ssmq_free(e->keys);
    ssmq_free(e);
}

static ssmq_status open_null(ssmq_engine **out, const ssmq_engine_options *options, ssmq_err *err) {
    *out = NULL;
    null_engine *e = NULL;
    SSMQ_TRY(ssmq_calloc(&e, 1, sizeof *e, err));
    e->base.api = &ssmq_engine_null;
    ssmq_status status = null_script_parse(&e->script, options->script, err);
    if (status != SSMQ_OK) {
        close_null(&e->base);
        return status;
    }
    *out = &e->base;
    return SSMQ_OK;
}

static ssmq_status supports_null(ssmq_engine *engine, const ssmq_shape *shape,
                                 const ssmq_spec *spec, ssmq_err *err) {
    (void)shape;
    return play((null_engine *)engine, NULL_AT_SUPPORTS, spec, 0, err);
}

static ssmq_status load_null(ssmq_engine *engine, const ssmq_model *model, const ssmq_spec *spec,
                             ssmq_err *err) {
    null_engine *e = (null_engine *)engine;
    e->is_loaded = false;
    e->extent.n_sequences = 0;
    e->n_context = 0;
    SSMQ_TRY(play(e, NULL_AT_SUPPORTS, spec, 0, err));
    e->shape = model->shape;
    e->spec = *spec;
    e->is_loaded = true;
    return SSMQ_OK;
}

static ssmq_status reset_null(ssmq_engine *engine, const ssmq_engine_extent *extent,
                              ssmq_err *err) {
    null_engine *e = (null_engine *)engine;
    SSMQ_CHECK(e->is_loaded && extent->n_sequences >= 1 && extent->max_segment_tokens >= 1, err);
    SSMQ_CHECK(!extent->is_forked, err);
    e->n_resets++;
    e->n_context = 0;
    e->extent.n_sequences = 0;
    SSMQ_TRY(play(e, NULL_AT_RESET, &e->spec, 0, err));
    ssmq_free(e->keys);
    e->keys = NULL;
    SSMQ_TRY(ssmq_calloc(&e->keys, (size_t)extent->n_sequences, sizeof *e->keys, err));
    e->extent = *extent;
    return SSMQ_OK;
}

static ssmq_status check_ids(const null_engine *e, const int32_t *ids, int64_t n, bool may_be_none,
                             ssmq_err *err) {
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] >= e->shape.V || ids[i] < (may_be_none ? -1 : 0)) {
            return SSMQ_FAIL(err, CONFIG, "token id %d is outside [0, %lld)", ids[i],
                             (long long)e->shape.V);
        }
    }
    return SSMQ_OK;
}

static ssmq_status prefill_null(ssmq_engine *engine, const ssmq_prefill *call, ssmq_err *err) {
    null_engine *e = (null_engine *)engine;
    const int64_t B = e->extent.n_sequences, T = call->n_tokens;
    const int64_t start_ns = ssmq_now_ns();
    SSMQ_TRY(check_lost(e, err));
    SSMQ_CHECK(B >= 1 && T >= 1 && (call->targets == NULL) == (call->nll == NULL), err);
    SSMQ_CHECK(call->all_logits == NULL || call->targets != NULL, err);
    SSMQ_TRY(check_ids(e, call->tokens, B * T, false, err));
    if (call->targets != NULL) SSMQ_TRY(check_ids(e, call->targets, B * T, true, err));
    SSMQ_TRY(play(e, NULL_AT_CALL, &e->spec, T, err));
    for (int64_t b = 0; b < B; b++) {
        for (int64_t i = b * T; i < (b + 1) * T; i++) {
            e->keys[b] = mix(e->keys[b], (uint64_t)call->tokens[i]);
            if (call->targets == NULL) continue;
            call->nll[i] = call->targets[i] < 0 ? 0.0f : nll_of(e, e->keys[b], call->targets[i]);
            if (call->all_logits == NULL || call->targets[i] < 0) continue;
            logits_of(e, e->keys[b], call->all_logits + i * e->shape.V);
        }
        if (call->logits != NULL) logits_of(e, e->keys[b], call->logits + b * e->shape.V);
    }
    e->n_context += T;
    e->last_call_ns = ssmq_now_ns() - start_ns;
    return SSMQ_OK;
}

/* One token of sequence b: feeds it, and answers what follows. */
static void step(null_engine *e, const ssmq_decode *call, int64_t b, int64_t s) {
    const int64_t i = b * call->n_steps + s;
    int32_t token = call->first[b];
    if (s > 0) token = call->forced != NULL ? call->forced[i - 1] : call->argmax[i - 1];
    e->keys[b] = mix(e->keys[b], (uint64_t)token);
    call->argmax[i] = argmax_of(e, e->keys[b]);
    if (call->nll != NULL) call->nll[i] = nll_of(e, e->keys[b], call->forced[i]);
    if (call->logits != NULL && s == call->n_steps - 1) {
        logits_of(e, e->keys[b], call->logits + b * e->shape.V);
    }
}

static ssmq_status decode_null(ssmq_engine *engine, const ssmq_decode *call, ssmq_err *err) {
    null_engine *e = (null_engine *)engine;
    const int64_t B = e->extent.n_sequences;
    const int64_t start_ns = ssmq_now_ns();
    SSMQ_TRY(check_lost(e, err));
    SSMQ_CHECK(B >= 1 && call->n_steps >= 1 && (call->nll == NULL || call->forced != NULL), err);
    SSMQ_TRY(check_ids(e, call->first, B, false, err));
    if (call->forced != NULL) SSMQ_TRY(check_ids(e, call->forced, B * call->n_steps, false, err));
    SSMQ_TRY(play(e, NULL_AT_CALL, &e->spec, call->n_steps, err));
    for (int64_t s = 0; s < call->n_steps; s++) {
        const int64_t step_start_ns = ssmq_now_ns();
        for (int64_t b = 0; b < B; b++) step(e, call, b, s);
        if (call->step_ns != NULL) call->step_ns[s] = ssmq_now_ns() - step_start_ns;
    }
    e->n_context += call->n_steps;
    e->last_call_ns = ssmq_now_ns() - start_ns;
    return SSMQ_OK;
}

/* The key of sequence b as the first numbers of its state, and numbers from a hash after them. */
static ssmq_status read_state_null(ssmq_engine *engine, int64_t layer_idx, float *ssm, float *conv,
                                   ssmq_err *err) {
    const null_engine *e = (const null_engine *)engine;
    const ssmq_shape *s = &e->shape;
    const int64_t n_ssm = s->H * s->P * s->N, n_conv = (s->K - 1) * s->conv_dim;
    SSMQ_TRY(check_lost(e, err));
    SSMQ_CHECK(e->extent.n_sequences >= 1 && layer_idx >= 0 && layer_idx < s->L, err);
    SSMQ_CHECK(n_ssm >= KEY_PARTS, err);
    for (int64_t b = 0; b < e->extent.n_sequences; b++) {
        const uint64_t key = mix(e->keys[b], (uint64_t)layer_idx);
        for (int64_t i = 0; i < n_ssm; i++) ssm[b * n_ssm + i] = unit_of(mix(key, (uint64_t)i));
        for (int64_t i = 0; i < n_conv; i++) conv[b * n_conv + i] = unit_of(mix(~key, (uint64_t)i));
        for (int i = 0; i < KEY_PARTS; i++) {
            ssm[b * n_ssm + i] = (float)(e->keys[b] >> i * KEY_PART_BITS & KEY_PART_MASK);
        }
    }
    return SSMQ_OK;
}

static ssmq_status write_state_null(ssmq_engine *engine, int64_t layer_idx, int64_t position,
                                    const float *ssm, const float *conv, ssmq_err *err) {
    null_engine *e = (null_engine *)engine;
    const ssmq_shape *s = &e->shape;
    const int64_t n_ssm = s->H * s->P * s->N;
    (void)conv;
    SSMQ_TRY(check_lost(e, err));
    SSMQ_CHECK(e->extent.n_sequences >= 1 && layer_idx >= 0 && layer_idx < s->L, err);
    SSMQ_CHECK(n_ssm >= KEY_PARTS, err);
    e->n_context = position;
    for (int64_t b = 0; b < e->extent.n_sequences; b++) {
        e->keys[b] = 0;
        for (int i = 0; i < KEY_PARTS; i++) {
            const float part = ssm[b * n_ssm + i];
            SSMQ_CHECK(part >= 0.0f && part <= (float)KEY_PART_MASK, err);
            e->keys[b] |= (uint64_t)part << i * KEY_PART_BITS;
        }
    }
    return SSMQ_OK;
}

/* What a real engine would at least hold; nothing is allocated for it. */
static void take_stats_null(ssmq_engine *engine, ssmq_engine_stats *out) {
    const null_engine *e = (const null_engine *)engine;
    const ssmq_shape *shape = &e->shape;
    const int64_t B = e->extent.n_sequences, f32_bytes = (int64_t)sizeof(float);
    memset(out, 0, sizeof *out);
    out->sm_clock_mhz = -1;
    out->memory_clock_mhz = -1;
    out->temperature_c = -1;
    out->throttle_reasons = -1;
    out->last_call_ns = e->last_call_ns;
    if (!e->is_loaded) return;
    out->weight_bytes = ssmq_spec_weight_bytes(&e->spec, shape);
    out->state_bytes = B * shape->L * f32_bytes *
                       (shape->H * shape->P * shape->N + shape->conv_dim * (shape->K - 1));
    out->activation_bytes = B > 0 ? B * e->extent.max_segment_tokens * shape->R * f32_bytes : 0;
    out->peak_bytes = out->weight_bytes + out->state_bytes + out->activation_bytes;
}

static bool alive_null(ssmq_engine *engine) {
    return !((const null_engine *)engine)->is_lost;
}

static void describe_null(ssmq_engine *engine, ssmq_engine_facts *out) {
    (void)engine;
    memset(out, 0, sizeof *out);
    ssmq_field_set(out->device, sizeof out->device, "null");
    ssmq_field_set(out->quant_backend, sizeof out->quant_backend, "null: a hash");
    ssmq_field_set(out->compute_type, sizeof out->compute_type, "none");
    ssmq_field_set(out->timer, sizeof out->timer, "host clock");
    ssmq_field_set(out->memory_source, sizeof out->memory_source, "formula");
    out->n_threads = 1;
}

const ssmq_engine_api ssmq_engine_null = {
    .name = "null",
    .open = open_null,
    .supports = supports_null,
    .load = load_null,
    .reset = reset_null,
    .prefill = prefill_null,
    .decode = decode_null,
    .read_state = read_state_null,
    .write_state = write_state_null,
    .take_stats = take_stats_null,
    .alive = alive_null,
    .close = close_null,
    .describe = describe_null,
};
