/* SPDX-License-Identifier: Apache-2.0 */
/* record/: the table is the struct, and JSON gives every field back bit for bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "record/record.h"
#include "unit/random_record.h"

/* Fields tile the struct: nothing is forgotten, nothing overlaps, no byte is padding. */
static void table_covers_struct(void **state) {
    (void)state;
    size_t end = 0;
    for (size_t i = 0; i < ssmq_record_n_fields(); i++) {
        const ssmq_field *field = ssmq_record_field(i);
        assert_int_equal(field->offset, end);
        assert_int_equal(field->bytes % 8, 0);
        assert_true(strlen(field->unit) > 0);
        assert_true(strlen(field->doc) > 3);
        assert_ptr_equal(ssmq_record_field_named(field->name), field);
        end += field->bytes;
    }
    assert_int_equal(end, sizeof(ssmq_record));
    assert_null(ssmq_record_field(ssmq_record_n_fields()));
    assert_null(ssmq_record_field_named("perplexity"));
    assert_string_equal(ssmq_field_kind_name(ssmq_record_field_named("ppl")->kind), "result");
    assert_string_equal(ssmq_field_type_name(ssmq_record_field_named("ppl")->type), "number");
    assert_string_equal(ssmq_field_type_name(ssmq_record_field_named("seed")->type), "integer");
}

/* The fields that every record of the project must have. */
static void table_has_promised_fields(void **state) {
    (void)state;
    static const char *const names[] = {"run_id",
                                        "trial_id",
                                        "status",
                                        "git_commit",
                                        "host",
                                        "gpu_name",
                                        "driver",
                                        "cuda",
                                        "cublaslt",
                                        "nccl",
                                        "engine_version",
                                        "model_name",
                                        "model_revision",
                                        "dtype",
                                        "device",
                                        "batch_size",
                                        "seq_len",
                                        "stride",
                                        "gen_len",
                                        "w_bits",
                                        "a_bits",
                                        "group_size",
                                        "per_channel",
                                        "quant_backend",
                                        "calib_method",
                                        "seed",
                                        "max_context_tokens",
                                        "generation",
                                        "notes",
                                        "ppl",
                                        "nll_mean",
                                        "n_tokens",
                                        "runtime_s",
                                        "tokens_per_s",
                                        "accuracy",
                                        "context_length",
                                        "n_trials",
                                        "prompt_template_version",
                                        "prefill_tokens_per_s",
                                        "decode_tokens_per_s",
                                        "prefill_peak_mem_mb",
                                        "decode_peak_mem_mb",
                                        "storage_bits",
                                        "compute_type",
                                        "algo_id",
                                        "gemm_algorithms",
                                        "decode_products",
                                        "sm_clock_mhz",
                                        "memory_clock_mhz",
                                        "temperature_c",
                                        "throttle_reasons",
                                        "fallback"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (ssmq_record_field_named(names[i]) == NULL) fail_msg("no field %s", names[i]);
    }
}

static ssmq_status parse_record(ssmq_record *out, const char *text, ssmq_err *err) {
    ssmq_json *document = NULL;
    ssmq_err_clear(err);
    SSMQ_TRY(ssmq_json_parse(&document, text, strlen(text), "test", err));
    ssmq_status status = ssmq_record_from_json(out, document, err);
    ssmq_json_free(document);
    return status;
}

static void json_round_trip(void **state) {
    (void)state;
    ssmq_rng rng = ssmq_rng_from_seed(1);
    ssmq_str text;
    ssmq_str_init(&text, 1 << 20);
    for (int i = 0; i < 2000; i++) {
        ssmq_record record;
        ssmq_record back;
        ssmq_err err = {0};
        random_record(&record, &rng);
        ssmq_str_clear(&text);
        ssmq_record_add_json(&record, &text);
        if (parse_record(&back, ssmq_str_get(&text), &err) != SSMQ_OK) fail_msg("%s", err.text);
        for (size_t f = 0; f < ssmq_record_n_fields(); f++) {
            const ssmq_field *field = ssmq_record_field(f);
            if (memcmp((char *)&record + field->offset, (char *)&back + field->offset,
                       field->bytes) != 0) {
                fail_msg("%s differs in %s", field->name, ssmq_str_get(&text));
            }
        }
    }
    ssmq_str_free(&text);
}

