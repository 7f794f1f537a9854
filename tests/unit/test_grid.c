/* SPDX-License-Identifier: Apache-2.0 */
/* grid/: counts by hand, what ids depend on and what they do not, filters. Configurations are
 * given as --set texts over the defaults. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "grid/grid.h"

enum { MAX_SETS = 16, N_LAYERS = 8 };

/* The shape of the embedded model. */
static ssmq_inputs demo_inputs(void) {
    ssmq_inputs inputs = {0};
    inputs.shape = (ssmq_shape){.d = 256,
                                .di = 512,
                                .H = 8,
                                .P = 64,
                                .N = 128,
                                .G = 1,
                                .K = 4,
                                .L = N_LAYERS,
                                .V = 4096,
                                .R = 1288,
                                .conv_dim = 768};
    ssmq_sha256_of("model", 5, inputs.model_sha256);
    ssmq_sha256_of("tokenizer", 9, inputs.tokenizer_sha256);
    ssmq_sha256_of("text", 4, inputs.text_sha256);
    inputs.text_tokens = 56000;
    ssmq_field_set(inputs.device, sizeof inputs.device, "cpu");
    return inputs;
}

/* The defaults with overrides; the list ends with NULL. */
static void configure(ssmq_config *config, const char *const *sets) {
    size_t n = 0;
    while (sets[n] != NULL) n++;
    ssmq_config_sources sources = {NULL, 0, sets, n};
    ssmq_str faults;
    ssmq_err err = {0};
    ssmq_str_init(&faults, 1 << 16);
    ssmq_status status = ssmq_config_read(config, &sources, &faults, &err);
    assert_string_equal(ssmq_str_get(&faults), "");
    assert_int_equal(status, SSMQ_OK);
    ssmq_str_free(&faults);
}

