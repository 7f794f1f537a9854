/* SPDX-License-Identifier: Apache-2.0 */
/* Hands out what the statistics are computed from, for an oracle in another language.
 *
 *   tap run FOLDER TASK PRECISION PROTOCOL SEQ_LEN STRIDE N_TOKENS TEMPLATE
 *     one trial of the demo on the CPU engine, windows and prompts one at a time, baseline bf16. In
 *     FOLDER: trial.bin and baseline.bin, what that model's prefill calls answered for each scored
 *     token: int32 target, float nll, and float logits [V] where the task asks for them; after a
 *     prompt float logits [V]; after a decode call int32 n_steps, int32 first, and of each step
 *     int32 forced, int32 argmax (every fifth is made wrong), float nll. ids.bin: int32 [N_TOKENS]
 * of the text. record.json, samples.json. tap report FOLDER PROTOCOL SEQ_LEN STRIDE DRAW fidelity's
 * report of FOLDER/tokens.bin, double [n, 8] in order of the text: kl, reverse_kl, jsd,
 * baseline_nll, nll, delta_p, has_same_top, top5_overlap; record.json, samples.json. tap stats a
 * line of numbers for each line "NAME TEXT NUMBER..." of stdin; see the table of functions.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/engine.h"
#include "trial/fidelity.h"
#include "trial/stats.h"
#include "trial/trial.h"

enum { MAX_NUMBERS = 4096, MAX_LINE_BYTES = 1 << 17, TOKEN_NUMBERS = 8 };
static const size_t max_file_bytes = (size_t)1 << 30;

/* The engines under the tap: [0] the trial's, [1] the baseline's, in the order they are opened. */
static struct {
    ssmq_engine_api api;
    const ssmq_engine_api *real;
    ssmq_engine *engines[2];
    FILE *files[2];
    int64_t V;
    int64_t n_answers; /* decode steps so far */
} tap;

static FILE *file_of(const ssmq_engine *engine) {
    return tap.files[engine == tap.engines[0] ? 0 : 1];
}

static void put(const ssmq_engine *engine, const void *bytes, size_t n_bytes) {
    (void)fwrite(bytes, 1, n_bytes, file_of(engine));
}

static ssmq_status open_tapped(ssmq_engine **out, const ssmq_engine_options *options,
                               ssmq_err *err) {
    SSMQ_TRY(tap.real->open(out, options, err));
    (*out)->api = &tap.api;
    tap.engines[tap.engines[0] == NULL ? 0 : 1] = *out;
    return SSMQ_OK;
}

static ssmq_status prefill_tapped(ssmq_engine *engine, const ssmq_prefill *call, ssmq_err *err) {
    const size_t row = (size_t)tap.V * sizeof(float);
    SSMQ_TRY(tap.real->prefill(engine, call, err));
    for (int64_t i = 0; call->targets != NULL && i < call->n_tokens; i++) {
        if (call->targets[i] < 0) continue;
        put(engine, &call->targets[i], sizeof call->targets[i]);
        put(engine, &call->nll[i], sizeof call->nll[i]);
        if (call->all_logits != NULL) put(engine, call->all_logits + i * tap.V, row);
    }
    if (call->logits != NULL) put(engine, call->logits, row);
    return SSMQ_OK;
}

static ssmq_status decode_tapped(ssmq_engine *engine, const ssmq_decode *call, ssmq_err *err) {
    const int32_t n_steps = (int32_t)call->n_steps;
    SSMQ_TRY(tap.real->decode(engine, call, err));
    put(engine, &n_steps, sizeof n_steps);
    put(engine, call->first, sizeof *call->first);
    for (int32_t s = 0; s < n_steps; s++) {
        /* The model is too good a reader: every fifth greedy answer is made the first token. */
        if (++tap.n_answers % 5 == 0) call->argmax[s] = call->first[0];
        put(engine, &call->forced[s], sizeof call->forced[s]);
        put(engine, &call->argmax[s], sizeof call->argmax[s]);
        put(engine, &call->nll[s], sizeof call->nll[s]);
    }
    return SSMQ_OK;
}

