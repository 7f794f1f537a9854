/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/forward.c - a segment, or one token of each sequence, through all layers. Launches
 * only: everything here can be captured in a graph. */
#include "engine/cuda/check.h"
#include "engine/cuda/cuda_engine.h"
#include "engine/cuda/gemv.h"
#include "engine/cuda/head.h"

/* Programmatic dependent launch came with this compute capability. */
enum { CHAINED_MAJOR = 9 };

/* A decode step fetches this much of a product's weights ahead of it. */
enum { PREFETCH_BYTES = 3 << 20 };

/* Bulk copies came with it too. */
static bool has_gemv(const cuda_engine *e) {
    return e->extent.has_gemv && e->device.major >= CHAINED_MAJOR;
}

/* Warpgroups multiply on this capability alone, in code that is built for it (90a). */
static bool has_wgmma(const cuda_engine *e) {
#ifdef SSMQ_HAVE_WGMMA
    return e->device.major == 9 && e->device.minor == 0;
#else
    (void)e;
    return false;
#endif
}

static cuda_pass pass_of(const cuda_engine *e, int64_t layer_idx, int64_t T) {
    const ssmq_precision *precision = &e->spec.precision;
    const cuda_pass p = {
        .shape = &e->shape,
        .layer = layer_idx < e->shape.L ? &e->weights.layers[layer_idx] : NULL,
        .dtype = precision->dtype,
        .state_dtype = precision->state_dtype,
        .B = e->extent.n_sequences,
        .T = T > 0 ? T : 1,
        .R_ld = e->layout.R_ld,
        .layer_idx = (int)layer_idx,
        .n_sm = e->device.multiProcessorCount,
        .shared_bytes = (int64_t)e->device.sharedMemPerBlockOptin,
        .is_chained = e->device.major >= CHAINED_MAJOR && T == 0,
        .has_wgmma = has_wgmma(e),
        .stream = e->stream,
    };
    return p;
}

static cuda_linear_call in_proj_call(const cuda_engine *e, const cuda_layer *layer, int64_t T) {
    const cuda_buffers *b = &e->buffers;
    const cuda_linear_call call = {
        .linear = &layer->in_proj,
        .gemms = e->gemms,
        .scratch = {b->codes, b->in_scales, b->sums, b->unpacked},
        .x = b->u,
        .y = b->zxbcdt,
        .M = e->extent.n_sequences * (T > 0 ? T : 1),
        .is_fused = true,
        .is_decode = T == 0,
        .is_chained = e->device.major >= CHAINED_MAJOR && T == 0,
        .has_gemv = has_gemv(e) && T == 0,
        .n_sm = e->device.multiProcessorCount,
        .shared_bytes = (int64_t)e->device.sharedMemPerBlockOptin,
        .stream = e->stream,
    };
    return call;
}

static cuda_linear_call out_proj_call(const cuda_engine *e, const cuda_layer *layer, int64_t T) {
    cuda_linear_call call = in_proj_call(e, layer, T);
    call.linear = &layer->out_proj;
    call.is_fused = cuda_out_proj_is_fused(&e->shape);
    call.scratch.scales = e->buffers.out_scales;
    call.y = e->buffers.o;
    return call;
}

static cuda_gemm_call head_call(const cuda_engine *e, int64_t rows, bool is_decode) {
    const cuda_gemm_call call = {
        .shape = {.M = rows,
                  .N = e->layout.V_ld,
                  .K = e->shape.d,
                  .y_ld = e->layout.V_ld,
                  .dtype = e->spec.precision.dtype,
                  .y_dtype = SSMQ_F32,
                  .is_decode = is_decode},
        .x = e->buffers.u,
        .w = e->weights.head,
        .y = e->buffers.logits,
        .stream = e->stream,
    };
    return call;
}

/* True if the gated norm of this layer's segment waits until after out_proj. What is quantized is
 * the normed activation, so it never waits for a quantized product; and z must be there in CT. */
static bool is_deferred(const cuda_engine *e, const cuda_pass *p, int64_t layer_idx) {
    const cuda_layer *layer = &e->weights.layers[layer_idx];
    return cuda_gate_is_deferred(p) && !layer->in_proj.is_quantized &&
           !layer->out_proj.is_quantized;
}

