/* SPDX-License-Identifier: Apache-2.0 */
/* Published shapes with random weights, for measuring speed and memory without a download. The
 * scales follow mamba_ssm's initialization, so that activations and states stay in the range of a
 * fresh model. A normal number is a quantile drawn uniformly from a table of 4096, already in bf16:
 * one 64-bit draw gives five of them, so that 2.7 G weights take seconds. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "model/model_files.h"

enum {
    TABLE_BITS = 12,
    TABLE_SIZE = 1 << TABLE_BITS,
    DRAWS_PER_WORD = 64 / TABLE_BITS,
    NAME_BYTES = 256,
    NEWTON_STEPS = 40
};

/* Raised when the numbers behind a name change. */
static const char generator_version[] = "ssmq random model 1";

static const struct {
    const char *name;
    int64_t d, L, P, N, V;
} sizes[] = {
    {"mamba2-tiny", 64, 2, 16, 32, 256},       {"mamba2-130m", 768, 24, 64, 128, 50288},
    {"mamba2-370m", 1024, 48, 64, 128, 50288}, {"mamba2-780m", 1536, 48, 64, 128, 50288},
    {"mamba2-1.3b", 2048, 48, 64, 128, 50288}, {"mamba2-2.7b", 2560, 64, 64, 128, 50288},
};

ssmq_status ssmq_random_shape(ssmq_shape *out, const char *path, ssmq_err *err) {
    const char *name = path + strlen("random:");
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (strcmp(name, sizes[i].name) != 0) continue;
        const int64_t di = 2 * sizes[i].d;
        *out = (ssmq_shape){.d = sizes[i].d,
                            .di = di,
                            .H = di / sizes[i].P,
                            .P = sizes[i].P,
                            .N = sizes[i].N,
                            .G = 1,
                            .K = 4,
                            .L = sizes[i].L,
                            .V = sizes[i].V,
                            .conv_dim = di + 2 * sizes[i].N,
                            .expand = 2.0,
                            .eps = 1e-5f,
                            .dt_max = INFINITY,
                            .has_conv_bias = true,
                            .is_tied = true,
                            .residual_in_fp32 = true};
        out->R = out->di + out->conv_dim + out->H;
        return SSMQ_OK;
    }
    ssmq_str known;
    ssmq_str_init(&known, NAME_BYTES);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ssmq_str_addf(&known, "%srandom:%s", i > 0 ? ", " : "", sizes[i].name);
    }
    ssmq_status status =
        SSMQ_FAIL(err, CONFIG, "%s: no such model; %s", path, ssmq_str_get(&known));
    ssmq_str_free(&known);
    return status;
}

/* Quantile of the standard normal distribution for p >= 1/2. Newton's method from 0 rises
 * monotonically, because the distribution function is concave there. */
static double upper_quantile(double p) {
    const double inverse_sqrt_2pi = 0.39894228040143267794;
    double x = 0.0;
    for (int i = 0; i < NEWTON_STEPS; i++) {
        double above = 0.5 * erfc(-x * sqrt(0.5)) - p;
        x -= above / (inverse_sqrt_2pi * exp(-0.5 * x * x));
    }
    return x;
}

/* Everything that filling needs. */
typedef struct filler {
    ssmq_model *model;
    unsigned char *next; /* free part of the buffer */
    double quantiles[TABLE_SIZE];
} filler;

static void set_quantiles(filler *f) {
    for (int i = TABLE_SIZE / 2; i < TABLE_SIZE; i++) {
        double x = upper_quantile(((double)i + 0.5) / TABLE_SIZE);
        f->quantiles[i] = x;
        f->quantiles[TABLE_SIZE - 1 - i] = -x;
    }
}

static ssmq_rng rng_of(const filler *f, int64_t layer, const char *part) {
    char text[NAME_BYTES];
    (void)snprintf(text, sizeof text, "%s/%s/%lld/%s", generator_version, f->model->name,
                   (long long)layer, part);
    return ssmq_rng_from_text(text);
}

/* A tensor's place in the buffer, with its sizes counted. */
static unsigned char *place(filler *f, ssmq_tensor *tensor, int64_t rows, int64_t columns,
                            ssmq_dtype dtype) {
    unsigned char *bytes = f->next;
    const int64_t n_bytes = rows * columns * (int64_t)ssmq_dtype_bytes(dtype);
    *tensor = (ssmq_tensor){.bytes = bytes, .rows = rows, .columns = columns, .dtype = dtype};
    f->next += n_bytes;
    f->model->n_params += rows * columns;
    f->model->stored_bytes += n_bytes;
    return bytes;
}

static void draw_normals(uint16_t *numbers, const uint16_t *table, ssmq_rng *rng) {
    uint64_t word = ssmq_rng_u64(rng);
    for (int k = 0; k < DRAWS_PER_WORD; k++) {
        numbers[k] = table[word >> (TABLE_BITS * k) & (TABLE_SIZE - 1)];
    }
}

