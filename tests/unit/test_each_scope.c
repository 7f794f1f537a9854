/* SPDX-License-Identifier: Apache-2.0 */
/* config/scopes.h: "each" and the layer that stands for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/scopes.h"

static void scopes_at_layer(void **state) {
    (void)state;
    char out[SSMQ_SCOPE_BYTES];
    assert_true(ssmq_scope_has_each("only:each"));
    assert_true(ssmq_scope_has_each("except:3.in_proj,each.out_proj"));
    assert_false(ssmq_scope_has_each("only:eachother"));
    assert_false(ssmq_scope_has_each("each"));
    assert_false(ssmq_scope_has_each("all"));
    ssmq_scope_at_layer(out, "only:each.in_proj,each.out_proj,3", 117);
    assert_string_equal(out, "only:117.in_proj,117.out_proj,3");
    ssmq_scope_at_layer(out, "all", 5);
    assert_string_equal(out, "all");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(scopes_at_layer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
