/* SPDX-License-Identifier: Apache-2.0 */
/* quant/state_round and the CPU engine's stored state: to nearest against other code,
 * stochastically against the definition (one of two neighbours, right in the mean, the same again),
 * and what the engine keeps against the state of an engine that rounds nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "quant/e4m3.h"
#include "quant/state_round.h"
#include "support/cpu_fixture.h"

typedef struct state_type {
    const char *name;
    ssmq_dtype dtype;
    ssmq_format format;
} state_type;

static const state_type types[] = {{"fp16", SSMQ_F16, SSMQ_FORMAT_FLOAT},
                                   {"bf16", SSMQ_BF16, SSMQ_FORMAT_FLOAT},
                                   {"int8", SSMQ_F32, SSMQ_FORMAT_INT8},
                                   {"int4", SSMQ_F32, SSMQ_FORMAT_INT4},
                                   {"fp8_e4m3", SSMQ_F32, SSMQ_FORMAT_FP8_E4M3}};
enum { N_TYPES = sizeof types / sizeof types[0], N = 64 };

static ssmq_precision precision_of(const state_type *type, bool is_stochastic) {
    ssmq_precision p;
    assert_int_equal(ssmq_precision_parse(&p, "fp32", NULL), SSMQ_OK);
    p.state_dtype = type->dtype;
    p.state_format = type->format;
    p.state_is_stochastic = is_stochastic;
    return p;
}

/* Of all magnitudes that a state's row has, a zero among them. */
static void draw(float *row, uint64_t seed) {
    ssmq_rng rng = ssmq_rng_from_seed(seed);
    for (int i = 0; i < N; i++) row[i] = (float)(ssmq_rng_normal(&rng) * exp2(-(i % 14)));
    row[5] = 0.0f;
}

/* Every number of the type with this scale, up to ties: by search among all there are. */
static float nearest_of_all(const state_type *type, float x, float scale) {
    float best = 0.0f, distance = INFINITY;
    if (type->format == SSMQ_FORMAT_FP8_E4M3) {
        for (int code = 0; code < 256; code++) {
            const float value = ssmq_e4m3_decode((uint8_t)code);
            if (!(fabsf(x / scale - value) < distance)) continue;
            distance = fabsf(x / scale - value);
            best = value;
        }
        return best * scale;
    }
    const int qmax = type->format == SSMQ_FORMAT_INT8 ? 127 : 7;
    for (int value = -qmax; value <= qmax; value++) {
        if (!(fabsf(x / scale - (float)value) < distance)) continue;
        distance = fabsf(x / scale - (float)value);
        best = (float)value;
    }
    return best * scale;
}

static float scale_of(const state_type *type, const float *row) {
    float absmax = 0.0f;
    for (int i = 0; i < N; i++) absmax = fmaxf(absmax, fabsf(row[i]));
    if (type->format == SSMQ_FORMAT_INT8) return absmax / 127.0f;
    return absmax / (type->format == SSMQ_FORMAT_INT4 ? 7.0f : 448.0f);
}

static void nearest_is_nearest(void **state) {
    (void)state;
    const ssmq_state_place place = {0};
    for (size_t k = 0; k < N_TYPES; k++) {
        const ssmq_precision p = precision_of(&types[k], false);
        float row[N], rounded[N];
        draw(row, 3 + k);
        memcpy(rounded, row, sizeof row);
        ssmq_state_round(&p, &place, rounded, N);
        for (int i = 0; i < N; i++) {
            const float expected =
                types[k].format == SSMQ_FORMAT_FLOAT
                    ? ssmq_round_to(row[i], types[k].dtype)
                    : nearest_of_all(&types[k], row[i], scale_of(&types[k], row));
            if (rounded[i] != expected) {
                fail_msg("%s: %.9g becomes %.9g, not %.9g", types[k].name, (double)row[i],
                         (double)rounded[i], (double)expected);
            }
        }
    }
}

/* The largest number of the type that is not above x, and the least that is not below, by stepping
 * off the nearest. */
static void neighbours_of(const state_type *type, float x, float scale, float ends[2]) {
    const float nearest = type->format == SSMQ_FORMAT_FLOAT ? ssmq_round_to(x, type->dtype)
                                                            : nearest_of_all(type, x, scale);
    float step = scale;
    if (type->format == SSMQ_FORMAT_FLOAT || type->format == SSMQ_FORMAT_FP8_E4M3) {
        /* A full spacing at x is at most |x| / 2^mantissa, or that of subnormals. */
        const int bits = type->format != SSMQ_FORMAT_FLOAT ? 3 : (type->dtype == SSMQ_F16 ? 10 : 7);
        const int least = bits == 3 ? -9 : (bits == 10 ? -24 : -133);
        step = fmaxf(ldexpf(fabsf(x), -bits), ldexpf(scale, least));
    }
    ends[0] = nearest <= x ? nearest : nearest - step;
    ends[1] = nearest >= x ? nearest : nearest + step;
}

