/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/cuda_engine.c - the table of calls of the CUDA engine. */
#include "engine/cuda/cuda_engine.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "engine/cuda/check.h"
#include "engine/cuda/head.h"
#include "quant/quantize.h"

enum {
    MAX_SEQUENCES = 65535,
    BF16_MAJOR = 8,
    FP8_MAJOR = 9,
    MAX_STATE_SIZE = 256,
    MAX_GROUPS = 1024 /* of columns that share a scale, in a row of weights */
};

extern const ssmq_engine_api ssmq_engine_cuda;

static cuda_engine *self(ssmq_engine *engine) {
    return (cuda_engine *)engine;
}

/* ---- slabs ---- */

static void free_extent(cuda_engine *e) {
    cuda_graphs_drop(e);
    cuda_slab_free(&e->state_slab);
    cuda_slab_free(&e->activation_slab);
    cuda_slab_free(&e->workspace_slab);
    (void)cudaFreeHost(e->staging.slab);
    memset(&e->staging, 0, sizeof e->staging);
    e->is_ready = false;
}

/* ---- layers that trials share ---- */

static void *take_device(int64_t n_bytes) {
    void *bytes = NULL;
    if (cudaMalloc(&bytes, (size_t)n_bytes) == cudaSuccess) return bytes;
    (void)cudaGetLastError();
    return NULL;
}

static void give_back_device(void *bytes) {
    (void)cudaFree(bytes);
}

static const ssmq_reuse_memory device_memory = {take_device, give_back_device};

/* ---- open, close ---- */

static void close_cuda(ssmq_engine *engine) {
    if (engine == NULL) return;
    cuda_engine *e = self(engine);
    (void)cudaSetDevice(e->device_idx);
    free_extent(e);
    cuda_slab_free(&e->weight_slab);
    cuda_slab_free(&e->kept_slab);
    cuda_source_drop(e);
    ssmq_reuse_close(e->reuse);
    cuda_stages_free(e);
    for (int i = 0; i <= CUDA_STEP_BLOCK; i++) {
        if (e->step_ends[i] != NULL) (void)cudaEventDestroy(e->step_ends[i]);
    }
    cudaEvent_t const events[] = {e->call_begin, e->call_end, e->staged};
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        if (events[i] != NULL) (void)cudaEventDestroy(events[i]);
    }
    cuda_gemms_close(e->gemms);
    cuda_nvml_close(e->nvml);
    if (e->stream != NULL) (void)cudaStreamDestroy(e->stream);
    ssmq_free(e);
}

static ssmq_status open_device(cuda_engine *e, const ssmq_engine_options *options, ssmq_err *err) {
    enum { BUS_ID_BYTES = 32 };
    char bus_id[BUS_ID_BYTES];
    int n_devices = 0;
    CUDA_TRY(cudaGetDeviceCount(&n_devices), err);
    if (n_devices == 0) return SSMQ_FAIL(err, DEVICE, "the driver shows no device");
    /* With one visible device a rank, each is the first; with more ranks than devices they share.
     */
    e->device_idx = options->device_idx % n_devices;
    CUDA_TRY(cudaSetDevice(e->device_idx), err);
    CUDA_TRY(cudaGetDeviceProperties(&e->device, e->device_idx), err);
    CUDA_TRY(cudaDeviceGetPCIBusId(bus_id, BUS_ID_BYTES, e->device_idx), err);
    e->nvml = cuda_nvml_open(bus_id);
    CUDA_TRY(cudaStreamCreateWithFlags(&e->stream, cudaStreamNonBlocking), err);
    CUDA_TRY(cudaEventCreate(&e->call_begin), err);
    CUDA_TRY(cudaEventCreate(&e->call_end), err);
    CUDA_TRY(cudaEventCreateWithFlags(&e->staged, cudaEventDisableTiming), err);
    for (int i = 0; i <= CUDA_STEP_BLOCK; i++) CUDA_TRY(cudaEventCreate(&e->step_ends[i]), err);
    SSMQ_TRY(cuda_gemms_open(&e->gemms, options->algorithms_path, err));
    if (options->reuse_bytes == 0) return SSMQ_OK;
    return ssmq_reuse_open(&e->reuse, options->reuse_bytes, &device_memory, err);
}

