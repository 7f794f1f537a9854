/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/scan.c - the state space model over a segment, in chunks of Q tokens (spec section 7):
 *     G_ij = C_i . B_j                                    once a group and chunk
 *     M_ij = G_ij exp(cs_i - cs_j) dt_j  for j <= i       cs: cumulated dt A inside the chunk
 *     Y    = M X + diag(exp(cs)) C S0^T + D X
 *     S1   = exp(cs_last) S0 + sum_j exp(cs_last - cs_j) dt_j x_j B_j^T
 * Exponents are differences, never positive, taken before the exponential. */
#include <math.h>
#include <string.h>

#include <cblas.h>
#include <omp.h>

#include "engine/cpu/cpu.h"

/* One chunk of one head. */
typedef struct chunk {
    int64_t row0, q;    /* first row, tokens */
    const float *x;     /* [q, P], stride conv_dim */
    const float *B, *C; /* [q, N], stride conv_dim */
    const float *gram;  /* [Q, Q] */
    const float *dt;    /* [q], stride H */
    float A, D;
    float *S; /* [P, N] */
    float *y; /* [q, P], stride di */
} chunk;

/* Scratch of one thread. */
typedef struct work {
    double cs[CPU_CHUNK_TOKENS];
    float *M;  /* [Q, Q] */
    float *xw; /* [Q, P] */
    float *yc; /* [Q, P] */
} work;

static void fill_gram(const cpu_engine *e, int64_t T, int64_t index) {
    const ssmq_shape *s = &e->shape;
    const int64_t n_chunks = (T + CPU_CHUNK_TOKENS - 1) / CPU_CHUNK_TOKENS;
    const int64_t b = index / (s->G * n_chunks);
    const int64_t g = index / n_chunks % s->G;
    const int64_t first = index % n_chunks * CPU_CHUNK_TOKENS;
    const int64_t q = T - first < CPU_CHUNK_TOKENS ? T - first : CPU_CHUNK_TOKENS;
    const float *base = e->buffers.xbc + (b * T + first) * s->conv_dim + s->di;
    const float *B = base + g * s->N;
    const float *C = base + (s->G + g) * s->N;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)q, (int)q, (int)s->N, 1.0f, C,
                (int)s->conv_dim, B, (int)s->conv_dim, 0.0f,
                e->buffers.gram + index * CPU_CHUNK_TOKENS * CPU_CHUNK_TOKENS, CPU_CHUNK_TOKENS);
}

static void fill_decays(const ssmq_shape *s, const chunk *c, work *w) {
    double cs = 0.0;
    for (int64_t i = 0; i < c->q; i++) {
        cs += (double)c->dt[i * s->H] * (double)c->A;
        w->cs[i] = cs;
    }
    for (int64_t i = 0; i < c->q; i++) {
        float *M = w->M + i * CPU_CHUNK_TOKENS;
        const float *gram = c->gram + i * CPU_CHUNK_TOKENS;
        for (int64_t j = 0; j <= i; j++) {
            M[j] = gram[j] * expf((float)(w->cs[i] - w->cs[j])) * c->dt[j * s->H];
        }
        for (int64_t j = i + 1; j < c->q; j++) M[j] = 0.0f;
    }
}

static void chunk_output(const ssmq_shape *s, const chunk *c, const work *w) {
    const int q = (int)c->q, P = (int)s->P, N = (int)s->N;
    const int stride = (int)s->conv_dim;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, q, P, q, 1.0f, w->M, CPU_CHUNK_TOKENS,
                c->x, stride, 0.0f, c->y, (int)s->di);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, q, P, N, 1.0f, c->C, stride, c->S, N, 0.0f,
                w->yc, P);
    for (int64_t i = 0; i < c->q; i++) {
        const float decay = expf((float)w->cs[i]);
        float *y = c->y + i * s->di;
        const float *x = c->x + i * s->conv_dim;
        for (int64_t p = 0; p < s->P; p++) {
            y[p] += decay * w->yc[i * s->P + p] + c->D * x[p];
        }
    }
}

static void chunk_state(const ssmq_shape *s, const chunk *c, const work *w) {
    const double last = w->cs[c->q - 1];
    for (int64_t j = 0; j < c->q; j++) {
        const float weight = expf((float)(last - w->cs[j])) * c->dt[j * s->H];
        const float *x = c->x + j * s->conv_dim;
        for (int64_t p = 0; p < s->P; p++) w->xw[j * s->P + p] = weight * x[p];
    }
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)s->P, (int)s->N, (int)c->q, 1.0f,
                w->xw, (int)s->P, c->B, (int)s->conv_dim, expf((float)last), c->S, (int)s->N);
}

static void scan_head(const cpu_engine *e, const cpu_layer *layer, float *states, int64_t T,
                      int64_t index, work *w) {
    const ssmq_shape *s = &e->shape;
    const int64_t b = index / s->H, h = index % s->H;
    const int64_t g = h / (s->H / s->G);
    const int64_t n_chunks = (T + CPU_CHUNK_TOKENS - 1) / CPU_CHUNK_TOKENS;
    const float *grams =
        e->buffers.gram + (b * s->G + g) * n_chunks * CPU_CHUNK_TOKENS * CPU_CHUNK_TOKENS;
    for (int64_t i = 0; i < n_chunks; i++) {
        const int64_t row0 = b * T + i * CPU_CHUNK_TOKENS;
        const int64_t left = T - i * CPU_CHUNK_TOKENS;
        const float *xbc = e->buffers.xbc + row0 * s->conv_dim;
        const chunk c = {
            .row0 = row0,
            .q = left < CPU_CHUNK_TOKENS ? left : CPU_CHUNK_TOKENS,
            .x = xbc + h * s->P,
            .B = xbc + s->di + g * s->N,
            .C = xbc + s->di + (s->G + g) * s->N,
            .gram = grams + i * CPU_CHUNK_TOKENS * CPU_CHUNK_TOKENS,
            .dt = e->buffers.dt + row0 * s->H + h,
            .A = layer->A[h],
            .D = layer->D[h],
            .S = states + index * s->P * s->N,
            .y = e->buffers.y + row0 * s->di + h * s->P,
        };
        fill_decays(s, &c, w);
        chunk_output(s, &c, w);
        chunk_state(s, &c, w);
    }
}

static work work_of_thread(const cpu_engine *e) {
    float *scratch = e->buffers.scratch + omp_get_thread_num() * e->buffers.scratch_floats;
    work w = {.M = scratch};
    w.xw = w.M + CPU_CHUNK_TOKENS * CPU_CHUNK_TOKENS;
    w.yc = w.xw + CPU_CHUNK_TOKENS * e->shape.P;
    return w;
}

void cpu_scan(cpu_engine *e, int64_t layer_idx, int64_t T) {
    const ssmq_shape *s = &e->shape;
    const cpu_layer *layer = &e->weights.layers[layer_idx];
    const int64_t B = e->extent.n_sequences;
    const int64_t n_chunks = (T + CPU_CHUNK_TOKENS - 1) / CPU_CHUNK_TOKENS;
    float *states = e->state.ssm + layer_idx * B * s->H * s->P * s->N;
#pragma omp parallel num_threads(e->n_threads)
    {
        work w = work_of_thread(e);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < B * s->G * n_chunks; i++) fill_gram(e, T, i);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < B * s->H; i++) scan_head(e, layer, states, T, i, &w);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < B * T; row++) {
            cpu_round(e->buffers.y + row * s->di, s->di, e->spec.precision.dtype);
        }
    }
}
