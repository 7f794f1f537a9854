/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/buffers.c - state and buffers, sized once by reset() and counted by what they hold. */
#include <string.h>

#include "base/mem.h"
#include "engine/cpu/cpu.h"

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t round_up(int64_t n, int64_t step) {
    return (n + step - 1) / step * step;
}

/* n numbers of 4 or 8 bytes, counted. */
static ssmq_status take(void *out, int64_t n, size_t size, int64_t *counter, ssmq_err *err) {
    SSMQ_TRY(ssmq_calloc_aligned(out, (size_t)n, size, err));
    *counter += n * (int64_t)size;
    return SSMQ_OK;
}

static ssmq_status take_state(cpu_engine *e, ssmq_err *err) {
    const ssmq_shape *s = &e->shape;
    const int64_t LB = s->L * e->extent.n_sequences;
    SSMQ_TRY(take(&e->state.ssm, LB * s->H * s->P * s->N, sizeof(float), &e->state.n_bytes, err));
    return take(&e->state.conv, LB * (s->K - 1) * s->conv_dim, sizeof(float), &e->state.n_bytes,
                err);
}

static ssmq_status take_activations(cpu_engine *e, ssmq_err *err) {
    const ssmq_shape *s = &e->shape;
    cpu_buffers *b = &e->buffers;
    const int64_t wide = larger(s->d, s->di);
    const int64_t chunks = e->segment_tokens / CPU_CHUNK_TOKENS;
    const int64_t grams = e->extent.n_sequences * s->G * chunks;
    int64_t *bytes = &b->activation_bytes;
    SSMQ_TRY(take(&b->residual, b->rows * s->d, sizeof(float), bytes, err));
    SSMQ_TRY(take(&b->u, b->rows * wide, sizeof(float), bytes, err));
    SSMQ_TRY(take(&b->zxbcdt, b->rows * s->R, sizeof(float), bytes, err));
    SSMQ_TRY(take(&b->xbc, b->rows * s->conv_dim, sizeof(float), bytes, err));
    SSMQ_TRY(take(&b->dt, b->rows * s->H, sizeof(float), bytes, err));
    SSMQ_TRY(take(&b->y, b->rows * wide, sizeof(float), bytes, err));
    SSMQ_TRY(
        take(&b->gram, grams * CPU_CHUNK_TOKENS * CPU_CHUNK_TOKENS, sizeof(float), bytes, err));
    if (ssmq_precision_is_quantized(&e->spec.precision)) {
        SSMQ_TRY(take(&b->quantized, b->rows * wide, sizeof(float), bytes, err));
        SSMQ_TRY(take(&b->scales, b->rows, sizeof(float), bytes, err));
    }
    SSMQ_TRY(take(&b->listed, b->rows, sizeof *b->listed, bytes, err));
    SSMQ_TRY(take(&b->targets, b->rows, sizeof *b->targets, bytes, err));
    SSMQ_TRY(take(&b->nll, b->rows, sizeof *b->nll, bytes, err));
    return take(&b->tokens, e->extent.n_sequences, sizeof *b->tokens, bytes, err);
}

static ssmq_status take_workspace(cpu_engine *e, ssmq_err *err) {
    cpu_buffers *b = &e->buffers;
    const int64_t product = 2 * CPU_TILE_ROWS * CPU_TILE_OUT;
    const int64_t scan = CPU_CHUNK_TOKENS * (CPU_CHUNK_TOKENS + 2 * e->shape.P);
    b->scratch_floats = larger(product, scan);
    SSMQ_TRY(take(&b->scratch, e->n_threads * b->scratch_floats, sizeof(float), &b->workspace_bytes,
                  err));
    return take(&b->logits, CPU_TILE_ROWS * e->shape.V, sizeof(float), &b->workspace_bytes, err);
}

ssmq_status cpu_buffers_init(cpu_engine *e, ssmq_err *err) {
    const int64_t B = e->extent.n_sequences;
    cpu_buffers_free(e);
    /* Whole chunks, so that cutting a context into segments changes no bit. */
    const int64_t wanted = round_up(e->extent.max_segment_tokens, CPU_CHUNK_TOKENS);
    const int64_t fitting = CPU_MAX_ROWS / B / CPU_CHUNK_TOKENS * CPU_CHUNK_TOKENS;
    e->segment_tokens = wanted < fitting ? wanted : larger(fitting, CPU_CHUNK_TOKENS);
    e->buffers.rows = larger(round_up(B * e->segment_tokens, CPU_PAD_ROWS), CPU_TILE_ROWS);
    ssmq_status status = take_state(e, err);
    if (status == SSMQ_OK) status = take_activations(e, err);
    if (status == SSMQ_OK) status = take_workspace(e, err);
    if (status != SSMQ_OK) cpu_buffers_free(e);
    return status;
}

void cpu_buffers_free(cpu_engine *e) {
    cpu_buffers *b = &e->buffers;
    void *const all[] = {e->state.ssm, e->state.conv, b->residual, b->u,    b->zxbcdt,
                         b->xbc,       b->dt,         b->y,        b->gram, b->quantized,
                         b->scales,    b->listed,     b->targets,  b->nll,  b->tokens,
                         b->logits,    b->scratch};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ssmq_free(all[i]);
    memset(&e->state, 0, sizeof e->state);
    memset(b, 0, sizeof *b);
}
