/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/state_round.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "model/model.h"
#include "quant/quantize.h"

/* The numbers of a type: spacing 2^(exponent - mantissa_bits), exponents below least as least. */
typedef struct grid {
    bool is_integer; /* spacing 1 */
    int mantissa_bits, least_exponent;
    double largest;
} grid;

static grid grid_of(const ssmq_precision *p) {
    const ssmq_format_info *format = ssmq_format_get(p->state_format);
    if (format->encoding == SSMQ_ENCODING_INTEGER) {
        return (grid){.is_integer = true, .largest = format->qmax};
    }
    if (format->encoding == SSMQ_ENCODING_E4M3) return (grid){false, 3, -6, format->qmax};
    if (p->state_dtype == SSMQ_F16) return (grid){false, 10, -14, 65504.0};
    return (grid){false, 7, -126, 0x1.fep127};
}

/* 2^exponent by its bits, for exponents of normal numbers. */
static double power_of_2(int exponent) {
    const uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double power = 0;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* floor(log2(|x|)); less than any type's least exponent for 0. */
static int exponent_of(double x) {
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof bits);
    return (int)(bits >> 52 & 0x7ff) - 1023;
}

/* u in [0, 1): the upper neighbour where x is less than u below it, counted in spacings. */
static float round_by_draw(const grid *g, double x, double u) {
    const int exponent = exponent_of(x) < g->least_exponent ? g->least_exponent : exponent_of(x);
    const int spacing = g->is_integer ? 0 : exponent - g->mantissa_bits;
    const double rounded = floor(x * power_of_2(-spacing) + u) * power_of_2(spacing);
    return (float)fmax(-g->largest, fmin(g->largest, rounded));
}

static ssmq_rng stream_of(const ssmq_state_place *place) {
    ssmq_rng rng = ssmq_rng_from_seed((uint64_t)place->layer);
    rng = ssmq_rng_from_seed(ssmq_rng_u64(&rng) ^ (uint64_t)place->token);
    return ssmq_rng_from_seed(ssmq_rng_u64(&rng) ^ (uint64_t)place->row);
}

static void round_stochastically(const ssmq_precision *p, const ssmq_state_place *place, float *row,
                                 int64_t n) {
    const grid g = grid_of(p);
    const bool has_scale = p->state_format != SSMQ_FORMAT_FLOAT;
    const float scale = has_scale ? ssmq_quantize_scale(row, n, p->state_format) : 1.0f;
    ssmq_rng rng = stream_of(place);
    for (int64_t i = 0; i < n; i++) {
        const double u = ssmq_rng_f64(&rng);
        /* What is not finite stays visible. */
        if (!isfinite(row[i])) continue;
        row[i] = round_by_draw(&g, (double)row[i] / (double)scale, u) * scale;
    }
}

void ssmq_state_round(const ssmq_precision *p, const ssmq_state_place *place, float *row,
                      int64_t n) {
    if (!ssmq_precision_rounds_state(p)) return;
    if (p->state_is_stochastic) {
        round_stochastically(p, place, row, n);
    } else if (p->state_format != SSMQ_FORMAT_FLOAT) {
        const float scale = ssmq_quantize_values(row, n, p->state_format, row);
        for (int64_t i = 0; i < n; i++) row[i] *= scale;
    } else {
        for (int64_t i = 0; i < n; i++) row[i] = ssmq_round_to(row[i], p->state_dtype);
    }
}
