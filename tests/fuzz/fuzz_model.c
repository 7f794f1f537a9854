/* SPDX-License-Identifier: Apache-2.0 */
/* Mutated checkpoints through the real readers: no crash, a status and a one-line text for every
 * failure, and for what is accepted every view inside its file and every size within its limits.
 * The draws are fixed, so a failure repeats. Meant to run under AddressSanitizer. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "fuzz/mutate.h"
#include "json/json.h"
#include "model/config_json.h"
#include "model/model.h"
#include "model/safetensors.h"
#include "support/write_checkpoint.h"

enum {
    N_SAFETENSORS = 60000,
    N_CONFIGS = 60000,
    N_FOLDERS = 3000,
    CAPACITY = 1 << 14,
    N_SEEDS = 4,
    MAX_LINES = 1000
};

/* How the readers answered: lines at which failures were noticed show how deep mutants come. */
struct tally {
    int n_ok;
    int n_failed;
    int n_lines;
    bool is_seen[MAX_LINES];
};

static char folder[SSMQ_PATH_BYTES];

static void check_failure(struct tally *tally, ssmq_status status, const ssmq_err *err) {
    assert_true(status == SSMQ_CONFIG || status == SSMQ_IO || status == SSMQ_NOMEM);
    assert_int_equal(err->status, status);
    size_t length = strlen(err->text);
    assert_true(length > 0);
    for (size_t i = 0; i < length; i++) assert_true((unsigned char)err->text[i] >= 0x20);
    tally->n_failed++;
    assert_in_range(err->line, 1, MAX_LINES - 1);
    if (!tally->is_seen[err->line]) tally->n_lines++;
    tally->is_seen[err->line] = true;
}

static void report(const char *what, const struct tally *tally) {
    print_message("%s: %d accepted, %d rejected, at %d places\n", what, tally->n_ok,
                  tally->n_failed, tally->n_lines);
}

/* An exact copy, so that AddressSanitizer sees a read past its end. */
static char *exact_copy(const char *bytes, size_t n_bytes) {
    char *copy = NULL;
    assert_int_equal(ssmq_calloc(&copy, n_bytes, 1, NULL), SSMQ_OK);
    if (n_bytes > 0) memcpy(copy, bytes, n_bytes);
    return copy;
}

static volatile unsigned touched;

static void touch(const unsigned char *bytes, size_t n_bytes) {
    unsigned sum = 0;
    for (size_t i = 0; i < n_bytes; i++) sum += bytes[i];
    touched += sum;
}

static void path_in_folder(char *path, const char *name) {
    assert_int_equal(ssmq_path_join(path, folder, name, NULL), SSMQ_OK);
}

static size_t read_seed(char *out, const char *name) {
    char path[SSMQ_PATH_BYTES];
    char *text = NULL;
    size_t n_bytes = 0;
    path_in_folder(path, name);
    assert_int_equal(ssmq_file_read(&text, &n_bytes, path, CAPACITY, NULL), SSMQ_OK);
    memcpy(out, text, n_bytes);
    ssmq_free(text);
    return n_bytes;
}

/* Without the syncs of ssmq_file_replace(), which would take most of the time. */
static void write_quickly(const char *name, const char *bytes, size_t n_bytes) {
    char path[SSMQ_PATH_BYTES];
    path_in_folder(path, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ssmq_fd_write(fd, bytes, n_bytes, path, NULL), SSMQ_OK);
    assert_int_equal(close(fd), 0);
}

static size_t header_bytes(const char *file) {
    return (size_t)(unsigned char)file[0] | (size_t)(unsigned char)file[1] << 8;
}

/* A mutated safetensors file. Half of the mutants keep a true header length, so that the damage
 * reaches the checks behind it. */
static void mutate_file(struct mutant *m, const char *seed, size_t n_seed, ssmq_rng *rng) {
    memcpy(m->bytes, seed, n_seed);
    m->n_bytes = n_seed;
    if (ssmq_rng_below(rng, 4) == 0) {
        mutate(m, seed, n_seed, rng);
        return;
    }
    size_t n_header = header_bytes(seed);
    size_t n_data = n_seed - 8 - n_header;
    struct mutant header = {
        .bytes = m->bytes + 8, .n_bytes = n_header, .capacity = CAPACITY - 8 - n_data};
    mutate(&header, seed + 8, n_header, rng);
    for (int i = 0; i < 8; i++) m->bytes[i] = (char)(header.n_bytes >> 8 * i & 0xFF);
    memcpy(header.bytes + header.n_bytes, seed + 8 + n_header, n_data);
    m->n_bytes = 8 + header.n_bytes + n_data;
}

static int write_seeds(void **state) {
    (void)state;
    make_temp_folder(folder);
    struct checkpoint_options o = {.d = 8, .H = 4, .P = 4, .N = 2, .G = 2, .L = 1, .V = 4};
    o.dtype = SSMQ_BF16;
    write_checkpoint(folder, &o);
    return 0;
}

