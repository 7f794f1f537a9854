/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cmd_generate.c - ssmq generate: greedy text. The next token is the lowest id of the largest
 * logit among the ids the tokenizer knows; padding rows of the embedding are never chosen. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/runner.h"
#include "cli/token_input.h"

enum { MAX_NEW_TOKENS = 1 << 24, DEFAULT_NEW_TOKENS = 64, SEGMENT_TOKENS = 2048 };
static const size_t max_text_bytes = (size_t)1 << 32;

static const ssmq_option options[] = {
    SSMQ_RUNNER_OPTIONS,
    {"prompt", 0, "T", false, "text to go on from; empty feeds id 0"},
    {"n-tokens", 'n', "N", false, "tokens to generate at most (default 64)"},
    {"ids", 0, NULL, false, "print the generated ids, one a line, instead of their text"},
    {"help", 'h', NULL, false, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

static void print_help(void) {
    (void)printf("usage: ssmq generate --model DIR --prompt T [-n N] [OPTIONS]\n\n"
                 "Greedy text after the prompt, which is not repeated, and a line feed. Ends after "
                 "N tokens or at\nthe model's end-of-text id, which is not printed. Ids that the "
                 "tokenizer does not know (padding\nof the vocabulary) are never chosen. The "
                 "default precision is fp32.\n\n");
    ssmq_args_print_help(options, N_OPTIONS);
}

typedef struct generation {
    ssmq_runner runner;
    ssmq_ids prompt;
    int64_t n_tokens;
    int32_t *out; /* [n_tokens] */
    int64_t n_out;
    float *logits; /* [V] */
} generation;

static int32_t largest(const float *logits, int32_t n_ids) {
    int32_t best = 0;
    for (int32_t i = 1; i < n_ids; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return best;
}

static ssmq_status generate(generation *g, ssmq_err *err) {
    ssmq_engine *engine = g->runner.engine;
    const int32_t n_ids = ssmq_tokenizer_vocab_count(g->runner.tokenizer);
    const int64_t n_prompt = (int64_t)g->prompt.n;
    ssmq_engine_extent extent = {.n_sequences = 1,
                                 .max_segment_tokens =
                                     n_prompt < SEGMENT_TOKENS ? n_prompt : SEGMENT_TOKENS};
    SSMQ_TRY(engine->api->reset(engine, &extent, err));
    ssmq_prefill prefill = {.tokens = g->prompt.ids, .n_tokens = n_prompt, .logits = g->logits};
    SSMQ_TRY(engine->api->prefill(engine, &prefill, err));
    for (;;) {
        int32_t next = largest(g->logits, n_ids);
        if (next == g->runner.model->shape.eos_id) return SSMQ_OK;
        g->out[g->n_out++] = next;
        if (g->n_out == g->n_tokens) return SSMQ_OK;
        int32_t unmasked = 0;
        ssmq_decode decode = {
            .first = &next, .n_steps = 1, .argmax = &unmasked, .logits = g->logits};
        SSMQ_TRY(engine->api->decode(engine, &decode, err));
    }
}

static ssmq_status print_text(const generation *g, ssmq_err *err) {
    ssmq_str text;
    ssmq_str_init(&text, max_text_bytes);
    ssmq_status status =
        ssmq_tokenizer_decode(g->runner.tokenizer, g->out, (size_t)g->n_out, &text, err);
    if (status == SSMQ_OK) {
        (void)fwrite(ssmq_str_get(&text), 1, text.n_bytes, stdout);
        (void)putchar('\n');
    }
    ssmq_str_free(&text);
    return status;
}

static ssmq_status run(generation *g, const char *prompt, bool as_ids, ssmq_err *err) {
    SSMQ_TRY(ssmq_input_encode(prompt, strlen(prompt), "--prompt", g->runner.tokenizer, &g->prompt,
                               err));
    if (g->prompt.n == 0) {
        /* A model needs one token to begin with (spec section 8). */
        SSMQ_TRY(ssmq_grow(&g->prompt.ids, &g->prompt.capacity, 1, sizeof *g->prompt.ids, 1, err));
        g->prompt.ids[0] = 0;
        g->prompt.n = 1;
    }
    SSMQ_TRY(ssmq_calloc(&g->out, (size_t)g->n_tokens, sizeof *g->out, err));
    SSMQ_TRY(
        ssmq_calloc_aligned(&g->logits, (size_t)g->runner.model->shape.V, sizeof *g->logits, err));
    SSMQ_TRY(ssmq_runner_load(&g->runner, err));
    SSMQ_TRY(generate(g, err));
    if (!as_ids) return print_text(g, err);
    for (int64_t i = 0; i < g->n_out; i++) (void)printf("%d\n", g->out[i]);
    return SSMQ_OK;
}

ssmq_status ssmq_command_generate(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    generation g = {.n_tokens = DEFAULT_NEW_TOKENS};
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        print_help();
        return SSMQ_OK;
    }
    SSMQ_TRY(ssmq_args_no_positional(&args, err));
    const char *prompt = ssmq_args_get(&args, "prompt");
    if (prompt == NULL) return SSMQ_FAIL(err, CONFIG, "--prompt is missing");
    SSMQ_TRY(ssmq_args_i64(&args, "n-tokens", 1, MAX_NEW_TOKENS, &g.n_tokens, err));
    ssmq_runner_wish wish = {.precision = "fp32", .device = "auto", .with_tokenizer = true};
    SSMQ_TRY(ssmq_runner_wish_read(&wish, &args, err));
    SSMQ_TRY(ssmq_runner_open(&g.runner, &wish, err));
    ssmq_status status = run(&g, prompt, ssmq_args_get(&args, "ids") != NULL, err);
    ssmq_free(g.logits);
    ssmq_free(g.out);
    ssmq_ids_free(&g.prompt);
    ssmq_runner_close(&g.runner);
    return status;
}