static void json_nulls(void **state) {
    (void)state;
    ssmq_record record = {0};
    ssmq_record empty;
    ssmq_err err = {0};
    ssmq_str text;
    ssmq_record_init(&empty);
    assert_int_equal(empty.seed, -1);
    assert_true(isnan(empty.ppl));
    assert_string_equal(empty.task, "");
    ssmq_str_init(&text, 1 << 20);
    empty.ppl = INFINITY;
    ssmq_record_add_json(&empty, &text);
    assert_non_null(strstr(ssmq_str_get(&text), "\"seed\": null"));
    assert_non_null(strstr(ssmq_str_get(&text), "\"ppl\": null"));
    assert_int_equal(parse_record(&record, ssmq_str_get(&text), &err), SSMQ_OK);
    assert_true(isnan(record.ppl));
    assert_int_equal(parse_record(&record, "{}", &err), SSMQ_OK);
    ssmq_record_init(&empty);
    assert_memory_equal(&record, &empty, sizeof record);
    ssmq_str_free(&text);
}

static void json_faults(void **state) {
    (void)state;
    static const struct {
        const char *json;
        const char *text;
    } cases[] = {
        {"{\"perplexity\": 1}", "perplexity: no such field"},
        {"{\"seed\": 1.5}", "seed: is a number, must be an integer or null"},
        {"{\"ppl\": \"3\"}", "ppl: is a string, must be a number or null"},
        {"{\"task\": 3}", "task: is an integer, must be a string"},
        {"{\"task\": \"a\\u0000b\"}", "task: holds a zero character"},
        {"[]", "a record is an array, must be an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_record record;
        ssmq_err err = {0};
        assert_int_equal(parse_record(&record, cases[i].json, &err), SSMQ_CONFIG);
        assert_string_equal(err.text, cases[i].text);
    }
    ssmq_record record;
    ssmq_err err = {0};
    assert_int_equal(parse_record(&record, "{\"dtype\": \"abcd\xc3\xa9\xc3\xa9\xc3\xa9\"}", &err),
                     SSMQ_OK);
    assert_string_equal(record.dtype, "abcd\xc3\xa9");
}

static void csv_quoting(void **state) {
    (void)state;
    ssmq_record record;
    ssmq_str header;
    ssmq_str line;
    ssmq_str_init(&header, 1 << 16);
    ssmq_str_init(&line, 1 << 16);
    ssmq_record_init(&record);
    ssmq_field_set(record.run_id, sizeof record.run_id, "a,b");
    ssmq_field_set(record.trial_id, sizeof record.trial_id, "say \"x\"");
    ssmq_field_set(record.trial_key, sizeof record.trial_key, "two\nlines");
    ssmq_field_set(record.task, sizeof record.task, "plain");
    ssmq_field_set(record.status, sizeof record.status, " ok");
    record.attempt = 2;
    record.ppl = 0.1;
    ssmq_record_add_csv_header(&header);
    ssmq_record_add_csv(&record, &line);
    static const char head[] = "run_id,trial_id,trial_key,task,status,status_reason,attempt,rank,";
    static const char body[] = "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",plain,\" ok\",,2,,";
    assert_memory_equal(ssmq_str_get(&header), head, sizeof head - 1);
    assert_memory_equal(ssmq_str_get(&line), body, sizeof body - 1);
    assert_non_null(strstr(ssmq_str_get(&line), ",0.10000000000000001,"));
    size_t commas[2] = {0};
    for (const char *p = ssmq_str_get(&header); *p != '\0'; p++) commas[0] += *p == ',';
    for (const char *p = ssmq_str_get(&line); *p != '\0'; p++) commas[1] += *p == ',';
    assert_int_equal(commas[0], ssmq_record_n_fields() - 1);
    /* One comma is inside quotes. */
    assert_int_equal(commas[1], ssmq_record_n_fields());
    assert_int_equal(ssmq_str_get(&line)[line.n_bytes - 1], '\n');
    ssmq_str_free(&header);
    ssmq_str_free(&line);
}

static void samples_round_trip(void **state) {
    (void)state;
    ssmq_rng rng = ssmq_rng_from_seed(2);
    ssmq_samples samples = {0};
    ssmq_samples back = {0};
    ssmq_err err = {0};
    ssmq_json *document = NULL;
    ssmq_str text;
    double values[257];
    ssmq_str_init(&text, 1 << 20);
    for (size_t i = 0; i < 257; i++) values[i] = random_f64(&rng);
    for (size_t i = 0; i < ssmq_series_count(); i++) {
        assert_int_equal(ssmq_samples_add(&samples, ssmq_series_name(i), values, 257 - i * 4, &err),
                         SSMQ_OK);
        assert_non_null(ssmq_series_unit(ssmq_series_name(i)));
        assert_non_null(ssmq_series_doc(ssmq_series_name(i)));
    }
    ssmq_samples_add_json(&samples, &text);
    assert_int_equal(ssmq_json_parse(&document, ssmq_str_get(&text), text.n_bytes, "test", &err),
                     SSMQ_OK);
    assert_int_equal(ssmq_samples_from_json(&back, document, &err), SSMQ_OK);
    ssmq_samples from_text;
    assert_int_equal(ssmq_samples_from_text(&from_text, ssmq_str_get(&text), text.n_bytes),
                     text.n_bytes);
    assert_int_equal(back.n_series, samples.n_series);
    assert_int_equal(from_text.n_series, samples.n_series);
    for (size_t i = 0; i < ssmq_series_count(); i++) {
        const ssmq_series *a = ssmq_samples_get(&samples, ssmq_series_name(i));
        const ssmq_series *b = ssmq_samples_get(&back, ssmq_series_name(i));
        assert_int_equal(a->n, b->n);
        assert_memory_equal(a->values, b->values, a->n * sizeof *a->values);
        const ssmq_series *c = ssmq_samples_get(&from_text, ssmq_series_name(i));
        assert_int_equal(a->n, c->n);
        assert_memory_equal(a->values, c->values, a->n * sizeof *a->values);
    }
    ssmq_samples_free(&from_text);
    ssmq_json_free(document);
    ssmq_samples_free(&samples);
    ssmq_samples_free(&back);
    assert_int_equal(samples.n_series, 0);
    ssmq_str_free(&text);
}

/* A random record whose texts are plain and whose integers have at most 18 digits. */
static void plain_record(ssmq_record *record, ssmq_rng *rng) {
    random_record(record, rng);
    for (size_t i = 0; i < ssmq_record_n_fields(); i++) {
        const ssmq_field *field = ssmq_record_field(i);
        char *text = (char *)record + field->offset;
        if (field->type == SSMQ_FIELD_I64) {
            const int64_t number = (int64_t)ssmq_rng_below(rng, 1000000000000000000u) - 1;
            memcpy(text, &number, sizeof number);
        }
        if (field->type != SSMQ_FIELD_STR) continue;
        const size_t n_bytes = ssmq_rng_below(rng, field->bytes);
        memset(text, 0, field->bytes);
        for (size_t k = 0; k < n_bytes; k++) {
            const char c = (char)(' ' + ssmq_rng_below(rng, 95));
            text[k] = c == '"' || c == '\\' ? '/' : c;
        }
    }
}

/* The fast reader reads what is written, and of a text with one byte changed either says no or the
 * same as the JSON reader. */
static void text_round_trip(void **state) {
    (void)state;
    ssmq_rng rng = ssmq_rng_from_seed(5);
    ssmq_str text;
    size_t n_read = 0;
    ssmq_str_init(&text, 1 << 20);
    for (int i = 0; i < 3000; i++) {
        ssmq_record record;
        ssmq_record back;
        ssmq_record by_json;
        ssmq_err err = {0};
        plain_record(&record, &rng);
        ssmq_str_clear(&text);
        ssmq_record_add_json(&record, &text);
        const size_t n_bytes = text.n_bytes;
        ssmq_str_add(&text, ",1", 2);
        assert_int_equal(ssmq_record_from_text(&back, ssmq_str_get(&text), text.n_bytes), n_bytes);
        assert_memory_equal(&back, &record, sizeof back);
        assert_int_equal(ssmq_record_from_text(&back, ssmq_str_get(&text), n_bytes - 1), 0);
        text.n_bytes = n_bytes;
        text.text[n_bytes] = '\0';
        text.text[ssmq_rng_below(&rng, n_bytes)] = (char)(1 + ssmq_rng_below(&rng, 255));
        if (ssmq_record_from_text(&back, ssmq_str_get(&text), n_bytes) != n_bytes) continue;
        n_read++;
        if (parse_record(&by_json, ssmq_str_get(&text), &err) != SSMQ_OK) fail_msg("%s", err.text);
        assert_memory_equal(&back, &by_json, sizeof back);
    }
    /* Of the bytes, most are of names, which may not change: a tenth is enough to compare. */
    assert_true(n_read > 100);
    ssmq_str_free(&text);
}

/* What the fast reader leaves to the other one. */
static void text_refusals(void **state) {
    (void)state;
    static const char *const notes[] = {"a \"quote\"", "tab\t", "caf\xc3\xa9",
                                        "\\",          "\x7f",  "12345678\n"};
    ssmq_str text;
    ssmq_str_init(&text, 1 << 20);
    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++) {
        ssmq_record record;
        ssmq_record back;
        ssmq_record_init(&record);
        ssmq_field_set(record.notes, sizeof record.notes, notes[i]);
        ssmq_str_clear(&text);
        ssmq_record_add_json(&record, &text);
        assert_int_equal(ssmq_record_from_text(&back, ssmq_str_get(&text), text.n_bytes), 0);
    }
    static const char *const samples_texts[] = {"",
                                                "{",
                                                "{\"loss\": []}",
                                                "{\"decode_ms\":[1]}",
                                                "{\"decode_ms\": [1,2]}",
                                                "{\"decode_ms\": [01]}",
                                                "{\"decode_ms\": [1.]}",
                                                "{\"decode_ms\": [1e]}",
                                                "{\"decode_ms\": [NaN]}",
                                                "{\"decode_ms\": [1e999]}",
                                                "{\"decode_ms\": [1]",
                                                "{\"decode_ms\": [1], \"decode_ms\": [1]}"};
    for (size_t i = 0; i < sizeof samples_texts / sizeof samples_texts[0]; i++) {
        ssmq_samples samples;
        const char *wrong = samples_texts[i];
        assert_int_equal(ssmq_samples_from_text(&samples, wrong, strlen(wrong)), 0);
        assert_int_equal(samples.n_series, 0);
    }
    ssmq_str_free(&text);
}

