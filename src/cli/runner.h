/* SPDX-License-Identifier: Apache-2.0 */
/* cli/runner.h - one model on one engine, as the commands score, generate and bench use it, and
 * the options they share. */
#ifndef SSMQ_CLI_RUNNER_H
#define SSMQ_CLI_RUNNER_H

#include <stdbool.h>

#include "base/status.h"
#include "cli/args.h"
#include "engine/engine.h"
#include "model/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Lines of an ssmq_option table. */
/* clang-format off */
#define SSMQ_RUNNER_OPTIONS                                                                        \
    {"model", 'm', "DIR", false, "checkpoint folder, or random:NAME"},                             \
    {"precision", 'p', "P", false, "precision, e.g. bf16, w8a8, w4a8:g64 (default fp32)"},         \
    {"scope", 0, "S", false, "what a quantized precision applies to (default all)"},               \
    {"device", 'd', "NAME", false, "auto, cpu, cuda or null (default auto)"},                      \
    {"threads", 't', "N", false, "host threads (default: as many as cores)"}
/* clang-format on */

typedef struct ssmq_runner {
    ssmq_model *model;
    ssmq_tokenizer *tokenizer; /* NULL unless asked for */
    const ssmq_engine_api *api;
    ssmq_engine *engine; /* NULL before ssmq_runner_load() */
    ssmq_spec spec;
    char scope[SSMQ_SCOPE_BYTES]; /* "none" for an unquantized precision */
    int n_threads;
} ssmq_runner;

/* What to open: the values of those options. */
typedef struct ssmq_runner_wish {
    const char *model;
    const char *precision;
    const char *scope; /* NULL: all */
    const char *device;
    int n_threads;
    bool with_tokenizer;
} ssmq_runner_wish;
/* Values that were given into *wish; the others stay.  Fails: CONFIG (--threads). */
SSMQ_MUST_USE ssmq_status ssmq_runner_wish_read(ssmq_runner_wish *wish, const ssmq_args *args,
                                                ssmq_err *err);

/* Opens the checkpoint, its tokenizer if wanted, and checks precision, scope and device; no weight
 * is loaded yet, so that the caller can check its other inputs first.
 * Owns: *out, ssmq_runner_close().  Fails: CONFIG, IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_runner_open(ssmq_runner *out, const ssmq_runner_wish *wish,
                                           ssmq_err *err);
/* Opens the engine and loads the weights.
 * Fails: SKIP (the engine cannot run this), NOMEM, DEVICE, CONFIG. */
SSMQ_MUST_USE ssmq_status ssmq_runner_load(ssmq_runner *runner, ssmq_err *err);
void ssmq_runner_close(ssmq_runner *runner);

#ifdef __cplusplus
}
#endif
#endif
