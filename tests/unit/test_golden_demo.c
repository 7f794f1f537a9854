/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu on the embedded model and text, at every precision, against an implementation in
 * numpy; see tests/golden/demo/README.md. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/cpu_fixture.h"
#include "support/golden_json.h"

/* Sums of NLL over each window of ids. */
static void score(ssmq_engine *engine, const int32_t *ids, int64_t n_windows, int64_t seq_len,
                  double *sums) {
    const int64_t T = seq_len - 1;
    const cpu_run run = {.ids = ids, .B = n_windows, .T = T};
    float *nll = NULL;
    assert_int_equal(ssmq_calloc(&nll, (size_t)(n_windows * T), sizeof *nll, NULL), SSMQ_OK);
    cpu_fixture_score(engine, &run, nll, NULL);
    for (int64_t b = 0; b < n_windows; b++) {
        sums[b] = 0.0;
        for (int64_t t = 0; t < T; t++) sums[b] += (double)nll[b * T + t];
    }
    ssmq_free(nll);
}

/* Relative error allowed of the sum over all windows. In fp32 both sides differ by fp32 noise. At
 * the other precisions noise moves single numbers over a rounding boundary, and from there on the
 * two paths round independently of each other; the sums then differ by chance. Limits are about
 * three times what is seen. */
static double limit_of(const char *precision) {
    static const struct {
        const char *precision;
        double limit;
    } limits[] = {{"fp32", 1e-7}, {"fp16", 4e-5}, {"bf16", 2e-4}, {"w8a16", 1e-4}, {"w4a16", 1e-4}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (strcmp(precision, limits[i].precision) == 0) return limits[i].limit;
    }
    return 5e-4;
}

static void sums_of_the_demo_text(void **state) {
    (void)state;
    enum { MAX_WINDOWS = 8 };
    ssmq_model *model = NULL;
    ssmq_err err = {0};
    int64_t seq_len = 0, n_ids = 0;
    ssmq_json *golden = golden_read("tests/golden/demo/expected.json");
    int32_t *ids = golden_ids(golden, "ids", &n_ids);
    assert_true(ssmq_json_i64(golden_member(golden, "seq_len"), &seq_len));
    assert_ok(ssmq_model_open(&model, "configs/demo", &err), &err);
    ssmq_json_iter it = ssmq_json_begin(golden_member(golden, "nll_sums"));
    int n_precisions = 0;
    for (; ssmq_json_next(&it); n_precisions++) {
        double sums[MAX_WINDOWS] = {0.0}, sum = 0.0, expected_sum = 0.0;
        int64_t n_windows = 0;
        double *expected = golden_numbers(golden_member(golden, "nll_sums"), it.key, &n_windows);
        assert_true(n_windows <= MAX_WINDOWS && n_windows * seq_len == n_ids);
        ssmq_engine *engine = cpu_fixture_engine(model, it.key, "all", 2);
        score(engine, ids, n_windows, seq_len, sums);
        for (int64_t i = 0; i < n_windows; i++) {
            sum += sums[i];
            expected_sum += expected[i];
        }
        const double error = fabs(sum - expected_sum) / expected_sum;
        print_message("%-13s sum %.3f expected %.3f error %.1e, first window %.3f of %.3f\n",
                      it.key, sum, expected_sum, error, sums[0], expected[0]);
        if (!(error <= limit_of(it.key))) fail_msg("%s: %.3g is too far", it.key, error);
        engine->api->close(engine);
        ssmq_free(expected);
    }
    assert_int_equal(n_precisions, 13);
    ssmq_model_close(model);
    ssmq_free(ids);
    ssmq_json_free(golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_the_demo_text),
    };
    return cmocka_run_group_tests_name("golden_demo", tests, NULL, NULL);
}