/* Where the input of a product goes that takes codes; nowhere for others. */
static cuda_codes codes_for(const cuda_linear_call *product) {
    const cuda_linear *l = product->linear;
    if (!product->is_fused || !cuda_linear_takes_codes(l)) return (cuda_codes){0};
    return (cuda_codes){product->scratch.codes, product->scratch.scales, l->a_format};
}

/* residual += o of the layer before, and its norm into u or codes. p is of a step or segment of T
 * tokens, in its layer or after the last. */
static ssmq_status norm(cuda_engine *e, const cuda_pass *p, const void *weight, int64_t T,
                        unsigned long long *fault, ssmq_err *err) {
    cuda_norm_call call = {
        .residual = e->buffers.residual,
        .weight = weight,
        .rows = p->B * p->T,
        .u = e->buffers.u,
        .fault = fault,
    };
    if (p->layer_idx > e->first_layer) {
        const cuda_linear_call before = out_proj_call(e, &e->weights.layers[p->layer_idx - 1], T);
        call.o = cuda_linear_product(&before);
        if (T > 0 && is_deferred(e, p, p->layer_idx - 1)) call.squares = e->buffers.squares;
    }
    if (p->layer != NULL) {
        const cuda_linear_call next = in_proj_call(e, p->layer, T);
        call.codes = codes_for(&next);
    }
    SSMQ_TRY(cuda_norm(p, &call, err));
    return cuda_stage_end(e, SSMQ_STAGE_NORM, err);
}

static ssmq_status mix_segment(cuda_engine *e, const cuda_pass *p, cuda_product zxbcdt,
                               ssmq_err *err) {
    const cuda_buffers *b = &e->buffers;
    const cuda_conv_call conv = {
        .zxbcdt = zxbcdt,
        .ring = cuda_layer_ring(e, p->layer_idx),
        .position = e->state.position,
        .xbc = b->xbc,
        .dt = b->dt,
        .cs = b->cs,
    };
    cuda_ssd_call ssd = {
        .xbc = b->xbc,
        .dt = b->dt,
        .cs = b->cs,
        .state = cuda_layer_state(e, p->layer_idx),
        .chunk_states = b->chunk_states,
        .y = b->y,
    };
    if (is_deferred(e, p, p->layer_idx)) {
        ssd.y = b->u;
        ssd.gate = (cuda_gate){b->zxbcdt, p->layer->gated_norm, b->squares};
    }
    SSMQ_TRY(cuda_conv(p, &conv, err));
    SSMQ_TRY(cuda_stage_end(e, SSMQ_STAGE_CONV, err));
    SSMQ_TRY(cuda_ssd(p, &ssd, err));
    return cuda_stage_end(e, SSMQ_STAGE_SSD, err);
}

static ssmq_status mix_step(cuda_engine *e, const cuda_pass *p, cuda_product zxbcdt,
                            ssmq_err *err) {
    const cuda_step_call call = {
        .zxbcdt = zxbcdt,
        .ring = cuda_layer_ring(e, p->layer_idx),
        .position = e->state.position,
        .state = cuda_layer_state(e, p->layer_idx),
        .y = e->buffers.y,
    };
    SSMQ_TRY(cuda_step(p, &call, err));
    return cuda_stage_end(e, SSMQ_STAGE_SSD, err);
}

static ssmq_status gated_norm(cuda_engine *e, const cuda_pass *p, cuda_product zxbcdt,
                              const cuda_linear_call *out_proj, ssmq_err *err) {
    const cuda_gated_norm_call call = {
        .zxbcdt = zxbcdt,
        .y = e->buffers.y,
        .u = e->buffers.u,
        .codes = codes_for(out_proj),
    };
    SSMQ_TRY(cuda_gated_norm(p, &call, err));
    return cuda_stage_end(e, SSMQ_STAGE_GATED_NORM, err);
}

/* The first of n_bytes of weights: what fits beside other things in the L2 cache. */
static cuda_prefetch first_of(const cuda_engine *e, const void *w, int64_t n_bytes) {
    /* Our own products fetch their weights themselves before their input is there. */
    if (has_gemv(e)) return (cuda_prefetch){0};
    const cuda_prefetch first = {w, n_bytes < PREFETCH_BYTES ? n_bytes : PREFETCH_BYTES};
    return first;
}

