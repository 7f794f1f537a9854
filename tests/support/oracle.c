/* SPDX-License-Identifier: Apache-2.0 */
#include "support/oracle.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

/* y = W x + bias with some rows quantized. */
typedef struct linear {
    int64_t rows, columns;
    double *w;       /* weights; unscaled values in quantized rows */
    double *bias;    /* zeros if there is none */
    float *scales;   /* [rows, columns]: of each weight */
    bool *is_scaled; /* [rows] quantized, and to be multiplied with quantized activations */
    int64_t group;   /* columns a scale */
    ssmq_format a_format;
    ssmq_dtype dtype;  /* rounding of y */
    bool is_quantized; /* some row is */
} linear;

typedef struct layer {
    double *norm, *conv, *conv_bias, *dt_bias, *A_log, *D, *gated_norm;
    linear in_proj, out_proj;
    double *inputs; /* [K, conv_dim] raw, newest last */
    double *S;      /* [H, P, N] */
} layer;

typedef struct oracle {
    ssmq_shape s;
    ssmq_dtype dtype;
    double *embeddings, *norm_f;
    linear head;
    layer *layers;
    double *r, *u, *p, *c, *y, *o, *logits;
} oracle;

static double *zeros(int64_t n) {
    double *out = NULL;
    assert_int_equal(ssmq_calloc(&out, (size_t)n, sizeof *out, NULL), SSMQ_OK);
    return out;
}

static double rounded(double x, ssmq_dtype dtype) {
    return dtype == SSMQ_F32 ? x : (double)ssmq_round_to((float)x, dtype);
}

static double *numbers(const ssmq_tensor *tensor, int64_t n, ssmq_dtype dtype) {
    double *out = zeros(n);
    for (int64_t i = 0; tensor->bytes != NULL && i < n; i++) {
        float x = 0.0f;
        ssmq_tensor_f32(tensor, i, 1, &x);
        out[i] = rounded((double)x, dtype);
    }
    return out;
}

static float largest_of(ssmq_format format) {
    static const float largest[] = {
        [SSMQ_FORMAT_INT8] = 127.0f, [SSMQ_FORMAT_INT4] = 7.0f, [SSMQ_FORMAT_FP8_E4M3] = 448.0f};
    return largest[format];
}

/* The value of the format next to x. fp8_e4m3 has steps of 2^(e - 3) in [2^e, 2^(e + 1)), e at
 * least -6. */
static double nearest(float x, ssmq_format format) {
    int exponent = 0;
    if (format != SSMQ_FORMAT_FP8_E4M3) return (double)nearbyintf(x);
    (void)frexp((double)x, &exponent);
    const double step = ldexp(1.0, (exponent - 1 > -6 ? exponent - 1 : -6) - 3);
    return fmax(fmin(nearbyint((double)x / step) * step, 448.0), -448.0);
}

static float scale_of(const float *x, int64_t n, ssmq_format format) {
    const float largest = largest_of(format);
    float absmax = 0.0f;
    for (int64_t i = 0; i < n; i++) absmax = fabsf(x[i]) > absmax ? fabsf(x[i]) : absmax;
    return absmax == 0.0f ? 1.0f : absmax / largest;
}

static void quantize_row(linear *l, const ssmq_tensor *tensor, int64_t row, const ssmq_spec *spec) {
    const bool is_scaled = spec->precision.a_format != SSMQ_FORMAT_FLOAT;
    const ssmq_format format = spec->precision.w_format;
    l->is_scaled[row] = is_scaled;
    l->is_quantized |= is_scaled;
    if (format == SSMQ_FORMAT_FLOAT) {
        for (int64_t i = 0; i < l->columns; i++) l->scales[row * l->columns + i] = 1.0f;
        return;
    }
    for (int64_t first = 0; first < l->columns; first += l->group) {
        const int64_t n = l->columns - first < l->group ? l->columns - first : l->group;
        float *x = NULL;
        assert_int_equal(ssmq_calloc(&x, (size_t)n, sizeof *x, NULL), SSMQ_OK);
        ssmq_tensor_f32(tensor, row * l->columns + first, n, x);
        const float scale = scale_of(x, n, format);
        for (int64_t i = 0; i < n; i++) {
            const double q = nearest(x[i] / scale, format);
            const int64_t at = row * l->columns + first + i;
            l->scales[at] = scale;
            l->w[at] = is_scaled ? q : rounded((double)((float)q * scale), l->dtype);
        }
        ssmq_free(x);
    }
}

