/* SPDX-License-Identifier: Apache-2.0 */
/* quant/spec: the grammar of scopes, what they select, and the bytes that follow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"
#include "quant/spec.h"

enum {
    Z = 1,
    X = 2,
    B = 4,
    C = 8,
    DT = 16,
    IN_PROJ = 31,
    OUT_PROJ = 32,
    MIXER = 63,
    CONV1D = 64,
    LM_HEAD = 128,
    EMBEDDINGS = 256
};

static ssmq_shape shape_130m(void) {
    ssmq_shape shape;
    assert_int_equal(ssmq_shape_read(&shape, "random:mamba2-130m", NULL), SSMQ_OK);
    return shape;
}

static ssmq_status resolve(ssmq_spec *out, const char *precision, const char *scope,
                           ssmq_err *err) {
    const ssmq_shape shape = shape_130m();
    ssmq_precision p;
    assert_int_equal(ssmq_precision_parse(&p, precision, err), SSMQ_OK);
    return ssmq_spec_init(out, &p, scope, &shape, err);
}

static void selects(void **state) {
    (void)state;
    static const struct {
        const char *scope;
        uint32_t first, second, third, others, model;
    } cases[] = {
        {"all", MIXER, MIXER, MIXER, MIXER, 0},
        {"none", 0, 0, 0, 0, 0},
        {"only:in_proj", IN_PROJ, IN_PROJ, IN_PROJ, IN_PROJ, 0},
        {"only:*.in_proj", IN_PROJ, IN_PROJ, IN_PROJ, IN_PROJ, 0},
        {"only:*", MIXER, MIXER, MIXER, MIXER, 0},
        {"only:1.out_proj", 0, OUT_PROJ, 0, 0, 0},
        {"only:1", 0, MIXER, 0, 0, 0},
        {"only:0-1.in_proj.z,2.in_proj.dt", Z, Z, DT, 0, 0},
        {"only:1-1.in_proj.B,1.in_proj.C,in_proj.x", X, B | C | X, X, X, 0},
        {"only:lm_head", 0, 0, 0, 0, LM_HEAD},
        {"only:out_proj,lm_head", OUT_PROJ, OUT_PROJ, OUT_PROJ, OUT_PROJ, LM_HEAD},
        {"only:embeddings", 0, 0, 0, 0, EMBEDDINGS},
        {"only:conv1d", CONV1D, CONV1D, CONV1D, CONV1D, 0},
        {"except:out_proj", IN_PROJ, IN_PROJ, IN_PROJ, IN_PROJ, 0},
        {"except:in_proj.dt", MIXER & ~DT, MIXER & ~DT, MIXER & ~DT, MIXER & ~DT, 0},
        {"except:0,1.in_proj", 0, OUT_PROJ, MIXER, MIXER, 0},
        {"except:3-23", MIXER, MIXER, MIXER, 0, 0},
        {"except:lm_head", MIXER, MIXER, MIXER, MIXER, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_spec spec;
        assert_int_equal(resolve(&spec, "w4a8", cases[i].scope, NULL), SSMQ_OK);
        assert_string_equal(spec.precision.name, "w4a8");
        assert_int_equal(spec.layer_modules[0], cases[i].first);
        assert_int_equal(spec.layer_modules[1], cases[i].second);
        assert_int_equal(spec.layer_modules[2], cases[i].third);
        for (int layer = 3; layer < 24; layer++) {
            assert_int_equal(spec.layer_modules[layer], cases[i].others);
        }
        for (int layer = 24; layer < SSMQ_MAX_LAYERS; layer++) {
            assert_int_equal(spec.layer_modules[layer], 0);
        }
        assert_int_equal(spec.model_modules, cases[i].model);
        assert_int_equal(ssmq_scope_check(cases[i].scope, NULL), SSMQ_OK);
    }
}

static void unquantized_has_no_scope(void **state) {
    (void)state;
    ssmq_spec spec;
    assert_int_equal(resolve(&spec, "fp16", "only:lm_head,0", NULL), SSMQ_OK);
    assert_int_equal(spec.layer_modules[0], 0);
    assert_int_equal(spec.model_modules, 0);
    assert_int_equal(resolve(&spec, "fp16", "only:24", NULL), SSMQ_CONFIG);
}

#define ALLOWED                                                                                    \
    "; allowed are all, none, only:ITEM[,ITEM...], except:ITEM[,ITEM...] with ITEM = "             \
    "[LAYERS.]MODULE or LAYERS, LAYERS = N, N-M or *, MODULE = in_proj, "                          \
    "in_proj.{z,x,B,C,dt}, out_proj, conv1d, lm_head or embeddings"

static void faults(void **state) {
    (void)state;
    static const struct {
        const char *scope, *text;
    } cases[] = {
        {"", "scope '': '' is no scope" ALLOWED},
        {"All", "scope 'All': 'All' is no scope" ALLOWED},
        {"only", "scope 'only': 'only' is no scope" ALLOWED},
        {"onlyx:0", "scope 'onlyx:0': 'onlyx:0' is no scope" ALLOWED},
        {"only:", "scope 'only:': '' names no module" ALLOWED},
        {"only:in_proj,", "scope 'only:in_proj,': '' names no module" ALLOWED},
        {"only:qkv", "scope 'only:qkv': 'qkv' names no module" ALLOWED},
        {"only:in_proj.b", "scope 'only:in_proj.b': 'in_proj.b' names no module" ALLOWED},
        {"except:2.", "scope 'except:2.': '2.' names no module" ALLOWED},
        {"only:2x", "scope 'only:2x': '2x' has no valid layers" ALLOWED},
        {"only:2-", "scope 'only:2-': '2-' has no valid layers" ALLOWED},
        {"only:4-2", "scope 'only:4-2': '4-2' has no valid layers" ALLOWED},
        {"only:-2", "scope 'only:-2': '-2' names no module" ALLOWED},
        {"only:9999999999", "scope 'only:9999999999': '9999999999' has no valid layers" ALLOWED},
        {"only:3.lm_head", "scope 'only:3.lm_head': '3.lm_head' is part of no layer" ALLOWED},
        {"only:*.embeddings",
         "scope 'only:*.embeddings': '*.embeddings' is part of no layer" ALLOWED},
        {"only:0 ", "scope 'only:0 ': '0 ' has no valid layers" ALLOWED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_err err = {0};
        assert_int_equal(ssmq_scope_check(cases[i].scope, &err), SSMQ_CONFIG);
        assert_string_equal(err.text, cases[i].text);
    }
    ssmq_spec spec;
    ssmq_err err = {0};
    assert_int_equal(resolve(&spec, "w8a8", "only:3-24.out_proj", &err), SSMQ_CONFIG);
    assert_string_equal(err.text,
                        "scope 'only:3-24.out_proj': layer 24; the model has layers 0 to 23");
    /* Without a shape the layer may exist. */
    assert_int_equal(ssmq_scope_check("only:3-24.out_proj", NULL), SSMQ_OK);
}

