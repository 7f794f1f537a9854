/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/null/script.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[NULL_N_FAULTS] = {
#define X(code, name) name,
    NULL_FAULT_TABLE(X)
#undef X
};

#define ALLOWED                                                                                    \
    "allowed is a comma-separated list of KIND[@CONDITION...], KIND one of skip, oom, nan, inf, "  \
    "device, poison, delay:TIME (us, ms or s), hang, kill, segv, exit, CONDITION one of reset=N, " \
    "context=N, context>=N, precision=NAME"

enum { MAX_ITEM_BYTES = 128 };

/* A whole positive number that ends where the text does. */
static bool parse_count(const char *text, int64_t *out) {
    char *end = NULL;
    if (*text < '0' || *text > '9') return false;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < 1) return false;
    *out = value;
    return true;
}

static bool parse_time(const char *text, int64_t *out_ns) {
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}};
    const double longest_s = 3600;
    char *end = NULL;
    if (*text < '0' || *text > '9') return false;
    double value = strtod(text, &end);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].unit) != 0) continue;
        if (value * units[i].ns > longest_s * 1e9) return false;
        *out_ns = (int64_t)(value * units[i].ns);
        return true;
    }
    return false;
}

static bool parse_condition(null_fault *fault, const char *text) {
    static const char reset[] = "reset=", at[] = "context=", least[] = "context>=",
                      precision[] = "precision=";
    if (strncmp(text, reset, sizeof reset - 1) == 0) {
        return parse_count(text + sizeof reset - 1, &fault->reset_idx);
    }
    if (strncmp(text, at, sizeof at - 1) == 0) {
        return parse_count(text + sizeof at - 1, &fault->context_at);
    }
    if (strncmp(text, least, sizeof least - 1) == 0) {
        return parse_count(text + sizeof least - 1, &fault->context_least);
    }
    if (strncmp(text, precision, sizeof precision - 1) == 0) {
        const char *name = text + sizeof precision - 1;
        size_t n_bytes = strlen(name);
        if (n_bytes == 0 || n_bytes >= sizeof fault->precision) return false;
        memcpy(fault->precision, name, n_bytes + 1);
        return true;
    }
    return false;
}

/* KIND or KIND:ARGUMENT. */
static bool parse_kind(null_fault *fault, char *text) {
    char *argument = strchr(text, ':');
    if (argument != NULL) *argument++ = '\0';
    for (int kind = 0; kind < NULL_N_FAULTS; kind++) {
        if (strcmp(text, kind_names[kind]) != 0) continue;
        fault->kind = (null_kind)kind;
        if (kind == NULL_FAULT_DELAY) {
            return argument != NULL && parse_time(argument, &fault->delay_ns);
        }
        return argument == NULL;
    }
    return false;
}

/* Where a fault belongs follows from its kind and conditions. */
static bool place(null_fault *fault) {
    bool has_context = fault->context_at > 0 || fault->context_least > 0;
    switch (fault->kind) {
    case NULL_FAULT_SKIP:
        fault->site = NULL_AT_SUPPORTS;
        return !has_context && fault->reset_idx == 0;
    case NULL_FAULT_NAN:
    case NULL_FAULT_INF:
    case NULL_FAULT_DELAY:
        fault->site = NULL_AT_CALL;
        return true;
    default:
        fault->site = has_context ? NULL_AT_CALL : NULL_AT_RESET;
        return true;
    }
}

static bool parse_fault(null_fault *fault, char *item) {
    memset(fault, 0, sizeof *fault);
    char *condition = strchr(item, '@');
    while (condition != NULL) {
        *condition++ = '\0';
        char *next = strchr(condition, '@');
        if (next != NULL) *next = '\0';
        if (!parse_condition(fault, condition)) return false;
        condition = next;
    }
    return parse_kind(fault, item) && place(fault);
}

ssmq_status null_script_parse(null_script *out, const char *text, ssmq_err *err) {
    memset(out, 0, sizeof *out);
    if (text == NULL || *text == '\0') return SSMQ_OK;
    for (const char *item = text; item != NULL;) {
        const char *comma = strchr(item, ',');
        size_t n_bytes = comma != NULL ? (size_t)(comma - item) : strlen(item);
        char copy[MAX_ITEM_BYTES];
        if (out->n_faults == NULL_MAX_FAULTS) {
            return SSMQ_FAIL(err, CONFIG, "null script: more than %d faults", NULL_MAX_FAULTS);
        }
        bool is_valid = n_bytes < sizeof copy;
        if (is_valid) {
            memcpy(copy, item, n_bytes);
            copy[n_bytes] = '\0';
            is_valid = parse_fault(&out->faults[out->n_faults], copy);
        }
        if (!is_valid) {
            return SSMQ_FAIL(err, CONFIG, "null script: '%.*s' is not a fault; " ALLOWED,
                             (int)(n_bytes < sizeof copy ? n_bytes : sizeof copy), item);
        }
        out->n_faults++;
        item = comma != NULL ? comma + 1 : NULL;
    }
    return SSMQ_OK;
}

bool null_fault_strikes(const null_fault *fault, const null_moment *moment) {
    if (fault->site != moment->site) return false;
    if (fault->reset_idx > 0 && fault->reset_idx != moment->n_resets) return false;
    if (fault->context_at > 0 && (moment->context_before >= fault->context_at ||
                                  moment->context_after < fault->context_at)) {
        return false;
    }
    if (fault->context_least > 0 && moment->context_after < fault->context_least) return false;
    return fault->precision[0] == '\0' || strcmp(fault->precision, moment->precision) == 0;
}