static cuda_prefetch first_of_linear(const cuda_engine *e, const cuda_linear *linear) {
    return first_of(e, linear->blocks[0].w, cuda_block_bytes(linear, &linear->blocks[0]));
}

static ssmq_status copy_residual(const cuda_engine *e, const cuda_pass *p, void *to,
                                 const void *from, ssmq_err *err) {
    const size_t n_bytes = (size_t)(p->B * p->T * e->shape.d) * sizeof(float);
    CUDA_TRY(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, e->stream), err);
    return SSMQ_OK;
}

/* The layer's input, into the store where that wants it. */
static ssmq_status keep_input(cuda_engine *e, const cuda_pass *p, ssmq_err *err) {
    float *keep = e->is_reused ? ssmq_reuse_keep(e->reuse, p->layer_idx) : NULL;
    return keep != NULL ? copy_residual(e, p, keep, e->buffers.residual, err) : SSMQ_OK;
}

/* T = 0: one decode step. */
static ssmq_status forward_layer(cuda_engine *e, int64_t layer_idx, int64_t T, ssmq_err *err) {
    const cuda_layer *layer = &e->weights.layers[layer_idx];
    cuda_pass p = pass_of(e, layer_idx, T);
    const cuda_linear_call in_proj = in_proj_call(e, layer, T);
    const cuda_linear_call out_proj = out_proj_call(e, layer, T);
    const cuda_product zxbcdt = cuda_linear_product(&in_proj);
    if (T == 0) p.next = first_of_linear(e, &layer->in_proj);
    SSMQ_TRY(norm(e, &p, layer->norm, T, e->buffers.fault, err));
    SSMQ_TRY(keep_input(e, &p, err));
    SSMQ_TRY(cuda_linear_multiply(&in_proj, err));
    SSMQ_TRY(cuda_stage_end(e, SSMQ_STAGE_IN_PROJ, err));
    if (T == 0) p.next = first_of_linear(e, &layer->out_proj);
    SSMQ_TRY(T > 0 ? mix_segment(e, &p, zxbcdt, err) : mix_step(e, &p, zxbcdt, err));
    if (T == 0 || !is_deferred(e, &p, layer_idx)) {
        SSMQ_TRY(gated_norm(e, &p, zxbcdt, &out_proj, err));
    }
    SSMQ_TRY(cuda_linear_multiply(&out_proj, err));
    return cuda_stage_end(e, SSMQ_STAGE_OUT_PROJ, err);
}

static ssmq_status forward_layers(cuda_engine *e, int64_t T, ssmq_err *err) {
    const cuda_pass p = pass_of(e, 0, T);
    const float *start = e->is_reused ? ssmq_reuse_start(e->reuse) : NULL;
    e->first_layer = start != NULL ? ssmq_reuse_first_layer(e->reuse) : 0;
    SSMQ_TRY(cuda_stage_begin(e, err));
    SSMQ_TRY(start != NULL ? copy_residual(e, &p, e->buffers.residual, start, err)
                           : cuda_embed(&p, e->weights.embeddings, e->buffers.tokens,
                                        e->buffers.residual, err));
    SSMQ_TRY(cuda_stage_end(e, SSMQ_STAGE_EMBED, err));
    for (int64_t i = e->first_layer; i < e->shape.L; i++) SSMQ_TRY(forward_layer(e, i, T, err));
    return SSMQ_OK;
}

ssmq_status cuda_forward_segment(cuda_engine *e, int64_t T, ssmq_err *err) {
    const cuda_pass p = pass_of(e, e->shape.L, T);
    SSMQ_TRY(forward_layers(e, T, err));
    /* For its sum alone: only rows that are asked for have a final norm that may be at fault. */
    SSMQ_TRY(norm(e, &p, e->weights.norm_f, T, e->buffers.fault + 1, err));
    return cuda_advance(e->state.position, T, e->stream, err);
}

static bool has_own_head(const cuda_engine *e, const cuda_gemm_call *head) {
    return has_gemv(e) && cuda_gemv_serves(&head->shape, e->device.multiProcessorCount,
                                           (int64_t)e->device.sharedMemPerBlockOptin);
}

