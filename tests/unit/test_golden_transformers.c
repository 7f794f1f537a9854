/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu in fp32 against what Transformers computes with the same checkpoints; see
 * tests/golden/transformers/README.md. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/cpu_fixture.h"
#include "support/golden_json.h"

#define GOLDEN "tests/golden/transformers/"

/* Both sides are fp32; seen: 1.2e-6 for logits up to 5. */
static const double limit = 1e-5;

static void check_path(const ssmq_model *model, const ssmq_json *expected, int64_t decode_tokens) {
    int64_t n_ids = 0, n_nll = 0, n_logits = 0;
    float nll[256], logits[64];
    int32_t *ids = golden_ids(expected, "ids", &n_ids);
    double *expected_nll = golden_numbers(expected, "nll", &n_nll);
    double *expected_logits = golden_numbers(expected, "logits", &n_logits);
    assert_true(n_nll == n_ids - 1 && n_nll < 256 && n_logits == model->shape.V && n_logits <= 64);
    ssmq_engine *engine = cpu_fixture_engine(model, "fp32", "none", 2);
    const cpu_run scored = {.ids = ids, .B = 1, .T = n_nll, .decode_tokens = decode_tokens};
    cpu_fixture_score(engine, &scored, nll, NULL);
    for (int64_t t = 0; t < n_nll; t++) {
        if (!(fabs((double)nll[t] - expected_nll[t]) < limit)) {
            fail_msg("token %d: %.9g, expected %.9g", (int)t, (double)nll[t], expected_nll[t]);
        }
    }
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = n_ids};
    const ssmq_prefill all = {.tokens = ids, .n_tokens = n_ids, .logits = logits};
    ssmq_err err = {0};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->prefill(engine, &all, &err), &err);
    for (int64_t v = 0; v < n_logits; v++) {
        assert_true(fabs((double)logits[v] - expected_logits[v]) < limit);
    }
    engine->api->close(engine);
    ssmq_free(expected_logits);
    ssmq_free(expected_nll);
    ssmq_free(ids);
}

static void check_case(const char *name) {
    char path[128];
    ssmq_model *model = NULL;
    ssmq_err err = {0};
    (void)snprintf(path, sizeof path, GOLDEN "%s", name);
    assert_ok(ssmq_model_open(&model, path, &err), &err);
    (void)snprintf(path, sizeof path, GOLDEN "%s/expected.json", name);
    ssmq_json *expected = golden_read(path);
    check_path(model, expected, 0);
    check_path(model, expected, 150);
    check_path(model, expected, 30);
    ssmq_json_free(expected);
    ssmq_model_close(model);
}

/* fp32 file, tied, no bias but of the convolution. */
static void tied(void **state) {
    (void)state;
    check_case("tied");
}

/* bf16 file, untied, biases, expand 4, dt limits. */
static void untied(void **state) {
    (void)state;
    check_case("untied");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tied),
        cmocka_unit_test(untied),
    };
    return cmocka_run_group_tests_name("golden_transformers", tests, NULL, NULL);
}
