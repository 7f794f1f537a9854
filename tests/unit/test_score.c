/* SPDX-License-Identifier: Apache-2.0 */
/* trial/score: windows against a loop written as the protocols are published, counts of the
 * reference texts, and NLLs against one engine call a token. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "support/trial_fixture.h"
#include "trial/score.h"

enum { MAX_N = 70 };

/* Per token the window that scores it, -1 where none does. */
typedef struct plan {
    int64_t begin[MAX_N];
    int64_t n_scored;
} plan;

static void plan_add(plan *p, int64_t begin, int64_t first, int64_t end) {
    for (int64_t t = first; t < end; t++) {
        assert_int_equal(p->begin[t], -1);
        p->begin[t] = begin;
        p->n_scored++;
    }
}

/* The loops of GPTQ's evaluation and of the Transformers perplexity guide. */
static void published(plan *p, const ssmq_protocol_spec *spec, int64_t N) {
    const int64_t L = spec->seq_len;
    p->n_scored = 0;
    for (int64_t t = 0; t < MAX_N; t++) p->begin[t] = -1;
    if (spec->protocol == SSMQ_PROTOCOL_DISJOINT) {
        for (int64_t i = 0; i < N / L; i++) plan_add(p, i * L, i * L + 1, (i + 1) * L);
    } else if (spec->protocol == SSMQ_PROTOCOL_STREAM) {
        plan_add(p, 0, 1, N);
    } else {
        int64_t previous = 0;
        for (int64_t b = 0; b < N; b += spec->stride) {
            const int64_t e = b + L < N ? b + L : N;
            const int64_t n_labels = e - previous;
            /* The shift by one drops the window's first label. */
            plan_add(p, b, n_labels == e - b ? b + 1 : e - n_labels, e);
            previous = e;
            if (e == N) break;
        }
    }
}

static void compare(const ssmq_protocol_spec *spec, int64_t N) {
    plan expected, got = {.n_scored = 0};
    published(&expected, spec, N);
    for (int64_t t = 0; t < MAX_N; t++) got.begin[t] = -1;
    const int64_t n = ssmq_protocol_n_windows(spec, N);
    for (int64_t i = 0; i < n; i++) {
        const ssmq_window w = ssmq_protocol_window(spec, N, i);
        assert_true(w.begin >= 0 && w.begin < w.first_target && w.first_target < w.end &&
                    w.end <= N);
        plan_add(&got, w.begin, w.first_target, w.end);
    }
    assert_memory_equal(got.begin, expected.begin, sizeof got.begin);
    assert_int_equal(got.n_scored, expected.n_scored);
}

static void windows_are_the_published_ones(void **state) {
    (void)state;
    for (int64_t N = 0; N <= MAX_N; N++) {
        ssmq_protocol_spec spec = {.protocol = SSMQ_PROTOCOL_STREAM, .seq_len = 4};
        compare(&spec, N);
        for (spec.seq_len = 2; spec.seq_len <= 12; spec.seq_len++) {
            spec.protocol = SSMQ_PROTOCOL_DISJOINT;
            compare(&spec, N);
            spec.protocol = SSMQ_PROTOCOL_SLIDING;
            for (spec.stride = 1; spec.stride <= spec.seq_len; spec.stride++) compare(&spec, N);
        }
    }
}

static int64_t scored_count(ssmq_protocol protocol, int64_t L, int64_t stride, int64_t N) {
    const ssmq_protocol_spec spec = {.protocol = protocol, .seq_len = L, .stride = stride};
    int64_t n_scored = 0;
    for (int64_t i = 0; i < ssmq_protocol_n_windows(&spec, N); i++) {
        const ssmq_window w = ssmq_protocol_window(&spec, N, i);
        n_scored += w.end - w.first_target;
    }
    return n_scored;
}

static void counts_of_reference_texts(void **state) {
    (void)state;
    const int64_t demo = 55978, wikitext = 287645;
    assert_int_equal(scored_count(SSMQ_PROTOCOL_DISJOINT, 2048, -1, demo), 55269);
    assert_int_equal(scored_count(SSMQ_PROTOCOL_DISJOINT, 512, -1, demo), 55699);
    assert_int_equal(scored_count(SSMQ_PROTOCOL_SLIDING, 1024, 512, demo), 55977);
    assert_int_equal(scored_count(SSMQ_PROTOCOL_STREAM, 2048, -1, demo), 55977);
    assert_int_equal(scored_count(SSMQ_PROTOCOL_DISJOINT, 2048, -1, wikitext), 286580);
    assert_int_equal(scored_count(SSMQ_PROTOCOL_SLIDING, 1024, 512, wikitext), 287644);
}

