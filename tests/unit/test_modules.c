/* SPDX-License-Identifier: Apache-2.0 */
/* model/modules: the registry against the row order z, x, B, C, dt and the published 130m sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"
#include "model/modules.h"

static void lists_every_module(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t first_row, rows, columns;
        bool included;
    } layer[] = {
        {"in_proj.z", 0, 1536, 768, true},   {"in_proj.x", 1536, 1536, 768, true},
        {"in_proj.B", 3072, 128, 768, true}, {"in_proj.C", 3200, 128, 768, true},
        {"in_proj.dt", 3328, 24, 768, true}, {"out_proj", 0, 768, 1536, true},
        {"conv1d", 0, 1792, 4, false},
    };
    ssmq_shape s;
    assert_int_equal(ssmq_shape_read(&s, "random:mamba2-130m", NULL), SSMQ_OK);
    assert_int_equal(ssmq_modules_count(&s), 24 * 7 + 2);
    for (int i = 0; i < 24 * 7; i++) {
        ssmq_module_info info = ssmq_modules_get(&s, i);
        assert_int_equal(info.layer, i / 7);
        assert_string_equal(info.name, layer[i % 7].name);
        assert_string_equal(ssmq_module_name(info.module), layer[i % 7].name);
        assert_true(info.first_row == layer[i % 7].first_row && info.rows == layer[i % 7].rows);
        assert_true(info.columns == layer[i % 7].columns);
        assert_int_equal(info.included, layer[i % 7].included);
        assert_int_equal(info.reason[0] == '\0', info.included);
        assert_int_equal(info.is_product, i % 7 < 6);
    }
    /* The blocks fill in_proj. */
    ssmq_module_info dt = ssmq_modules_get(&s, 4);
    assert_true(dt.first_row + dt.rows == s.R);
    ssmq_module_info embeddings = ssmq_modules_get(&s, 24 * 7);
    ssmq_module_info head = ssmq_modules_get(&s, 24 * 7 + 1);
    assert_string_equal(embeddings.name, "embeddings");
    assert_string_equal(head.name, "lm_head");
    assert_true(embeddings.layer == -1 && head.layer == -1 && !head.included);
    assert_true(head.rows == 50288 && head.columns == 768 && embeddings.rows == 50288);
    assert_true(head.is_product && !embeddings.is_product);
    assert_string_equal(embeddings.reason,
                        "a table look-up, not a product; shared with a tied lm_head");
    assert_string_equal(ssmq_modules_get(&s, 6).reason,
                        "depthwise, K values a channel; not a matrix product");
    assert_string_equal(head.reason, "not a mixer projection; name it to include it");
}

static void names_and_masks(void **state) {
    (void)state;
    assert_int_equal(ssmq_module_mask_of("in_proj"), 0x1F);
    assert_int_equal(ssmq_module_mask_of("in_proj.z"), 1);
    assert_int_equal(ssmq_module_mask_of("in_proj.dt"), 0x10);
    assert_int_equal(ssmq_module_mask_of("out_proj"), 0x20);
    assert_int_equal(ssmq_module_mask_of("embeddings"), 0x100);
    assert_int_equal(ssmq_module_mask_of("in_proj."), 0);
    assert_int_equal(ssmq_module_mask_of(""), 0);
    assert_int_equal(ssmq_module_default_mask(), 0x3F);
    assert_string_equal(ssmq_module_name(SSMQ_N_MODULES), "unknown");
}

/* Groups widen B and C. */
static void groups_count(void **state) {
    (void)state;
    ssmq_shape s = {.d = 8, .di = 16, .H = 4, .P = 4, .N = 3, .G = 2, .K = 4, .L = 1, .V = 5};
    s.conv_dim = 28;
    s.R = 48;
    assert_true(ssmq_modules_get(&s, SSMQ_IN_PROJ_C).first_row == 38);
    assert_true(ssmq_modules_get(&s, SSMQ_IN_PROJ_C).rows == 6);
    assert_true(ssmq_modules_get(&s, SSMQ_IN_PROJ_DT).first_row == 44);
    assert_int_equal(ssmq_modules_count(&s), 9);
}

/* Groups and single modules are the same list. */
static void groups_stand_for_all(void **state) {
    (void)state;
    ssmq_shape s;
    int n = 0;
    assert_int_equal(ssmq_shape_read(&s, "random:mamba2-130m", NULL), SSMQ_OK);
    for (int i = 0; i < SSMQ_N_MODULES; i++) {
        const ssmq_module_group group = ssmq_modules_group(&s, i);
        const int n_modules = group.n_layers > 0 ? group.n_layers : 1;
        assert_int_equal(group.n_layers, i < 7 ? 24 : 0);
        assert_int_equal(group.info.layer, i < 7 ? 0 : -1);
        for (int k = 0; k < n_modules; k++) {
            const ssmq_module_info info = ssmq_modules_get(&s, i < 7 ? 7 * k + i : 24 * 7 + i - 7);
            assert_int_equal(info.module, group.info.module);
            assert_int_equal(info.layer, i < 7 ? group.info.layer + k : -1);
            assert_true(info.rows == group.info.rows && info.columns == group.info.columns);
            assert_string_equal(info.name, group.info.name);
            assert_string_equal(info.reason, group.info.reason);
        }
        n += n_modules;
    }
    assert_int_equal(n, ssmq_modules_count(&s));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_every_module),
        cmocka_unit_test(names_and_masks),
        cmocka_unit_test(groups_count),
        cmocka_unit_test(groups_stand_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