static ssmq_status write_outcome(const char *folder, const ssmq_record *record,
                                 const ssmq_samples *samples, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    ssmq_str text;
    ssmq_str_init(&text, max_file_bytes);
    ssmq_record_add_json(record, &text);
    ssmq_status status = ssmq_path_join(path, folder, "record.json", err);
    if (status == SSMQ_OK) {
        status = ssmq_file_replace(path, ssmq_str_get(&text), text.n_bytes, err);
    }
    ssmq_str_clear(&text);
    ssmq_samples_add_json(samples, &text);
    if (status == SSMQ_OK) status = ssmq_path_join(path, folder, "samples.json", err);
    if (status == SSMQ_OK) {
        status = ssmq_file_replace(path, ssmq_str_get(&text), text.n_bytes, err);
    }
    ssmq_str_free(&text);
    return status;
}

/* What a run works on. */
typedef struct inputs {
    ssmq_config config;
    ssmq_inputs hashes;
    ssmq_model *model;
    ssmq_tokenizer *tokenizer;
    ssmq_ids ids;
    char *text;
} inputs;

static ssmq_status inputs_init(inputs *in, int64_t n_tokens, ssmq_err *err) {
    size_t n_bytes = 0;
    ssmq_str faults;
    ssmq_str_init(&faults, max_file_bytes);
    const char *const sets[] = {"sweep.baseline=bf16", "passkey.n_trials=3",
                                "passkey.depth=[0.2, 0.9]", "passkey.control=true",
                                "passkey.wrong_key=true"};
    const ssmq_config_sources sources = {.sets = sets, .n_sets = sizeof sets / sizeof sets[0]};
    const ssmq_status status = ssmq_config_read(&in->config, &sources, &faults, err);
    ssmq_str_free(&faults);
    SSMQ_TRY(status);
    SSMQ_TRY(ssmq_model_open(&in->model, "configs/demo", err));
    SSMQ_TRY(ssmq_tokenizer_open(&in->tokenizer, "configs/demo", err));
    SSMQ_TRY(
        ssmq_file_read(&in->text, &n_bytes, "configs/demo/demo-text.txt", max_file_bytes, err));
    SSMQ_TRY(ssmq_tokenizer_encode(in->tokenizer, in->text, n_bytes, &in->ids, err));
    SSMQ_CHECK((int64_t)in->ids.n >= n_tokens, err);
    in->hashes.shape = in->model->shape;
    tap.V = in->model->shape.V;
    return SSMQ_OK;
}

static void inputs_free(inputs *in) {
    ssmq_ids_free(&in->ids);
    ssmq_free(in->text);
    ssmq_tokenizer_close(in->tokenizer);
    ssmq_model_close(in->model);
}

static ssmq_status open_files(const char *folder, const inputs *in, int64_t n_tokens,
                              ssmq_err *err) {
    static const char *const names[] = {"trial.bin", "baseline.bin"};
    char path[SSMQ_PATH_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        SSMQ_TRY(ssmq_path_join(path, folder, names[i], err));
        tap.files[i] = fopen(path, "wb");
        SSMQ_CHECK(tap.files[i] != NULL, err);
    }
    SSMQ_TRY(ssmq_path_join(path, folder, "ids.bin", err));
    return ssmq_file_replace(path, in->ids.ids, (size_t)n_tokens * sizeof *in->ids.ids, err);
}

static ssmq_status trial_init(ssmq_trial *trial, char **argv, ssmq_err *err) {
    *trial = (ssmq_trial){.context_length = strtoll(argv[4], NULL, 10),
                          .stride = strtoll(argv[5], NULL, 10),
                          .batch_size = 1,
                          .gen_len = -1};
    while (trial->task < SSMQ_N_TASKS && strcmp(ssmq_task_name(trial->task), argv[1]) != 0) {
        trial->task++;
    }
    SSMQ_CHECK(ssmq_protocol_from_name(argv[3], &trial->protocol), err);
    SSMQ_TRY(ssmq_precision_parse(&trial->precision, argv[2], err));
    const bool is_quantized = ssmq_precision_is_quantized(&trial->precision);
    trial->key = "tap";
    trial->draw = "tap";
    trial->skip = "";
    trial->scope = is_quantized ? "all" : "none";
    ssmq_field_set(trial->prompt_template, sizeof trial->prompt_template, argv[7]);
    return SSMQ_OK;
}