static int make_empty_folder(void **state) {
    (void)state;
    make_temp_folder(folder);
    return 0;
}

static int remove_seeds(void **state) {
    (void)state;
    remove_folder(folder);
    return 0;
}

static void safetensors_in_memory(void **state) {
    (void)state;
    static char seed[CAPACITY];
    static char bytes[CAPACITY];
    struct tally tally = {0};
    size_t n_seed = read_seed(seed, "model.safetensors");
    ssmq_rng rng = ssmq_rng_from_text("fuzz/safetensors");
    for (int i = 0; i < N_SAFETENSORS; i++) {
        struct mutant m = {.bytes = bytes, .capacity = CAPACITY};
        mutate_file(&m, seed, n_seed, &rng);
        unsigned char *copy = (unsigned char *)exact_copy(m.bytes, m.n_bytes);
        ssmq_err err = {0};
        ssmq_safetensors file;
        ssmq_status status = ssmq_safetensors_parse(&file, copy, m.n_bytes, "m", &err);
        if (status != SSMQ_OK) {
            check_failure(&tally, status, &err);
        } else {
            tally.n_ok++;
            for (size_t k = 0; k < file.n; k++)
                touch(file.tensors[k].bytes, file.tensors[k].n_bytes);
            ssmq_safetensors_free(&file);
        }
        ssmq_free(copy);
    }
    report("safetensors", &tally);
    assert_true(tally.n_ok > N_SAFETENSORS / 100);
    assert_true(tally.n_lines >= 15);
}

static void check_shape(const ssmq_shape *s) {
    assert_in_range(s->d, 1, SSMQ_MAX_HIDDEN);
    assert_in_range(s->L, 1, SSMQ_MAX_LAYERS);
    assert_in_range(s->V, 1, SSMQ_MAX_VOCAB);
    assert_in_range(s->di, 1, SSMQ_MAX_INNER);
    assert_in_range(s->K, 2, SSMQ_MAX_CONV_KERNEL);
    assert_true(s->H > 0 && s->P > 0 && s->N > 0 && s->G > 0);
    assert_true(s->H * s->P == s->di && s->H % s->G == 0);
    assert_true(s->R == 2 * s->di + 2 * s->G * s->N + s->H);
    assert_true(s->dt_min <= s->dt_max && s->dt_max > 0.0f && s->eps > 0.0f);
}

static const char *const config_seeds[N_SEEDS] = {
    "{\"model_type\": \"mamba2\", \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_heads\": 4, "
    "\"head_dim\": 16, \"n_groups\": 2, \"state_size\": 16, \"vocab_size\": 64, \"expand\": 2.0, "
    "\"time_step_limit\": [0.0, {\"__float__\": \"Infinity\"}], \"layer_norm_epsilon\": 1e-05, "
    "\"hidden_act\": \"silu\", \"use_bias\": false, \"eos_token_id\": [0, 1], \"pad_token_id\": "
    "null}",
    "{\"d_model\": 64, \"d_intermediate\": 0, \"n_layer\": 4, \"vocab_size\": 100, \"ssm_cfg\": "
    "{\"layer\": \"Mamba2\", \"expand\": 1.5, \"headdim\": 16, \"ngroups\": 3, \"d_ssm\": 96, "
    "\"dt_limit\": [0, Infinity]}, \"attn_layer_idx\": [], \"rms_norm\": true, "
    "\"pad_vocab_size_multiple\": 16}",
    "{\"dim\": 128, \"n_layers\": 2, \"vocab_size\": 99, \"n_groups\": 4, \"residual_in_fp32\": "
    "true, \"tie_embeddings\": false, \"pad_vocab_size_multiple\": 8}",
    "[{\"a\\u00e9\\ud83d\\ude00\\n\": [1, -2.5e-3, NaN, -Infinity, [[[[]]]], {\"b\": {}}], \"\": "
    "\"\xC3\xA9\xF0\x9F\x98\x80\"}, true, null]",
};

static size_t count_values(const ssmq_json *value) {
    size_t n = 1;
    for (ssmq_json_iter it = ssmq_json_begin(value); ssmq_json_next(&it);) {
        n += strlen(it.key) + count_values(it.value);
    }
    for (size_t i = 0; i < ssmq_json_n_items(value); i++)
        n += count_values(ssmq_json_item(value, i));
    return n;
}