/* Rows [ends[i - 1], ends[i]) are quantized if bit i of the mask is set. */
static void read_linear(linear *l, const ssmq_tensor *w, const ssmq_tensor *bias,
                        const ssmq_spec *spec, const int64_t *ends, uint32_t mask) {
    memset(l, 0, sizeof *l);
    l->rows = w->rows;
    l->columns = w->columns;
    l->dtype = spec != NULL ? spec->precision.dtype : SSMQ_F32;
    l->w = numbers(w, l->rows * l->columns, l->dtype);
    l->bias = numbers(bias, l->rows, l->dtype);
    assert_int_equal(ssmq_calloc(&l->scales, (size_t)(l->rows * l->columns), sizeof(float), NULL),
                     SSMQ_OK);
    assert_int_equal(ssmq_calloc(&l->is_scaled, (size_t)l->rows, sizeof(bool), NULL), SSMQ_OK);
    if (spec == NULL) return;
    l->group = spec->precision.group_size > 0 ? spec->precision.group_size : l->columns;
    l->a_format = spec->precision.a_format;
    int block = 0;
    for (int64_t row = 0; row < l->rows; row++) {
        while (row >= ends[block]) block++;
        if ((mask >> block & 1u) != 0) quantize_row(l, w, row, spec);
    }
}

static double dot_float(const linear *l, int64_t row, const double *x) {
    double sum = l->bias[row];
    for (int64_t i = 0; i < l->columns; i++) sum += l->w[row * l->columns + i] * x[i];
    return sum;
}

/* Sums of quantized values are exact in fp64: of integers, and of multiples of 2^-18 below 2^35. Of
 * weights in the compute type they are nearly so. */
static double dot_scaled(const linear *l, int64_t row, const double *q, float scale) {
    float sum = 0.0f;
    for (int64_t first = 0; first < l->columns; first += l->group) {
        double acc = 0.0;
        for (int64_t i = first; i < l->columns && i < first + l->group; i++) {
            acc += q[i] * l->w[row * l->columns + i];
        }
        sum += (float)acc * scale * l->scales[row * l->columns + first];
    }
    return (double)(sum + (float)l->bias[row]);
}

/* rounding SSMQ_F32 for logits. */
static void apply(const linear *l, const double *x, double *y, ssmq_dtype dtype) {
    double *q = NULL;
    float *xf = NULL;
    float scale = 1.0f;
    assert_int_equal(ssmq_calloc(&q, (size_t)l->columns, sizeof *q, NULL), SSMQ_OK);
    assert_int_equal(ssmq_calloc(&xf, (size_t)l->columns, sizeof *xf, NULL), SSMQ_OK);
    for (int64_t i = 0; i < l->columns; i++) xf[i] = (float)x[i];
    if (l->is_quantized) scale = scale_of(xf, l->columns, l->a_format);
    for (int64_t i = 0; l->is_quantized && i < l->columns; i++) {
        q[i] = nearest(xf[i] / scale, l->a_format);
    }
    for (int64_t row = 0; row < l->rows; row++) {
        const double value =
            l->is_scaled[row] ? dot_scaled(l, row, q, scale) : dot_float(l, row, x);
        y[row] = rounded(value, dtype);
    }
    ssmq_free(q);
    ssmq_free(xf);
}

static void rms_norm(double *x, int64_t n, const double *w, const oracle *o, double *out) {
    double mean = 0.0;
    for (int64_t i = 0; i < n; i++) mean += x[i] * x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) {
        out[i] = rounded(x[i] / sqrt(mean + (double)o->s.eps) * w[i], o->dtype);
    }
}