const char *cuda_decode_products(const cuda_engine *e) {
    const cuda_gemm_call head = head_call(e, e->extent.n_sequences, true);
    int64_t n_own = has_own_head(e, &head), n_all = 1;
    for (int64_t i = 0; i < e->shape.L; i++) {
        const cuda_linear_call in_proj = in_proj_call(e, &e->weights.layers[i], 0);
        const cuda_linear_call out_proj = out_proj_call(e, &e->weights.layers[i], 0);
        cuda_linear_count(&in_proj, &n_own, &n_all);
        cuda_linear_count(&out_proj, &n_own, &n_all);
    }
    return n_own == 0 ? "library" : (n_own == n_all ? "own" : "both");
}

ssmq_status cuda_forward_step(cuda_engine *e, ssmq_err *err) {
    const cuda_buffers *b = &e->buffers;
    cuda_pass p = pass_of(e, e->shape.L, 0);
    const cuda_gemm_call head = head_call(e, p.B, true);
    const cuda_sample_call sample = {
        .logits = b->logits,
        .B = p.B,
        .V = e->shape.V,
        .ld = e->layout.V_ld,
        .L = e->shape.L,
        .partial = b->partial,
        .forced = b->forced,
        .argmax = b->argmax,
        .nll = b->step_nll,
        .tokens = b->tokens,
        .control = b->control,
        .position = e->state.position,
        .fault = b->fault,
        .step_fault = b->step_fault,
    };
    SSMQ_TRY(forward_layers(e, 0, err));
    p.next = first_of(e, head.w,
                      head.shape.N * head.shape.K * (int64_t)ssmq_dtype_bytes(head.shape.dtype));
    SSMQ_TRY(norm(e, &p, e->weights.norm_f, 0, b->fault, err));
    SSMQ_TRY(has_own_head(e, &head) ? cuda_gemv(&head, p.n_sm, p.is_chained, err)
                                    : cuda_gemm(e->gemms, &head, err));
    SSMQ_TRY(cuda_sample(&p, &sample, err));
    return cuda_stage_end(e, SSMQ_STAGE_HEAD, err);
}

ssmq_status cuda_forward_head(cuda_engine *e, int64_t first, int64_t n, bool has_nll,
                              ssmq_err *err) {
    const cuda_buffers *b = &e->buffers;
    const cuda_pass p = pass_of(e, e->shape.L, 0);
    const cuda_norm_call norm_call = {
        .residual = b->residual,
        .weight = e->weights.norm_f,
        .listed = b->listed + first,
        .rows = n,
        .u = b->u,
        .fault = b->fault,
    };
    const cuda_gemm_call head = head_call(e, n, false);
    const cuda_nll_call nll = {
        .logits = b->logits,
        .n = n,
        .V = e->shape.V,
        .ld = e->layout.V_ld,
        .L = e->shape.L,
        .targets = b->targets + first,
        .listed = b->listed + first,
        .nll = has_nll ? b->nll + first : NULL,
        .fault = b->fault,
        .stream = e->stream,
    };
    SSMQ_TRY(cuda_norm(&p, &norm_call, err));
    SSMQ_TRY(cuda_gemm(e->gemms, &head, err));
    return cuda_nll(&nll, err);
}

ssmq_status cuda_forward_prepare(cuda_engine *e, int64_t T, ssmq_err *err) {
    const cuda_linear *in_proj[SSMQ_MAX_LAYERS], *out_proj[SSMQ_MAX_LAYERS];
    const int64_t L = e->shape.L;
    for (int64_t i = 0; i < L; i++) {
        in_proj[i] = &e->weights.layers[i].in_proj;
        out_proj[i] = &e->weights.layers[i].out_proj;
    }
    const cuda_linear_call in_call = in_proj_call(e, &e->weights.layers[0], T);
    const cuda_linear_call out_call = out_proj_call(e, &e->weights.layers[0], T);
    SSMQ_TRY(cuda_linear_prepare(&in_call, in_proj, L, err));
    SSMQ_TRY(cuda_linear_prepare(&out_call, out_proj, L, err));
    if (T > 0) return SSMQ_OK;
    const void *head[] = {e->weights.head};
    const cuda_gemm_call call = head_call(e, e->extent.n_sequences, true);
    return cuda_gemms_prepare(e->gemms, &call, head, 1, err);
}
