/* SPDX-License-Identifier: Apache-2.0 */
/* Fidelity: divergences against the textbook sums in long double, the record's numbers against
 * sums over the tokens, and the null check: the baseline against itself. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "support/trial_fixture.h"
#include "trial/fidelity.h"
#include "trial/stats.h"

enum { V = 997, N_TEXT = 100 };

static void assert_near(double got, long double expected, double relative) {
    if (!(fabsl((long double)got - expected) <= relative * fabsl(expected))) {
        fail_msg("%.17g is not %.17Lg", got, expected);
    }
}

static long double log_sum_exp(const float *logits, int n) {
    long double sum = 0.0L;
    for (int v = 0; v < n; v++) sum += expl((long double)logits[v]);
    return logl(sum);
}

static void divergence_is_the_textbooks(void **state) {
    (void)state;
    /* Differences of logits from those of w8a8 to those of unrelated models. */
    static const double distances[] = {0.01, 0.1, 1.0, 10.0};
    ssmq_rng rng = ssmq_rng_from_seed(3);
    float a[V], b[V];
    for (size_t i = 0; i < 40; i++) {
        for (int v = 0; v < V; v++) {
            a[v] = (float)(4.0 * ssmq_rng_normal(&rng));
            b[v] = a[v] + (float)(distances[i % 4] * ssmq_rng_normal(&rng));
        }
        const int target = (int)ssmq_rng_below(&rng, V);
        const ssmq_divergence got = ssmq_divergence_of(a, b, V, target);
        const long double za = log_sum_exp(a, V), zb = log_sum_exp(b, V);
        long double kl = 0, reverse = 0, jsd = 0;
        for (int v = 0; v < V; v++) {
            const long double lp = (long double)a[v] - za, lq = (long double)b[v] - zb;
            const long double p = expl(lp), q = expl(lq), lm = logl((p + q) / 2);
            kl += p * (lp - lq);
            reverse += q * (lq - lp);
            jsd += (p * (lp - lm) + q * (lq - lm)) / 2;
        }
        assert_near(got.kl, kl, 1e-12);
        assert_near(got.reverse_kl, reverse, 1e-12);
        assert_near(got.jsd, jsd, 1e-12);
        assert_near(got.nll, zb - (long double)b[target], 1e-12);
        assert_near(got.baseline_nll, za - (long double)a[target], 1e-12);
        const long double delta =
            expl((long double)b[target] - zb) - expl((long double)a[target] - za);
        assert_true(fabsl((long double)got.delta_p - delta) < 1e-15L);
    }
}

/* By hand: p = (1/4, 3/4), q = (1/2, 1/2), up to the rounding of ln 3 to fp32. */
static void divergence_of_two_tokens(void **state) {
    (void)state;
    const float a[] = {0.0f, 1.0986122886681098f}, b[] = {0.0f, 0.0f};
    const ssmq_divergence got = ssmq_divergence_of(a, b, 2, 0);
    assert_true(fabs(got.kl - (0.75 * log(1.5) - 0.25 * log(2.0))) < 1e-7);
    assert_true(fabs(got.reverse_kl - (0.5 * log(2.0) + 0.5 * log(2.0 / 3.0))) < 1e-7);
    assert_true(fabs(got.delta_p - 0.25) < 1e-7);
    assert_false(got.has_same_top);
    assert_true(got.top5_overlap == 1.0);
}