/* Normal numbers in bf16. */
static void fill_normal(filler *f, ssmq_tensor *tensor, int64_t rows, int64_t columns, double std,
                        ssmq_rng rng) {
    uint16_t table[TABLE_SIZE];
    for (int i = 0; i < TABLE_SIZE; i++) {
        table[i] = ssmq_bf16_from_f32((float)(std * f->quantiles[i]));
    }
    unsigned char *bytes = place(f, tensor, rows, columns, SSMQ_BF16);
    const int64_t n = rows * columns;
    const int64_t n_whole = n - n % DRAWS_PER_WORD;
    uint16_t numbers[DRAWS_PER_WORD];
    for (int64_t i = 0; i < n_whole; i += DRAWS_PER_WORD) {
        draw_normals(numbers, table, &rng);
        memcpy(bytes + 2 * i, numbers, sizeof numbers);
    }
    draw_normals(numbers, table, &rng);
    memcpy(bytes + 2 * n_whole, numbers, 2 * (size_t)(n - n_whole));
}

/* Uniform numbers of [low, high) in bf16; low = high makes a constant. */
static void fill_uniform(filler *f, ssmq_tensor *tensor, int64_t rows, int64_t columns, double low,
                         double high, ssmq_rng rng) {
    unsigned char *bytes = place(f, tensor, rows, columns, SSMQ_BF16);
    for (int64_t i = 0; i < rows * columns; i++) {
        float x = (float)(low + (high - low) * ssmq_rng_f64(&rng));
        uint16_t bits = ssmq_bf16_from_f32(x);
        memcpy(bytes + 2 * i, &bits, sizeof bits);
    }
}

/* A_log, dt_bias and D, in fp32 as upstream stores them. */
static void fill_ssm(filler *f, int64_t i) {
    const double min_dt = 1e-3;
    const double max_dt = 1e-1;
    const int64_t H = f->model->shape.H;
    ssmq_layer *layer = &f->model->layers[i];
    ssmq_rng rng = rng_of(f, i, "ssm");
    unsigned char *A_log = place(f, &layer->A_log, 1, H, SSMQ_F32);
    unsigned char *dt_bias = place(f, &layer->dt_bias, 1, H, SSMQ_F32);
    unsigned char *D = place(f, &layer->D, 1, H, SSMQ_F32);
    for (int64_t h = 0; h < H; h++) {
        const float one = 1.0f;
        float decay = (float)log(1.0 + 15.0 * ssmq_rng_f64(&rng));
        double dt = exp(log(min_dt) + ssmq_rng_f64(&rng) * log(max_dt / min_dt));
        /* The inverse of softplus at dt. */
        float bias = (float)(dt + log(-expm1(-dt)));
        memcpy(A_log + 4 * h, &decay, sizeof decay);
        memcpy(dt_bias + 4 * h, &bias, sizeof bias);
        memcpy(D + 4 * h, &one, sizeof one);
    }
}

static void fill_layer(filler *f, int64_t i) {
    const ssmq_shape *s = &f->model->shape;
    ssmq_layer *layer = &f->model->layers[i];
    const double in_std = 1.0 / sqrt(3.0 * (double)s->d);
    const double out_std = 1.0 / sqrt(3.0 * (double)s->di * (double)s->L);
    const double conv_limit = 1.0 / sqrt((double)s->K);
    fill_ssm(f, i);
    fill_uniform(f, &layer->norm, 1, s->d, 1.0, 1.0, rng_of(f, i, "norm"));
    fill_uniform(f, &layer->gated_norm, 1, s->di, 1.0, 1.0, rng_of(f, i, "gated_norm"));
    fill_normal(f, &layer->in_proj, s->R, s->d, in_std, rng_of(f, i, "in_proj"));
    fill_normal(f, &layer->out_proj, s->d, s->di, out_std, rng_of(f, i, "out_proj"));
    fill_uniform(f, &layer->conv, s->conv_dim, s->K, -conv_limit, conv_limit, rng_of(f, i, "conv"));
    fill_uniform(f, &layer->conv_bias, 1, s->conv_dim, -conv_limit, conv_limit,
                 rng_of(f, i, "conv_bias"));
}

static size_t total_bytes(const ssmq_shape *s) {
    const int64_t vectors = s->d + s->di + s->conv_dim;
    const int64_t matrices = s->R * s->d + s->d * s->di + s->conv_dim * s->K;
    const int64_t layer_bytes = 2 * (vectors + matrices) + 4 * 3 * s->H;
    return (size_t)(s->L * layer_bytes + 2 * (s->V * s->d + s->d));
}

ssmq_status ssmq_random_fill(ssmq_model *model, ssmq_err *err) {
    const double embedding_std = 0.02;
    const ssmq_shape *s = &model->shape;
    filler *f = NULL;
    SSMQ_TRY(ssmq_calloc(&model->files, 1, sizeof *model->files, err));
    SSMQ_TRY(ssmq_calloc(&model->files->generated, total_bytes(s), 1, err));
    SSMQ_TRY(ssmq_calloc(&f, 1, sizeof *f, err));
    f->model = model;
    f->next = model->files->generated;
    set_quantiles(f);
    for (int64_t i = 0; i < s->L; i++) fill_layer(f, i);
    fill_normal(f, &model->embeddings, s->V, s->d, embedding_std, rng_of(f, -1, "embeddings"));
    model->lm_head = model->embeddings;
    fill_uniform(f, &model->norm_f, 1, s->d, 1.0, 1.0, rng_of(f, -1, "norm_f"));
    ssmq_free(f);
    char identity[NAME_BYTES];
    (void)snprintf(identity, sizeof identity, "%s/%s", generator_version, model->name);
    ssmq_sha256_of(identity, strlen(identity), model->sha256);
    return SSMQ_OK;
}
