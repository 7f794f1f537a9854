/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/cpu_engine.c - the table of calls of the CPU engine. */
#include <stdio.h>
#include <string.h>

#include <cblas.h>
#include <omp.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/cpu/cpu.h"

extern const ssmq_engine_api ssmq_engine_cpu;

static cpu_engine *self(ssmq_engine *engine) {
    return (cpu_engine *)engine;
}

static ssmq_status open_cpu(ssmq_engine **out, const ssmq_engine_options *options, ssmq_err *err) {
    cpu_engine *e = NULL;
    *out = NULL;
    SSMQ_TRY(ssmq_calloc(&e, 1, sizeof *e, err));
    e->base.api = &ssmq_engine_cpu;
    e->n_threads = options->n_threads > 0 ? options->n_threads : omp_get_num_procs();
    /* Threads are ours: one BLAS call is one thread's tile. */
    openblas_set_num_threads(1);
    *out = &e->base;
    if (options->reuse_bytes == 0) return SSMQ_OK;
    return ssmq_reuse_open(&e->reuse, options->reuse_bytes, &ssmq_reuse_host_memory, err);
}

/* Widest sum of a product's columns that share a scale. */
static ssmq_status check_sums(const ssmq_shape *shape, const ssmq_precision *p, ssmq_err *err) {
    const int64_t columns = p->group_size > 0 ? p->group_size : shape->di;
    const double largest = ssmq_format_get(p->w_format)->qmax * ssmq_format_get(p->a_format)->qmax;
    if (ssmq_precision_has_integer_sums(p) && (double)columns * largest > (double)INT32_MAX) {
        return SSMQ_FAIL(err, SKIP, "integer sums over %lld columns may leave int32",
                         (long long)columns);
    }
    return SSMQ_OK;
}

static ssmq_status supports_cpu(ssmq_engine *engine, const ssmq_shape *shape, const ssmq_spec *spec,
                                ssmq_err *err) {
    const ssmq_precision *p = &spec->precision;
    (void)engine;
    SSMQ_TRY(check_sums(shape, p, err));
    return ssmq_spec_check(spec, shape, err);
}

/* ---- the state that forks begin with ---- */

static void forget_state(cpu_engine *e) {
    ssmq_free(e->kept.ssm);
    ssmq_free(e->kept.conv);
    memset(&e->kept, 0, sizeof e->kept);
}

/* Layer by layer, n numbers once for each sequence. */
static void spread(const cpu_engine *e, float *to, const float *from, int64_t n) {
    const int64_t B = e->extent.n_sequences;
    for (int64_t i = 0; i < e->shape.L * B; i++) {
        memcpy(to + i * n, from + i / B * n, (size_t)n * sizeof *to);
    }
}

static void fork_state(cpu_engine *e) {
    const ssmq_shape *s = &e->shape;
    spread(e, e->state.ssm, e->kept.ssm, s->H * s->P * s->N);
    spread(e, e->state.conv, e->kept.conv, (s->K - 1) * s->conv_dim);
    e->state.position = e->kept.position;
}

/* ---- load, reset ---- */

static ssmq_status load_cpu(ssmq_engine *engine, const ssmq_model *model, const ssmq_spec *spec,
                            ssmq_err *err) {
    cpu_engine *e = self(engine);
    SSMQ_TRY(supports_cpu(engine, &model->shape, spec, err));
    cpu_buffers_free(e);
    cpu_weights_free(&e->weights, e->shape.L);
    forget_state(e);
    e->is_loaded = false;
    e->shape = model->shape;
    e->spec = *spec;
    SSMQ_TRY(cpu_weights_init(&e->weights, model, spec, err));
    if (e->reuse != NULL) ssmq_reuse_begin_load(e->reuse, model, spec);
    e->is_loaded = true;
    return SSMQ_OK;
}