static void divergence_at_the_edges(void **state) {
    (void)state;
    /* Equal logits, also with ties, ruled out tokens and a huge spread: nothing, exactly. */
    const float ties[] = {1.0f, 5.0f, 5.0f, -INFINITY, -3e38f, 2.0f, 2.0f};
    ssmq_divergence got = ssmq_divergence_of(ties, ties, 7, 0);
    assert_true(got.kl == 0.0 && got.reverse_kl == 0.0 && got.jsd == 0.0 && got.delta_p == 0.0);
    assert_true(got.has_same_top && got.top5_overlap == 1.0 && got.nll == got.baseline_nll);
    /* Of equal logits the lowest id is the likeliest. */
    const float lower[] = {5.0f, 5.0f, 0.0f}, upper[] = {0.0f, 5.0f, 5.0f};
    const float first[] = {6.0f, 5.0f, 0.0f};
    assert_true(ssmq_divergence_of(lower, first, 3, 0).has_same_top);
    assert_false(ssmq_divergence_of(lower, upper, 3, 0).has_same_top);
    /* Certain of different tokens: as far apart as the logits, and ln 2. */
    const float left[] = {1000.0f, 0.0f}, right[] = {0.0f, 1000.0f};
    got = ssmq_divergence_of(left, right, 2, 1);
    assert_true(got.kl == 1000.0 && got.reverse_kl == 1000.0 && fabs(got.jsd - log(2.0)) < 1e-15);
    assert_true(got.delta_p == 1.0);
    /* The other rules out what the baseline may say. */
    const float half[] = {0.0f, 0.0f}, sure[] = {0.0f, -INFINITY};
    got = ssmq_divergence_of(half, sure, 2, 0);
    assert_true(isinf(got.kl) && fabs(got.reverse_kl - log(2.0)) < 1e-15);
    assert_true(fabs(got.jsd - 0.75 * log(4.0 / 3.0)) < 1e-15);
    /* Six tokens: the top fives 0..4 and 1..5 share four. */
    const float down[] = {6, 5, 4, 3, 2, 1}, up[] = {1, 2, 3, 4, 5, 6};
    assert_true(ssmq_divergence_of(down, up, 6, 0).top5_overlap == 0.8);
}

static void report_is_of_the_tokens(void **state) {
    (void)state;
    const ssmq_protocol_spec spec = {
        .protocol = SSMQ_PROTOCOL_DISJOINT, .seq_len = 11, .batch_size = 1};
    ssmq_divergence tokens[N_TEXT] = {0};
    double kl[N_TEXT], delta_p[N_TEXT], blocks[9] = {0};
    int64_t counts[9] = {0};
    ssmq_rng rng = ssmq_rng_from_seed(8);
    long double sum = 0, squares = 0, delta = 0;
    size_t n = 0;
    for (int t = 0; t < 99; t++) {
        ssmq_divergence *token = &tokens[t];
        *token = (ssmq_divergence){.kl = exp(2.0 * ssmq_rng_normal(&rng)),
                                   .baseline_nll = 5.0 * ssmq_rng_f64(&rng),
                                   .nll = 5.0 * ssmq_rng_f64(&rng),
                                   .delta_p = ssmq_rng_f64(&rng) - 0.5,
                                   .has_same_top = t % 4 == 0};
        if (t % 11 == 0) continue;
        kl[n] = token->kl;
        delta_p[n++] = token->delta_p;
        sum += token->kl;
        blocks[t / 11] += token->kl;
        counts[t / 11]++;
        squares += (long double)token->delta_p * token->delta_p;
        delta += (long double)token->nll - token->baseline_nll;
    }
    ssmq_record record;
    ssmq_samples samples = {0};
    ssmq_record_init(&record);
    const trial_fidelity result = {
        .spec = &spec, .tokens = tokens, .n_tokens = N_TEXT, .draw = "draw"};
    assert_int_equal(trial_report_fidelity(&result, &record, &samples, NULL), SSMQ_OK);
    assert_int_equal(record.n_tokens, 90);
    assert_int_equal(record.n_windows, 9);
    assert_near(record.kl_mean, sum / 90, 1e-12);
    assert_near(record.delta_p_rms, sqrtl(squares / 90), 1e-12);
    assert_near(record.delta_nll_mean, delta / 90, 1e-12);
    assert_near(record.ppl_ratio, expl(delta / 90), 1e-12);
    assert_near(record.kl_sem, ssmq_ratio_sem(blocks, counts, 9), 1e-12);
    assert_true(record.kl_p99 == ssmq_percentile(kl, n, 99));
    assert_true(record.delta_p_p001 == ssmq_percentile(delta_p, n, 0.1));
    assert_true(record.kl_max == kl[89] && record.kl_min == kl[0]);
    /* Five per cent of 90, rounded up: the five largest. */
    assert_near(record.kl_worst5_mean,
                ((long double)kl[85] + kl[86] + kl[87] + kl[88] + kl[89]) / 5, 1e-12);
    const ssmq_interval kl_ci = ssmq_block_bootstrap(blocks, counts, 9, ssmq_rng_from_text("draw"));
    assert_true(record.kl_mean_ci_low == kl_ci.low && record.kl_mean_ci_high == kl_ci.high);
    assert_true(kl_ci.low < record.kl_mean && record.kl_mean < kl_ci.high);
    assert_int_equal(ssmq_samples_get(&samples, "kl_window")->n, 9);
    assert_int_equal(ssmq_samples_get(&samples, "kl_bucket_mean")->n, 4);
    ssmq_samples_free(&samples);
    /* One window has no spread; a text without a window leaves everything null. */
    const trial_fidelity one = {.spec = &spec, .tokens = tokens, .n_tokens = 12, .draw = "draw"};
    assert_int_equal(trial_report_fidelity(&one, &record, &samples, NULL), SSMQ_OK);
    assert_int_equal(record.n_tokens, 10);
    assert_true(isnan(record.kl_sem) && isnan(record.kl_mean_ci_low));
    ssmq_samples_free(&samples);
    ssmq_record_init(&record);
    const trial_fidelity none = {.spec = &spec, .tokens = tokens, .n_tokens = 10, .draw = "draw"};
    assert_int_equal(trial_report_fidelity(&none, &record, &samples, NULL), SSMQ_OK);
    assert_true(record.n_tokens == -1 && isnan(record.kl_mean) && samples.n_series == 0);
}

