/* SPDX-License-Identifier: Apache-2.0 */
/* A layer's state out of an engine and into one: what is written is read, and an engine that is
 * given another's state goes on with the other's bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "support/tested_engine.h"

enum { CHUNK = 128, B = 3, AFTER = CHUNK + 9, DECODE = 6, MOST = 3 * CHUNK };

/* State of all layers. */
typedef struct kept {
    int64_t L, n_ssm, n_conv; /* numbers of a layer */
    float *ssm, *conv;
} kept;

static kept kept_new(const ssmq_shape *s) {
    kept k = {.L = s->L, .n_ssm = B * s->H * s->P * s->N, .n_conv = B * (s->K - 1) * s->conv_dim};
    assert_int_equal(ssmq_calloc(&k.ssm, (size_t)(k.L * k.n_ssm), sizeof *k.ssm, NULL), SSMQ_OK);
    assert_int_equal(ssmq_calloc(&k.conv, (size_t)(k.L * k.n_conv), sizeof *k.conv, NULL), SSMQ_OK);
    return k;
}

static void kept_free(kept *k) {
    ssmq_free(k->ssm);
    ssmq_free(k->conv);
}

static void read_all(ssmq_engine *engine, kept *k) {
    ssmq_err err = {0};
    for (int64_t i = 0; i < k->L; i++) {
        assert_ok(engine->api->read_state(engine, i, k->ssm + i * k->n_ssm, k->conv + i * k->n_conv,
                                          &err),
                  &err);
    }
}

static void write_all(ssmq_engine *engine, const kept *k, int64_t position) {
    ssmq_err err = {0};
    for (int64_t i = 0; i < k->L; i++) {
        assert_ok(engine->api->write_state(engine, i, position, k->ssm + i * k->n_ssm,
                                           k->conv + i * k->n_conv, &err),
                  &err);
    }
}

static void assert_same_kept(const kept *a, const kept *b, const char *what) {
    assert_same_bits(a->ssm, b->ssm, a->L * a->n_ssm, what);
    assert_same_bits(a->conv, b->conv, a->L * a->n_conv, what);
}

static void reset(ssmq_engine *engine) {
    const ssmq_engine_extent extent = {.n_sequences = B, .max_segment_tokens = MOST};
    ssmq_err err = {0};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
}

/* The first T * B of ids as [B, T]; logits [B, V] after them, or NULL. */
static void feed(ssmq_engine *engine, const int32_t *ids, int64_t T, float *logits) {
    const ssmq_prefill call = {.tokens = ids, .n_tokens = T, .logits = logits};
    ssmq_err err = {0};
    assert_ok(engine->api->prefill(engine, &call, &err), &err);
}

/* Numbers about 1 and, as fp32 has more of them than 16 bits, of all lengths. */
static void draw(float *out, int64_t n, uint64_t seed) {
    ssmq_rng rng = ssmq_rng_from_seed(seed);
    for (int64_t i = 0; i < n; i++) out[i] = (float)ssmq_rng_normal(&rng);
}

static void round_all(float *x, int64_t n, ssmq_dtype dtype) {
    for (int64_t i = 0; i < n; i++) x[i] = ssmq_round_to(x[i], dtype);
}

/* At every place of the ring. */
static void written_is_read(void **state) {
    const engine_case *c = *state;
    const ssmq_dtype dtype = cpu_fixture_spec(c->model, c->precision, "all").precision.dtype;
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    int32_t *ids = cpu_fixture_ids(B * 16, c->model->shape.V, 1);
    kept fresh = kept_new(&c->model->shape), in = kept_new(&c->model->shape);
    kept out = kept_new(&c->model->shape);
    for (int64_t T = 0; T < 7; T++) {
        char what[64];
        (void)snprintf(what, sizeof what, "written after %lld tokens", (long long)T);
        reset(engine);
        if (T == 0) {
            draw(out.ssm, out.L * out.n_ssm, 9);
            read_all(engine, &out);
            assert_same_kept(&fresh, &out, "fresh");
        } else {
            feed(engine, ids, T, NULL);
        }
        draw(in.ssm, in.L * in.n_ssm, 2 + (uint64_t)T);
        draw(in.conv, in.L * in.n_conv, 12 + (uint64_t)T);
        write_all(engine, &in, T);
        read_all(engine, &out);
        round_all(in.conv, in.L * in.n_conv, dtype);
        assert_same_kept(&in, &out, what);
        write_all(engine, &out, 3 * T + 1);
        read_all(engine, &in);
        assert_same_kept(&out, &in, "written again");
    }
    kept_free(&fresh);
    kept_free(&in);
    kept_free(&out);
    ssmq_free(ids);
    engine->api->close(engine);
}

/* One layer is written, and no other changes. */
static void layers_are_apart(void **state) {
    const engine_case *c = *state;
    const ssmq_shape *s = &c->model->shape;
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    int32_t *ids = cpu_fixture_ids(B * 16, s->V, 3);
    kept before = kept_new(s), after = kept_new(s);
    ssmq_err err = {0};
    reset(engine);
    feed(engine, ids, 16, NULL);
    read_all(engine, &before);
    memset(before.ssm + before.n_ssm, 0, (size_t)before.n_ssm * sizeof *before.ssm);
    memset(before.conv + before.n_conv, 0, (size_t)before.n_conv * sizeof *before.conv);
    assert_ok(engine->api->write_state(engine, 1, 16, before.ssm + before.n_ssm,
                                       before.conv + before.n_conv, &err),
              &err);
    read_all(engine, &after);
    assert_same_kept(&before, &after, "layer 1 cleared");
    kept_free(&before);
    kept_free(&after);
    ssmq_free(ids);
    engine->api->close(engine);
}