static void stochastic_is_right_in_the_mean(void **state) {
    (void)state;
    enum { DRAWS = 4000 };
    for (size_t k = 0; k < N_TYPES; k++) {
        const ssmq_precision p = precision_of(&types[k], true);
        float row[N], rounded[N] = {0}, again[N];
        double sums[N] = {0};
        bool has_changed = false;
        draw(row, 30 + k);
        const float scale = types[k].format == SSMQ_FORMAT_FLOAT ? 1.0f : scale_of(&types[k], row);
        for (int64_t t = 0; t < DRAWS; t++) {
            const ssmq_state_place place = {.layer = 1, .token = t, .row = 7};
            memcpy(again, rounded, sizeof again);
            memcpy(rounded, row, sizeof row);
            ssmq_state_round(&p, &place, rounded, N);
            for (int i = 0; t > 0 && i < N; i++) has_changed |= again[i] != rounded[i];
            for (int i = 0; i < N; i++) {
                float ends[2];
                neighbours_of(&types[k], row[i], scale, ends);
                const double slack = 1e-6 * fabs((double)row[i]);
                if ((double)rounded[i] < (double)ends[0] - slack ||
                    (double)rounded[i] > (double)ends[1] + slack) {
                    fail_msg("%s: %.9g becomes %.9g, which is not from %.9g to %.9g", types[k].name,
                             (double)row[i], (double)rounded[i], (double)ends[0], (double)ends[1]);
                }
                sums[i] += (double)rounded[i] - (double)row[i];
            }
        }
        assert_true(has_changed);
        for (int i = 0; i < N; i++) {
            float ends[2];
            neighbours_of(&types[k], row[i], scale, ends);
            const double below = (double)row[i] - (double)ends[0];
            const double above = (double)ends[1] - (double)row[i];
            const double sem = sqrt(fmax(0.0, below * above) / DRAWS);
            if (!(fabs(sums[i] / DRAWS) <= 5.0 * sem + 1e-6 * fabs((double)row[i]))) {
                fail_msg("%s: %.9g is wrong by %.3g in the mean of %d; allowed is 5 x %.3g",
                         types[k].name, (double)row[i], sums[i] / DRAWS, DRAWS, sem);
            }
        }
        const ssmq_state_place last = {.layer = 1, .token = DRAWS - 1, .row = 7};
        memcpy(again, row, sizeof row);
        ssmq_state_round(&p, &last, again, N);
        assert_memory_equal(again, rounded, sizeof again);
    }
}

static void edges(void **state) {
    (void)state;
    const ssmq_state_place place = {.layer = 2, .token = 3, .row = 4};
    for (size_t k = 0; k < N_TYPES; k++) {
        for (int is_stochastic = 0; is_stochastic < 2; is_stochastic++) {
            const ssmq_precision p = precision_of(&types[k], is_stochastic != 0);
            float zeros[3] = {0}, exact[3] = {1.0f, -1.0f, 0.0f}, bad[3] = {NAN, 1.0f, -2.0f};
            ssmq_state_round(&p, &place, zeros, 3);
            assert_true(zeros[0] == 0.0f && zeros[1] == 0.0f && zeros[2] == 0.0f);
            ssmq_state_round(&p, &place, exact, 3);
            assert_true(fabsf(exact[0] - 1.0f) < 1e-6f && exact[1] == -exact[0]);
            ssmq_state_round(&p, &place, bad, 3);
            assert_true(isnan(bad[0]));
        }
    }
    const state_type fp16 = types[0], plain = {"fp32", SSMQ_F32, SSMQ_FORMAT_FLOAT};
    const ssmq_precision nearest = precision_of(&fp16, false), drawn = precision_of(&fp16, true);
    const ssmq_precision none = precision_of(&plain, true);
    float large[2] = {1e6f, -1e6f}, kept[1] = {0.1f};
    ssmq_state_round(&drawn, &place, large, 2);
    assert_true(large[0] == 65504.0f && large[1] == -65504.0f);
    large[0] = 1e6f;
    ssmq_state_round(&nearest, &place, large, 1);
    assert_true(isinf(large[0]));
    ssmq_state_round(&none, &place, kept, 1);
    assert_true(kept[0] == 0.1f);
}

enum { SEQUENCES = 2, LAYERS = 2, HEADS = 8, CHANNELS = 8, STATES = 16 };
enum { NUMBERS = SEQUENCES * HEADS * CHANNELS * STATES, CONV = SEQUENCES * 3 * 96 };

typedef struct kept {
    float ssm[LAYERS][NUMBERS], conv[LAYERS][CONV];
} kept;

static void read_all(ssmq_engine *engine, kept *k) {
    for (int64_t i = 0; i < LAYERS; i++) {
        assert_int_equal(engine->api->read_state(engine, i, k->ssm[i], k->conv[i], NULL), SSMQ_OK);
    }
}

/* One prefill from nothing, then one decode step from the same state in both engines: outputs come
 * from the state before it is rounded, so all layers differ by the rounding alone. */