static void run_null(const char *precision, int64_t batch_size, ssmq_record *record) {
    fixture f;
    ssmq_samples samples = {0};
    fixture_init(&f, N_TEXT);
    ssmq_field_set(f.config.sweep.baseline, sizeof f.config.sweep.baseline, "bf16");
    ssmq_worker worker = {.engine = fixture_engine(NULL, precision), .options = {.n_threads = 2}};
    ssmq_trial trial = fixture_trial(SSMQ_TASK_FIDELITY, precision, 16);
    trial.batch_size = batch_size;
    ssmq_err err = {0};
    assert_int_equal(ssmq_trial_run(&trial, &f.trial_inputs, &worker, record, &samples, &err),
                     SSMQ_OK);
    assert_string_equal(record->status_reason, "");
    assert_string_equal(record->status, "ok");
    assert_string_equal(record->baseline, "bf16");
    assert_non_null(worker.baseline);
    ssmq_samples_free(&samples);
    /* Another task needs no baseline. */
    trial = fixture_trial(SSMQ_TASK_PPL, precision, 16);
    ssmq_record other;
    assert_int_equal(ssmq_trial_run(&trial, &f.trial_inputs, &worker, &other, &samples, &err),
                     SSMQ_OK);
    assert_null(worker.baseline);
    ssmq_samples_free(&samples);
    worker.engine->api->close(worker.engine);
}

/* Every statistic of a distance is exactly 0, whatever the batch. */
static void baseline_equals_itself(void **state) {
    (void)state;
    ssmq_record one, four;
    run_null("bf16", 1, &one);
    run_null("bf16", 4, &four);
    for (size_t i = 0; i < ssmq_record_n_fields(); i++) {
        const ssmq_field *field = ssmq_record_field(i);
        if (field->type != SSMQ_FIELD_F64 || field->kind != SSMQ_KIND_RESULT) continue;
        double a, b;
        memcpy(&a, (const char *)&one + field->offset, sizeof a);
        memcpy(&b, (const char *)&four + field->offset, sizeof b);
        if (!(a == b || (isnan(a) && isnan(b)))) fail_msg("%s depends on the batch", field->name);
        const bool is_distance =
            strncmp(field->name, "kl_", 3) == 0 || strncmp(field->name, "delta_", 6) == 0 ||
            strcmp(field->name, "reverse_kl_mean") == 0 || strcmp(field->name, "jsd_mean") == 0;
        if (is_distance && a != 0.0) fail_msg("%s is %.17g", field->name, a);
    }
    assert_true(one.same_top_share == 1.0 && one.top5_overlap == 1.0 && one.ppl_ratio == 1.0);
    assert_true(one.same_top_ci_low == 1.0 && one.nll_correlation == 1.0);
    assert_int_equal(one.n_tokens, 90);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divergence_is_the_textbooks), cmocka_unit_test(divergence_of_two_tokens),
        cmocka_unit_test(divergence_at_the_edges),     cmocka_unit_test(report_is_of_the_tokens),
        cmocka_unit_test(baseline_equals_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