static ssmq_status run_trial(inputs *in, char **argv, ssmq_err *err) {
    const int64_t n_tokens = strtoll(argv[6], NULL, 10);
    const ssmq_trial_inputs trial_inputs = {.config = &in->config,
                                            .model = in->model,
                                            .tokenizer = in->tokenizer,
                                            .text_ids = in->ids.ids,
                                            .n_text_ids = n_tokens,
                                            .text_counts = {.n_words = 77, .n_bytes = 401},
                                            .inputs = &in->hashes};
    ssmq_worker worker = {.options = {.n_threads = 1}};
    ssmq_trial trial;
    ssmq_record record;
    ssmq_samples samples = {0};
    SSMQ_TRY(trial_init(&trial, argv, err));
    SSMQ_TRY(tap.api.open(&worker.engine, &worker.options, err));
    ssmq_status status = ssmq_trial_run(&trial, &trial_inputs, &worker, &record, &samples, err);
    if (status == SSMQ_OK) status = write_outcome(argv[0], &record, &samples, err);
    ssmq_samples_free(&samples);
    ssmq_worker_end(&worker);
    worker.engine->api->close(worker.engine);
    return status;
}

static ssmq_status run(char **argv, ssmq_err *err) {
    inputs in = {0};
    tap.real = ssmq_engine_find("cpu");
    SSMQ_CHECK(tap.real != NULL, err);
    tap.api = *tap.real;
    tap.api.open = open_tapped;
    tap.api.prefill = prefill_tapped;
    tap.api.decode = decode_tapped;
    const int64_t n_tokens = strtoll(argv[6], NULL, 10);
    ssmq_status status = inputs_init(&in, n_tokens, err);
    if (status == SSMQ_OK) status = open_files(argv[0], &in, n_tokens, err);
    if (status == SSMQ_OK) status = run_trial(&in, argv, err);
    for (size_t i = 0; i < sizeof tap.files / sizeof tap.files[0]; i++) {
        if (tap.files[i] != NULL && fclose(tap.files[i]) != 0 && status == SSMQ_OK) {
            status = SSMQ_FAIL(err, IO, "%s: not written", argv[0]);
        }
    }
    inputs_free(&in);
    return status;
}

static ssmq_status report_tokens(char **argv, const double *numbers, int64_t n_tokens,
                                 ssmq_err *err) {
    ssmq_protocol_spec spec = {.seq_len = strtoll(argv[2], NULL, 10),
                               .stride = strtoll(argv[3], NULL, 10),
                               .batch_size = 1};
    SSMQ_CHECK(ssmq_protocol_from_name(argv[1], &spec.protocol), err);
    ssmq_divergence *tokens = NULL;
    SSMQ_TRY(ssmq_calloc(&tokens, (size_t)n_tokens, sizeof *tokens, err));
    for (int64_t t = 0; t < n_tokens; t++) {
        const double *x = numbers + t * TOKEN_NUMBERS;
        tokens[t] = (ssmq_divergence){.kl = x[0],
                                      .reverse_kl = x[1],
                                      .jsd = x[2],
                                      .baseline_nll = x[3],
                                      .nll = x[4],
                                      .delta_p = x[5],
                                      .has_same_top = x[6] > 0.5,
                                      .top5_overlap = x[7]};
    }
    ssmq_record record;
    ssmq_samples samples = {0};
    ssmq_record_init(&record);
    const trial_fidelity result = {
        .spec = &spec, .tokens = tokens, .n_tokens = n_tokens, .draw = argv[4]};
    ssmq_status status = trial_report_fidelity(&result, &record, &samples, err);
    if (status == SSMQ_OK) status = write_outcome(argv[0], &record, &samples, err);
    ssmq_samples_free(&samples);
    ssmq_free(tokens);
    return status;
}

static ssmq_status report(char **argv, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    char *bytes = NULL;
    size_t n_bytes = 0;
    SSMQ_TRY(ssmq_path_join(path, argv[0], "tokens.bin", err));
    SSMQ_TRY(ssmq_file_read(&bytes, &n_bytes, path, max_file_bytes, err));
    const int64_t n_tokens = (int64_t)(n_bytes / (TOKEN_NUMBERS * sizeof(double)));
    const ssmq_status status =
        report_tokens(argv, (const double *)(const void *)bytes, n_tokens, err);
    ssmq_free(bytes);
    return status;
}

static void say(double value, bool is_last) {
    (void)fprintf(stdout, "%.17g%c", value, is_last ? '\n' : ' ');
}

static void say_interval(ssmq_interval interval) {
    say(interval.low, false);
    say(interval.high, true);
}