static ssmq_status open_cuda(ssmq_engine **out, const ssmq_engine_options *options, ssmq_err *err) {
    cuda_engine *e = NULL;
    *out = NULL;
    SSMQ_TRY(ssmq_calloc(&e, 1, sizeof *e, err));
    e->base.api = &ssmq_engine_cuda;
    const ssmq_status status = open_device(e, options, err);
    if (status != SSMQ_OK) {
        close_cuda(&e->base);
        return status;
    }
    *out = &e->base;
    return SSMQ_OK;
}

/* ---- load, reset ---- */

static bool is_too_long(int64_t row) {
    return row > (row % 8 == 0 ? CUDA_MAX_ROW : CUDA_MAX_ODD_ROW);
}

static bool is_integer(ssmq_format format) {
    return format == SSMQ_FORMAT_INT8 || format == SSMQ_FORMAT_INT4;
}

static ssmq_status supports_formats(const cuda_engine *e, const ssmq_precision *p, ssmq_err *err) {
    const bool is_float = !ssmq_precision_is_quantized(p);
    const bool is_fp8 = p->w_format == SSMQ_FORMAT_FP8_E4M3 && p->a_format == SSMQ_FORMAT_FP8_E4M3;
    const bool is_known =
        is_float || is_fp8 ||
        (is_integer(p->w_format) && (is_integer(p->a_format) || p->a_format == SSMQ_FORMAT_FLOAT));
    if (!is_known) {
        return SSMQ_FAIL(err, SKIP,
                         "the CUDA engine has no products of %s weights and %s activations",
                         ssmq_format_get(p->w_format)->name, ssmq_format_get(p->a_format)->name);
    }
    /* cuBLASLt has scales for each row and channel on this compute capability alone. */
    if (is_fp8 && (e->device.major != FP8_MAJOR || e->device.minor != 0)) {
        return SSMQ_FAIL(err, SKIP,
                         "%s, compute capability %d.%d: fp8 products with a scale a token and a "
                         "channel need 9.0",
                         e->device.name, e->device.major, e->device.minor);
    }
    if (is_fp8 && p->group_size > 0) {
        return SSMQ_FAIL(err, SKIP, "fp8 products have one scale a channel, not one for %d columns",
                         p->group_size);
    }
    return SSMQ_OK;
}

static ssmq_status supports_sums(const ssmq_shape *shape, const ssmq_precision *p, ssmq_err *err) {
    const int64_t widest = shape->di > shape->d ? shape->di : shape->d;
    const int64_t sum_columns = p->group_size > 0 ? p->group_size : widest;
    const int64_t n_groups = ssmq_scales_per_row(widest, p->group_size);
    if (!is_integer(p->a_format)) return SSMQ_OK;
    if (sum_columns > INT32_MAX / (127 * 127)) {
        return SSMQ_FAIL(err, SKIP, "integer sums over %lld columns may leave int32",
                         (long long)sum_columns);
    }
    if (n_groups > MAX_GROUPS) {
        return SSMQ_FAIL(err, SKIP,
                         "the CUDA engine takes up to %d groups of weights a row, not %lld",
                         MAX_GROUPS, (long long)n_groups);
    }
    return SSMQ_OK;
}

static ssmq_status supports_modules(const ssmq_shape *shape, const ssmq_spec *spec, ssmq_err *err) {
    for (int64_t i = 0; i < shape->L; i++) {
        if ((spec->layer_modules[i] & SSMQ_MODULE_BIT(SSMQ_CONV1D)) != 0) {
            return SSMQ_FAIL(err, SKIP, "conv1d is not quantized: it is no matrix product");
        }
    }
    if ((spec->model_modules & SSMQ_MODULE_BIT(SSMQ_EMBEDDINGS)) != 0) {
        return SSMQ_FAIL(err, SKIP, "embeddings are not quantized: a look-up is no product");
    }
    if ((spec->model_modules & SSMQ_MODULE_BIT(SSMQ_LM_HEAD)) != 0) {
        return SSMQ_FAIL(err, SKIP, "the CUDA engine does not quantize lm_head");
    }
    return SSMQ_OK;
}