static void longest_scopes(void **state) {
    (void)state;
    char scope[SSMQ_SCOPE_BYTES + 1] = "only:";
    for (size_t i = strlen(scope); i < SSMQ_SCOPE_BYTES - 1; i++) scope[i] = i % 2 ? '7' : ',';
    memcpy(scope + SSMQ_SCOPE_BYTES - 3, "07", 3);
    ssmq_spec spec;
    assert_int_equal(resolve(&spec, "w8a8", scope, NULL), SSMQ_OK);
    assert_int_equal(spec.layer_modules[7], MIXER);
    scope[SSMQ_SCOPE_BYTES - 1] = '7';
    ssmq_err err = {0};
    assert_int_equal(ssmq_scope_check(scope, &err), SSMQ_CONFIG);
    assert_string_equal(err.text,
                        "scope 'only:7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7...': longer than "
                        "127 bytes");
}

/* in_proj [3352, 768], out_proj [768, 1536], lm_head [50288, 768], 24 layers. */
static void stored_bytes(void **state) {
    (void)state;
    const int64_t head = (int64_t)50288 * 768;
    const int64_t in = (int64_t)3352 * 768;
    const int64_t out = (int64_t)768 * 1536;
    const struct {
        const char *precision, *scope;
        int64_t bytes;
    } cases[] = {
        {"fp32", "all", 4 * (head + 24 * (in + out))},
        {"bf16", "all", 2 * (head + 24 * (in + out))},
        {"w8a8", "none", 2 * (head + 24 * (in + out))},
        {"w8a8", "all", 2 * head + 24 * (in + out + 4 * (3352 + 768))},
        {"w8a8-fp8", "all", 2 * head + 24 * (in + out + 4 * (3352 + 768))},
        {"w4a8", "all", 2 * head + 24 * (in / 2 + out / 2 + 4 * (3352 * 6 + 768 * 12))},
        {"w4a16", "only:5.out_proj", 2 * head + 2 * (24 * in + 23 * out) + out / 2 + 4 * 768 * 12},
        {"w4a8:g500", "only:0.out_proj",
         2 * head + 2 * (24 * in + 23 * out) + out / 2 + 4 * 768 * 4},
        {"fp32:w8a8", "only:lm_head", head + 4 * 50288 + 4 * 24 * (in + out)},
        {"w8a8", "only:1.in_proj.dt", 2 * (head + 24 * (in + out)) - 24 * 768 + 4 * 24},
    };
    const ssmq_shape shape = shape_130m();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_spec spec;
        assert_int_equal(resolve(&spec, cases[i].precision, cases[i].scope, NULL), SSMQ_OK);
        assert_true(ssmq_spec_weight_bytes(&spec, &shape) == cases[i].bytes);
    }
}

