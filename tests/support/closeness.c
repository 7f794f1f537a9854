/* SPDX-License-Identifier: Apache-2.0 */
#include "support/closeness.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

enum { YARDSTICK_B = 4, YARDSTICK_T = 300, MANY = 64 };

static const double fp32_limit = 1e-4;
static const double rms_limit = 2.0;
static const double single_limit = 12.0;

difference difference_of(const float *a, const float *b, int64_t n) {
    difference d = {.n = n};
    for (int64_t i = 0; i < n; i++) {
        const double error = fabs((double)a[i] - (double)b[i]);
        if (!isfinite(error)) fail_msg("number %lld is not finite", (long long)i);
        d.rms += error * error / (double)n;
        d.mean += error / (double)n;
        d.largest = fmax(d.largest, error);
        d.scaled = fmax(d.scaled, error / fmax(1.0, fabs((double)b[i])));
    }
    d.rms = sqrt(d.rms);
    return d;
}

void difference_widen(difference *worst, const difference *d) {
    worst->rms = fmax(worst->rms, d->rms);
    worst->mean = fmax(worst->mean, d->mean);
    worst->largest = fmax(worst->largest, d->largest);
    worst->scaled = fmax(worst->scaled, d->scaled);
    worst->n += d->n;
}

double closeness_limit(double unit) {
    return unit > 0.0 ? single_limit * unit : fp32_limit;
}

bool is_close(const difference *d, double unit, const char *what) {
    if (unit == 0.0 && d->scaled > fp32_limit) {
        print_error("%s: off by %.3g of its size; allowed is %.3g\n", what, d->scaled, fp32_limit);
        return false;
    }
    if (unit > 0.0 && d->largest > closeness_limit(unit)) {
        print_error("%s: a number is off by %.3g; allowed is %.3g\n", what, d->largest,
                    closeness_limit(unit));
        return false;
    }
    /* The root mean square of a few numbers is a matter of chance. */
    if (unit > 0.0 && d->n >= MANY && d->rms > rms_limit * unit) {
        print_error("%s: off by %.3g rms; allowed is %.3g\n", what, d->rms, rms_limit * unit);
        return false;
    }
    return true;
}

void assert_close(const difference *d, double unit, const char *what) {
    if (!is_close(d, unit, what)) fail();
}

yardstick yardstick_of(const ssmq_model *model, const char *precision) {
    if (strcmp(precision, "fp32") == 0) return (yardstick){0};
    const int64_t n = (int64_t)YARDSTICK_B * YARDSTICK_T, n_logits = YARDSTICK_B * model->shape.V;
    float *nll[2] = {NULL}, *logits[2] = {NULL};
    int32_t *ids =
        cpu_fixture_ids((int64_t)YARDSTICK_B * (YARDSTICK_T + 1), model->shape.V, 0x5eed);
    const cpu_run run = {.ids = ids, .B = YARDSTICK_B, .T = YARDSTICK_T};
    for (int i = 0; i < 2; i++) {
        ssmq_engine *engine = cpu_fixture_engine(model, i == 0 ? precision : "fp32", "all", 0);
        assert_int_equal(ssmq_calloc(&nll[i], (size_t)n, sizeof(float), NULL), SSMQ_OK);
        assert_int_equal(ssmq_calloc(&logits[i], (size_t)n_logits, sizeof(float), NULL), SSMQ_OK);
        cpu_fixture_score(engine, &run, nll[i], logits[i]);
        engine->api->close(engine);
    }
    const yardstick y = {.nll = difference_of(nll[0], nll[1], n).rms,
                         .logit = difference_of(logits[0], logits[1], n_logits).rms};
    assert_true(y.nll > 0.0 && y.logit > 0.0);
    for (int i = 0; i < 2; i++) {
        ssmq_free(nll[i]);
        ssmq_free(logits[i]);
    }
    ssmq_free(ids);
    return y;
}
