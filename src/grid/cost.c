/* SPDX-License-Identifier: Apache-2.0 */
/* A roofline of each call of the engine, for one machine of each kind. A sweep corrects it by what
 * it measures, for each task and precision; here only proportions have to be about right. */
#include <math.h>
#include <string.h>

#include "grid/key.h"

enum {
    ANSWER_TOKENS = 8,      /* a key of five digits and what stands around it */
    SEGMENT_TOKENS = 2048,  /* most of a sequence in one call */
    PASSES = 10,            /* over a token's in_proj outputs, in layers outside of products */
    NUMBER_BYTES = 2,       /* of the compute type */
    STATE_NUMBER_BYTES = 8, /* fp32, read and written */
    NARROW_BITS = 8         /* activations up to here take the device's faster products */
};

/* What a machine reaches. */
typedef struct machine {
    const char *engine;
    double product_flops; /* 16 bit */
    double narrow_speedup;
    double bytes_per_s;
    double layer_s;          /* of a call, for launches */
    double load_bytes_per_s; /* of the checkpoint's 16 bit weights */
} machine;

/* An H100 as `ssmq bench` saw it; two host cores. The null engine has no arithmetic. */
static const machine machines[] = {
    {"cuda", 6.3e14, 1.6, 3.0e12, 15e-6, 8e9},
    {"cpu", 5e10, 1.0, 1e10, 20e-6, 1e9},
};

static const machine *machine_of(const char *engine) {
    return strcmp(engine, machines[0].engine) == 0 ? &machines[0] : &machines[1];
}

static double layer_weights(const ssmq_shape *s) {
    return (double)s->L * ((double)s->R * (double)s->d + (double)s->d * (double)s->di);
}

static double head_weights(const ssmq_shape *s) {
    return (double)s->V * (double)s->d;
}

typedef struct call {
    const machine *machine;
    const ssmq_shape *shape;
    const ssmq_precision *precision;
    double quantized_share; /* of the weights of all layers */
} call;

/* Seconds of n_calls that take n_tokens in all, of them n_scored through lm_head. */
static double calls_s(const call *c, double n_calls, double n_tokens, double n_scored,
                      bool is_decode) {
    const machine *m = c->machine;
    const ssmq_shape *s = c->shape;
    const double layers = layer_weights(s);
    const double head = head_weights(s);
    const bool is_narrow = c->precision->a_bits <= NARROW_BITS;
    const double narrow = is_narrow ? c->quantized_share * (1.0 - 1.0 / m->narrow_speedup) : 0.0;
    const double flops = 2.0 * (layers * (1.0 - narrow) * n_tokens + head * n_scored);
    const double kept = NUMBER_BYTES * (1.0 - c->quantized_share);
    const double packed = c->precision->w_bits / 8.0 * c->quantized_share;
    const double weight_bytes = layers * (kept + packed) + head * NUMBER_BYTES;
    double token_bytes = (double)PASSES * NUMBER_BYTES * (double)s->R;
    if (is_decode) token_bytes += STATE_NUMBER_BYTES * (double)s->di * (double)s->N;
    return fmax(flops / m->product_flops, n_calls * weight_bytes / m->bytes_per_s) +
           n_tokens * (double)s->L * token_bytes / m->bytes_per_s +
           n_calls * (double)s->L * m->layer_s;
}

static double n_segments(int64_t tokens) {
    return ceil((double)tokens / SEGMENT_TOKENS);
}

static double n_batches(double sequences, int64_t batch_size) {
    return ceil(sequences / (double)(batch_size > 0 ? batch_size : 1));
}