static ssmq_status reset_cpu(ssmq_engine *engine, const ssmq_engine_extent *extent, ssmq_err *err) {
    cpu_engine *e = self(engine);
    if (!e->is_loaded) return SSMQ_FAIL(err, INTERNAL, "reset before load");
    if (extent->n_sequences < 1 || extent->max_segment_tokens < 1) {
        return SSMQ_FAIL(err, CONFIG, "an extent needs a sequence and a token");
    }
    if (extent->is_forked) {
        SSMQ_CHECK(e->kept.ssm != NULL && extent->reuse_key == NULL, err);
    } else {
        forget_state(e);
    }
    e->extent = *extent;
    e->is_reused = false;
    SSMQ_TRY(cpu_buffers_init(e, err));
    if (extent->is_forked) fork_state(e);
    if (e->reuse == NULL) return SSMQ_OK;
    ssmq_reuse_begin_tokens(e->reuse, extent, e->segment_tokens);
    e->is_reused = extent->reuse_key != NULL;
    /* The caller's bytes are not ours after this call. */
    e->extent.reuse_key = NULL;
    return SSMQ_OK;
}

static ssmq_status check_ready(const cpu_engine *e, ssmq_err *err) {
    if (e->state.ssm == NULL) return SSMQ_FAIL(err, INTERNAL, "prefill or decode before reset");
    return SSMQ_OK;
}

/* Scores the targets of tokens [first, first + T) of each sequence. */
static ssmq_status score_segment(cpu_engine *e, const ssmq_prefill *call, int64_t first, int64_t T,
                                 ssmq_err *err) {
    cpu_head_want want = {.nll = true,
                          .all_logits = call->all_logits,
                          .n_tokens = call->n_tokens,
                          .first_token = first};
    for (int64_t row = 0; row < e->extent.n_sequences * T; row++) {
        const int64_t at = row / T * call->n_tokens + first + row % T;
        call->nll[at] = 0.0f;
        if (call->targets[at] < 0) continue;
        e->buffers.targets[want.n_listed] = call->targets[at];
        e->buffers.listed[want.n_listed++] = row;
    }
    SSMQ_TRY(cpu_head(e, &want, err));
    for (int64_t i = 0; i < want.n_listed; i++) {
        const int64_t row = e->buffers.listed[i];
        call->nll[row / T * call->n_tokens + first + row % T] = e->buffers.nll[i];
    }
    return SSMQ_OK;
}

/* Rows of the last token of each sequence. */
static int64_t list_last(cpu_engine *e, int64_t T) {
    const int64_t B = e->extent.n_sequences;
    for (int64_t b = 0; b < B; b++) e->buffers.listed[b] = b * T + T - 1;
    return B;
}

static ssmq_status run_prefill(cpu_engine *e, const ssmq_prefill *call, ssmq_err *err) {
    int64_t T = 0;
    for (int64_t first = 0; first < call->n_tokens; first += T) {
        const int64_t left = call->n_tokens - first;
        T = left < e->segment_tokens ? left : e->segment_tokens;
        SSMQ_TRY(cpu_forward(e, call->tokens + first, call->n_tokens, T, false, err));
        if (call->targets != NULL) SSMQ_TRY(score_segment(e, call, first, T, err));
        if (call->logits != NULL && T == left) {
            cpu_head_want want = {.n_listed = list_last(e, T), .logits = call->logits};
            SSMQ_TRY(cpu_head(e, &want, err));
        }
        e->state.position += T;
    }
    cpu_store_state(e);
    return SSMQ_OK;
}

static ssmq_status prefill_cpu(ssmq_engine *engine, const ssmq_prefill *call, ssmq_err *err) {
    cpu_engine *e = self(engine);
    const int64_t start_ns = ssmq_now_ns();
    SSMQ_TRY(check_ready(e, err));
    if (e->is_reused) SSMQ_CHECK(e->state.position + call->n_tokens <= e->extent.reuse_tokens, err);
    SSMQ_CHECK(call->all_logits == NULL || call->targets != NULL, err);
    const int64_t n = e->extent.n_sequences * call->n_tokens;
    SSMQ_TRY(ssmq_engine_check_ids(&e->shape, call->tokens, n, 0, err));
    if (call->targets != NULL)
        SSMQ_TRY(ssmq_engine_check_ids(&e->shape, call->targets, n, -1, err));
    SSMQ_TRY(run_prefill(e, call, err));
    e->last_call_ns = ssmq_now_ns() - start_ns;
    return SSMQ_OK;
}