static void texts_at_the_edges(void **state) {
    (void)state;
    static const struct {
        ssmq_protocol protocol;
        int64_t L, stride, N, n_windows, n_scored;
    } cases[] = {
        {SSMQ_PROTOCOL_STREAM, 8, -1, 1, 0, 0},
        {SSMQ_PROTOCOL_STREAM, 8, -1, 2, 1, 1},
        {SSMQ_PROTOCOL_DISJOINT, 8, -1, 7, 0, 0},
        {SSMQ_PROTOCOL_DISJOINT, 8, -1, 8, 1, 7},
        {SSMQ_PROTOCOL_DISJOINT, 8, -1, 9, 1, 7},
        {SSMQ_PROTOCOL_DISJOINT, 1, -1, 9, 0, 0},
        {SSMQ_PROTOCOL_SLIDING, 8, 4, 1, 0, 0},
        {SSMQ_PROTOCOL_SLIDING, 8, 4, 2, 1, 1},
        {SSMQ_PROTOCOL_SLIDING, 8, 4, 7, 1, 6},
        {SSMQ_PROTOCOL_SLIDING, 8, 4, 8, 1, 7},
        {SSMQ_PROTOCOL_SLIDING, 8, 4, 9, 2, 8},
        {SSMQ_PROTOCOL_SLIDING, 8, 4, 12, 2, 11},
        {SSMQ_PROTOCOL_SLIDING, 8, 4, 13, 3, 12},
        {SSMQ_PROTOCOL_SLIDING, 8, 8, 16, 2, 14},
        {SSMQ_PROTOCOL_SLIDING, 8, 8, 17, 2, 14},
        {SSMQ_PROTOCOL_SLIDING, 8, 8, 18, 3, 15},
        {SSMQ_PROTOCOL_ROLLING, 4, -1, 0, 0, 0},
        {SSMQ_PROTOCOL_ROLLING, 4, -1, 1, 1, 1},
        {SSMQ_PROTOCOL_ROLLING, 4, -1, 8, 2, 8},
        {SSMQ_PROTOCOL_ROLLING, 4, -1, 10, 3, 10},
        {SSMQ_PROTOCOL_HALF_WINDOW, 8, -1, 15, 0, 0},
        {SSMQ_PROTOCOL_HALF_WINDOW, 8, -1, 16, 2, 6},
        {SSMQ_PROTOCOL_HALF_WINDOW, 512, -1, 287645, 561, 143055},
        {SSMQ_PROTOCOL_HALF_WINDOW, 2048, -1, 287645, 140, 143220},
        {SSMQ_PROTOCOL_SLIDING, 8, 9, 40, 0, 0},
        {SSMQ_PROTOCOL_SLIDING, 8, 0, 40, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const ssmq_protocol_spec spec = {
            .protocol = cases[i].protocol, .seq_len = cases[i].L, .stride = cases[i].stride};
        assert_int_equal(ssmq_protocol_n_windows(&spec, cases[i].N), cases[i].n_windows);
        assert_int_equal(scored_count(spec.protocol, spec.seq_len, spec.stride, cases[i].N),
                         cases[i].n_scored);
    }
}

/* -log p(ids[t] | ids[begin..t)) by one prefill of nothing else. */
static double direct_nll(ssmq_engine *engine, const int32_t *ids, int64_t begin, int64_t t) {
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = MAX_N};
    int32_t targets[MAX_N];
    float nll[MAX_N];
    const int64_t n = t - begin;
    for (int64_t i = 0; i < n; i++) targets[i] = i == n - 1 ? ids[t] : -1;
    const ssmq_prefill call = {
        .tokens = ids + begin, .n_tokens = n, .targets = targets, .nll = nll};
    assert_int_equal(engine->api->reset(engine, &extent, NULL), SSMQ_OK);
    assert_int_equal(engine->api->prefill(engine, &call, NULL), SSMQ_OK);
    return (double)nll[n - 1];
}