static ssmq_grid make_with(const ssmq_inputs *inputs, const char *const *sets) {
    ssmq_config config;
    ssmq_grid grid;
    ssmq_err err = {0};
    configure(&config, sets);
    ssmq_status status = ssmq_grid_init(&grid, &config, inputs, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(status, SSMQ_OK);
    return grid;
}

static ssmq_grid make(const char *const *sets) {
    ssmq_inputs inputs = demo_inputs();
    return make_with(&inputs, sets);
}

#define GRID(...) make((const char *const[]){__VA_ARGS__, NULL})

static void expect_error_with(const ssmq_inputs *inputs, const char *const *sets,
                              const char *expected) {
    ssmq_config config;
    ssmq_grid grid;
    ssmq_err err = {0};
    configure(&config, sets);
    assert_int_equal(ssmq_grid_init(&grid, &config, inputs, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, expected);
    assert_null(grid.trials);
}

static int compare_ids(const void *a, const void *b) {
    return strcmp(((const ssmq_trial *)a)->id, ((const ssmq_trial *)b)->id);
}

static void expect_unique(const ssmq_grid *grid) {
    for (size_t i = 0; i < grid->n_trials; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(grid->trials[i].id, grid->trials[j].id);
            assert_string_not_equal(grid->trials[i].key, grid->trials[j].key);
        }
    }
}

/* The same set of ids, in whatever order. Sorts both. */
static void expect_same_ids(ssmq_grid *a, ssmq_grid *b) {
    assert_int_equal(a->n_trials, b->n_trials);
    qsort(a->trials, a->n_trials, sizeof *a->trials, compare_ids);
    qsort(b->trials, b->n_trials, sizeof *b->trials, compare_ids);
    for (size_t i = 0; i < a->n_trials; i++) {
        assert_string_equal(a->trials[i].id, b->trials[i].id);
    }
    ssmq_grid_free(a);
    ssmq_grid_free(b);
}

static void counts(void **state) {
    (void)state;
    /* ppl 2 protocols x 2 windows, passkey 3 lengths, profile 2 lengths x 3 batches: 13 points,
     * 2 seeds; bf16 once, w8a8 and w4a4 with 2 scopes each: 5 variants. */
    ssmq_grid grid =
        GRID("ppl.protocols=[disjoint, sliding]", "ppl.seq_len=[512, 1024]", "ppl.stride=256",
             "passkey.context_length=[256, 512, 1024]", "profile.context_length=[64, 128]",
             "profile.batch_size=[1, 2, 4]", "sweep.seed=[0, 7]",
             "sweep.precisions=[bf16, w8a8, w4a4]", "sweep.scopes=[all, 'only:3.in_proj']");
    assert_int_equal(grid.n_trials, 13 * 2 * 5);
    assert_int_equal(grid.n_equal, 13 * 2);
    expect_unique(&grid);
    const ssmq_trial *t = grid.trials;
    assert_string_equal(t[0].key,
                        "ppl/disjoint/seq_len=512/max_tokens=0/precision=bf16,w16:float,a16:float,"
                        "g0,state:fp32/scope=none/seed=0/device=cpu");
    assert_string_equal(t[0].draw, "ppl/disjoint/seq_len=512/max_tokens=0/seed=0");
    assert_string_equal(t[0].scope, "none");
    assert_int_equal(t[0].stride, -1);
    assert_int_equal(t[0].gen_len, -1);
    /* precision and scope turn fastest, then seed, context, protocol */
    assert_string_equal(t[1].precision.name, "w8a8");
    assert_string_equal(t[2].scope, "only:3.in_proj");
    assert_int_equal(t[5].seed, 7);
    assert_int_equal(t[10].context_length, 1024);
    assert_int_equal(t[20].protocol, SSMQ_PROTOCOL_SLIDING);
    assert_int_equal(t[20].stride, 256);
    assert_string_equal(t[22].draw, "ppl/sliding/seq_len=512/stride=256/max_tokens=0/seed=0");
    assert_int_equal(t[40].task, SSMQ_TASK_PASSKEY);
    assert_string_equal(t[40].draw,
                        "passkey/context_length=256/depth=0.1,0.5,0.9/n_trials=4/template=demo-1/"
                        "filler=grass/control=0/seed=0");
    assert_int_equal(t[70].task, SSMQ_TASK_PROFILE);
    assert_string_equal(t[70].draw, "profile/context_length=64/batch_size=1/gen_len=32/n_warmup=2/"
                                    "n_measure=5/seed=0");
    assert_int_equal(t[80].batch_size, 2);
    for (size_t i = 0; i + 4 < grid.n_trials; i += 5) {
        for (size_t j = 1; j < 5; j++) assert_string_equal(t[i].draw, t[i + j].draw);
    }
    ssmq_grid_free(&grid);
}

static void order_does_not_matter(void **state) {
    (void)state;
    ssmq_grid a = GRID("sweep.tasks=[ppl, profile]", "sweep.precisions=[bf16, w8a8, w4a8]",
                       "ppl.seq_len=[512, 1024]", "profile.context_length=[64, 128]",
                       "sweep.seed=[0, 1]", "sweep.scopes=[all, 'only:1']");
    ssmq_grid b = GRID("sweep.tasks=[profile, ppl]", "sweep.precisions=[w4a8, w8a8, bf16]",
                       "ppl.seq_len=[1024, 512]", "profile.context_length=[128, 64]",
                       "sweep.seed=[1, 0]", "sweep.scopes=['only:1', all]");
    expect_same_ids(&a, &b);
}

/* in_proj of layer 3, block by block. */
static const char ONE_BY_ONE[] =
    "sweep.scopes=['only:3-3.in_proj.dt,3.in_proj.z,3.in_proj.x,3.in_proj.B,3.in_proj.C']";

static void what_ids_do_not_depend_on(void **state) {
    (void)state;
    ssmq_grid a = GRID("sweep.precisions=[fp16, w8a8]", "sweep.scopes=['only:3.in_proj']");
    ssmq_grid b =
        GRID("sweep.precisions=[{name: half, dtype: fp16}, {name: mine, w_bits: 8, a_bits: 8}]",
             ONE_BY_ONE, "ppl.batch_size=16", "passkey.batch_size=3", "model.threads=2",
             "ppl.max_tokens=60000", "sweep.order=shuffled", "sweep.notes=x", "run.out_dir=y",
             "ppl.stride=7");
    assert_string_equal(b.trials[0].precision.name, "half");
    expect_same_ids(&a, &b);
}

static void what_ids_depend_on(void **state) {
    (void)state;
    static const char *const task[] = {"sweep.tasks=ppl", "sweep.tasks=passkey",
                                       "sweep.tasks=profile", "sweep.tasks=drift"};
    static const struct {
        int task;
        const char *set;
    } changes[] = {{0, "ppl.seq_len=1024"},
                   {0, "ppl.protocols=stream"},
                   {0, "ppl.max_tokens=55000"},
                   {0, "sweep.seed=3"},
                   {0, "sweep.precisions={w_bits: 8, a_bits: 8, state_dtype: bf16}"},
                   {0, "sweep.precisions=w8a8:g64"},
                   {0, "sweep.precisions=fp16:w8a8"},
                   {0, "sweep.scopes='except:0.out_proj'"},
                   {1, "passkey.depth=[0.5]"},
                   {1, "passkey.n_trials=5"},
                   {1, "passkey.control=true"},
                   {1, "passkey.wrong_key=true"},
                   {1, "passkey.prompt_template=landmark-1"},
                   {2, "profile.gen_len=33"},
                   {2, "profile.n_warmup=3"},
                   {2, "profile.n_measure=6"},
                   {2, "profile.decode_products=own"},
                   {2, "profile.batch_size=2"},
                   {3, "drift.path=decode"},
                   {3, "drift.impulse=0.01"}};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        const char *which = task[changes[i].task];
        ssmq_grid a = GRID("sweep.precisions=w8a8", "passkey.context_length=512",
                           "profile.context_length=512", which);
        ssmq_grid b = GRID("sweep.precisions=w8a8", "passkey.context_length=512",
                           "profile.context_length=512", which, changes[i].set);
        assert_int_equal(a.n_trials, 1);
        assert_int_equal(b.n_trials, 1);
        assert_string_not_equal(a.trials[0].id, b.trials[0].id);
        ssmq_grid_free(&a);
        ssmq_grid_free(&b);
    }
}