/* Row blocks of in_proj [3352, 768] in every precision: bytes of their weights and scales. */
static void row_blocks_have_bytes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t rows;
        uint32_t mask;
    } blocks[] = {{"z", 1536, Z}, {"x", 1536, X}, {"B", 128, B}, {"C", 128, C}, {"dt", 24, DT}};
    static const struct {
        const char *precision;
        int64_t row_bytes; /* of 768 weights and their scales */
    } cases[] = {{"w8a8", 768 + 4},     {"w8a8-fp8", 768 + 4},  {"w8a16", 768 + 4},
                 {"w4a8", 384 + 4 * 6}, {"w4a4", 384 + 4 * 6},  {"w4a16", 384 + 4 * 6},
                 {"w4a8:channel", 388}, {"w4a8:g500", 384 + 8}, {"w8a8:g32", 768 + 4 * 24}};
    const ssmq_shape shape = shape_130m();
    ssmq_spec none;
    assert_int_equal(resolve(&none, "w8a8", "none", NULL), SSMQ_OK);
    const int64_t plain = ssmq_spec_weight_bytes(&none, &shape);
    for (int i = 0; i < 5; i++) {
        char scope[SSMQ_SCOPE_BYTES];
        (void)snprintf(scope, sizeof scope, "only:3.in_proj.%s", blocks[i].name);
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            ssmq_spec spec;
            assert_int_equal(resolve(&spec, cases[k].precision, scope, NULL), SSMQ_OK);
            assert_int_equal(spec.layer_modules[3], blocks[i].mask);
            assert_int_equal(spec.layer_modules[2] | spec.layer_modules[4], 0);
            assert_int_equal(ssmq_spec_check(&spec, &shape, NULL), SSMQ_OK);
            const int64_t saved = blocks[i].rows * (2 * 768 - cases[k].row_bytes);
            assert_true(ssmq_spec_weight_bytes(&spec, &shape) == plain - saved);
        }
    }
}

static void what_is_no_product(void **state) {
    (void)state;
    static const struct {
        const char *scope, *text;
    } cases[] = {
        {"only:conv1d",
         "conv1d cannot be quantized: depthwise, K values a channel; not a matrix product"},
        {"only:23.conv1d",
         "conv1d cannot be quantized: depthwise, K values a channel; not a matrix product"},
        {"only:in_proj,embeddings",
         "embeddings cannot be quantized: a table look-up, not a product; shared with a tied "
         "lm_head"},
    };
    const ssmq_shape shape = shape_130m();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_spec spec;
        ssmq_err err = {0};
        assert_int_equal(resolve(&spec, "w8a8", cases[i].scope, &err), SSMQ_OK);
        assert_int_equal(ssmq_spec_check(&spec, &shape, &err), SSMQ_SKIP);
        assert_string_equal(err.text, cases[i].text);
    }
    static const char *const good[] = {"all", "none", "only:lm_head", "except:conv1d,embeddings"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ssmq_spec spec;
        assert_int_equal(resolve(&spec, "w8a8", good[i], NULL), SSMQ_OK);
        assert_int_equal(ssmq_spec_check(&spec, &shape, NULL), SSMQ_OK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selects),
        cmocka_unit_test(unquantized_has_no_scope),
        cmocka_unit_test(faults),
        cmocka_unit_test(longest_scopes),
        cmocka_unit_test(stored_bytes),
        cmocka_unit_test(row_blocks_have_bytes),
        cmocka_unit_test(what_is_no_product),
    };
    return cmocka_run_group_tests_name("scope", tests, NULL, NULL);
}
