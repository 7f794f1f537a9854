/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/plan.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"

static const char header[] =
    "trial_idx,trial_id,task,protocol,prompt_template,precision,scope,context_length,"
    "stride,batch_size,gen_len,seed,cost_s,load_cost_s,weight_bytes,state_bytes,"
    "activation_bytes,workspace_bytes,device_bytes,skip,trial_key\n";

/* RFC 4180: quoted, so that scopes and reasons may hold commas. */
static void add_text(ssmq_str *out, const char *text) {
    ssmq_str_add(out, "\"", 1);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"') ssmq_str_add(out, "\"", 1);
        ssmq_str_add(out, c, 1);
    }
    ssmq_str_add(out, "\",", 2);
}

static void add_number(ssmq_str *out, int64_t value) {
    if (value >= 0) ssmq_str_addf(out, "%lld", (long long)value);
    ssmq_str_add(out, ",", 1);
}

bool ssmq_plan_sizes(const ssmq_trial *trial, const ssmq_loaded *loaded, ssmq_engine_stats *out) {
    const ssmq_shape *shape = &loaded->inputs.shape;
    ssmq_engine_extent extent;
    ssmq_spec spec;
    if (trial->skip[0] != '\0' || !ssmq_trial_extent(trial, &loaded->trial, &extent)) return false;
    if (ssmq_spec_init(&spec, &trial->precision, trial->scope, shape, NULL) != SSMQ_OK) {
        return false;
    }
    return ssmq_engine_sizes(loaded->engine_api->name, shape, &spec, &extent, out);
}

static void add_sizes(ssmq_str *out, const ssmq_trial *trial, const ssmq_loaded *loaded) {
    ssmq_engine_stats sizes;
    const bool is_known = ssmq_plan_sizes(trial, loaded, &sizes);
    add_number(out, is_known ? sizes.weight_bytes : -1);
    add_number(out, is_known ? sizes.state_bytes : -1);
    add_number(out, is_known ? sizes.activation_bytes : -1);
    add_number(out, is_known ? sizes.workspace_bytes : -1);
    add_number(out, is_known ? sizes.peak_bytes : -1);
}

ssmq_status ssmq_plan_write(const ssmq_grid *grid, const ssmq_loaded *loaded, ssmq_str *out,
                            ssmq_err *err) {
    ssmq_str_add(out, header, sizeof header - 1);
    for (size_t i = 0; i < grid->n_trials; i++) {
        const ssmq_trial *trial = &grid->trials[i];
        bool is_of_text = ssmq_task_is_of_text(trial->task);
        ssmq_str_addf(out, "%zu,%s,%s,%s,%s,", i, trial->id, ssmq_task_name(trial->task),
                      is_of_text ? ssmq_protocol_name(trial->protocol) : "",
                      trial->prompt_template);
        add_text(out, trial->precision.name);
        add_text(out, trial->scope);
        add_number(out, trial->context_length);
        add_number(out, trial->stride);
        add_number(out, trial->batch_size);
        add_number(out, trial->gen_len);
        add_number(out, trial->seed);
        ssmq_str_addf(out, "%.6g,%.6g,", trial->cost_s, trial->load_cost_s);
        add_sizes(out, trial, loaded);
        add_text(out, trial->skip);
        ssmq_str_addf(out, "\"%s\"\n", trial->key);
    }
    return ssmq_str_check(out, "plan", err);
}

ssmq_status ssmq_plan_read(const char *path, char (**ids)[SSMQ_SHA256_HEX_BYTES], size_t *n,
                           ssmq_err *err) {
    char *text = NULL;
    size_t n_bytes = 0;
    size_t capacity = 0;
    ssmq_status status = SSMQ_OK;
    *ids = NULL;
    *n = 0;
    SSMQ_TRY(ssmq_file_read(&text, &n_bytes, path, SSMQ_MAX_PLAN_BYTES, err));
    const char *line = strchr(text, '\n');
    while (line != NULL && line[1] != '\0') {
        line++;
        const char *id = strchr(line, ',');
        if (id == NULL || strcspn(id + 1, ",\n") != SSMQ_SHA256_HEX_BYTES - 1) {
            status =
                SSMQ_FAIL(err, CONFIG, "%s:%zu: no trial id in the second column", path, *n + 2);
            goto free_text;
        }
        SSMQ_TRY_OR(ssmq_grow(ids, &capacity, *n + 1, sizeof **ids, SSMQ_MAX_TRIALS, err),
                    free_text);
        memcpy((*ids)[*n], id + 1, SSMQ_SHA256_HEX_BYTES - 1);
        (*ids)[*n][SSMQ_SHA256_HEX_BYTES - 1] = '\0';
        (*n)++;
        line = strchr(line, '\n');
    }
free_text:
    ssmq_free(text);
    if (status != SSMQ_OK) {
        ssmq_free(*ids);
        *ids = NULL;
        *n = 0;
    }
    return status;
}
