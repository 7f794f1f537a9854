/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cmd_score.c - ssmq score: the negative log likelihood of each token of a text. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/runner.h"
#include "cli/token_input.h"
#include "trial/score.h"

enum { MAX_BATCH = 4096, MAX_SUMMARY_BYTES = 1 << 16, DEFAULT_SEQ_LEN = 2048 };
static const int64_t max_seq_len = (int64_t)1 << 24;
static const int64_t max_tokens_limit = (int64_t)1 << 40;

static const ssmq_option options[] = {
    SSMQ_RUNNER_OPTIONS,
    {"text", 0, "F", false, "UTF-8 text to score; - is standard input"},
    {"ids", 0, "F", false, "decimal token ids to score, separated by white space; likewise"},
    {"protocol", 0, "NAME", false,
     "disjoint, sliding, stream, rolling or half_window (default stream)"},
    {"seq-len", 0, "L", false, "window; of stream, tokens of one prefill (default 2048)"},
    {"stride", 0, "S", false, "step between windows of sliding (default half of --seq-len)"},
    {"batch-size", 'b', "B", false, "windows run together (default 1); results stay the same"},
    {"max-tokens", 0, "N", false, "only the first N tokens of the text"},
    {"summary", 0, NULL, false, "one JSON object with sums instead of a line a token"},
    {"help", 'h', NULL, false, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

static void print_help(void) {
    (void)printf("usage: ssmq score --model DIR (--text F | --ids F) [OPTIONS]\n\n"
                 "A line for each scored token: its position in the text from 0, its id and its "
                 "negative log\nlikelihood in nats, separated by tabs. The default is fp32 and "
                 "one window over everything.\n\n");
    ssmq_args_print_help(options, N_OPTIONS);
    (void)printf(
        "\nprotocols: disjoint cuts windows of --seq-len, drops the tail and leaves the first "
        "token of each\nunscored; sliding moves such a window by --stride and scores each "
        "token once; stream carries\nthe state over the whole text; rolling "
        "(lm-evaluation-harness) "
        "scores every token once, the first\nafter <|endoftext|>; half_window (llama.cpp) scores "
        "the "
        "second half of windows of --seq-len.\n");
}

typedef struct job {
    const char *text_path; /* one of the two is given */
    const char *ids_path;
    int64_t max_tokens; /* 0: all */
    bool is_summary;
    ssmq_protocol_spec protocol;
    ssmq_runner runner;
    ssmq_ids ids;
    char input_sha256[SSMQ_SHA256_HEX_BYTES]; /* of the text, or of the bytes of the id list */
} job;

static ssmq_status read_protocol(job *out, const ssmq_args *args, ssmq_err *err) {
    const char *name = ssmq_args_get(args, "protocol");
    ssmq_protocol_spec *spec = &out->protocol;
    *spec = (ssmq_protocol_spec){
        .protocol = SSMQ_PROTOCOL_STREAM, .seq_len = DEFAULT_SEQ_LEN, .batch_size = 1};
    if (name != NULL && !ssmq_protocol_from_name(name, &spec->protocol)) {
        return SSMQ_FAIL(err, CONFIG,
                         "--protocol: '%s' is no protocol; allowed are disjoint, sliding, stream, "
                         "rolling, half_window",
                         name);
    }
    bool is_sliding = spec->protocol == SSMQ_PROTOCOL_SLIDING;
    if (ssmq_args_get(args, "stride") != NULL && !is_sliding) {
        return SSMQ_FAIL(err, CONFIG, "--stride: only sliding has one, not %s",
                         ssmq_protocol_name(spec->protocol));
    }
    SSMQ_TRY(ssmq_args_i64(args, "seq-len", 2, max_seq_len, &spec->seq_len, err));
    spec->stride = is_sliding ? spec->seq_len / 2 : spec->seq_len;
    SSMQ_TRY(ssmq_args_i64(args, "stride", 1, spec->seq_len, &spec->stride, err));
    return ssmq_args_i64(args, "batch-size", 1, MAX_BATCH, &spec->batch_size, err);
}

static ssmq_status read_args(job *out, const ssmq_args *args, ssmq_err *err) {
    SSMQ_TRY(ssmq_args_no_positional(args, err));
    out->text_path = ssmq_args_get(args, "text");
    out->ids_path = ssmq_args_get(args, "ids");
    if ((out->text_path != NULL) == (out->ids_path != NULL)) {
        return SSMQ_FAIL(err, CONFIG, "%s",
                         out->text_path != NULL ? "--text and --ids: only one can be scored"
                                                : "--text or --ids is missing");
    }
    SSMQ_TRY(ssmq_args_i64(args, "max-tokens", 2, max_tokens_limit, &out->max_tokens, err));
    out->is_summary = ssmq_args_get(args, "summary") != NULL;
    return read_protocol(out, args, err);
}

static ssmq_status read_ids(job *out, ssmq_err *err) {
    const char *path = out->text_path != NULL ? out->text_path : out->ids_path;
    const char *name = ssmq_input_name(path);
    char *text = NULL;
    size_t n_bytes = 0;
    SSMQ_TRY(ssmq_input_read(&text, &n_bytes, path, err));
    ssmq_sha256_of(text, n_bytes, out->input_sha256);
    ssmq_status status =
        out->text_path != NULL
            ? ssmq_input_encode(text, n_bytes, name, out->runner.tokenizer, &out->ids, err)
            : ssmq_input_parse_ids(text, n_bytes, name, out->runner.model->shape.V, &out->ids, err);
    ssmq_free(text);
    SSMQ_TRY(status);
    if (out->max_tokens > 0 && (size_t)out->max_tokens < out->ids.n) {
        out->ids.n = (size_t)out->max_tokens;
    }
    if (out->protocol.protocol == SSMQ_PROTOCOL_ROLLING) {
        SSMQ_TRY(ssmq_protocol_prefix(&out->protocol.prefix_id, out->runner.tokenizer, err));
    }
    if (ssmq_protocol_n_windows(&out->protocol, (int64_t)out->ids.n) > 0) return SSMQ_OK;
    if (out->protocol.protocol == SSMQ_PROTOCOL_STREAM) {
        return SSMQ_FAIL(err, CONFIG, "%s: %zu tokens; scoring needs 2 at least", name, out->ids.n);
    }
    return SSMQ_FAIL(err, CONFIG, "%s: %zu tokens are too few for a window of %" PRId64 " (%s)",
                     name, out->ids.n, out->protocol.seq_len,
                     ssmq_protocol_name(out->protocol.protocol));
}

static void print_tokens(const job *j, const double *nll) {
    for (size_t i = 0; i < j->ids.n; i++) {
        if (!isnan(nll[i])) (void)printf("%zu\t%d\t%.9g\n", i, j->ids.ids[i], nll[i]);
    }
}

static void add_text(ssmq_str *out, const char *name, const char *text) {
    ssmq_str_addf(out, ", \"%s\": ", name);
    ssmq_str_add_json(out, text, strlen(text));
}

static ssmq_status print_summary(const job *j, const double *nll, ssmq_err *err) {
    const ssmq_protocol_spec *protocol = &j->protocol;
    ssmq_score score = ssmq_score_sum(nll, (int64_t)j->ids.n);
    ssmq_str out;
    ssmq_str_init(&out, MAX_SUMMARY_BYTES);
    ssmq_str_addf(&out, "{\"nll_sum\": ");
    ssmq_str_add_json_f64(&out, score.nll_sum);
    ssmq_str_addf(&out, ", \"n_tokens\": %" PRId64 ", \"nll_mean\": ", score.n_tokens);
    ssmq_str_add_json_f64(&out, score.nll_mean);
    ssmq_str_addf(&out, ", \"ppl\": ");
    ssmq_str_add_json_f64(&out, score.ppl);
    add_text(&out, "protocol", ssmq_protocol_name(protocol->protocol));
    ssmq_str_addf(&out, ", \"seq_len\": %" PRId64 ", \"stride\": ", protocol->seq_len);
    if (protocol->protocol == SSMQ_PROTOCOL_SLIDING) {
        ssmq_str_addf(&out, "%" PRId64, protocol->stride);
    } else {
        ssmq_str_addf(&out, "null");
    }
    ssmq_str_addf(&out, ", \"n_windows\": %" PRId64 ", \"text_tokens\": %zu",
                  ssmq_protocol_n_windows(protocol, (int64_t)j->ids.n), j->ids.n);
    add_text(&out, "precision", j->runner.spec.precision.name);
    add_text(&out, "scope", j->runner.scope);
    add_text(&out, "device", j->runner.api->name);
    add_text(&out, "model_name", j->runner.model->name);
    add_text(&out, "model_sha256", j->runner.model->sha256);
    if (j->runner.tokenizer != NULL) {
        add_text(&out, "tokenizer_sha256", ssmq_tokenizer_sha256(j->runner.tokenizer));
    }
    add_text(&out, j->text_path != NULL ? "text_sha256" : "ids_sha256", j->input_sha256);
    ssmq_str_addf(&out, "}\n");
    ssmq_status status = ssmq_str_check(&out, "summary", err);
    if (status == SSMQ_OK) (void)fputs(ssmq_str_get(&out), stdout);
    ssmq_str_free(&out);
    return status;
}

static ssmq_status score(job *j, ssmq_err *err) {
    double *nll = NULL;
    SSMQ_TRY(read_ids(j, err));
    SSMQ_TRY(ssmq_runner_load(&j->runner, err));
    SSMQ_TRY(ssmq_calloc(&nll, j->ids.n, sizeof *nll, err));
    ssmq_status status =
        ssmq_score_text(j->runner.engine, &j->protocol, j->ids.ids, (int64_t)j->ids.n, nll, err);
    if (status == SSMQ_OK && j->is_summary) status = print_summary(j, nll, err);
    if (status == SSMQ_OK && !j->is_summary) print_tokens(j, nll);
    ssmq_free(nll);
    return status;
}

ssmq_status ssmq_command_score(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    job j = {0};
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        print_help();
        return SSMQ_OK;
    }
    SSMQ_TRY(read_args(&j, &args, err));
    ssmq_runner_wish wish = {
        .precision = "fp32", .device = "auto", .with_tokenizer = j.text_path != NULL};
    SSMQ_TRY(ssmq_runner_wish_read(&wish, &args, err));
    SSMQ_TRY(ssmq_runner_open(&j.runner, &wish, err));
    ssmq_status status = score(&j, err);
    ssmq_ids_free(&j.ids);
    ssmq_runner_close(&j.runner);
    return status;
}
