/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes of quantized linear layers on a GPU: blocks of a scope, padding, stored bytes against sums
 * by hand, and bounds of scratch. Needs no GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/cuda/layout.h"
#include "engine/cuda/linear.h"
#include "model/model.h"

enum { MIB = 1 << 20 };

static ssmq_shape shape_of(const char *name) {
    ssmq_shape shape;
    assert_int_equal(ssmq_shape_read(&shape, name, NULL), SSMQ_OK);
    return shape;
}

static ssmq_spec spec_of(const ssmq_shape *shape, const char *name, const char *scope) {
    ssmq_precision precision;
    ssmq_spec spec;
    assert_int_equal(ssmq_precision_parse(&precision, name, NULL), SSMQ_OK);
    assert_int_equal(ssmq_spec_init(&spec, &precision, scope, shape, NULL), SSMQ_OK);
    return spec;
}

/* 3352 rows and their padding as one product, as before there was any quantization. */
static void an_unquantized_linear_is_one_product(void **state) {
    const ssmq_shape s = shape_of("random:mamba2-130m");
    const ssmq_spec spec = spec_of(&s, "bf16", "none");
    const cuda_linear in_proj = cuda_linear_in_proj(&s, &spec, 0);
    const cuda_linear out_proj = cuda_linear_out_proj(&s, &spec, 0);
    (void)state;
    assert_int_equal(in_proj.n_blocks, 1);
    assert_false(in_proj.is_quantized);
    assert_int_equal(in_proj.blocks[0].rows, 3352);
    assert_int_equal(in_proj.blocks[0].N, 3360);
    assert_int_equal(in_proj.y_ld, 3360);
    assert_int_equal(cuda_block_bytes(&in_proj, &in_proj.blocks[0]), (int64_t)3360 * 768 * 2);
    assert_int_equal(cuda_block_scales(&in_proj, &in_proj.blocks[0]), 0);
    assert_int_equal(out_proj.n_blocks, 1);
    assert_int_equal(out_proj.blocks[0].N, 768);
    assert_int_equal(cuda_block_bytes(&out_proj, &out_proj.blocks[0]), (int64_t)768 * 1536 * 2);
}

static void blocks_follow_the_scope(void **state) {
    const ssmq_shape s = shape_of("random:mamba2-130m");
    const ssmq_spec dt = spec_of(&s, "w8a8", "only:3.in_proj.dt");
    const ssmq_spec but_B = spec_of(&s, "w4a16", "except:in_proj.B");
    const cuda_linear other = cuda_linear_in_proj(&s, &dt, 2);
    const cuda_linear first = cuda_linear_in_proj(&s, &dt, 3);
    const cuda_linear second = cuda_linear_in_proj(&s, &but_B, 0);
    (void)state;
    assert_int_equal(other.n_blocks, 1);
    assert_false(other.is_quantized);
    assert_int_equal(first.n_blocks, 2);
    assert_true(first.is_quantized);
    /* A float block stops where the next begins; codes are padded, for their sums lie apart. */
    assert_int_equal(first.blocks[0].N, 3328);
    assert_int_equal(first.blocks[1].first_row, 3328);
    assert_int_equal(first.blocks[1].rows, 24);
    assert_int_equal(first.blocks[1].N, 32);
    assert_true(cuda_block_has_codes(&first, &first.blocks[1]));
    assert_false(cuda_block_has_codes(&first, &first.blocks[0]));
    /* z and x, B, C and dt: a weight-only product writes the result itself. */
    assert_int_equal(second.n_blocks, 3);
    assert_int_equal(second.blocks[0].N, 3072);
    assert_int_equal(second.blocks[1].N, 128);
    assert_int_equal(second.blocks[2].first_row, 3200);
    assert_int_equal(second.blocks[2].N, 160);
    assert_false(cuda_block_has_codes(&second, &second.blocks[2]));
}

/* 33 columns in groups of 7: four of 7 and one of 5, each in 16 bytes. */
static void groups_are_padded_apart(void **state) {
    ssmq_shape s = shape_of("random:mamba2-130m");
    s.d = 33;
    const ssmq_spec spec = spec_of(&s, "w4a8:g7", "all");
    const cuda_linear l = cuda_linear_in_proj(&s, &spec, 0);
    (void)state;
    assert_int_equal(l.codes.n_groups, 5);
    assert_int_equal(l.codes.group_columns, 7);
    assert_int_equal(l.codes.group_ld, 16);
    assert_int_equal(l.codes.ld, 80);
    assert_int_equal(cuda_block_bytes(&l, &l.blocks[0]), 3360 * 80 / 2);
    assert_int_equal(cuda_block_scales(&l, &l.blocks[0]), 5 * 3360);
}

