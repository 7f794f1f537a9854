/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include <string.h>

#include "base/mem.h"
#include "config/reading.h"
#include "config/values.h"

enum { MOST_DIFFERENCES = 8, DIFFERENCE_BYTES = 160, VALUES_BYTES = 1 << 16 };

const char *ssmq_task_name(ssmq_task task) {
    static const char *const names[SSMQ_N_TASKS] = {"ppl", "passkey", "profile", "fidelity",
                                                    "drift"};
    return (unsigned)task < SSMQ_N_TASKS ? names[task] : "unknown";
}

bool ssmq_task_is_of_text(ssmq_task task) {
    return task == SSMQ_TASK_PPL || task == SSMQ_TASK_FIDELITY;
}

bool ssmq_task_reads_text(ssmq_task task) {
    return ssmq_task_is_of_text(task) || task == SSMQ_TASK_DRIFT;
}

bool ssmq_task_has_baseline(ssmq_task task) {
    return task == SSMQ_TASK_FIDELITY || task == SSMQ_TASK_DRIFT;
}

ssmq_status ssmq_config_baseline(ssmq_precision *out, const ssmq_config *config, ssmq_err *err) {
    const ssmq_config_sweep *sweep = &config->sweep;
    for (size_t i = 0; i < sweep->n_precisions; i++) {
        if (strcmp(sweep->precisions[i].name, sweep->baseline) != 0) continue;
        *out = sweep->precisions[i];
        return SSMQ_OK;
    }
    return ssmq_precision_parse(out, sweep->baseline, err);
}

const char *ssmq_protocol_name(ssmq_protocol protocol) {
    static const char *const names[SSMQ_N_PROTOCOLS] = {"disjoint", "sliding", "stream", "rolling",
                                                        "half_window"};
    return (unsigned)protocol < SSMQ_N_PROTOCOLS ? names[protocol] : "unknown";
}

bool ssmq_protocol_from_name(const char *name, ssmq_protocol *out) {
    for (int i = 0; i < SSMQ_N_PROTOCOLS; i++) {
        if (strcmp(ssmq_protocol_name((ssmq_protocol)i), name) == 0) {
            *out = (ssmq_protocol)i;
            return true;
        }
    }
    return false;
}

static ssmq_status read_all(ssmq_reading *reading, const ssmq_config_sources *sources,
                            ssmq_err *err) {
    SSMQ_TRY(ssmq_reading_add_defaults(reading, err));
    SSMQ_CHECK(reading->faults.n == 0, err);
    for (size_t i = 0; i < sources->n_files; i++) {
        SSMQ_TRY(ssmq_reading_add_file(reading, sources->files[i], err));
    }
    for (size_t i = 0; i < sources->n_sets; i++) {
        SSMQ_TRY(ssmq_reading_add_set(reading, sources->sets[i], err));
    }
    ssmq_reading_check(reading);
    if (reading->faults.n > SSMQ_MAX_FAULTS) {
        ssmq_str_addf(reading->faults.text, "and %zu faults more\n",
                      reading->faults.n - SSMQ_MAX_FAULTS);
    }
    if (reading->faults.n > 0) {
        return SSMQ_FAIL(err, CONFIG, "configuration: %zu fault%s", reading->faults.n,
                         reading->faults.n == 1 ? "" : "s");
    }
    return SSMQ_OK;
}

ssmq_status ssmq_config_read(ssmq_config *out, const ssmq_config_sources *sources, ssmq_str *faults,
                             ssmq_err *err) {
    ssmq_reading *reading = NULL;
    memset(out, 0, sizeof *out);
    ssmq_str_clear(faults);
    SSMQ_TRY(ssmq_calloc(&reading, 1, sizeof *reading, err));
    reading->config = out;
    reading->faults.text = faults;
    ssmq_status status = read_all(reading, sources, err);
    ssmq_reading_free(reading);
    ssmq_free(reading);
    return status;
}

