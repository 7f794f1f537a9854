/* SPDX-License-Identifier: Apache-2.0 */
#include "grid/key.h"

enum { ANSWER_TOKENS = 8 }; /* a key of five digits and what stands around it */

static double token_cost(const ssmq_shape *s) {
    double linear =
        (double)s->L * (double)(s->R * s->d + s->d * s->di) + (double)s->V * (double)s->d;
    double state = (double)s->L * (double)s->di * (double)s->N;
    return 2.0 * linear + 6.0 * state;
}

static double ppl_tokens(const ssmq_trial *trial, int64_t n_tokens) {
    int64_t window = trial->context_length;
    if (n_tokens < 0) return (double)window;
    if (trial->protocol == SSMQ_PROTOCOL_STREAM || n_tokens < window) return (double)n_tokens;
    int64_t n_windows = n_tokens / window;
    if (trial->protocol == SSMQ_PROTOCOL_SLIDING) {
        n_windows = 1 + (n_tokens - window + trial->stride - 1) / trial->stride;
    }
    if (trial->protocol == SSMQ_PROTOCOL_ROLLING) n_windows = (n_tokens + window - 1) / window;
    return (double)n_windows * (double)window;
}

double ssmq_trial_cost(const ssmq_trial *trial, const ssmq_config *config,
                       const ssmq_inputs *inputs) {
    double tokens = 0;
    if (ssmq_task_is_of_text(trial->task)) {
        tokens = ppl_tokens(trial, ssmq_used_tokens(config, inputs));
        if (trial->task == SSMQ_TASK_FIDELITY) tokens *= 2;
    } else if (trial->task == SSMQ_TASK_PASSKEY) {
        double prompts = (double)config->passkey.n_trials * (double)config->passkey.depth.n;
        prompts *= 1 + (config->passkey.control ? 1 : 0) + (config->passkey.wrong_key ? 1 : 0);
        tokens = prompts * (double)(trial->context_length + ANSWER_TOKENS);
    } else if (trial->task == SSMQ_TASK_DRIFT) {
        /* The baseline, and the trial's model thrice. */
        tokens = 4.0 * (double)trial->batch_size * (double)trial->context_length;
    } else {
        double repeats = (double)(config->profile.n_warmup + config->profile.n_measure);
        tokens =
            repeats * (double)trial->batch_size * (double)(trial->context_length + trial->gen_len);
    }
    return tokens * token_cost(&inputs->shape);
}