static void samples_faults(void **state) {
    (void)state;
    ssmq_samples samples = {0};
    ssmq_err err = {0};
    double one = 1.0;
    assert_int_equal(ssmq_samples_add(&samples, "loss", &one, 1, &err), SSMQ_INTERNAL);
    assert_string_equal(err.text, "loss: no such series");
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_samples_add(&samples, "decode_ms", &one, 1, &err), SSMQ_OK);
    assert_int_equal(ssmq_samples_add(&samples, "decode_ms", &one, 1, &err), SSMQ_INTERNAL);
    assert_string_equal(err.text, "decode_ms: the trial has this series already");
    assert_int_equal(samples.n_series, 1);
    ssmq_samples_free(&samples);
    static const struct {
        const char *json;
        const char *text;
    } cases[] = {
        {"{\"loss\": []}", "loss: no such series"},
        {"{\"decode_ms\": 3}", "decode_ms: is an integer, must be an array"},
        {"{\"decode_ms\": [1, \"2\"]}", "decode_ms: value 1 is a string, must be a number or null"},
        {"3", "samples: are an integer, must be an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_json *document = NULL;
        ssmq_err_clear(&err);
        assert_int_equal(
            ssmq_json_parse(&document, cases[i].json, strlen(cases[i].json), "test", &err),
            SSMQ_OK);
        assert_int_equal(ssmq_samples_from_json(&samples, document, &err), SSMQ_CONFIG);
        assert_string_equal(err.text, cases[i].text);
        assert_int_equal(samples.n_series, 0);
        ssmq_json_free(document);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_covers_struct), cmocka_unit_test(table_has_promised_fields),
        cmocka_unit_test(json_round_trip),     cmocka_unit_test(json_nulls),
        cmocka_unit_test(json_faults),         cmocka_unit_test(csv_quoting),
        cmocka_unit_test(samples_round_trip),  cmocka_unit_test(text_round_trip),
        cmocka_unit_test(text_refusals),       cmocka_unit_test(samples_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