/* numbers: n sums, then their n counts. */
static void bootstrap(const char *text, const double *numbers, size_t n) {
    static int64_t counts[MAX_NUMBERS];
    for (size_t i = 0; i < n / 2; i++) counts[i] = (int64_t)numbers[n / 2 + i];
    say_interval(ssmq_block_bootstrap(numbers, counts, n / 2, ssmq_rng_from_text(text)));
}

static void ratio_sem(const char *text, const double *numbers, size_t n) {
    static int64_t counts[MAX_NUMBERS];
    (void)text;
    for (size_t i = 0; i < n / 2; i++) counts[i] = (int64_t)numbers[n / 2 + i];
    say(ssmq_ratio_sem(numbers, counts, n / 2), true);
}

/* text: the percentile's q; a copy, because the values are sorted in place. */
static void percentile(const char *text, const double *numbers, size_t n) {
    static double values[MAX_NUMBERS];
    memcpy(values, numbers, n * sizeof *values);
    say(ssmq_percentile(values, n, strtod(text, NULL)), true);
}

static void mean(const char *text, const double *numbers, size_t n) {
    (void)text;
    say(ssmq_mean(numbers, n), false);
    say(ssmq_sem(numbers, n), true);
}

static void wilson(const char *text, const double *numbers, size_t n) {
    (void)text, (void)n;
    say_interval(ssmq_wilson((int64_t)numbers[0], (int64_t)numbers[1]));
}

/* text: protocol; numbers: seq_len, stride, n_tokens; answer: begin, end, first target of each. */
static void windows(const char *text, const double *numbers, size_t n) {
    ssmq_protocol_spec spec = {
        .seq_len = (int64_t)numbers[0], .stride = (int64_t)numbers[1], .batch_size = 1};
    const int64_t n_tokens = (int64_t)numbers[2];
    (void)n;
    if (!ssmq_protocol_from_name(text, &spec.protocol)) return;
    const int64_t n_windows = ssmq_protocol_n_windows(&spec, n_tokens);
    for (int64_t i = 0; i < n_windows; i++) {
        const ssmq_window w = ssmq_protocol_window(&spec, n_tokens, i);
        (void)fprintf(stdout, "%" PRId64 " %" PRId64 " %" PRId64 " ", w.begin, w.end,
                      w.first_target);
    }
    (void)fputc('\n', stdout);
}

static const struct {
    const char *name;
    void (*answer)(const char *text, const double *numbers, size_t n);
} functions[] = {{"bootstrap", bootstrap}, {"ratio_sem", ratio_sem}, {"percentile", percentile},
                 {"mean", mean},           {"wilson", wilson},       {"windows", windows}};

static ssmq_status answer_line(const char *line, ssmq_err *err) {
    static double numbers[MAX_NUMBERS];
    char name[32], text[128];
    int at = 0;
    size_t n = 0;
    SSMQ_CHECK(sscanf(line, "%31s %127s%n", name, text, &at) == 2, err);
    for (const char *place = line + at; n < MAX_NUMBERS; n++) {
        char *end = NULL;
        const double value = strtod(place, &end);
        if (end == place) break;
        numbers[n] = value;
        place = end;
    }
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        if (strcmp(functions[i].name, name) != 0) continue;
        functions[i].answer(text, numbers, n);
        return SSMQ_OK;
    }
    return SSMQ_FAIL(err, CONFIG, "%s: no such function", name);
}

static ssmq_status stats(char **argv, ssmq_err *err) {
    static char line[MAX_LINE_BYTES];
    (void)argv;
    while (fgets(line, sizeof line, stdin) != NULL) SSMQ_TRY(answer_line(line, err));
    return SSMQ_OK;
}

static const struct {
    const char *name;
    int n_arguments;
    ssmq_status (*run)(char **argv, ssmq_err *err);
} commands[] = {{"run", 8, run}, {"report", 5, report}, {"stats", 0, stats}};

int main(int argc, char **argv) {
    ssmq_err err = {0};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (argc != commands[i].n_arguments + 2 || strcmp(argv[1], commands[i].name) != 0) continue;
        if (commands[i].run(argv + 2, &err) == SSMQ_OK) return 0;
        (void)fprintf(stderr, "tap: %s\n", err.text);
        return 1;
    }
    (void)fputs("tap: bad usage\n", stderr);
    return 2;
}
