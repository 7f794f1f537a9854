/* SPDX-License-Identifier: Apache-2.0 */
/* The extents that the tasks ask for, told beforehand. */
#include "trial/score.h"
#include "trial/task.h"

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Windows of equal length run together; of a text's windows only the last may be shorter. */
static int64_t most_windows_together(const ssmq_protocol_spec *spec, int64_t n_tokens) {
    const int64_t n = ssmq_protocol_n_windows(spec, n_tokens);
    if (n < 2) return n;
    const ssmq_window first = ssmq_protocol_window(spec, n_tokens, 0);
    const ssmq_window last = ssmq_protocol_window(spec, n_tokens, n - 1);
    const bool is_ragged = last.end - last.begin != first.end - first.begin;
    return smaller(spec->batch_size, is_ragged ? n - 1 : n);
}

static int64_t sequences_of(const ssmq_trial *trial, const ssmq_trial_inputs *inputs) {
    const ssmq_config_passkey *passkey = &inputs->config->passkey;
    const ssmq_protocol_spec spec = {
        .protocol = trial->protocol,
        .seq_len = trial->context_length,
        .stride = trial->stride,
        .batch_size = trial->batch_size,
    };
    switch (trial->task) {
    case SSMQ_TASK_PPL:
    case SSMQ_TASK_FIDELITY:
        return most_windows_together(&spec, inputs->n_text_ids);
    case SSMQ_TASK_PASSKEY:
        return smaller(trial->batch_size, (int64_t)passkey->depth.n * passkey->n_trials);
    case SSMQ_TASK_PROFILE:
    case SSMQ_TASK_DRIFT:
        return trial->batch_size;
    case SSMQ_N_TASKS:
        break;
    }
    return 0;
}

bool ssmq_trial_extent(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                       ssmq_engine_extent *out) {
    *out = (ssmq_engine_extent){
        .n_sequences = sequences_of(trial, inputs),
        .max_segment_tokens = smaller(trial->context_length, TRIAL_SEGMENT_TOKENS),
        .is_timed = trial->task == SSMQ_TASK_PROFILE,
    };
    if (ssmq_task_is_of_text(trial->task)) {
        out->max_segment_tokens = smaller(out->max_segment_tokens, inputs->n_text_ids);
    }
    return out->n_sequences > 0 && out->max_segment_tokens > 0;
}
