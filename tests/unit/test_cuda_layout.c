/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of the CUDA engine's slabs: against sums by hand for a published shape, and what the layout
 * promises for any extent. Needs no GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/cuda/gemm.h"
#include "engine/cuda/layout.h"
#include "model/model.h"

enum { MIB = 1 << 20 };

static ssmq_spec spec_of(const ssmq_shape *shape, const char *name) {
    ssmq_precision precision;
    ssmq_spec spec;
    assert_int_equal(ssmq_precision_parse(&precision, name, NULL), SSMQ_OK);
    assert_int_equal(ssmq_spec_init(&spec, &precision, "none", shape, NULL), SSMQ_OK);
    return spec;
}

static ssmq_shape shape_of(const char *name) {
    ssmq_shape shape;
    assert_int_equal(ssmq_shape_read(&shape, name, NULL), SSMQ_OK);
    return shape;
}

/* 128,989,632 numbers, 2 bytes each but A_log, D and dt_bias; 8 rows of padding a layer; pieces are
 * rounded up to 256 bytes, which is less than 0.1 % here. */
static void weights_of_130m_are_its_numbers(void **state) {
    const ssmq_shape s = shape_of("random:mamba2-130m");
    const ssmq_spec spec = spec_of(&s, "bf16");
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 2048};
    const int64_t fp32_extra = s.L * 3 * s.H * 2, padding = s.L * 8 * s.d * 2;
    const int64_t expected = 2 * (int64_t)128989632 + fp32_extra + padding;
    ssmq_engine_stats sizes;
    (void)state;
    cuda_plan_bytes(&s, &spec, &extent, &sizes);
    assert_true(sizes.weight_bytes >= expected);
    assert_true((double)sizes.weight_bytes < 1.001 * (double)expected);
}

/* Spec section 6: 18.9 MB of fp32 state a sequence, and K inputs of conv_dim channels. */
static void state_of_130m_is_its_shape(void **state) {
    const ssmq_shape s = shape_of("random:mamba2-130m");
    ssmq_spec spec = spec_of(&s, "bf16");
    const ssmq_engine_extent extent = {.n_sequences = 4, .max_segment_tokens = 128};
    const int64_t ssm = 4 * s.L * s.H * s.P * s.N * 4, ring = 4 * s.L * s.K * s.conv_dim * 2;
    ssmq_engine_stats sizes;
    (void)state;
    assert_int_equal(ssm / 4, 18874368);
    cuda_plan_bytes(&s, &spec, &extent, &sizes);
    assert_int_equal(sizes.state_bytes, ssm + ring + CUDA_ALIGN_BYTES);
    spec.precision.state_dtype = SSMQ_BF16;
    cuda_plan_bytes(&s, &spec, &extent, &sizes);
    assert_int_equal(sizes.state_bytes, ssm / 2 + ring + CUDA_ALIGN_BYTES);
}

/* The issue of long contexts: what a prefill of any length takes beside weights. */
static void memory_of_a_prefill_is_bounded(void **state) {
    const ssmq_shape s = shape_of("random:mamba2-2.7b");
    const ssmq_spec spec = spec_of(&s, "bf16");
    ssmq_engine_stats longest, longer;
    ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 32768};
    (void)state;
    cuda_plan_bytes(&s, &spec, &extent, &longest);
    assert_true(longest.peak_bytes - longest.weight_bytes < (int64_t)1100 * MIB);
    extent.max_segment_tokens = (int64_t)1 << 30;
    cuda_plan_bytes(&s, &spec, &extent, &longer);
    assert_int_equal(longer.peak_bytes, longest.peak_bytes);
}

static void segments_are_whole_chunks(void **state) {
    const ssmq_shape s = shape_of("random:mamba2-130m");
    const ssmq_spec spec = spec_of(&s, "fp32");
    const int64_t tokens[] = {1, 127, 128, 129, 2048, 100000};
    (void)state;
    for (int64_t B = 1; B <= 300; B += 13) {
        for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
            const ssmq_engine_extent extent = {.n_sequences = B, .max_segment_tokens = tokens[i]};
            cuda_layout layout;
            cuda_layout_init(&layout, &s, &spec, &extent);
            assert_int_equal(layout.segment_tokens % CUDA_CHUNK_TOKENS, 0);
            assert_true(layout.segment_tokens >= CUDA_CHUNK_TOKENS);
            assert_int_equal(layout.rows, B * layout.segment_tokens);
            assert_true(layout.rows <= CUDA_MAX_ROWS || layout.segment_tokens == CUDA_CHUNK_TOKENS);
            /* A decode product runs in pieces of whole pads. */
            assert_int_equal(layout.head_rows % CUDA_GEMM_PAD_ROWS, 0);
            assert_true(layout.head_rows >= B);
        }
    }
}

/* Pieces lie one behind the other, aligned, inside what was counted. */
static void pieces_do_not_overlap(void **state) {
    static char slab[8 * MIB] __attribute__((aligned(256)));
    ssmq_shape s = shape_of("random:mamba2-130m");
    s.L = 1;
    s.V = 1003;
    const ssmq_spec spec = spec_of(&s, "bf16");
    cuda_state st;
    const int64_t n_bytes = cuda_carve_state(&st, slab, &s, &spec, 2);
    (void)state;
    assert_true(n_bytes <= (int64_t)sizeof slab);
    assert_ptr_equal(st.ssm, slab);
    assert_true(st.ring >= st.ssm + 2 * s.H * s.P * s.N * 4);
    assert_true((char *)st.position >= st.ring + 2 * s.K * s.conv_dim * 2);
    assert_true((char *)(st.position + 1) <= slab + n_bytes);
    assert_int_equal((uintptr_t)st.ring % CUDA_ALIGN_BYTES, 0);
    assert_int_equal((uintptr_t)st.position % CUDA_ALIGN_BYTES, 0);
    assert_int_equal(n_bytes, cuda_carve_state(&st, NULL, &s, &spec, 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_of_130m_are_its_numbers),
        cmocka_unit_test(state_of_130m_is_its_shape),
        cmocka_unit_test(memory_of_a_prefill_is_bounded),
        cmocka_unit_test(segments_are_whole_chunks),
        cmocka_unit_test(pieces_do_not_overlap),
    };
    return cmocka_run_group_tests_name("cuda_layout", tests, NULL, NULL);
}