static ssmq_status supports_cuda(ssmq_engine *engine, const ssmq_shape *shape,
                                 const ssmq_spec *spec, ssmq_err *err) {
    const cuda_engine *e = self(engine);
    const ssmq_precision *p = &spec->precision;
    SSMQ_TRY(supports_formats(e, p, err));
    if (p->state_format != SSMQ_FORMAT_FLOAT || p->state_is_stochastic) {
        return SSMQ_FAIL(err, SKIP,
                         "the CUDA engine stores the recurrent state in fp32, fp16 or bf16 rounded "
                         "to nearest, not in %s rounded %s",
                         ssmq_precision_state_name(p),
                         p->state_is_stochastic ? "stochastically" : "to nearest");
    }
    SSMQ_TRY(supports_sums(shape, p, err));
    SSMQ_TRY(supports_modules(shape, spec, err));
    if (e->device.major < BF16_MAJOR && (p->dtype == SSMQ_BF16 || p->state_dtype == SSMQ_BF16)) {
        return SSMQ_FAIL(err, SKIP, "%s has no bf16: compute capability %d.%d", e->device.name,
                         e->device.major, e->device.minor);
    }
    if (shape->N > MAX_STATE_SIZE) {
        return SSMQ_FAIL(err, SKIP, "the CUDA engine takes state sizes up to %d, not %lld",
                         MAX_STATE_SIZE, (long long)shape->N);
    }
    if (is_too_long(shape->d) || is_too_long(shape->di / shape->G)) {
        return SSMQ_FAIL(err, SKIP,
                         "the CUDA engine norms rows of up to %d numbers, %d if they are no "
                         "multiple of 8; not %lld and %lld",
                         CUDA_MAX_ROW, CUDA_MAX_ODD_ROW, (long long)shape->d,
                         (long long)(shape->di / shape->G));
    }
    return SSMQ_OK;
}

/* ---- products ---- */

static bool was_checked(const cuda_engine *e, const cuda_checked *key) {
    for (int i = 0; i < e->n_checked; i++) {
        const cuda_checked *c = &e->checked[i];
        if (c->rows == key->rows && c->columns == key->columns && c->n_groups == key->n_groups &&
            c->w_format == key->w_format && c->a_format == key->a_format) {
            return true;
        }
    }
    return false;
}

static ssmq_status check_linear(cuda_engine *e, const cuda_linear *linear, ssmq_err *err) {
    for (int i = 0; i < linear->n_blocks; i++) {
        const cuda_block *block = &linear->blocks[i];
        const cuda_checked key = {.rows = block->rows,
                                  .columns = linear->columns,
                                  .n_groups = linear->codes.n_groups,
                                  .w_format = linear->w_format,
                                  .a_format = linear->a_format};
        if (!cuda_block_has_codes(linear, block) || was_checked(e, &key)) continue;
        SSMQ_TRY(cuda_linear_check(linear, block, e->gemms, e->stream, err));
        /* With a full list, others are checked again at the next load. */
        if (e->n_checked < CUDA_MAX_CHECKED) e->checked[e->n_checked++] = key;
    }
    return SSMQ_OK;
}

/* Every product of codes that the loaded weights will need, once in the engine's life. */
static ssmq_status check_products(cuda_engine *e, ssmq_err *err) {
    for (int64_t i = 0; i < e->shape.L; i++) {
        SSMQ_TRY(check_linear(e, &e->weights.layers[i].in_proj, err));
        SSMQ_TRY(check_linear(e, &e->weights.layers[i].out_proj, err));
    }
    return SSMQ_OK;
}