static void configurations(void **state) {
    (void)state;
    static char bytes[CAPACITY];
    struct tally shapes = {0};
    struct tally documents = {0};
    ssmq_rng rng = ssmq_rng_from_text("fuzz/config");
    for (int i = 0; i < N_CONFIGS; i++) {
        struct mutant m = {.bytes = bytes, .capacity = CAPACITY};
        const char *seed = config_seeds[i % N_SEEDS];
        const char *other = config_seeds[ssmq_rng_below(&rng, N_SEEDS)];
        m.n_bytes = strlen(seed);
        memcpy(bytes, seed, m.n_bytes);
        mutate(&m, other, strlen(other), &rng);
        char *copy = exact_copy(m.bytes, m.n_bytes);
        ssmq_err err = {0};
        ssmq_shape shape;
        ssmq_status status = ssmq_config_json_parse(&shape, copy, m.n_bytes, "c", &err);
        if (status != SSMQ_OK) {
            check_failure(&shapes, status, &err);
        } else {
            shapes.n_ok++;
            check_shape(&shape);
        }
        ssmq_json *document = NULL;
        ssmq_err_clear(&err);
        status = ssmq_json_parse(&document, copy, m.n_bytes, "c", &err);
        if (status != SSMQ_OK) {
            check_failure(&documents, status, &err);
        } else {
            documents.n_ok++;
            touched += (unsigned)count_values(document);
            ssmq_json_free(document);
        }
        ssmq_free(copy);
    }
    report("configurations", &shapes);
    report("JSON texts", &documents);
    assert_true(shapes.n_ok > N_CONFIGS / 100 && documents.n_ok > N_CONFIGS / 10);
    assert_true(shapes.n_lines >= 12);
}

static void touch_tensor(const ssmq_tensor *tensor) {
    if (tensor->bytes == NULL) return;
    touch(tensor->bytes,
          (size_t)(tensor->rows * tensor->columns) * ssmq_dtype_bytes(tensor->dtype));
}

static void touch_model(const ssmq_model *model) {
    touch_tensor(&model->embeddings);
    touch_tensor(&model->lm_head);
    touch_tensor(&model->norm_f);
    for (int64_t i = 0; i < model->shape.L; i++) {
        const ssmq_layer *layer = &model->layers[i];
        const ssmq_tensor *tensors[] = {
            &layer->norm,       &layer->in_proj,  &layer->in_proj_bias, &layer->conv,
            &layer->conv_bias,  &layer->dt_bias,  &layer->A_log,        &layer->D,
            &layer->gated_norm, &layer->out_proj, &layer->out_proj_bias};
        for (size_t k = 0; k < sizeof tensors / sizeof tensors[0]; k++) touch_tensor(tensors[k]);
    }
}

static void open_folder(struct tally *tally) {
    ssmq_err err = {0};
    ssmq_model *model = NULL;
    ssmq_status status = ssmq_model_open(&model, folder, &err);
    if (status != SSMQ_OK) {
        assert_null(model);
        check_failure(tally, status, &err);
        return;
    }
    tally->n_ok++;
    touch_model(model);
    ssmq_model_close(model);
}

/* Whole folders: the tensor file or the configuration is damaged. */
static void folders(void **state) {
    (void)state;
    static char file[CAPACITY];
    static char config[CAPACITY];
    static char bytes[CAPACITY];
    struct tally tally = {0};
    size_t n_file = read_seed(file, "model.safetensors");
    size_t n_config = read_seed(config, "config.json");
    ssmq_rng rng = ssmq_rng_from_text("fuzz/folders");
    for (int i = 0; i < N_FOLDERS; i++) {
        struct mutant m = {.bytes = bytes, .capacity = CAPACITY};
        if (i % 2 == 0) {
            mutate_file(&m, file, n_file, &rng);
            write_quickly("model.safetensors", m.bytes, m.n_bytes);
        } else {
            write_quickly("model.safetensors", file, n_file);
            memcpy(bytes, config, n_config);
            m.n_bytes = n_config;
            mutate(&m, config_seeds[0], strlen(config_seeds[0]), &rng);
            write_quickly("config.json", m.bytes, m.n_bytes);
        }
        open_folder(&tally);
        write_quickly("config.json", config, n_config);
    }
    report("folders", &tally);
    assert_true(tally.n_ok > 10 && tally.n_lines >= 15);
}

static void shard_indexes(void **state) {
    (void)state;
    static char index[CAPACITY];
    static char bytes[CAPACITY];
    struct tally tally = {0};
    struct checkpoint_options o = {.d = 8, .H = 4, .P = 4, .N = 2, .L = 1, .V = 4, .n_shards = 3};
    write_checkpoint(folder, &o);
    size_t n_index = read_seed(index, "model.safetensors.index.json");
    ssmq_rng rng = ssmq_rng_from_text("fuzz/indexes");
    for (int i = 0; i < N_FOLDERS; i++) {
        struct mutant m = {.bytes = bytes, .n_bytes = n_index, .capacity = CAPACITY};
        memcpy(bytes, index, n_index);
        mutate(&m, index, n_index, &rng);
        write_quickly("model.safetensors.index.json", m.bytes, m.n_bytes);
        open_folder(&tally);
    }
    report("shard indexes", &tally);
    assert_true(tally.n_ok > 10 && tally.n_lines >= 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(safetensors_in_memory, write_seeds, remove_seeds),
        cmocka_unit_test(configurations),
        cmocka_unit_test_setup_teardown(folders, write_seeds, remove_seeds),
        cmocka_unit_test_setup_teardown(shard_indexes, make_empty_folder, remove_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