static void engine_stores_the_rounded_state(void **state) {
    (void)state;
    enum { T = 70 };
    static kept plain, stored;
    const struct checkpoint_options shape = {
        .d = 32, .P = CHANNELS, .N = STATES, .V = 50, .L = LAYERS};
    const ssmq_engine_extent extent = {.n_sequences = SEQUENCES, .max_segment_tokens = T};
    ssmq_model *model = cpu_fixture_model(&shape);
    assert_int_equal(model->shape.conv_dim, 96);
    int32_t *ids = cpu_fixture_ids(SEQUENCES * T, 50, 6), argmax[SEQUENCES];
    ssmq_engine *a = cpu_fixture_engine(model, "fp32", "none", 2);
    for (size_t k = 0; k < (size_t)2 * N_TYPES; k++) {
        ssmq_engine *b = cpu_fixture_engine(model, "fp32", "none", 2);
        ssmq_spec spec = cpu_fixture_spec(model, "fp32", "none");
        ssmq_err err = {0};
        spec.precision = precision_of(&types[k / 2], k % 2 != 0);
        assert_ok(b->api->load(b, model, &spec, &err), &err);
        for (int64_t token = T; token <= T + 1; token++) {
            ssmq_engine *const engines[] = {a, b};
            for (int i = 0; i < 2; i++) {
                const ssmq_prefill prefill = {.tokens = ids, .n_tokens = T};
                const ssmq_decode decode = {.first = ids, .n_steps = 1, .argmax = argmax};
                ssmq_engine *e = engines[i];
                if (token == T) {
                    assert_ok(e->api->reset(e, &extent, &err), &err);
                    assert_ok(e->api->prefill(e, &prefill, &err), &err);
                } else {
                    assert_ok(e->api->decode(e, &decode, &err), &err);
                }
            }
            read_all(a, &plain);
            read_all(b, &stored);
            assert_memory_equal(plain.conv, stored.conv, sizeof plain.conv);
            assert_memory_not_equal(plain.ssm, stored.ssm, sizeof plain.ssm);
            for (int i = 0; i < LAYERS * NUMBERS / STATES; i++) {
                const int per_layer = NUMBERS / STATES;
                const ssmq_state_place place = {.layer = i / per_layer,
                                                .token = token,
                                                .row = i % per_layer % (HEADS * CHANNELS)};
                ssmq_state_round(&spec.precision, &place, plain.ssm[0] + (size_t)i * STATES,
                                 STATES);
            }
            assert_memory_equal(plain.ssm, stored.ssm, sizeof plain.ssm);
            /* Both go on from the stored one. */
            for (int64_t i = 0; i < LAYERS; i++) {
                assert_ok(a->api->write_state(a, i, token, stored.ssm[i], stored.conv[i], &err),
                          &err);
            }
        }
        b->api->close(b);
    }
    a->api->close(a);
    ssmq_free(ids);
    ssmq_model_close(model);
}

/* Many sequences are cut into shorter segments than one alone, and calls are not. */
static void batch_changes_nothing(void **state) {
    (void)state;
    enum { MANY = 40, T = 200 };
    static float ssm[2][MANY * NUMBERS / SEQUENCES], conv[MANY * CONV / SEQUENCES];
    const struct checkpoint_options shape = {
        .d = 32, .P = CHANNELS, .N = STATES, .V = 50, .L = LAYERS};
    ssmq_model *model = cpu_fixture_model(&shape);
    int32_t *ids = cpu_fixture_ids((int64_t)MANY * 2 * T, 50, 7);
    ssmq_engine *engine = cpu_fixture_engine(model, "fp32", "none", 2);
    ssmq_spec spec = cpu_fixture_spec(model, "fp32", "none");
    ssmq_err err = {0};
    spec.precision = precision_of(&types[2], true);
    assert_ok(engine->api->load(engine, model, &spec, &err), &err);
    for (int i = 0; i < 2; i++) {
        const ssmq_engine_extent extent = {.n_sequences = i == 0 ? MANY : 1,
                                           .max_segment_tokens = T};
        assert_ok(engine->api->reset(engine, &extent, &err), &err);
        for (int64_t call = 0; call < 2; call++) {
            const ssmq_prefill prefill = {.tokens = ids + call * MANY * T, .n_tokens = T};
            assert_ok(engine->api->prefill(engine, &prefill, &err), &err);
        }
        assert_ok(engine->api->read_state(engine, 1, ssm[i], conv, &err), &err);
    }
    assert_memory_equal(ssm[0], ssm[1], NUMBERS / SEQUENCES * sizeof ssm[0][0]);
    engine->api->close(engine);
    ssmq_free(ids);
    ssmq_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nearest_is_nearest),
        cmocka_unit_test(stochastic_is_right_in_the_mean),
        cmocka_unit_test(edges),
        cmocka_unit_test(engine_stores_the_rounded_state),
        cmocka_unit_test(batch_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
