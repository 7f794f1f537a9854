/* SPDX-License-Identifier: Apache-2.0 */
/* config/config.h - YAML configuration of a sweep: includes, overrides, every check of values.
 *
 * A file is a mapping of the sections below. `include: [a.yaml, ...]` (paths relative to the
 * including file) is read first; later files and --set override scalars and replace lists. Every
 * fault of every file is reported at once, a line each:
 *     file:line:column: key: what is wrong; what is allowed
 * The table of keys, types, defaults and limits is SSMQ_CONFIG_KEYS in config_keys.h. */
#ifndef SSMQ_CONFIG_CONFIG_H
#define SSMQ_CONFIG_CONFIG_H

#include <stddef.h>

#include "base/file.h"
#include "base/status.h"
#include "base/str.h"
#include "quant/precision.h"
#include "quant/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SSMQ_MAX_AXIS = 64,       /* values of one axis */
    SSMQ_MAX_TEMPLATES = 8,   /* prompt templates of one run */
    SSMQ_TEMPLATE_BYTES = 32, /* name of a prompt template */
    SSMQ_MAX_TEXT_VALUE = 512 /* bytes of a text value */
};

typedef enum ssmq_task {
    SSMQ_TASK_PPL,
    SSMQ_TASK_PASSKEY,
    SSMQ_TASK_PROFILE,
    SSMQ_TASK_FIDELITY,
    SSMQ_TASK_DRIFT,
    SSMQ_N_TASKS
} ssmq_task;
/* "ppl", "passkey", "profile", "fidelity", "drift". */
const char *ssmq_task_name(ssmq_task task);
/* Whether a task cuts ppl.text into windows, as the ppl keys say: ppl and fidelity. */
bool ssmq_task_is_of_text(ssmq_task task);
/* Whether a task reads ppl.text: those, and drift. */
bool ssmq_task_reads_text(ssmq_task task);
/* Whether a task runs sweep.baseline beside the trial's precision: fidelity and drift. */
bool ssmq_task_has_baseline(ssmq_task task);

typedef enum ssmq_protocol {
    SSMQ_PROTOCOL_DISJOINT, /* windows of seq_len, tail dropped, first token of each unscored */
    SSMQ_PROTOCOL_SLIDING,  /* windows of seq_len every stride tokens, each token scored once */
    SSMQ_PROTOCOL_STREAM,   /* state carried over the whole text */
    SSMQ_PROTOCOL_ROLLING,  /* lm-evaluation-harness: every token scored once, the first given the
                               end-of-text token; for word and byte perplexity */
    SSMQ_PROTOCOL_HALF_WINDOW, /* llama.cpp: windows of seq_len, the second half of each scored */
    SSMQ_N_PROTOCOLS
} ssmq_protocol;
const char *ssmq_protocol_name(ssmq_protocol protocol);
bool ssmq_protocol_from_name(const char *name, ssmq_protocol *out);

typedef struct ssmq_axis_i64 {
    size_t n;
    int64_t values[SSMQ_MAX_AXIS];
} ssmq_axis_i64;

typedef struct ssmq_axis_f64 {
    size_t n;
    double values[SSMQ_MAX_AXIS];
} ssmq_axis_f64;

typedef struct ssmq_config_model {
    char path[SSMQ_MAX_TEXT_VALUE];        /* folder, or random:NAME */
    char revision[64];                     /* what the user calls this version; recorded */
    char device[16];                       /* auto | cpu | cuda | null */
    int64_t threads;                       /* host threads a rank; 0: cores / ranks of the host */
    char null_script[SSMQ_MAX_TEXT_VALUE]; /* faults of the null engine */
} ssmq_config_model;

typedef struct ssmq_config_sweep {
    size_t n_tasks;
    ssmq_task tasks[SSMQ_N_TASKS];
    size_t n_precisions;
    ssmq_precision precisions[SSMQ_MAX_AXIS];
    size_t n_scopes;
    char scopes[SSMQ_MAX_AXIS][SSMQ_SCOPE_BYTES]; /* may hold "only:each.MODULE", one a layer */
    char only[SSMQ_MAX_TEXT_VALUE]; /* part of the grid, see ssmq_grid_only(); "": all of it */
    ssmq_axis_i64 seed;
    char baseline[SSMQ_PRECISION_NAME_BYTES]; /* precision that others are compared with */
    char order[16];        /* cost | grid | shuffled; results do not depend on it */
    double max_trial_s;    /* limit of one trial; 0: none */
    int64_t reuse_mb;      /* memory for reuse between trials, 10^6 bytes; 0: none, and no forks */
    int64_t nccl_least_mb; /* least checkpoint that NCCL sends, 10^6 bytes */
    char notes[SSMQ_MAX_TEXT_VALUE];
} ssmq_config_sweep;