static double silu(double x) {
    return x / (1.0 + exp(-x));
}

/* Raw inputs of x, B, C in; their convolution out. */
static void convolve(const oracle *o, layer *l, const double *in, double *out) {
    const int64_t n = o->s.conv_dim, K = o->s.K;
    for (int64_t i = 0; i < (K - 1) * n; i++) l->inputs[i] = l->inputs[i + n];
    for (int64_t c = 0; c < n; c++) {
        l->inputs[(K - 1) * n + c] = in[c];
        double sum = l->conv_bias[c];
        for (int64_t k = 0; k < K; k++) sum += l->conv[c * K + k] * l->inputs[k * n + c];
        out[c] = rounded(silu(sum), o->dtype);
    }
}

static void recur(const oracle *o, layer *l, const double *raw_dt) {
    const ssmq_shape *s = &o->s;
    const double *x = o->c, *B = o->c + s->di, *C = B + s->G * s->N;
    for (int64_t h = 0; h < s->H; h++) {
        const int64_t g = h * s->G / s->H;
        double dt = log1p(exp(raw_dt[h] + l->dt_bias[h]));
        if (dt < (double)s->dt_min) dt = (double)s->dt_min;
        if (dt > (double)s->dt_max) dt = (double)s->dt_max;
        const double decay = exp(-dt * exp(l->A_log[h]));
        for (int64_t c = h * s->P; c < (h + 1) * s->P; c++) {
            double sum = l->D[h] * x[c];
            for (int64_t n = 0; n < s->N; n++) {
                double *S = &l->S[c * s->N + n];
                *S = decay * *S + dt * x[c] * B[g * s->N + n];
                sum += *S * C[g * s->N + n];
            }
            o->y[c] = rounded(sum, o->dtype);
        }
    }
}

static void run_layer(const oracle *o, layer *l) {
    const ssmq_shape *s = &o->s;
    const int64_t width = s->di / s->G;
    rms_norm(o->r, s->d, l->norm, o, o->u);
    apply(&l->in_proj, o->u, o->p, o->dtype);
    convolve(o, l, o->p + s->di, o->c);
    recur(o, l, o->p + s->di + s->conv_dim);
    for (int64_t c = 0; c < s->di; c++) o->y[c] *= silu(o->p[c]);
    for (int64_t g = 0; g < s->G; g++) {
        rms_norm(o->y + g * width, width, l->gated_norm + g * width, o, o->u + g * width);
    }
    apply(&l->out_proj, o->u, o->o, o->dtype);
    for (int64_t i = 0; i < s->d; i++) {
        o->r[i] += o->o[i];
        if (!s->residual_in_fp32) o->r[i] = rounded(o->r[i], o->dtype);
    }
}

static void read_layer(oracle *o, const ssmq_model *model, const ssmq_spec *spec, int64_t i) {
    const ssmq_shape *s = &o->s;
    const ssmq_layer *from = &model->layers[i];
    layer *l = &o->layers[i];
    const int64_t GN = s->G * s->N;
    const int64_t ends[5] = {s->di, 2 * s->di, 2 * s->di + GN, 2 * s->di + 2 * GN, s->R};
    const uint32_t mask = spec != NULL ? spec->layer_modules[i] : 0;
    l->norm = numbers(&from->norm, s->d, o->dtype);
    l->conv = numbers(&from->conv, s->conv_dim * s->K, o->dtype);
    l->conv_bias = numbers(&from->conv_bias, s->conv_dim, o->dtype);
    l->dt_bias = numbers(&from->dt_bias, s->H, SSMQ_F32);
    l->A_log = numbers(&from->A_log, s->H, SSMQ_F32);
    l->D = numbers(&from->D, s->H, SSMQ_F32);
    l->gated_norm = numbers(&from->gated_norm, s->di, o->dtype);
    read_linear(&l->in_proj, &from->in_proj, &from->in_proj_bias, spec, ends, mask);
    read_linear(&l->out_proj, &from->out_proj, &from->out_proj_bias, spec, &s->d,
                mask >> SSMQ_OUT_PROJ & 1u);
    l->inputs = zeros(s->K * s->conv_dim);
    l->S = zeros(s->di * s->N);
}