/* All values of a key as YAML: [a, b] for a list, or, with is_block, an item a line. */
static void write_values(const ssmq_key *key, const ssmq_config *config, bool is_block,
                         ssmq_str *out) {
    size_t n = ssmq_key_count(key, config);
    for (size_t i = 0; i < n; i++) {
        if (is_block) {
            ssmq_str_addf(out, "\n    - ");
        } else if (key->is_list) {
            ssmq_str_addf(out, "%s", i == 0 ? "[" : ", ");
        }
        ssmq_value_write(key, ssmq_key_value(key, config, i), out);
    }
    if (key->is_list && !is_block) ssmq_str_addf(out, "%s", n == 0 ? "[]" : "]");
}

ssmq_status ssmq_config_write(const ssmq_config *config, bool without_run, ssmq_str *out,
                              ssmq_err *err) {
    const char *section = "";
    for (size_t i = 0; i < SSMQ_N_KEYS; i++) {
        const ssmq_key *key = ssmq_key_get(i);
        if (without_run && strcmp(key->section, "run") == 0) continue;
        if (strcmp(section, key->section) != 0) ssmq_str_addf(out, "%s:\n", key->section);
        section = key->section;
        bool is_block = key->is_list && key->kind == SSMQ_KEY_PRECISION;
        ssmq_str_addf(out, "  # %s\n  %s:%s", key->meaning, key->name, is_block ? "" : " ");
        write_values(key, config, is_block, out);
        ssmq_str_addf(out, "\n");
    }
    return ssmq_str_check(out, "resolved configuration", err);
}

/* Values of a key, cut for a message. */
static void add_short(const ssmq_key *key, const ssmq_config *config, ssmq_str *values,
                      ssmq_str *out) {
    ssmq_str_clear(values);
    write_values(key, config, false, values);
    size_t n = values->n_bytes;
    if (n > DIFFERENCE_BYTES) n = ssmq_utf8_valid_prefix(ssmq_str_get(values), DIFFERENCE_BYTES);
    ssmq_str_add(out, ssmq_str_get(values), n);
    if (n < values->n_bytes) ssmq_str_addf(out, "...");
}

ssmq_status ssmq_config_diff(const ssmq_config *a, const ssmq_config *b, ssmq_str *out,
                             ssmq_err *err) {
    ssmq_str values_a;
    ssmq_str values_b;
    ssmq_str_init(&values_a, VALUES_BYTES);
    ssmq_str_init(&values_b, VALUES_BYTES);
    size_t n_differences = 0;
    ssmq_status status = SSMQ_OK;
    for (size_t i = 0; i < SSMQ_N_KEYS; i++) {
        const ssmq_key *key = ssmq_key_get(i);
        if (strcmp(key->section, "run") == 0) continue;
        ssmq_str_clear(&values_a);
        ssmq_str_clear(&values_b);
        write_values(key, a, false, &values_a);
        write_values(key, b, false, &values_b);
        SSMQ_TRY_OR(ssmq_str_check(&values_a, "values of a key", err), done);
        SSMQ_TRY_OR(ssmq_str_check(&values_b, "values of a key", err), done);
        if (strcmp(ssmq_str_get(&values_a), ssmq_str_get(&values_b)) == 0) continue;
        if (++n_differences > MOST_DIFFERENCES) continue;
        ssmq_str_addf(out, "%s.%s: ", key->section, key->name);
        add_short(key, a, &values_a, out);
        ssmq_str_addf(out, " -> ");
        add_short(key, b, &values_b, out);
        ssmq_str_addf(out, "\n");
    }
    if (n_differences > MOST_DIFFERENCES) {
        ssmq_str_addf(out, "and %zu keys more\n", n_differences - MOST_DIFFERENCES);
    }
    status = ssmq_str_check(out, "differences", err);
done:
    ssmq_str_free(&values_a);
    ssmq_str_free(&values_b);
    return status;
}