/* As the issue has it: 4-bit weights in scope at most 0.27 of their bf16 bytes, 8-bit ones 0.51,
 * and the slab as large as the registry's count. */
static void stored_weights_are_small(void **state) {
    static const struct {
        const char *precision;
        double limit;
    } rungs[] = {{"w4a8", 0.27}, {"w4a4", 0.27}, {"w8a8", 0.51}, {"w8a8-fp8", 0.51}};
    const ssmq_shape s = shape_of("random:mamba2-2.7b");
    const ssmq_spec bf16 = spec_of(&s, "bf16", "none");
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 2048};
    const double in_scope = 2.0 * (double)(s.L * (s.R * s.d + s.d * s.di));
    ssmq_engine_stats plain, sizes;
    (void)state;
    cuda_plan_bytes(&s, &bf16, &extent, &plain);
    for (size_t i = 0; i < sizeof rungs / sizeof rungs[0]; i++) {
        const ssmq_spec spec = spec_of(&s, rungs[i].precision, "all");
        cuda_plan_bytes(&s, &spec, &extent, &sizes);
        const double left = (double)(sizes.weight_bytes - plain.weight_bytes) + in_scope;
        const double counted =
            (double)(ssmq_spec_weight_bytes(&spec, &s) - ssmq_spec_weight_bytes(&bf16, &s)) +
            in_scope;
        assert_true(left > 0.0 && left < rungs[i].limit * in_scope);
        assert_true(left >= counted && left < 1.01 * counted);
    }
}

/* Sums of a tile, one layer's weights, codes of a segment, and the sums that stay in the place of
 * zxbcdt and o: whatever the context. */
static void scratch_is_bounded(void **state) {
    const ssmq_shape s = shape_of("random:mamba2-2.7b");
    const ssmq_spec bf16 = spec_of(&s, "bf16", "none");
    const int64_t largest = (int64_t)10624 * 2560;
    static const char *const rungs[] = {"w8a8", "w4a8", "w4a8:g16", "w4a4", "w4a16", "w8a8-fp8"};
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 1 << 20};
    ssmq_engine_stats plain, sizes;
    (void)state;
    cuda_plan_bytes(&s, &bf16, &extent, &plain);
    for (size_t i = 0; i < sizeof rungs / sizeof rungs[0]; i++) {
        const ssmq_spec spec = spec_of(&s, rungs[i], "all");
        cuda_plan_bytes(&s, &spec, &extent, &sizes);
        const int64_t workspace = sizes.workspace_bytes - plain.workspace_bytes;
        const int64_t activations = sizes.activation_bytes - plain.activation_bytes;
        const bool keeps_sums = strcmp(rungs[i], "w8a8") == 0;
        const int64_t wider = keeps_sums ? 2 * (10576 + s.d) : 0;
        assert_true(workspace >= 0 && workspace <= CUDA_SUM_BYTES + 2 * largest);
        assert_true(activations > 0 || strcmp(rungs[i], "w4a16") == 0);
        assert_true(activations <= CUDA_MAX_ROWS * (s.di + 16 + wider));
    }
}

/* A step of a large batch, and rows that are not whole tiles, have room for their padded sums. */
static void sums_fit_their_scratch(void **state) {
    const ssmq_shape s = shape_of("random:mamba2-2.7b");
    static const char *const rungs[] = {"w8a8", "w4a8", "w4a8:g16"};
    (void)state;
    for (size_t i = 0; i < sizeof rungs / sizeof rungs[0]; i++) {
        const ssmq_spec spec = spec_of(&s, rungs[i], "all");
        const cuda_linear l = cuda_linear_in_proj(&s, &spec, 0);
        const int64_t row = l.codes.n_groups * l.blocks[0].N * 4;
        for (int64_t rows = 1; rows <= 70000; rows = rows * 3 + 1) {
            cuda_linear_need need = {0};
            cuda_linear_need_add(&need, &l, rows, false);
            const int64_t height = cuda_block_tile_rows(&l, &l.blocks[0], rows);
            const int64_t padded = (height + 15) / 16 * 16;
            assert_true(height >= 1 && height <= rows && height <= CUDA_MAX_TILE_ROWS);
            assert_true(padded * row <= need.sum_bytes);
            assert_true(need.sum_bytes <= CUDA_SUM_BYTES || need.sum_bytes == 16 * row);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unquantized_linear_is_one_product),
        cmocka_unit_test(blocks_follow_the_scope),
        cmocka_unit_test(groups_are_padded_apart),
        cmocka_unit_test(stored_weights_are_small),
        cmocka_unit_test(scratch_is_bounded),
        cmocka_unit_test(sums_fit_their_scratch),
    };
    return cmocka_run_group_tests_name("cuda_linear", tests, NULL, NULL);
}
