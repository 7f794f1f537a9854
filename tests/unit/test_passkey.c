/* SPDX-License-Identifier: Apache-2.0 */
/* trial/: the controls of passkey against an engine that copies from its prompt, which knows no key
 * but what stands there; prompts are built again from their draws. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/copy_engine.h"
#include "support/trial_fixture.h"
#include "trial/prompt.h"

enum { N_TRIALS = 10, N_PROMPTS = 2 * N_TRIALS, N_TOKENS = 150 };

static ssmq_tokenizer *tokenizer;

static void run(bool has_control, bool has_wrong_key, ssmq_record *record, ssmq_samples *samples) {
    fixture f;
    fixture_init(&f, 100);
    f.trial_inputs.tokenizer = tokenizer;
    f.config.passkey.n_trials = N_TRIALS;
    f.config.passkey.control = has_control;
    f.config.passkey.wrong_key = has_wrong_key;
    f.config.passkey.accuracy_floor = 0.25;
    ssmq_field_set(f.config.sweep.baseline, sizeof f.config.sweep.baseline, "fp32");
    ssmq_worker worker = {.engine = copy_engine_open()};
    const ssmq_trial trial = fixture_trial(SSMQ_TASK_PASSKEY, "fp32", N_TOKENS);
    assert_int_equal(ssmq_trial_run(&trial, &f.trial_inputs, &worker, record, samples, NULL),
                     SSMQ_OK);
    assert_string_equal(record->status, "ok");
    worker.engine->api->close(worker.engine);
}

/* 1 if the engine says the whole key of the prompt: no id of it is one of its mistakes. */
static double says(int i, bool has_wrong_key) {
    const ssmq_trial trial = fixture_trial(SSMQ_TASK_PASSKEY, "fp32", N_TOKENS);
    char draw[SSMQ_TRIAL_KEY_BYTES + 64];
    const double depth = i < N_TRIALS ? 0.25 : 0.75;
    (void)snprintf(draw, sizeof draw, "%s/depth=%.17g/trial=%d", trial.draw, depth, i % N_TRIALS);
    const ssmq_prompt_spec spec = {.template_ = ssmq_template_find("demo-1"),
                                   .n_tokens = N_TOKENS,
                                   .depth = depth,
                                   .has_needle = true,
                                   .has_wrong_key = has_wrong_key,
                                   .draw = draw};
    ssmq_prompt prompt;
    double all = 1;
    assert_int_equal(ssmq_prompt_init(&prompt, tokenizer, &spec, NULL), SSMQ_OK);
    for (size_t k = 0; k < prompt.n_key_ids; k++) {
        const int32_t id = prompt.answer.ids[k];
        if (id == COPY_ENGINE_NINE || (k == 0 && id == COPY_ENGINE_ONE)) all = 0;
    }
    ssmq_prompt_free(&prompt);
    return all;
}

static void wrong_keys_are_answered_as_planted(void **state) {
    (void)state;
    ssmq_record record;
    ssmq_samples samples;
    run(true, true, &record, &samples);
    const ssmq_series *correct = ssmq_samples_get(&samples, "passkey_correct");
    const ssmq_series *wrong_key = ssmq_samples_get(&samples, "passkey_wrong_key");
    assert_int_equal(wrong_key->n, N_PROMPTS);
    int n_right = 0, n_differ = 0;
    for (int i = 0; i < N_PROMPTS; i++) {
        assert_true(correct->values[i] == says(i, false));
        assert_true(wrong_key->values[i] == says(i, true));
        n_right += wrong_key->values[i] > 0;
        n_differ += correct->values[i] != wrong_key->values[i];
    }
    /* The draw holds both kinds, and the other keys are not the same keys. */
    assert_in_range(n_right, 1, N_PROMPTS - 1);
    assert_true(n_differ > 0);
    assert_true(record.wrong_key_accuracy == n_right / (double)N_PROMPTS);
    assert_true(record.control_accuracy == 0);
    assert_true(record.accuracy_floor == 0.25);
    assert_string_equal(record.baseline, "fp32");
    ssmq_samples_free(&samples);
}

static void controls_leave_the_prompts_alone(void **state) {
    (void)state;
    ssmq_record both, one;
    ssmq_samples samples;
    run(true, true, &both, &samples);
    ssmq_samples_free(&samples);
    for (int i = 0; i < 3; i++) {
        run(i == 1, i == 2, &one, &samples);
        assert_int_equal(isnan(one.control_accuracy), i != 1);
        assert_int_equal(isnan(one.wrong_key_accuracy), i != 2);
        assert_int_equal(ssmq_samples_get(&samples, "passkey_control") != NULL, i == 1);
        assert_int_equal(ssmq_samples_get(&samples, "passkey_wrong_key") != NULL, i == 2);
        assert_true(one.accuracy == both.accuracy);
        assert_string_equal(one.prompt_hash, both.prompt_hash);
        ssmq_samples_free(&samples);
    }
}

static int open_demo(void **state) {
    (void)state;
    ssmq_err err = {0};
    if (ssmq_tokenizer_open(&tokenizer, "configs/demo", &err) == SSMQ_OK) return 0;
    print_error("%s\n", err.text);
    return -1;
}

static int close_demo(void **state) {
    (void)state;
    ssmq_tokenizer_close(tokenizer);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_keys_are_answered_as_planted),
        cmocka_unit_test(controls_leave_the_prompts_alone),
    };
    return cmocka_run_group_tests_name("passkey", tests, open_demo, close_demo);
}
