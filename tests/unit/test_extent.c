/* SPDX-License-Identifier: Apache-2.0 */
/* trial/extent: what is told beforehand is what the engine is asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/null/null.h"
#include "support/trial_fixture.h"

static ssmq_tokenizer *tokenizer;

/* The largest that the null engine was asked for. */
static ssmq_engine_extent largest;

static ssmq_status reset_noting(ssmq_engine *engine, const ssmq_engine_extent *extent,
                                ssmq_err *err) {
    if (extent->n_sequences > largest.n_sequences) largest.n_sequences = extent->n_sequences;
    if (extent->max_segment_tokens > largest.max_segment_tokens) {
        largest.max_segment_tokens = extent->max_segment_tokens;
    }
    largest.is_timed = extent->is_timed;
    return ssmq_engine_null.reset(engine, extent, err);
}

static void the_extent_is_foretold(void **state) {
    (void)state;
    static const struct {
        ssmq_task task;
        ssmq_protocol protocol;
        int64_t context, stride, batch, n_text;
        int64_t n_sequences, segment; /* expected */
    } cases[] = {
        {SSMQ_TASK_PPL, SSMQ_PROTOCOL_DISJOINT, 16, -1, 2, 100, 2, 16},
        {SSMQ_TASK_PPL, SSMQ_PROTOCOL_DISJOINT, 16, -1, 64, 100, 6, 16},
        {SSMQ_TASK_PPL, SSMQ_PROTOCOL_STREAM, 16, -1, 8, 100, 1, 16},
        {SSMQ_TASK_PPL, SSMQ_PROTOCOL_STREAM, 400, -1, 8, 100, 1, 100},
        /* Windows begin at 0, 10, ..., 60; the last is whole with 100 tokens, not with 99. */
        {SSMQ_TASK_PPL, SSMQ_PROTOCOL_SLIDING, 40, 10, 64, 100, 7, 40},
        {SSMQ_TASK_PPL, SSMQ_PROTOCOL_SLIDING, 40, 10, 64, 99, 6, 40},
        {SSMQ_TASK_PPL, SSMQ_PROTOCOL_SLIDING, 40, 10, 4, 99, 4, 40},
        {SSMQ_TASK_PPL, SSMQ_PROTOCOL_SLIDING, 200, 10, 4, 99, 1, 99},
        {SSMQ_TASK_PASSKEY, SSMQ_PROTOCOL_DISJOINT, 120, -1, 4, 100, 4, 120},
        {SSMQ_TASK_PASSKEY, SSMQ_PROTOCOL_DISJOINT, 2100, -1, 64, 100, 6, 2048},
        {SSMQ_TASK_PROFILE, SSMQ_PROTOCOL_DISJOINT, 64, -1, 64, 100, 64, 64},
        {SSMQ_TASK_PROFILE, SSMQ_PROTOCOL_DISJOINT, 5000, -1, 3, 100, 3, 2048},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f;
        fixture_init(&f, cases[i].n_text);
        f.trial_inputs.tokenizer = tokenizer;
        ssmq_trial trial = fixture_trial(cases[i].task, "bf16", cases[i].context);
        trial.protocol = cases[i].protocol;
        trial.stride = cases[i].stride;
        trial.batch_size = cases[i].batch;
        ssmq_engine_extent extent;
        assert_true(ssmq_trial_extent(&trial, &f.trial_inputs, &extent));
        assert_int_equal(extent.n_sequences, cases[i].n_sequences);
        assert_int_equal(extent.max_segment_tokens, cases[i].segment);

        ssmq_engine_api api = ssmq_engine_null;
        api.reset = reset_noting;
        ssmq_worker worker = {.engine = fixture_engine(NULL, "bf16")};
        worker.engine->api = &api;
        memset(&largest, 0, sizeof largest);
        ssmq_record record;
        ssmq_samples samples;
        ssmq_err err = {0};
        assert_int_equal(ssmq_trial_run(&trial, &f.trial_inputs, &worker, &record, &samples, &err),
                         SSMQ_OK);
        assert_string_equal(record.status_reason, "");
        assert_int_equal(extent.n_sequences, largest.n_sequences);
        assert_int_equal(extent.max_segment_tokens, largest.max_segment_tokens);
        assert_int_equal(extent.is_timed, largest.is_timed);
        ssmq_samples_free(&samples);
        worker.engine->api->close(worker.engine);
    }
}

static void nothing_to_run_has_none(void **state) {
    (void)state;
    fixture f;
    ssmq_engine_extent extent;
    fixture_init(&f, 15);
    ssmq_trial trial = fixture_trial(SSMQ_TASK_PPL, "bf16", 16);
    trial.protocol = SSMQ_PROTOCOL_DISJOINT;
    assert_false(ssmq_trial_extent(&trial, &f.trial_inputs, &extent));
    trial.task = SSMQ_N_TASKS;
    assert_false(ssmq_trial_extent(&trial, &f.trial_inputs, &extent));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_extent_is_foretold),
        cmocka_unit_test(nothing_to_run_has_none),
    };
    if (ssmq_tokenizer_open(&tokenizer, "configs/demo", NULL) != SSMQ_OK) return 1;
    const int n_failed = cmocka_run_group_tests_name("extent", tests, NULL, NULL);
    ssmq_tokenizer_close(tokenizer);
    return n_failed;
}