static ssmq_status load_cuda(ssmq_engine *engine, const ssmq_model *model, const ssmq_spec *spec,
                             ssmq_err *err) {
    cuda_engine *e = self(engine);
    SSMQ_TRY(supports_cuda(engine, &model->shape, spec, err));
    CUDA_TRY(cudaSetDevice(e->device_idx), err);
    free_extent(e);
    cuda_slab_free(&e->kept_slab);
    e->is_loaded = false;
    e->shape = model->shape;
    e->spec = *spec;
    const int64_t n_bytes = cuda_carve_weights(&e->weights, NULL, &e->shape, spec);
    if (e->weight_slab.n_bytes != n_bytes) cuda_slab_free(&e->weight_slab);
    ssmq_status status = cuda_slab_reserve(&e->weight_slab, n_bytes, err);
    if (status == SSMQ_NOMEM && e->reuse != NULL) {
        ssmq_reuse_drop_all(e->reuse);
        cuda_source_drop(e);
        status = cuda_slab_reserve(&e->weight_slab, n_bytes, err);
    }
    SSMQ_TRY(status);
    if (e->reuse != NULL) ssmq_reuse_begin_load(e->reuse, model, spec);
    (void)cuda_carve_weights(&e->weights, e->weight_slab.bytes, &e->shape, spec);
    SSMQ_TRY(check_products(e, err));
    const ssmq_model *on_device = cuda_source_of(e, model);
    const bool is_on_device = on_device != NULL;
    SSMQ_TRY(cuda_load_weights(e, is_on_device ? on_device : model, is_on_device, err));
    e->is_loaded = true;
    return SSMQ_OK;
}

static ssmq_status hold_source_cuda(ssmq_engine *engine, const ssmq_model *model, bool is_filled,
                                    ssmq_device_bytes *out, ssmq_err *err) {
    cuda_engine *e = self(engine);
    CUDA_TRY(cudaSetDevice(e->device_idx), err);
    SSMQ_TRY(cuda_source_hold(e, model, is_filled, err));
    *out = (ssmq_device_bytes){e->source.bytes, e->source.n_bytes};
    return SSMQ_OK;
}

static ssmq_status seal_source_cuda(ssmq_engine *engine, uint64_t *checksum, ssmq_err *err) {
    cuda_engine *e = self(engine);
    CUDA_TRY(cudaSetDevice(e->device_idx), err);
    return cuda_source_seal(e, checksum, err);
}

static ssmq_status make_extent(cuda_engine *e, const ssmq_engine_extent *extent, ssmq_err *err) {
    const ssmq_shape *s = &e->shape;
    const cuda_layout *layout = &e->layout;
    const int64_t B = extent->n_sequences;
    cuda_graphs_drop(e);
    e->is_ready = false;
    cuda_layout_init(&e->layout, s, &e->spec, extent);
    SSMQ_TRY(cuda_slab_reserve(&e->state_slab, layout->state_bytes, err));
    SSMQ_TRY(cuda_slab_reserve(&e->activation_slab, layout->activation_bytes, err));
    SSMQ_TRY(cuda_slab_reserve(&e->workspace_slab, layout->workspace_bytes, err));
    (void)cuda_carve_state(&e->state, e->state_slab.bytes, s, &e->spec, B);
    (void)cuda_carve_activations(&e->buffers, e->activation_slab.bytes, s, &e->spec, B,
                                 layout->segment_tokens);
    (void)cuda_carve_workspace(&e->buffers, e->workspace_slab.bytes, s, &e->spec, layout->rows,
                               layout->head_rows);
    (void)cudaFreeHost(e->staging.slab);
    memset(&e->staging, 0, sizeof e->staging);
    const int64_t n_bytes = cuda_carve_staging(&e->staging, NULL, B, layout->rows);
    char *slab = NULL;
    CUDA_TRY(cudaMallocHost((void **)&slab, (size_t)n_bytes), err);
    (void)cuda_carve_staging(&e->staging, slab, B, layout->rows);
    e->staging.slab = slab;
    CUDA_TRY(cudaMemsetAsync(e->buffers.partial, 0,
                             (size_t)cuda_sample_partial_bytes(layout->head_rows), e->stream),
             err);
    cuda_gemms_set_workspace(e->gemms, e->buffers.gemm_workspace);
    cuda_gemms_set_timed(e->gemms, extent->is_timed);
    return cuda_stages_set(e, extent->has_stages, err);
}

static bool same_extent(const ssmq_engine_extent *a, const ssmq_engine_extent *b) {
    return a->n_sequences == b->n_sequences && a->max_segment_tokens == b->max_segment_tokens &&
           a->is_timed == b->is_timed && a->has_stages == b->has_stages &&
           a->has_gemv == b->has_gemv;
}