/* The inputs of all tokens but the last stay, one place further to the front. */
static void oldest_first(void **state) {
    const engine_case *c = *state;
    const ssmq_shape *s = &c->model->shape;
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    kept before = kept_new(s), after = kept_new(s);
    const int64_t n_rows = s->K - 1;
    reset(engine);
    for (int i = 0; i < 6; i++) {
        int32_t *ids = cpu_fixture_ids(B, s->V, 20 + (uint64_t)i);
        read_all(engine, &before);
        feed(engine, ids, 1, NULL);
        read_all(engine, &after);
        for (int64_t row = 0; row < s->L * B; row++) {
            const int64_t at = row * n_rows * s->conv_dim;
            assert_same_bits(after.conv + at, before.conv + at + s->conv_dim,
                             (n_rows - 1) * s->conv_dim, "inputs before the last");
            assert_true(after.conv[at + (n_rows - 1) * s->conv_dim] != 0.0f);
        }
        ssmq_free(ids);
    }
    kept_free(&before);
    kept_free(&after);
    engine->api->close(engine);
}

/* Logits after AFTER tokens more, then what decode makes of DECODE tokens. */
static void go_on(ssmq_engine *engine, const int32_t *ids, float *logits, int32_t *argmax) {
    ssmq_err err = {0};
    feed(engine, ids, AFTER, logits);
    const ssmq_decode call = {.first = ids, .n_steps = DECODE, .argmax = argmax};
    assert_ok(engine->api->decode(engine, &call, &err), &err);
}

static void goes_on_elsewhere(void **state) {
    static const int64_t lengths[] = {1, 2, 3, 4, CHUNK, 2 * CHUNK + 5};
    const engine_case *c = *state;
    const ssmq_shape *s = &c->model->shape;
    ssmq_engine *from = tested_engine_load(c->model, c->precision);
    ssmq_engine *to = tested_engine_load(c->model, c->precision);
    int32_t *ids = cpu_fixture_ids(B * MOST, s->V, 4), *more = cpu_fixture_ids(B * MOST, s->V, 5);
    float *logits[2];
    int32_t argmax[2][B * DECODE];
    kept k = kept_new(s), ends[2] = {kept_new(s), kept_new(s)};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ssmq_calloc(&logits[i], (size_t)(B * s->V), sizeof *logits[i], NULL),
                         SSMQ_OK);
    }
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char what[64];
        (void)snprintf(what, sizeof what, "on from %lld tokens", (long long)lengths[i]);
        reset(from);
        feed(from, ids, lengths[i], NULL);
        read_all(from, &k);
        go_on(from, more, logits[0], argmax[0]);
        read_all(from, &ends[0]);
        /* Into a fresh engine, and into one that is somewhere else. */
        for (int64_t elsewhere = 0; elsewhere <= 6; elsewhere += 6) {
            reset(to);
            if (elsewhere > 0) feed(to, more, elsewhere, NULL);
            write_all(to, &k, lengths[i]);
            go_on(to, more, logits[1], argmax[1]);
            read_all(to, &ends[1]);
            assert_same_bits(logits[0], logits[1], B * s->V, what);
            assert_memory_equal(argmax[0], argmax[1], sizeof argmax[0]);
            assert_same_kept(&ends[0], &ends[1], what);
        }
    }
    for (int i = 0; i < 2; i++) {
        ssmq_free(logits[i]);
        kept_free(&ends[i]);
    }
    kept_free(&k);
    ssmq_free(ids);
    ssmq_free(more);
    from->api->close(from);
    to->api->close(to);
}

static void refusals(void **state) {
    (void)state;
    ssmq_model *model = cpu_fixture_model(&tested_engine_shapes[0]);
    ssmq_engine *engine = tested_engine_load(model, "fp32");
    const ssmq_engine_api *api = engine->api;
    kept k = kept_new(&model->shape);
    ssmq_err err = {0};
    assert_int_equal(api->read_state(engine, 0, k.ssm, k.conv, &err), SSMQ_INTERNAL);
    assert_int_equal(api->write_state(engine, 0, 0, k.ssm, k.conv, &err), SSMQ_INTERNAL);
    reset(engine);
    assert_int_equal(api->read_state(engine, -1, k.ssm, k.conv, &err), SSMQ_INTERNAL);
    assert_int_equal(api->read_state(engine, model->shape.L, k.ssm, k.conv, &err), SSMQ_INTERNAL);
    assert_int_equal(api->write_state(engine, model->shape.L, 0, k.ssm, k.conv, &err),
                     SSMQ_INTERNAL);
    assert_int_equal(api->read_state(engine, 1, k.ssm, k.conv, &err), SSMQ_OK);
    kept_free(&k);
    engine->api->close(engine);
    ssmq_model_close(model);
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"written is read", written_is_read, false},
        {"layers are apart", layers_are_apart, false},
        {"oldest first", oldest_first, false},
        {"goes on elsewhere", goes_on_elsewhere, false},
        {"refusals", refusals, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_state", checks, sizeof checks / sizeof checks[0],
                             tested_engine_shapes, TESTED_ENGINE_SHAPES);
}
