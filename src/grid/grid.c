/* SPDX-License-Identifier: Apache-2.0 */
/* Expansion: every combination is named by its key; of equal ids the first is kept. A quantized
 * precision whose scope holds no module is the unquantized precision of its compute type, and is
 * taken for it. */
#include "grid/grid.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "config/scopes.h"
#include "grid/key.h"

static const int64_t one_value[1] = {-1};

typedef struct builder {
    const ssmq_config *config;
    const ssmq_inputs *inputs;
    ssmq_grid *grid;
    size_t capacity;
    ssmq_scope_entry *scopes;
    const char **scope_texts; /* of the scopes, kept with the grid */
    size_t n_scopes;
} builder;

/* What a task's own axes are. */
typedef struct task_axes {
    size_t n_protocols; /* of passkey: prompt templates; 1 where there are neither */
    size_t n_contexts;
    const int64_t *contexts;
    size_t n_batches;
    const int64_t *batches;
} task_axes;

static task_axes axes_of(const ssmq_config *config, ssmq_task task) {
    task_axes axes = {.n_protocols = 1, .n_batches = 1, .batches = one_value};
    if (ssmq_task_is_of_text(task)) {
        axes.n_protocols = config->ppl.n_protocols;
        axes.n_contexts = config->ppl.seq_len.n;
        axes.contexts = config->ppl.seq_len.values;
        axes.batches = &config->ppl.batch_size;
    } else if (task == SSMQ_TASK_PASSKEY) {
        axes.n_protocols = config->passkey.n_prompt_template;
        axes.n_contexts = config->passkey.context_length.n;
        axes.contexts = config->passkey.context_length.values;
        axes.batches = &config->passkey.batch_size;
    } else if (task == SSMQ_TASK_DRIFT) {
        axes.n_contexts = 1;
        axes.contexts = &config->drift.context_length;
        axes.batches = &config->drift.n_sequences;
    } else {
        axes.n_contexts = config->profile.context_length.n;
        axes.contexts = config->profile.context_length.values;
        axes.n_batches = config->profile.batch_size.n;
        axes.batches = config->profile.batch_size.values;
    }
    return axes;
}

/* Combinations before equal ones are left out; at most 3 * 3 * 64^4 * (64 * 256). */
static int64_t count_combinations(const builder *b) {
    const ssmq_config_sweep *sweep = &b->config->sweep;
    int64_t points = 0;
    for (size_t i = 0; i < sweep->n_tasks; i++) {
        task_axes axes = axes_of(b->config, sweep->tasks[i]);
        points += (int64_t)(axes.n_protocols * axes.n_contexts * axes.n_batches * sweep->seed.n);
    }
    int64_t variants = 0;
    for (size_t i = 0; i < sweep->n_precisions; i++) {
        bool takes_scope = ssmq_precision_is_quantized(&sweep->precisions[i]);
        variants += takes_scope ? (int64_t)b->n_scopes : 1;
    }
    return points * variants;
}

static ssmq_status expand_scopes(builder *b, ssmq_err *err) {
    const ssmq_config_sweep *sweep = &b->config->sweep;
    int64_t n_layers = b->inputs->shape.L;
    size_t most = sweep->n_scopes * (size_t)(n_layers > 0 ? n_layers : 1);
    SSMQ_TRY(ssmq_calloc(&b->scopes, most, sizeof *b->scopes, err));
    SSMQ_TRY(ssmq_calloc(&b->scope_texts, most, sizeof *b->scope_texts, err));
    for (size_t i = 0; i < sweep->n_scopes; i++) {
        int64_t n = ssmq_scope_has_each(sweep->scopes[i]) ? n_layers : 1;
        for (int64_t layer = 0; layer < n; layer++) {
            ssmq_scope_entry *entry = &b->scopes[b->n_scopes];
            ssmq_scope_at_layer(entry->text, sweep->scopes[i], (int)layer);
            SSMQ_TRY(ssmq_scope_entry_resolve(entry, &b->inputs->shape, err));
            SSMQ_TRY(
                ssmq_texts_keep(&b->grid->texts, entry->text, &b->scope_texts[b->n_scopes++], err));
        }
    }
    return SSMQ_OK;
}