typedef struct ssmq_config_ppl {
    char text[SSMQ_MAX_TEXT_VALUE]; /* UTF-8 file */
    size_t n_protocols;
    ssmq_protocol protocols[SSMQ_N_PROTOCOLS];
    ssmq_axis_i64 seq_len; /* window, tokens; of stream: length of one prefill segment */
    int64_t stride;        /* of sliding */
    int64_t max_tokens;    /* 0: the whole text */
    int64_t batch_size;    /* windows run together; results do not depend on it */
} ssmq_config_ppl;

typedef struct ssmq_config_passkey {
    ssmq_axis_i64 context_length; /* exact tokens of the prompt */
    ssmq_axis_f64 depth;          /* places of the needle, 0 (start) to 1 (end) */
    int64_t n_trials;             /* prompts a depth */
    size_t n_prompt_template;
    char prompt_template[SSMQ_MAX_TEMPLATES][SSMQ_TEMPLATE_BYTES]; /* of ssmq_template_versions() */
    char filler[16];                                               /* grass | text */
    char filler_text[SSMQ_MAX_TEXT_VALUE];                         /* UTF-8 file of filler: text */
    bool control;          /* also run each prompt without its needle */
    bool wrong_key;        /* also run each prompt with another key in its needle */
    double accuracy_floor; /* of the baseline; below it figures mask a cell */
    int64_t batch_size;    /* prompts run together; results do not depend on it */
} ssmq_config_passkey;

typedef struct ssmq_config_profile {
    ssmq_axis_i64 context_length; /* tokens of the prefill, then decode continues from there */
    ssmq_axis_i64 batch_size;
    int64_t gen_len;          /* decode steps timed as one sample */
    char decode_products[16]; /* library | own: of steps of few sequences, on a GPU */
    int64_t n_warmup;
    int64_t n_measure;
} ssmq_config_profile;

typedef struct ssmq_config_drift {
    int64_t context_length; /* tokens of the last step; steps double up to it */
    int64_t n_sequences;    /* pieces of ppl.text of that length, side by side */
    char path[16];          /* prefill | decode */
    double impulse;         /* relative error put into the state once; 0: none */
} ssmq_config_drift;

typedef struct ssmq_config_run {
    char out_dir[SSMQ_MAX_TEXT_VALUE];
    char run_id[128]; /* "": UTC time and a short hash */
    bool fail_fast;
    int64_t max_failures; /* 0: no limit */
    double time_limit_s;  /* stop handing out trials after this long; 0: no limit */
} ssmq_config_run;

typedef struct ssmq_config {
    ssmq_config_model model;
    ssmq_config_sweep sweep;
    ssmq_config_ppl ppl;
    ssmq_config_passkey passkey;
    ssmq_config_profile profile;
    ssmq_config_drift drift;
    ssmq_config_run run;
} ssmq_config;

/* The precision that sweep.baseline names: one of sweep.precisions or a built-in one.
 * Fails: CONFIG (neither; a configuration that was read has one of them). */
SSMQ_MUST_USE ssmq_status ssmq_config_baseline(ssmq_precision *out, const ssmq_config *config,
                                               ssmq_err *err);

typedef struct ssmq_config_sources {
    const char *const *files; /* in order; later wins */
    size_t n_files;
    const char *const *sets; /* "section.key=value" */
    size_t n_sets;
} ssmq_config_sources;

/* Reads, merges and checks. On CONFIG, `faults` holds one line for every fault (at least one) and
 * err their count. Checks values only; files that values name are opened by whoever uses them.
 * Fails: CONFIG, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_config_read(ssmq_config *out, const ssmq_config_sources *sources,
                                           ssmq_str *faults, ssmq_err *err);

/* The whole configuration as YAML with every key set; reads back to the same bytes. Sections in
 * fixed order; the `run` section is left out if without_run (it does not change results, and the
 * rest is what a resumed run must match). */
SSMQ_MUST_USE ssmq_status ssmq_config_write(const ssmq_config *config, bool without_run,
                                            ssmq_str *out, ssmq_err *err);

/* First differing keys of two configurations as "section.key: a -> b" lines; "" if equal but for
 * `run`. */
SSMQ_MUST_USE ssmq_status ssmq_config_diff(const ssmq_config *a, const ssmq_config *b,
                                           ssmq_str *out, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