static ssmq_status reset_cuda(ssmq_engine *engine, const ssmq_engine_extent *extent,
                              ssmq_err *err) {
    cuda_engine *e = self(engine);
    if (!e->is_loaded) return SSMQ_FAIL(err, INTERNAL, "reset before load");
    if (extent->n_sequences < 1 || extent->max_segment_tokens < 1 ||
        extent->n_sequences > MAX_SEQUENCES) {
        return SSMQ_FAIL(err, CONFIG, "an extent needs a token and 1 to %d sequences",
                         MAX_SEQUENCES);
    }
    CUDA_TRY(cudaSetDevice(e->device_idx), err);
    /* No error of the work before may surface in what comes now. */
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    if (extent->is_forked) {
        SSMQ_CHECK(e->kept_slab.bytes != NULL && extent->reuse_key == NULL, err);
    } else {
        cuda_slab_free(&e->kept_slab);
    }
    if (!e->is_ready || !same_extent(&e->extent, extent)) {
        ssmq_status status = make_extent(e, extent, err);
        if (status == SSMQ_NOMEM && e->reuse != NULL) {
            ssmq_reuse_drop_all(e->reuse);
            cuda_source_drop(e);
            status = make_extent(e, extent, err);
        }
        if (status != SSMQ_OK) {
            free_extent(e);
            return status;
        }
        e->extent = *extent;
        e->is_ready = true;
    }
    CUDA_TRY(cudaMemsetAsync(e->state_slab.bytes, 0, (size_t)e->layout.state_bytes, e->stream),
             err);
    CUDA_TRY(cudaMemsetAsync(e->buffers.fault, 0xff, 2 * sizeof *e->buffers.fault, e->stream), err);
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    e->position = 0;
    e->first_layer = 0;
    e->is_reused = e->reuse != NULL && extent->reuse_key != NULL;
    if (e->reuse != NULL) {
        ssmq_reuse_begin_tokens(e->reuse, extent, e->layout.segment_tokens);
    }
    e->extent.reuse_tokens = extent->reuse_tokens;
    /* The caller's bytes are not ours after this call. */
    e->extent.reuse_key = NULL;
    return extent->is_forked ? cuda_fork_state(e, err) : SSMQ_OK;
}

/* ---- calls ---- */