/* The files behind the inputs: each task's ids depend on what it reads. */
static void ids_and_inputs(void **state) {
    (void)state;
    static const char *const sets[] = {"passkey.context_length=512", "profile.context_length=512",
                                       "passkey.filler=text", "passkey.filler_text=f", NULL};
    ssmq_inputs usual = demo_inputs();
    ssmq_grid a = make_with(&usual, sets);
    assert_int_equal(a.n_trials, 6); /* fp16 and bf16 of three tasks */
    for (int change = 0; change < 5; change++) {
        ssmq_inputs inputs = demo_inputs();
        char *const fields[] = {inputs.model_sha256, inputs.tokenizer_sha256, inputs.text_sha256,
                                inputs.filler_sha256, inputs.device};
        static const bool differs[5][3] = {{true, true, true},
                                           {true, true, false},
                                           {true, false, false},
                                           {false, true, false},
                                           {true, true, true}};
        fields[change][0] = 'x';
        ssmq_grid b = make_with(&inputs, sets);
        for (size_t i = 0; i < 6; i++) {
            bool is_equal = strcmp(a.trials[i].id, b.trials[i].id) == 0;
            assert_int_equal(is_equal, !differs[change][a.trials[i].task]);
            assert_string_equal(a.trials[i].draw, b.trials[i].draw);
        }
        ssmq_grid_free(&b);
    }
    ssmq_grid_free(&a);
}