/* One step; the buffers' tokens are fed and then hold what the next step feeds. */
static ssmq_status decode_step(cpu_engine *e, const ssmq_decode *call, int64_t step,
                               ssmq_err *err) {
    const int64_t B = e->extent.n_sequences;
    int32_t *tokens = e->buffers.tokens;
    SSMQ_TRY(cpu_forward(e, tokens, 1, 1, true, err));
    cpu_head_want want = {.n_listed = list_last(e, 1),
                          .nll = call->nll != NULL && call->forced != NULL,
                          .logits = step + 1 == call->n_steps ? call->logits : NULL,
                          .argmax = tokens,
                          .by_row = true};
    for (int64_t b = 0; want.nll && b < B; b++) {
        e->buffers.targets[b] = call->forced[b * call->n_steps + step];
    }
    SSMQ_TRY(cpu_head(e, &want, err));
    e->state.position++;
    cpu_store_state(e);
    for (int64_t b = 0; b < B; b++) {
        const int64_t at = b * call->n_steps + step;
        call->argmax[at] = tokens[b];
        if (want.nll) call->nll[at] = e->buffers.nll[b];
        if (call->forced != NULL) tokens[b] = call->forced[at];
    }
    return SSMQ_OK;
}

static ssmq_status decode_cpu(ssmq_engine *engine, const ssmq_decode *call, ssmq_err *err) {
    cpu_engine *e = self(engine);
    const int64_t B = e->extent.n_sequences;
    const int64_t start_ns = ssmq_now_ns();
    SSMQ_TRY(check_ready(e, err));
    SSMQ_CHECK(!e->is_reused, err);
    SSMQ_TRY(ssmq_engine_check_ids(&e->shape, call->first, B, 0, err));
    if (call->forced != NULL)
        SSMQ_TRY(ssmq_engine_check_ids(&e->shape, call->forced, B * call->n_steps, 0, err));
    memcpy(e->buffers.tokens, call->first, (size_t)B * sizeof *call->first);
    int64_t step_start_ns = start_ns;
    for (int64_t step = 0; step < call->n_steps; step++) {
        SSMQ_TRY(decode_step(e, call, step, err));
        const int64_t now_ns = ssmq_now_ns();
        if (call->step_ns != NULL) call->step_ns[step] = now_ns - step_start_ns;
        step_start_ns = now_ns;
    }
    e->last_call_ns = ssmq_now_ns() - start_ns;
    return SSMQ_OK;
}

static ssmq_status check_state_call(const cpu_engine *e, int64_t layer_idx, ssmq_err *err) {
    SSMQ_TRY(check_ready(e, err));
    SSMQ_CHECK(!e->is_reused && layer_idx >= 0 && layer_idx < e->shape.L, err);
    return SSMQ_OK;
}

static ssmq_status read_state_cpu(ssmq_engine *engine, int64_t layer_idx, float *ssm, float *conv,
                                  ssmq_err *err) {
    SSMQ_TRY(check_state_call(self(engine), layer_idx, err));
    cpu_read_state(self(engine), layer_idx, ssm, conv);
    return SSMQ_OK;
}

static ssmq_status write_state_cpu(ssmq_engine *engine, int64_t layer_idx, int64_t position,
                                   const float *ssm, const float *conv, ssmq_err *err) {
    SSMQ_TRY(check_state_call(self(engine), layer_idx, err));
    cpu_write_state(self(engine), layer_idx, ssm, conv);
    self(engine)->state.position = position;
    return SSMQ_OK;
}

static ssmq_status keep_state_cpu(ssmq_engine *engine, ssmq_err *err) {
    cpu_engine *e = self(engine);
    const ssmq_shape *s = &e->shape;
    const int64_t n_ssm = s->L * s->H * s->P * s->N, n_conv = s->L * (s->K - 1) * s->conv_dim;
    SSMQ_TRY(check_state_call(e, 0, err));
    SSMQ_CHECK(e->extent.n_sequences == 1, err);
    forget_state(e);
    ssmq_status status = ssmq_calloc_aligned(&e->kept.ssm, (size_t)n_ssm, sizeof(float), err);
    if (status == SSMQ_OK) {
        status = ssmq_calloc_aligned(&e->kept.conv, (size_t)n_conv, sizeof(float), err);
    }
    if (status != SSMQ_OK) {
        forget_state(e);
        return status;
    }
    memcpy(e->kept.ssm, e->state.ssm, (size_t)n_ssm * sizeof(float));
    memcpy(e->kept.conv, e->state.conv, (size_t)n_conv * sizeof(float));
    e->kept.position = e->state.position;
    return SSMQ_OK;
}