static ssmq_status begin_call(cuda_engine *e, ssmq_err *err) {
    if (!e->is_ready) return SSMQ_FAIL(err, INTERNAL, "prefill or decode before reset");
    memset(e->stages.ns, 0, sizeof e->stages.ns);
    CUDA_TRY(cudaSetDevice(e->device_idx), err);
    return SSMQ_OK;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* What a call of T tokens a sequence holds of the slabs, with n_head rows of logits. */
static ssmq_status end_call(cuda_engine *e, int64_t T, int64_t n_head, ssmq_err *err) {
    cuda_buffers unused;
    ssmq_engine_stats *peaks = &e->peaks;
    const double ns_per_ms = 1e6;
    float ms = 0.0f;
    CUDA_TRY(cudaEventElapsedTime(&ms, e->call_begin, e->call_end), err);
    e->last_call_ns = (int64_t)((double)ms * ns_per_ms);
    const int64_t B = e->extent.n_sequences;
    const int64_t tokens = T < e->layout.segment_tokens ? T : e->layout.segment_tokens;
    const int64_t head_rows = n_head < e->layout.head_rows ? n_head : e->layout.head_rows;
    const int64_t activations =
        cuda_carve_activations(&unused, NULL, &e->shape, &e->spec, B, tokens);
    const int64_t workspace =
        cuda_carve_workspace(&unused, NULL, &e->shape, &e->spec, B * tokens, head_rows);
    peaks->activation_bytes = larger(peaks->activation_bytes, activations);
    peaks->workspace_bytes = larger(peaks->workspace_bytes, workspace);
    return SSMQ_OK;
}

static ssmq_status prefill_cuda(ssmq_engine *engine, const ssmq_prefill *call, ssmq_err *err) {
    cuda_engine *e = self(engine);
    SSMQ_TRY(begin_call(e, err));
    if (e->is_reused) SSMQ_CHECK(e->position + call->n_tokens <= e->extent.reuse_tokens, err);
    const int64_t B = e->extent.n_sequences, n = B * call->n_tokens;
    SSMQ_TRY(ssmq_engine_check_ids(&e->shape, call->tokens, n, 0, err));
    if (call->targets != NULL)
        SSMQ_TRY(ssmq_engine_check_ids(&e->shape, call->targets, n, -1, err));
    SSMQ_TRY(cuda_prefill(e, call, err));
    return end_call(e, call->n_tokens, call->targets != NULL ? n : B, err);
}

static ssmq_status decode_cuda(ssmq_engine *engine, const ssmq_decode *call, ssmq_err *err) {
    cuda_engine *e = self(engine);
    SSMQ_TRY(begin_call(e, err));
    SSMQ_CHECK(!e->is_reused, err);
    const int64_t B = e->extent.n_sequences;
    SSMQ_TRY(ssmq_engine_check_ids(&e->shape, call->first, B, 0, err));
    if (call->forced != NULL)
        SSMQ_TRY(ssmq_engine_check_ids(&e->shape, call->forced, B * call->n_steps, 0, err));
    SSMQ_TRY(cuda_decode(e, call, err));
    return end_call(e, 1, B, err);
}

static ssmq_status begin_state_call(cuda_engine *e, int64_t layer_idx, ssmq_err *err) {
    SSMQ_CHECK(e->is_ready && layer_idx >= 0 && layer_idx < e->shape.L, err);
    CUDA_TRY(cudaSetDevice(e->device_idx), err);
    return SSMQ_OK;
}

static ssmq_status read_state_cuda(ssmq_engine *engine, int64_t layer_idx, float *ssm, float *conv,
                                   ssmq_err *err) {
    SSMQ_TRY(begin_state_call(self(engine), layer_idx, err));
    return cuda_read_state(self(engine), layer_idx, ssm, conv, err);
}

static ssmq_status write_state_cuda(ssmq_engine *engine, int64_t layer_idx, int64_t position,
                                    const float *ssm, const float *conv, ssmq_err *err) {
    SSMQ_TRY(begin_state_call(self(engine), layer_idx, err));
    self(engine)->position = position;
    return cuda_write_state(self(engine), layer_idx, ssm, conv, err);
}

static ssmq_status keep_state_cuda(ssmq_engine *engine, ssmq_err *err) {
    cuda_engine *e = self(engine);
    SSMQ_TRY(begin_state_call(e, 0, err));
    SSMQ_CHECK(!e->is_reused && e->extent.n_sequences == 1, err);
    return cuda_keep_state(e, err);
}

/* ---- what it says of itself ---- */

static void take_stats_cuda(ssmq_engine *engine, ssmq_engine_stats *out) {
    cuda_engine *e = self(engine);
    *out = e->peaks;
    out->weight_bytes = e->is_loaded ? e->weight_slab.n_bytes : 0;
    out->state_bytes = e->is_ready ? e->layout.state_bytes : 0;
    out->peak_bytes =
        out->weight_bytes + out->state_bytes + out->activation_bytes + out->workspace_bytes;
    out->last_call_ns = e->last_call_ns;
    memcpy(out->stage_ns, e->stages.ns, sizeof out->stage_ns);
    out->sm_clock_mhz = out->memory_clock_mhz = out->temperature_c = -1;
    out->throttle_reasons = -1;
    if (e->nvml != NULL) cuda_nvml_read(e->nvml, out);
    memset(&e->peaks, 0, sizeof e->peaks);
}

static bool alive_cuda(ssmq_engine *engine) {
    cuda_engine *e = self(engine);
    if (e->is_lost) return false;
    if (cudaSetDevice(e->device_idx) != cudaSuccess) return false;
    void *probe = NULL;
    /* An error that is not sticky is gone after it was read once. */
    (void)cudaGetLastError();
    const bool is_alive = cudaStreamSynchronize(e->stream) == cudaSuccess &&
                          cudaMalloc(&probe, CUDA_ALIGN_BYTES) == cudaSuccess &&
                          cudaMemset(probe, 0, CUDA_ALIGN_BYTES) == cudaSuccess &&
                          cudaDeviceSynchronize() == cudaSuccess;
    (void)cudaFree(probe);
    e->is_lost = !is_alive;
    return is_alive;
}

static void describe_products(const cuda_engine *e, ssmq_engine_facts *out) {
    const ssmq_precision *p = &e->spec.precision;
    const bool has_codes = e->is_loaded && p->a_format != SSMQ_FORMAT_FLOAT;
    const bool is_fp8 = p->w_format == SSMQ_FORMAT_FP8_E4M3;
    const bool is_weight_only = e->is_loaded && !has_codes && ssmq_precision_is_quantized(p);
    const ssmq_format format =
        !has_codes ? SSMQ_FORMAT_FLOAT : (is_fp8 ? SSMQ_FORMAT_FP8_E4M3 : SSMQ_FORMAT_INT8);
    ssmq_field_set(out->compute_type, sizeof out->compute_type,
                   has_codes && !is_fp8 ? "int32" : "fp32");
    if (e->is_loaded) {
        cuda_gemms_name_algorithms(e->gemms, format, p->dtype, out->algo_id, sizeof out->algo_id);
    }
    if (has_codes && p->w_format == SSMQ_FORMAT_INT4) {
        ssmq_field_set(out->fallback, sizeof out->fallback,
                       "4-bit values unpacked to int8, int8 tensor cores");
    }
    if (is_weight_only) {
        (void)snprintf(out->fallback, sizeof out->fallback,
                       "weights to %s in scratch before each product", ssmq_dtype_name(p->dtype));
    }
}

static void describe_backend(const cuda_engine *e, const char *cublaslt, ssmq_engine_facts *out) {
    const char *whose = e->is_ready ? cuda_decode_products(e) : "library";
    const bool is_library = strcmp(whose, "library") == 0;
    ssmq_field_set(out->decode_products, sizeof out->decode_products, whose);
    (void)snprintf(
        out->quant_backend, sizeof out->quant_backend, "cuBLASLt %.14s%s", cublaslt,
        is_library ? ""
                   : (strcmp(whose, "own") == 0 ? "; decode by ssmq" : "; decode in part by ssmq"));
}

static void describe_cuda(ssmq_engine *engine, ssmq_engine_facts *out) {
    const cuda_engine *e = self(engine);
    char version[sizeof out->cublaslt];
    int runtime = 0, driver = 0;
    memset(out, 0, sizeof *out);
    ssmq_field_set(out->device, sizeof out->device, "cuda");
    ssmq_field_set(out->gpu_name, sizeof out->gpu_name, e->device.name);
    (void)cudaRuntimeGetVersion(&runtime);
    (void)snprintf(out->cuda, sizeof out->cuda, "%d.%d", runtime / 1000, runtime % 1000 / 10);
    if (e->nvml == NULL || !cuda_nvml_driver(e->nvml, out->driver, sizeof out->driver)) {
        (void)cudaDriverGetVersion(&driver);
        (void)snprintf(out->driver, sizeof out->driver, "CUDA %d.%d", driver / 1000,
                       driver % 1000 / 10);
    }
    cuda_gemms_version(version, sizeof version);
    ssmq_field_set(out->cublaslt, sizeof out->cublaslt, version);
    describe_backend(e, version, out);
    describe_products(e, out);
    ssmq_field_set(out->timer, sizeof out->timer, "cuda events");
    ssmq_field_set(out->algorithms, sizeof out->algorithms,
                   e->is_ready && e->extent.is_timed ? "measured" : "fixed");
    ssmq_field_set(out->memory_source, sizeof out->memory_source, "slabs, as used by the phase");
    out->n_threads = 1;
}

const ssmq_engine_api ssmq_engine_cuda = {
    .name = "cuda",
    .open = open_cuda,
    .supports = supports_cuda,
    .load = load_cuda,
    .hold_source = hold_source_cuda,
    .seal_source = seal_source_cuda,
    .reset = reset_cuda,
    .prefill = prefill_cuda,
    .decode = decode_cuda,
    .read_state = read_state_cuda,
    .write_state = write_state_cuda,
    .keep_state = keep_state_cuda,
    .take_stats = take_stats_cuda,
    .alive = alive_cuda,
    .close = close_cuda,
    .describe = describe_cuda,
};
