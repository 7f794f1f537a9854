/* SPDX-License-Identifier: Apache-2.0 */
#include "support/copy_engine.h"

#include <string.h>

#include "base/mem.h"

enum { MAX_B = 32, MAX_T = 512 };

typedef struct copy_engine {
    ssmq_engine base;
    int n_loads;
    int64_t V, B, n; /* n tokens of each of B sequences so far */
    int32_t tokens[MAX_B][MAX_T];
} copy_engine;

static int32_t copied(const int32_t *tokens, int64_t n) {
    int64_t best_length = 0, best_at = 0;
    for (int64_t at = 1; at < n; at++) {
        int64_t length = 0;
        while (length < at && tokens[at - 1 - length] == tokens[n - 1 - length]) length++;
        if (length >= best_length) {
            best_length = length;
            best_at = at;
        }
    }
    return tokens[best_at] == COPY_ENGINE_NINE ? COPY_ENGINE_STOP : tokens[best_at];
}

static ssmq_status supports_copy(ssmq_engine *engine, const ssmq_shape *shape,
                                 const ssmq_spec *spec, ssmq_err *err) {
    (void)engine, (void)shape, (void)spec, (void)err;
    return SSMQ_OK;
}

static ssmq_status load_copy(ssmq_engine *engine, const ssmq_model *model, const ssmq_spec *spec,
                             ssmq_err *err) {
    (void)spec, (void)err;
    copy_engine *e = (copy_engine *)engine;
    e->n_loads++;
    e->V = model->shape.V;
    return SSMQ_OK;
}

static ssmq_status reset_copy(ssmq_engine *engine, const ssmq_engine_extent *extent,
                              ssmq_err *err) {
    copy_engine *e = (copy_engine *)engine;
    SSMQ_CHECK(e->n_loads > 0 && extent->n_sequences <= MAX_B, err);
    e->B = extent->n_sequences;
    e->n = 0;
    return SSMQ_OK;
}

static ssmq_status prefill_copy(ssmq_engine *engine, const ssmq_prefill *call, ssmq_err *err) {
    copy_engine *e = (copy_engine *)engine;
    SSMQ_CHECK(e->n == 0 && call->n_tokens <= MAX_T / 2 && call->logits != NULL, err);
    e->n = call->n_tokens;
    for (int64_t b = 0; b < e->B; b++) {
        memcpy(e->tokens[b], call->tokens + b * e->n, (size_t)e->n * sizeof *call->tokens);
        float *logits = call->logits + b * e->V;
        const int32_t next = copied(e->tokens[b], e->n);
        for (int64_t v = 0; v < e->V; v++) logits[v] = 0;
        logits[next] = next == COPY_ENGINE_ONE ? 3 : 4;
        logits[COPY_ENGINE_STOP] = next == COPY_ENGINE_ONE ? 4 : 3;
    }
    return SSMQ_OK;
}

static ssmq_status decode_copy(ssmq_engine *engine, const ssmq_decode *call, ssmq_err *err) {
    copy_engine *e = (copy_engine *)engine;
    SSMQ_CHECK(e->n + call->n_steps <= MAX_T && call->forced != NULL && call->nll != NULL, err);
    for (int64_t b = 0; b < e->B; b++) {
        for (int64_t s = 0; s < call->n_steps; s++) {
            const int64_t i = b * call->n_steps + s;
            e->tokens[b][e->n + s] = s == 0 ? call->first[b] : call->forced[i - 1];
            call->argmax[i] = copied(e->tokens[b], e->n + s + 1);
            call->nll[i] = 0.5f;
        }
    }
    e->n += call->n_steps;
    return SSMQ_OK;
}

static void take_stats_copy(ssmq_engine *engine, ssmq_engine_stats *out) {
    (void)engine;
    memset(out, 0, sizeof *out);
}

static bool alive_copy(ssmq_engine *engine) {
    (void)engine;
    return true;
}

static void close_copy(ssmq_engine *engine) {
    ssmq_free(engine);
}

static void describe_copy(ssmq_engine *engine, ssmq_engine_facts *out) {
    (void)engine;
    memset(out, 0, sizeof *out);
}

/* Tests open it by its own function. */
static const ssmq_engine_api copy_api = {
    .name = "copy",
    .supports = supports_copy,
    .load = load_copy,
    .reset = reset_copy,
    .prefill = prefill_copy,
    .decode = decode_copy,
    .take_stats = take_stats_copy,
    .alive = alive_copy,
    .close = close_copy,
    .describe = describe_copy,
};

ssmq_engine *copy_engine_open(void) {
    copy_engine *e = NULL;
    if (ssmq_calloc(&e, 1, sizeof *e, NULL) != SSMQ_OK) return NULL;
    e->base.api = &copy_api;
    return &e->base;
}

int copy_engine_n_loads(const ssmq_engine *engine) {
    return ((const copy_engine *)engine)->n_loads;
}