static void equal_combinations(void **state) {
    (void)state;
    /* Three spellings of everything, two of layer 0, one of nothing. */
    ssmq_grid grid = GRID("sweep.tasks=ppl", "sweep.precisions=[bf16, w4a4]",
                          "sweep.scopes=[all, 'only:0-7', 'only:*.in_proj,*.out_proj', 'only:0', "
                          "'only:0.in_proj,0.out_proj', none]");
    assert_int_equal(grid.n_trials, 3);
    assert_int_equal(grid.n_equal, 5 + 2 + 1 + 1);
    assert_string_equal(grid.trials[0].precision.name, "bf16");
    assert_string_equal(grid.trials[1].scope, "all");
    assert_string_equal(grid.trials[2].scope, "only:0");
    assert_non_null(strstr(grid.trials[2].key, "/scope=only:0/"));
    ssmq_grid_free(&grid);
    /* w4a4 of nothing alone: the unquantized precision of its compute type. */
    grid = GRID("sweep.tasks=ppl", "sweep.precisions=w4a4", "sweep.scopes=none");
    assert_int_equal(grid.n_trials, 1);
    assert_string_equal(grid.trials[0].precision.name, "bf16");
    assert_string_equal(grid.trials[0].scope, "none");
    ssmq_grid_free(&grid);
}

static void each_scopes(void **state) {
    (void)state;
    ssmq_grid grid = GRID("sweep.tasks=ppl", "sweep.precisions=[bf16, w8a8, w4a4]",
                          "sweep.scopes=[all, 'only:each.in_proj', 'only:each', "
                          "'except:each.out_proj']");
    assert_int_equal(grid.n_trials, 1 + 2 * (1 + 3 * N_LAYERS));
    expect_unique(&grid);
    for (int layer = 0; layer < N_LAYERS; layer++) {
        char scope[SSMQ_SCOPE_BYTES];
        (void)snprintf(scope, sizeof scope, "only:%d.in_proj", layer);
        assert_string_equal(grid.trials[2 + layer].scope, scope);
        (void)snprintf(scope, sizeof scope, "only:%d", layer);
        assert_string_equal(grid.trials[2 + N_LAYERS + layer].scope, scope);
        (void)snprintf(scope, sizeof scope, "except:%d.out_proj", layer);
        assert_string_equal(grid.trials[2 + 2 * N_LAYERS + layer].scope, scope);
    }
    assert_non_null(
        strstr(grid.trials[2 + 2 * N_LAYERS + 3].key, "/scope=only:0-2,3.in_proj,4-7/"));
    ssmq_grid_free(&grid);
}

static void skips_and_errors(void **state) {
    (void)state;
    ssmq_inputs inputs = demo_inputs();
    inputs.text_tokens = 3000;
    static const char *const some[] = {"sweep.tasks=ppl", "ppl.seq_len=[2048, 4096]",
                                       "ppl.protocols=[disjoint, stream]", "sweep.precisions=bf16",
                                       NULL};
    ssmq_grid grid = make_with(&inputs, some);
    assert_int_equal(grid.n_trials, 4);
    assert_string_equal(grid.trials[0].skip, "");
    assert_string_equal(grid.trials[1].skip, "text has 3000 tokens, the window needs 4096");
    assert_true(grid.trials[1].cost_s == 0);
    assert_string_equal(grid.trials[2].skip, "");
    assert_string_equal(grid.trials[3].skip, "");
    ssmq_grid_free(&grid);
    static const char *const none[] = {"ppl.seq_len=[4096, 8192]", NULL};
    expect_error_with(&inputs, none,
                      "ppl.seq_len: the shortest window has 4096 tokens, but ppl.text "
                      "configs/demo/demo-text.txt has 3000 (ppl.max_tokens 0); a longer text or a "
                      "shorter window");
    inputs = demo_inputs();
    static const char *const few[] = {"ppl.max_tokens=1000", NULL};
    expect_error_with(&inputs, few,
                      "ppl.seq_len: the shortest window has 2048 tokens, but ppl.text "
                      "configs/demo/demo-text.txt has 56000 (ppl.max_tokens 1000); a longer text "
                      "or a shorter window");
    inputs.tokenizer_sha256[0] = '\0';
    static const char *const passkey[] = {"sweep.tasks=passkey", "sweep.precisions=bf16", NULL};
    grid = make_with(&inputs, passkey);
    assert_string_equal(grid.trials[0].skip, "passkey needs a tokenizer, and this model has none");
    ssmq_grid_free(&grid);
    ssmq_config config;
    ssmq_err err = {0};
    static const char *const layer[] = {"sweep.scopes='only:8.in_proj'", "sweep.precisions=w8a8",
                                        NULL};
    configure(&config, layer);
    assert_int_equal(ssmq_grid_init(&grid, &config, &inputs, &err), SSMQ_CONFIG);
    assert_int_equal(strncmp(err.text, "sweep.scopes: ", 14), 0);
}