static void scores_equal_one_call_a_token(void **state) {
    (void)state;
    ssmq_engine *engine = fixture_engine(NULL, "fp32");
    int32_t ids[MAX_N];
    fixture_ids(ids, MAX_N, 1);
    static const ssmq_protocol_spec specs[] = {
        {.protocol = SSMQ_PROTOCOL_DISJOINT, .seq_len = 9},
        {.protocol = SSMQ_PROTOCOL_SLIDING, .seq_len = 10, .stride = 3},
        {.protocol = SSMQ_PROTOCOL_SLIDING, .seq_len = 7, .stride = 7},
        {.protocol = SSMQ_PROTOCOL_STREAM, .seq_len = 16},
    };
    for (size_t k = 0; k < sizeof specs / sizeof specs[0]; k++) {
        plan expected;
        published(&expected, &specs[k], MAX_N);
        for (int64_t B = 1; B <= 9; B += 2) {
            double nll[MAX_N];
            ssmq_protocol_spec spec = specs[k];
            spec.batch_size = B;
            ssmq_err err = {0};
            assert_int_equal(ssmq_score_text(engine, &spec, ids, MAX_N, nll, &err), SSMQ_OK);
            for (int64_t t = 0; t < MAX_N; t++) {
                assert_int_equal(isnan(nll[t]), expected.begin[t] < 0);
                if (expected.begin[t] < 0) continue;
                assert_true(nll[t] == direct_nll(engine, ids, expected.begin[t], t));
            }
        }
    }
    engine->api->close(engine);
}

/* Windows longer than a segment of 2048 tokens keep their state from one to the next. */
static void long_windows_go_in_segments(void **state) {
    (void)state;
    enum { N = 5000 };
    static int32_t ids[N];
    static double disjoint[N], stream[N];
    ssmq_engine *engine = fixture_engine(NULL, "fp32");
    fixture_ids(ids, N, 2);
    ssmq_protocol_spec spec = {.protocol = SSMQ_PROTOCOL_DISJOINT, .seq_len = N, .batch_size = 3};
    assert_int_equal(ssmq_score_text(engine, &spec, ids, N, disjoint, NULL), SSMQ_OK);
    spec.protocol = SSMQ_PROTOCOL_STREAM;
    spec.seq_len = 100;
    assert_int_equal(ssmq_score_text(engine, &spec, ids, N, stream, NULL), SSMQ_OK);
    assert_memory_equal(disjoint + 1, stream + 1, (N - 1) * sizeof *stream);
    engine->api->close(engine);
}

static void sums_leave_out_unscored(void **state) {
    (void)state;
    const double nll[] = {NAN, 1, NAN, 2, 4.5};
    ssmq_score score = ssmq_score_sum(nll, 5);
    assert_int_equal(score.n_tokens, 3);
    assert_true(score.nll_sum == 7.5 && score.nll_mean == 2.5 && score.ppl == exp(2.5));
    score = ssmq_score_sum(nll, 1);
    assert_int_equal(score.n_tokens, 0);
    assert_true(score.nll_sum == 0 && isnan(score.nll_mean) && isnan(score.ppl));
}

static void failures_say_what_happened(void **state) {
    (void)state;
    int32_t ids[MAX_N];
    double nll[MAX_N];
    fixture_ids(ids, MAX_N, 3);
    ssmq_err err = {0};
    ssmq_engine *engine = fixture_engine("inf@context=16", "fp32");
    ssmq_protocol_spec spec = {.protocol = SSMQ_PROTOCOL_STREAM, .seq_len = 8, .batch_size = 1};
    assert_int_equal(ssmq_score_text(engine, &spec, ids, MAX_N, nll, &err), SSMQ_NUMERIC);
    assert_string_equal(err.text, "8 of 69 scored tokens have an infinite or NaN NLL, the first at "
                                  "token 9");
    engine->api->close(engine);

    engine = fixture_engine(NULL, "fp32");
    ssmq_err_clear(&err);
    spec.protocol = SSMQ_PROTOCOL_DISJOINT;
    spec.seq_len = MAX_N + 1;
    assert_int_equal(ssmq_score_text(engine, &spec, ids, MAX_N, nll, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "70 tokens hold no window to score: protocol disjoint, seq_len "
                                  "71, stride 0, batch_size 1");
    ssmq_err_clear(&err);
    spec.seq_len = 8;
    spec.deadline_ns = ssmq_now_ns() - 1;
    assert_int_equal(ssmq_score_text(engine, &spec, ids, MAX_N, nll, &err), SSMQ_TIMEOUT);
    ssmq_err_clear(&err);
    spec.deadline_ns = 0;
    ids[13] = 4096;
    assert_int_equal(ssmq_score_text(engine, &spec, ids, MAX_N, nll, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "token id 4096 is outside [0, 4096)");
    engine->api->close(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_are_the_published_ones),
        cmocka_unit_test(counts_of_reference_texts),
        cmocka_unit_test(texts_at_the_edges),
        cmocka_unit_test(scores_equal_one_call_a_token),
        cmocka_unit_test(long_windows_go_in_segments),
        cmocka_unit_test(sums_leave_out_unscored),
        cmocka_unit_test(failures_say_what_happened),
    };
    return cmocka_run_group_tests_name("score", tests, NULL, NULL);
}
