/* SPDX-License-Identifier: Apache-2.0 */
/* What one key alone cannot tell. */
#include <inttypes.h>
#include <string.h>

#include "config/reading.h"
#include "config/values.h"

#define KEY(section, key) SSMQ_KEY_ID_##section##_##key

/* The place to name for a fault between two keys: where the first was set, or, if nobody set it,
 * where the second was. */
static ssmq_mark origin_of(const ssmq_reading *reading, ssmq_key_id first, ssmq_key_id second) {
    return reading->is_default[first] ? reading->origin[second] : reading->origin[first];
}

static bool has_protocol(const ssmq_config_ppl *ppl, ssmq_protocol protocol) {
    for (size_t i = 0; i < ppl->n_protocols; i++) {
        if (ppl->protocols[i] == protocol) return true;
    }
    return false;
}

static void check_stride(ssmq_reading *reading) {
    const ssmq_config_ppl *ppl = &reading->config->ppl;
    if (reading->is_bad[KEY(ppl, stride)] || reading->is_bad[KEY(ppl, seq_len)]) return;
    int64_t least = ppl->seq_len.values[0];
    for (size_t i = 1; i < ppl->seq_len.n; i++) {
        if (ppl->seq_len.values[i] < least) least = ppl->seq_len.values[i];
    }
    if (ppl->stride > least) {
        ssmq_fault(&reading->faults, origin_of(reading, KEY(ppl, stride), KEY(ppl, seq_len)),
                   "ppl.stride", "%" PRId64 " is more than ppl.seq_len %" PRId64 "; 1 to %" PRId64,
                   ppl->stride, least, least);
    }
    if (!reading->is_bad[KEY(ppl, protocols)] && ppl->stride == 0 &&
        has_protocol(ppl, SSMQ_PROTOCOL_SLIDING)) {
        ssmq_fault(&reading->faults, origin_of(reading, KEY(ppl, stride), KEY(ppl, protocols)),
                   "ppl.stride", "not set, but ppl.protocols has sliding; 1 to %" PRId64, least);
    }
}

static void check_max_tokens(ssmq_reading *reading) {
    if (reading->is_bad[KEY(ppl, max_tokens)] || reading->config->ppl.max_tokens != 1) return;
    ssmq_fault(&reading->faults, reading->origin[KEY(ppl, max_tokens)], "ppl.max_tokens",
               "1 token leaves nothing to score; 0 for the whole text, or at least 2");
}

static void check_filler(ssmq_reading *reading) {
    const ssmq_config_passkey *passkey = &reading->config->passkey;
    if (reading->is_bad[KEY(passkey, filler)] || reading->is_bad[KEY(passkey, filler_text)]) return;
    if (strcmp(passkey->filler, "text") == 0 && passkey->filler_text[0] == '\0') {
        ssmq_fault(&reading->faults,
                   origin_of(reading, KEY(passkey, filler_text), KEY(passkey, filler)),
                   "passkey.filler_text", "not set, but passkey.filler is text; a UTF-8 file");
    }
}

static void check_baseline(ssmq_reading *reading) {
    const ssmq_config_sweep *sweep = &reading->config->sweep;
    if (reading->is_bad[KEY(sweep, baseline)] || reading->is_bad[KEY(sweep, precisions)]) return;
    for (size_t i = 0; i < sweep->n_precisions; i++) {
        if (strcmp(sweep->precisions[i].name, sweep->baseline) == 0) return;
    }
    ssmq_precision known;
    ssmq_err err = {0};
    if (ssmq_precision_parse(&known, sweep->baseline, &err) == SSMQ_OK) return;
    char shown[SSMQ_SHOWN_BYTES];
    ssmq_fault(&reading->faults, reading->origin[KEY(sweep, baseline)], "sweep.baseline",
               "%s is not a precision; a known name or a name in sweep.precisions",
               ssmq_shown(shown, sweep->baseline));
}

static void check_script(ssmq_reading *reading) {
    const ssmq_config_model *model = &reading->config->model;
    if (reading->is_bad[KEY(model, device)] || reading->is_bad[KEY(model, null_script)]) return;
    if (model->null_script[0] != '\0' && strcmp(model->device, "null") != 0) {
        ssmq_fault(&reading->faults,
                   origin_of(reading, KEY(model, null_script), KEY(model, device)),
                   "model.null_script", "set, but model.device is %s; only with device null",
                   model->device);
    }
}

/* Where nothing has products of its own. */
static void check_decode_products(ssmq_reading *reading) {
    const ssmq_config *config = reading->config;
    const char *device = config->model.device;
    const ssmq_key_id key = KEY(profile, decode_products);
    if (reading->is_bad[key] || reading->is_bad[KEY(model, device)]) return;
    if (strcmp(config->profile.decode_products, "own") != 0) return;
    if (strcmp(device, "auto") == 0 || strcmp(device, "cuda") == 0) return;
    ssmq_fault(&reading->faults, origin_of(reading, key, KEY(model, device)),
               "profile.decode_products", "own, but model.device is %s; cuda or auto", device);
}

/* True for configs/demo, by a path of any kind that ends so. */
static bool is_demo(const char *path) {
    static const char demo[] = "configs/demo";
    const size_t n_demo = sizeof demo - 1;
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/') n--;
    if (n < n_demo || memcmp(path + n - n_demo, demo, n_demo) != 0) return false;
    return n == n_demo || path[n - n_demo - 1] == '/';
}

/* The embedded model knows the wording of its own training; others are asked as published. */
static void choose_template(ssmq_reading *reading) {
    ssmq_config *config = reading->config;
    if (reading->is_default[KEY(passkey, prompt_template)] && !is_demo(config->model.path)) {
        ssmq_field_set(config->passkey.prompt_template[0],
                       sizeof config->passkey.prompt_template[0], "landmark-1");
    }
}

/* It begins at a step, of which the first is at 128 tokens. */
static void check_impulse(ssmq_reading *reading) {
    const ssmq_config *config = reading->config;
    const ssmq_key_id key = KEY(drift, impulse);
    if (reading->is_bad[key] || reading->is_bad[KEY(drift, context_length)]) return;
    if (config->drift.impulse == 0.0 || config->drift.context_length >= 256) return;
    ssmq_fault(&reading->faults, origin_of(reading, key, KEY(drift, context_length)),
               "drift.impulse", "needs a drift.context_length of at least 256");
}

void ssmq_reading_check(ssmq_reading *reading) {
    choose_template(reading);
    check_stride(reading);
    check_max_tokens(reading);
    check_filler(reading);
    check_baseline(reading);
    check_script(reading);
    check_decode_products(reading);
    check_impulse(reading);
}