/* Why trials of a point cannot run; "" if they can. */
static void find_skip(const ssmq_trial *point, const builder *b, char out[SSMQ_SKIP_BYTES]) {
    out[0] = '\0';
    if (point->task == SSMQ_TASK_PASSKEY && b->inputs->tokenizer_sha256[0] == '\0') {
        ssmq_field_set(out, SSMQ_SKIP_BYTES, "passkey needs a tokenizer, and this model has none");
    }
    if (!ssmq_task_reads_text(point->task)) return;
    int64_t used = ssmq_used_tokens(b->config, b->inputs);
    if (point->task == SSMQ_TASK_DRIFT) {
        const int64_t drift = point->context_length * point->batch_size;
        if (used < 0 || used >= drift) return;
        (void)snprintf(out, SSMQ_SKIP_BYTES, "text has %" PRId64 " tokens, drift needs %" PRId64,
                       used, drift);
        return;
    }
    int64_t needed = point->context_length;
    if (point->protocol == SSMQ_PROTOCOL_STREAM || point->protocol == SSMQ_PROTOCOL_ROLLING) {
        needed = 2;
    }
    if (point->protocol == SSMQ_PROTOCOL_HALF_WINDOW) needed *= 2;
    if (used >= 0 && used < needed) {
        (void)snprintf(out, SSMQ_SKIP_BYTES,
                       "text has %" PRId64 " tokens, the window needs %" PRId64, used, needed);
    }
}

/* precision without its quantization. */
static ssmq_status unquantized(ssmq_precision *out, const ssmq_precision *precision,
                               ssmq_err *err) {
    SSMQ_TRY(ssmq_precision_parse(out, ssmq_dtype_name(precision->dtype), err));
    out->state_dtype = precision->state_dtype;
    out->state_format = precision->state_format;
    out->state_is_stochastic = precision->state_is_stochastic;
    return SSMQ_OK;
}

/* entry NULL: an unquantized precision. The point's first trial finds the draw for all. */
static ssmq_status add_trial(builder *b, ssmq_trial *point, const ssmq_precision *precision,
                             const ssmq_scope_entry *entry, ssmq_err *err) {
    ssmq_grid *grid = b->grid;
    SSMQ_TRY(ssmq_grow(&grid->trials, &b->capacity, grid->n_trials + 1, sizeof *grid->trials,
                       SSMQ_MAX_TRIALS, err));
    ssmq_trial *trial = &grid->trials[grid->n_trials];
    *trial = *point;
    trial->precision = *precision;
    bool is_none = entry == NULL || entry->is_none;
    if (entry != NULL && is_none) SSMQ_TRY(unquantized(&trial->precision, precision, err));
    trial->scope = is_none ? "none" : b->scope_texts[entry - b->scopes];
    SSMQ_TRY(ssmq_trial_name(trial, is_none ? "none" : entry->canonical, b->config, b->inputs,
                             &grid->texts, err));
    point->draw = trial->draw;
    if (trial->skip[0] == '\0') {
        const double share = is_none ? 0.0 : entry->quantized_share;
        trial->cost_s = ssmq_trial_cost(trial, share, b->config, b->inputs);
        trial->load_cost_s = ssmq_load_cost(b->inputs);
    }
    grid->n_trials++;
    return SSMQ_OK;
}

/* Trials of all precisions and scopes. */
static ssmq_status add_variants(builder *b, ssmq_trial *point, ssmq_err *err) {
    const ssmq_config_sweep *sweep = &b->config->sweep;
    char skip[SSMQ_SKIP_BYTES];
    find_skip(point, b, skip);
    SSMQ_TRY(ssmq_texts_keep(&b->grid->texts, skip, &point->skip, err));
    for (size_t i = 0; i < sweep->n_precisions; i++) {
        const ssmq_precision *precision = &sweep->precisions[i];
        if (!ssmq_precision_is_quantized(precision)) {
            SSMQ_TRY(add_trial(b, point, precision, NULL, err));
            b->grid->n_equal += b->n_scopes - 1;
            continue;
        }
        for (size_t j = 0; j < b->n_scopes; j++) {
            SSMQ_TRY(add_trial(b, point, precision, &b->scopes[j], err));
        }
    }
    return SSMQ_OK;
}

static ssmq_status expand_task(builder *b, ssmq_task task, ssmq_err *err) {
    const ssmq_config *config = b->config;
    const ssmq_axis_i64 *seeds = &config->sweep.seed;
    task_axes axes = axes_of(config, task);
    size_t n = axes.n_protocols * axes.n_contexts * axes.n_batches * seeds->n;
    for (size_t i = 0; i < n; i++) {
        size_t rest = i;
        ssmq_trial point = {.task = task, .stride = -1, .gen_len = -1};
        point.seed = seeds->values[rest % seeds->n];
        rest /= seeds->n;
        point.batch_size = axes.batches[rest % axes.n_batches];
        rest /= axes.n_batches;
        point.context_length = axes.contexts[rest % axes.n_contexts];
        rest /= axes.n_contexts;
        if (ssmq_task_is_of_text(task)) point.protocol = config->ppl.protocols[rest];
        if (ssmq_task_is_of_text(task) && point.protocol == SSMQ_PROTOCOL_SLIDING) {
            point.stride = config->ppl.stride;
        }
        if (task == SSMQ_TASK_PASSKEY) {
            ssmq_field_set(point.prompt_template, sizeof point.prompt_template,
                           config->passkey.prompt_template[rest]);
        }
        if (task == SSMQ_TASK_PROFILE) point.gen_len = config->profile.gen_len;
        SSMQ_TRY(add_variants(b, &point, err));
    }
    return SSMQ_OK;
}