/* Buffers are taken once for all phases, so the peak of each phase is what stands. */
static void take_stats_cpu(ssmq_engine *engine, ssmq_engine_stats *out) {
    cpu_engine *e = self(engine);
    memset(out, 0, sizeof *out);
    out->sm_clock_mhz = -1;
    out->memory_clock_mhz = -1;
    out->temperature_c = -1;
    out->throttle_reasons = -1;
    out->weight_bytes = e->weights.stored_bytes;
    out->state_bytes = e->state.n_bytes;
    out->activation_bytes = e->buffers.activation_bytes;
    out->workspace_bytes = e->buffers.workspace_bytes;
    out->peak_bytes =
        out->weight_bytes + out->state_bytes + out->activation_bytes + out->workspace_bytes;
    out->last_call_ns = e->last_call_ns;
    out->computed_layer_tokens = e->computed_layer_tokens;
    out->reused_layer_tokens = e->reused_layer_tokens;
    e->computed_layer_tokens = 0;
    e->reused_layer_tokens = 0;
}

static bool alive_cpu(ssmq_engine *engine) {
    (void)engine;
    return true;
}

static void close_cpu(ssmq_engine *engine) {
    if (engine == NULL) return;
    cpu_engine *e = self(engine);
    cpu_buffers_free(e);
    cpu_weights_free(&e->weights, e->shape.L);
    forget_state(e);
    ssmq_reuse_close(e->reuse);
    ssmq_free(e);
}

/* "model name : AMD EPYC ..." of the first processor. */
static void read_cpu_name(char *out, size_t out_bytes) {
    static const char label[] = "model name";
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    ssmq_field_set(out, out_bytes, "unknown");
    if (file == NULL) return;
    while (fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, label, sizeof label - 1) != 0 || colon == NULL) continue;
        line[strcspn(line, "\n")] = '\0';
        ssmq_field_set(out, out_bytes, colon + 1 + strspn(colon + 1, " "));
        break;
    }
    (void)fclose(file);
}

/* What the products of quantized modules are summed in; before load() those of integers. */
static const char *compute_type(const cpu_engine *e) {
    const bool is_integer = !e->is_loaded || ssmq_precision_has_integer_sums(&e->spec.precision);
    return is_integer ? "int32 (exact sgemm sums)" : "fp32 (sgemm)";
}

static void describe_cpu(ssmq_engine *engine, ssmq_engine_facts *out) {
    const cpu_engine *e = self(engine);
    const char *version = strchr(openblas_get_config(), ' ');
    char backend[sizeof out->quant_backend];
    version = version != NULL ? version + 1 : "unknown";
    (void)snprintf(backend, sizeof backend, "OpenBLAS %.*s", (int)strcspn(version, " "), version);
    memset(out, 0, sizeof *out);
    ssmq_field_set(out->device, sizeof out->device, "cpu");
    ssmq_field_set(out->quant_backend, sizeof out->quant_backend, backend);
    ssmq_field_set(out->compute_type, sizeof out->compute_type, compute_type(e));
    ssmq_field_set(out->timer, sizeof out->timer, "host clock");
    ssmq_field_set(out->memory_source, sizeof out->memory_source, "allocator; weights as stored");
    read_cpu_name(out->cpu_name, sizeof out->cpu_name);
    out->n_threads = e->n_threads;
}

const ssmq_engine_api ssmq_engine_cpu = {
    .name = "cpu",
    .open = open_cpu,
    .supports = supports_cpu,
    .load = load_cpu,
    .reset = reset_cpu,
    .prefill = prefill_cpu,
    .decode = decode_cpu,
    .read_state = read_state_cpu,
    .write_state = write_state_cpu,
    .keep_state = keep_state_cpu,
    .take_stats = take_stats_cpu,
    .alive = alive_cpu,
    .close = close_cpu,
    .describe = describe_cpu,
};