static void too_many(void **state) {
    (void)state;
    ssmq_inputs inputs = demo_inputs();
    inputs.shape.L = SSMQ_MAX_LAYERS;
    ssmq_config config;
    ssmq_grid grid;
    ssmq_err err = {0};
    static const char *const sets[] = {"sweep.tasks=profile", "sweep.precisions=w8a8",
                                       "sweep.scopes=only:each.in_proj", NULL};
    configure(&config, sets);
    config.sweep.seed.n = SSMQ_MAX_AXIS;
    config.profile.context_length.n = SSMQ_MAX_AXIS;
    assert_int_equal(ssmq_grid_init(&grid, &config, &inputs, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "the grid has 1048576 combinations; at most 1000000");
    config.sweep.n_tasks = 0;
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_grid_init(&grid, &config, &inputs, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "the grid has no trial: an axis is empty");
}

/* By hand for the embedded shape on two host cores: what n_calls calls of n tokens, n_scored of
 * them through lm_head, take. */
static double by_hand_s(double n_calls, double n, double n_scored, double state_bytes) {
    const double layers = 8.0 * (1288.0 * 256.0 + 256.0 * 512.0);
    const double head = 4096.0 * 256.0;
    const double product_s = 2.0 * (layers * n + head * n_scored) / 5e10;
    const double weight_s = n_calls * 2.0 * (layers + head) / 1e10;
    const double traffic_s = 8.0 * n * (10.0 * 2.0 * 1288.0 + state_bytes) / 1e10;
    return (product_s > weight_s ? product_s : weight_s) + traffic_s + n_calls * 8.0 * 20e-6;
}

static void expect_near(double got, double expected) {
    if (fabs(got - expected) <= 1e-12 * expected) return;
    fail_msg("%.17g is not %.17g", got, expected);
}

static void costs(void **state) {
    (void)state;
    const double state_bytes = 512.0 * 128.0 * 8.0;
    ssmq_grid grid = GRID(
        "sweep.precisions=bf16", "ppl.protocols=[disjoint, sliding, stream]", "ppl.seq_len=1024",
        "ppl.stride=512", "ppl.batch_size=4", "passkey.batch_size=4", "passkey.context_length=1000",
        "passkey.depth=[0.5, 0.7]", "passkey.n_trials=3", "passkey.control=true",
        "profile.context_length=100", "profile.batch_size=4", "profile.gen_len=28");
    assert_int_equal(grid.n_trials, 5);
    /* Batches of 4: ceil(54 / 4) calls, then ceil((1 + ceil(54976 / 512)) / 4). */
    expect_near(grid.trials[0].cost_s, by_hand_s(14, 54 * 1024, 54 * 1024, 0));
    expect_near(grid.trials[1].cost_s, by_hand_s(28, 109 * 1024, 109 * 1024, 0));
    expect_near(grid.trials[2].cost_s, by_hand_s(55, 56000, 56000, 0));
    expect_near(grid.trials[3].cost_s,
                by_hand_s(3, 12 * 1000, 12, 0) + by_hand_s(24, 12 * 8, 12 * 8, state_bytes));
    expect_near(grid.trials[4].cost_s, by_hand_s(7, 7 * 400, 7 * 4, 0) +
                                           by_hand_s(7 * 28, 7 * 28 * 4, 7 * 28 * 4, state_bytes));
    for (size_t i = 0; i < grid.n_trials; i++) {
        expect_near(grid.trials[i].load_cost_s, 2.0 * (8.0 * 460800.0 + 1048576.0) / 1e9);
    }
    ssmq_grid_free(&grid);
}

/* Narrow products and weights save time on a device that has them, in proportion to the scope. */
static void costs_of_precisions(void **state) {
    (void)state;
    ssmq_inputs inputs = demo_inputs();
    ssmq_field_set(inputs.device, sizeof inputs.device, "cuda");
    static const char *const sets[] = {"sweep.tasks=[ppl, profile]",
                                       "sweep.precisions=[bf16, w8a8, w4a16]",
                                       "sweep.scopes=[all, 'only:1.in_proj']",
                                       "ppl.protocols=disjoint",
                                       "ppl.seq_len=1024",
                                       "profile.context_length=512",
                                       "profile.batch_size=1",
                                       "profile.gen_len=1000",
                                       NULL};
    ssmq_grid grid = make_with(&inputs, sets);
    assert_int_equal(grid.n_trials, 10);
    const ssmq_trial *ppl = grid.trials;
    const ssmq_trial *profile = grid.trials + 5;
    /* bf16, w8a8 all, w8a8 one projection, w4a16 all, w4a16 one projection. */
    assert_true(ppl[1].cost_s < ppl[2].cost_s && ppl[2].cost_s < ppl[0].cost_s);
    expect_near(ppl[3].cost_s, ppl[0].cost_s);
    assert_true(profile[3].cost_s < profile[1].cost_s && profile[1].cost_s < profile[0].cost_s);
    assert_true(profile[3].cost_s < profile[4].cost_s && profile[4].cost_s < profile[0].cost_s);
    ssmq_grid_free(&grid);
}

static void expect_only(const char *expression, size_t n_left, const char *error) {
    ssmq_grid grid =
        GRID("sweep.precisions=[bf16, w8a8]", "ppl.seq_len=[512, 1024]",
             "sweep.scopes=[all, 'only:1.in_proj,2.out_proj']", "passkey.context_length=512",
             "profile.context_length=512", "profile.batch_size=[1, 2]");
    assert_int_equal(grid.n_trials, 15); /* (2 + 1 + 2) points x 3 variants */
    ssmq_err err = {0};
    ssmq_status status = ssmq_grid_only(&grid, "--only", expression, &err);
    assert_string_equal(err.text, error);
    assert_int_equal(status, error[0] == '\0' ? SSMQ_OK : SSMQ_CONFIG);
    if (status == SSMQ_OK) assert_int_equal(grid.n_trials, n_left);
    ssmq_grid_free(&grid);
}

static void only(void **state) {
    (void)state;
    expect_only("task=ppl", 6, "");
    expect_only("task!=ppl", 9, "");
    expect_only("task=ppl,profile", 12, "");
    expect_only("protocol=disjoint and context_length=512", 3, "");
    expect_only("context_length=512", 12, "");
    expect_only("precision=w8a8 and scope=all", 5, "");
    expect_only("scope=only:1.in_proj,2.out_proj", 5, "");
    expect_only("scope=none,all", 10, "");
    expect_only("batch_size=2 and precision!=bf16", 2, "");
    expect_only("seed=0", 15, "");
    expect_only("task=profile or task=ppl and context_length=512", 9, "");
    expect_only("context_length=512 and task=ppl or scope=none,all and task!=profile", 7, "");
    expect_only("task=ppl or task=ppl", 6, "");
    expect_only("", 0,
                "--only: \"\" is not FIELD=VALUE or FIELD!=VALUE; fields: task, protocol, "
                "prompt_template, precision, scope, context_length, batch_size, seed");
    expect_only("task=ppl and", 0, "--only: no trial has task=ppl and");
    expect_only("tsk=ppl", 0,
                "--only: unknown field \"tsk\"; fields: task, protocol, prompt_template, "
                "precision, scope, context_length, batch_size, seed");
    expect_only("task=", 0, "--only: \"task\" has no value");
    expect_only("task=ppl and precision=w9", 0, "--only: no trial has precision=w9");
    expect_only("task=passkey and context_length=1024", 0, "--only: no trial is left");
    expect_only("task=ppl or ", 0,
                "--only: \"\" is not FIELD=VALUE or FIELD!=VALUE; fields: task, protocol, "
                "prompt_template, precision, scope, context_length, batch_size, seed");
}

/* The same as a key, whose trials have the ids that they have in the whole grid. */
static void only_as_a_key(void **state) {
    (void)state;
    ssmq_grid all = GRID("sweep.precisions=[bf16, w8a8]", "sweep.scopes=[all, 'only:1.in_proj']");
    ssmq_grid part = GRID("sweep.precisions=[bf16, w8a8]", "sweep.scopes=[all, 'only:1.in_proj']",
                          "sweep.only='scope=all,none or task=ppl'");
    size_t at = 0;
    for (size_t i = 0; i < all.n_trials; i++) {
        const ssmq_trial *trial = &all.trials[i];
        if (trial->task != SSMQ_TASK_PPL && strcmp(trial->scope, "only:1.in_proj") == 0) continue;
        assert_true(at < part.n_trials);
        assert_string_equal(part.trials[at++].id, trial->id);
    }
    assert_int_equal(at, part.n_trials);
    assert_true(part.n_trials < all.n_trials);
    ssmq_grid_free(&all);
    ssmq_grid_free(&part);
    const ssmq_inputs inputs = demo_inputs();
    static const char *const sets[] = {"sweep.only=task=drift", NULL};
    expect_error_with(&inputs, sets, "sweep.only: no trial has task=drift");
}

/* Prompts of several templates: each trial is the one that its template alone would give. */
static void templates(void **state) {
    (void)state;
    ssmq_grid both = GRID("passkey.prompt_template=[ruler-niah-1, demo-1]", "sweep.tasks=passkey");
    ssmq_grid demo = GRID("sweep.tasks=passkey");
    ssmq_grid ruler = GRID("sweep.tasks=passkey", "passkey.prompt_template=ruler-niah-1");
    ssmq_grid only_demo = GRID("passkey.prompt_template=[ruler-niah-1, demo-1]",
                               "sweep.only='prompt_template=demo-1'");
    const size_t n = demo.n_trials;
    assert_true(n == 3 * 2 && ruler.n_trials == n && only_demo.n_trials == n);
    assert_int_equal(both.n_trials, 2 * n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(both.trials[i].id, ruler.trials[i].id);
        assert_string_equal(both.trials[n + i].id, demo.trials[i].id);
        assert_string_equal(both.trials[n + i].draw, demo.trials[i].draw);
        assert_string_equal(only_demo.trials[i].id, demo.trials[i].id);
        assert_string_equal(both.trials[i].prompt_template, "ruler-niah-1");
        assert_string_equal(demo.trials[i].prompt_template, "demo-1");
        assert_string_not_equal(demo.trials[i].id, ruler.trials[i].id);
    }
    ssmq_grid_free(&both);
    ssmq_grid_free(&demo);
    ssmq_grid_free(&ruler);
    ssmq_grid_free(&only_demo);
    ssmq_grid text = GRID("sweep.tasks=[ppl, fidelity]");
    for (size_t i = 0; i < text.n_trials; i++) {
        assert_string_equal(text.trials[i].prompt_template, "");
    }
    ssmq_grid_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(what_ids_do_not_depend_on),
        cmocka_unit_test(what_ids_depend_on),
        cmocka_unit_test(ids_and_inputs),
        cmocka_unit_test(equal_combinations),
        cmocka_unit_test(each_scopes),
        cmocka_unit_test(skips_and_errors),
        cmocka_unit_test(too_many),
        cmocka_unit_test(costs),
        cmocka_unit_test(costs_of_precisions),
        cmocka_unit_test(only),
        cmocka_unit_test(only_as_a_key),
        cmocka_unit_test(templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