static void read_model(oracle *o, const ssmq_model *model, const ssmq_spec *spec) {
    const ssmq_tensor none = {0};
    memset(o, 0, sizeof *o);
    o->s = model->shape;
    o->dtype = spec != NULL ? spec->precision.dtype : SSMQ_F32;
    o->embeddings = numbers(&model->embeddings, o->s.V * o->s.d, o->dtype);
    o->norm_f = numbers(&model->norm_f, o->s.d, o->dtype);
    read_linear(&o->head, &model->lm_head, &none, spec, &o->s.V,
                spec != NULL ? spec->model_modules >> SSMQ_LM_HEAD & 1u : 0);
    assert_int_equal(ssmq_calloc(&o->layers, (size_t)o->s.L, sizeof *o->layers, NULL), SSMQ_OK);
    for (int64_t i = 0; i < o->s.L; i++) read_layer(o, model, spec, i);
    o->r = zeros(o->s.d);
    o->u = zeros(o->s.d + o->s.di);
    o->p = zeros(o->s.R);
    o->c = zeros(o->s.conv_dim);
    o->y = zeros(o->s.di);
    o->o = zeros(o->s.d);
    o->logits = zeros(o->s.V);
}

static void free_linear(linear *l) {
    ssmq_free(l->w);
    ssmq_free(l->bias);
    ssmq_free(l->scales);
    ssmq_free(l->is_scaled);
}

static void free_model(oracle *o) {
    for (int64_t i = 0; i < o->s.L; i++) {
        layer *l = &o->layers[i];
        double *all[] = {l->norm, l->conv,       l->conv_bias, l->dt_bias, l->A_log,
                         l->D,    l->gated_norm, l->inputs,    l->S};
        for (size_t j = 0; j < sizeof all / sizeof all[0]; j++) ssmq_free(all[j]);
        free_linear(&l->in_proj);
        free_linear(&l->out_proj);
    }
    double *all[] = {o->embeddings, o->norm_f, o->r, o->u, o->p, o->c, o->y, o->o, o->logits};
    for (size_t j = 0; j < sizeof all / sizeof all[0]; j++) ssmq_free(all[j]);
    free_linear(&o->head);
    ssmq_free(o->layers);
}

static double nll_of(const oracle *o, int32_t id) {
    double largest = o->logits[0];
    double sum = 0.0;
    for (int64_t v = 1; v < o->s.V; v++) largest = fmax(largest, o->logits[v]);
    for (int64_t v = 0; v < o->s.V; v++) sum += exp(o->logits[v] - largest);
    return log(sum) + largest - o->logits[id];
}

void oracle_run(const ssmq_model *model, const ssmq_spec *spec, const int32_t *ids, int64_t n,
                double *nll, double *logits) {
    oracle o;
    read_model(&o, model, spec);
    for (int64_t t = 0; t < n; t++) {
        memcpy(o.r, o.embeddings + ids[t] * o.s.d, (size_t)o.s.d * sizeof *o.r);
        for (int64_t i = 0; i < o.s.L; i++) run_layer(&o, &o.layers[i]);
        if ((nll == NULL || t + 1 == n) && (logits == NULL || t + 1 < n)) continue;
        rms_norm(o.r, o.s.d, o.norm_f, &o, o.u);
        apply(&o.head, o.u, o.logits, SSMQ_F32);
        if (nll != NULL && t + 1 < n) nll[t] = nll_of(&o, ids[t + 1]);
        if (logits != NULL && t + 1 == n) {
            memcpy(logits, o.logits, (size_t)o.s.V * sizeof *logits);
        }
    }
    free_model(&o);
}