/* Slot of a trial in a table of n_slots (a power of two), from the head of its id. */
static size_t slot_of(const ssmq_trial *trial, size_t n_slots) {
    uint64_t hash = 0;
    for (int i = 0; i < 16; i++) {
        char c = trial->id[i];
        hash = hash << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return (size_t)(hash & (n_slots - 1));
}

/* Keeps the first of equal trials, in order. */
static ssmq_status leave_out_equal(ssmq_grid *grid, ssmq_err *err) {
    size_t n_slots = 16;
    while (n_slots < 2 * grid->n_trials) n_slots *= 2;
    uint32_t *slots = NULL; /* index + 1; 0: free */
    SSMQ_TRY(ssmq_calloc(&slots, n_slots, sizeof *slots, err));
    size_t n_kept = 0;
    for (size_t i = 0; i < grid->n_trials; i++) {
        size_t slot = slot_of(&grid->trials[i], n_slots);
        while (slots[slot] != 0 &&
               strcmp(grid->trials[slots[slot] - 1].id, grid->trials[i].id) != 0) {
            slot = (slot + 1) & (n_slots - 1);
        }
        if (slots[slot] != 0) {
            grid->n_equal++;
            continue;
        }
        if (n_kept != i) grid->trials[n_kept] = grid->trials[i];
        slots[slot] = (uint32_t)++n_kept;
    }
    grid->n_trials = n_kept;
    ssmq_free(slots);
    return SSMQ_OK;
}

/* A text that no window fits into is a mistake, not a corner of the grid. */
static ssmq_status check_windows(const builder *b, ssmq_err *err) {
    int64_t shortest = INT64_MAX;
    for (size_t i = 0; i < b->grid->n_trials; i++) {
        const ssmq_trial *trial = &b->grid->trials[i];
        if (!ssmq_task_is_of_text(trial->task)) continue;
        if (trial->skip[0] == '\0') return SSMQ_OK;
        if (trial->context_length < shortest) shortest = trial->context_length;
    }
    if (shortest == INT64_MAX) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG,
                     "ppl.seq_len: the shortest window has %" PRId64 " tokens, but ppl.text %s has "
                     "%" PRId64 " (ppl.max_tokens %" PRId64 "); a longer text or a shorter window",
                     shortest, b->config->ppl.text, b->inputs->text_tokens,
                     b->config->ppl.max_tokens);
}

static ssmq_status expand(builder *b, ssmq_err *err) {
    const ssmq_config_sweep *sweep = &b->config->sweep;
    SSMQ_TRY(expand_scopes(b, err));
    int64_t n = count_combinations(b);
    if (n > SSMQ_MAX_TRIALS) {
        return SSMQ_FAIL(err, CONFIG, "the grid has %" PRId64 " combinations; at most %d", n,
                         SSMQ_MAX_TRIALS);
    }
    if (n == 0) return SSMQ_FAIL(err, CONFIG, "the grid has no trial: an axis is empty");
    for (size_t i = 0; i < sweep->n_tasks; i++) SSMQ_TRY(expand_task(b, sweep->tasks[i], err));
    SSMQ_TRY(leave_out_equal(b->grid, err));
    SSMQ_TRY(check_windows(b, err));
    return sweep->only[0] != '\0' ? ssmq_grid_only(b->grid, "sweep.only", sweep->only, err)
                                  : SSMQ_OK;
}

ssmq_status ssmq_grid_init(ssmq_grid *out, const ssmq_config *config, const ssmq_inputs *inputs,
                           ssmq_err *err) {
    memset(out, 0, sizeof *out);
    builder b = {.config = config, .inputs = inputs, .grid = out};
    ssmq_status status = expand(&b, err);
    ssmq_free(b.scopes);
    ssmq_free(b.scope_texts);
    if (status != SSMQ_OK) ssmq_grid_free(out);
    return status;
}

void ssmq_grid_free(ssmq_grid *grid) {
    ssmq_free(grid->trials);
    ssmq_texts_free(&grid->texts);
    memset(grid, 0, sizeof *grid);
}