static double text_s(const call *c, const ssmq_trial *trial, int64_t n_tokens) {
    const int64_t window = trial->context_length;
    double n_windows = 1.0;
    if (trial->protocol == SSMQ_PROTOCOL_STREAM) {
        const int64_t tokens = n_tokens < 0 ? window : n_tokens;
        return calls_s(c, ceil((double)tokens / (double)window), (double)tokens, (double)tokens,
                       false);
    }
    if (n_tokens >= window) {
        n_windows = floor((double)n_tokens / (double)window);
        if (trial->protocol == SSMQ_PROTOCOL_SLIDING) {
            n_windows = 1.0 + ceil((double)(n_tokens - window) / (double)trial->stride);
        }
        if (trial->protocol == SSMQ_PROTOCOL_ROLLING) {
            n_windows = ceil((double)n_tokens / (double)window);
        }
    }
    const double tokens = n_windows * (double)window;
    return calls_s(c, n_batches(n_windows, trial->batch_size) * n_segments(window), tokens, tokens,
                   false);
}

static double passkey_s(const call *c, const ssmq_trial *trial,
                        const ssmq_config_passkey *passkey) {
    const double variants = 1.0 + (passkey->control ? 1.0 : 0.0) + (passkey->wrong_key ? 1.0 : 0.0);
    const double n = variants * (double)passkey->n_trials * (double)passkey->depth.n;
    const double n_calls = n_batches(n, trial->batch_size);
    return calls_s(c, n_calls * n_segments(trial->context_length),
                   n * (double)trial->context_length, n, false) +
           calls_s(c, n_calls * ANSWER_TOKENS, n * ANSWER_TOKENS, n * ANSWER_TOKENS, true);
}

/* The baseline, and three runs of the trial's model: freely, from the baseline's states, and along
 * the other path. */
static double drift_s(const call *c, const ssmq_trial *trial, const ssmq_config_drift *drift) {
    enum { RUNS = 4 };
    const double context = (double)trial->context_length;
    const double tokens = (double)trial->batch_size * context;
    double s = (RUNS - 1) * calls_s(c, n_segments(trial->context_length), tokens, 0.0, false) +
               calls_s(c, context, tokens, tokens, true);
    /* An impulse, and its plain twin, over half of the tokens, by the path of the trial. */
    if (drift->impulse > 0.0) {
        const bool is_decode = strcmp(drift->path, "decode") == 0;
        const double n_calls = is_decode ? context : 2.0 * log2(context);
        s += calls_s(c, n_calls, tokens, is_decode ? tokens : 0.0, is_decode);
    }
    return s;
}

static double profile_s(const call *c, const ssmq_trial *trial,
                        const ssmq_config_profile *profile) {
    const double repeats = (double)(profile->n_warmup + profile->n_measure);
    const double B = (double)trial->batch_size;
    const double n_steps = repeats * (double)trial->gen_len;
    return calls_s(c, repeats, repeats * B * (double)trial->context_length, repeats * B, false) +
           calls_s(c, n_steps, n_steps * B, n_steps * B, true);
}

double ssmq_trial_cost(const ssmq_trial *trial, double quantized_share, const ssmq_config *config,
                       const ssmq_inputs *inputs) {
    const call c = {machine_of(inputs->device), &inputs->shape, &trial->precision, quantized_share};
    switch (trial->task) {
    case SSMQ_TASK_PPL:
        return text_s(&c, trial, ssmq_used_tokens(config, inputs));
    case SSMQ_TASK_FIDELITY:
        /* Beside the baseline. */
        return 2.0 * text_s(&c, trial, ssmq_used_tokens(config, inputs));
    case SSMQ_TASK_DRIFT:
        return drift_s(&c, trial, &config->drift);
    case SSMQ_TASK_PASSKEY:
        return passkey_s(&c, trial, &config->passkey);
    case SSMQ_TASK_PROFILE:
        return profile_s(&c, trial, &config->profile);
    case SSMQ_N_TASKS:
        break;
    }
    return 0.0;
}

double ssmq_load_cost(const ssmq_inputs *inputs) {
    const ssmq_shape *s = &inputs->shape;
    return NUMBER_BYTES * (layer_weights(s) + head_weights(s)) /
           machine_of(inputs->device)->load_bytes_per_s;
}
