/* SPDX-License-Identifier: Apache-2.0 */
/* model/bpe.h against the definition: search all pairs for the lowest rank, merge the leftmost of
 * them, begin again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "model/bpe.h"

enum { N_BASE = 3, MAX_MERGES = 40, MAX_WORD = 60, N_TABLES = 300, N_WORDS = 30 };

struct merge {
    int32_t left, right, result;
};

static size_t merge_slowly(const struct merge *merges, int n_merges, int32_t *ids, size_t n) {
    for (;;) {
        int best = n_merges;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            for (int m = 0; m < best; m++) {
                if (merges[m].left != ids[i] || merges[m].right != ids[i + 1]) continue;
                best = m;
                at = i;
            }
        }
        if (best == n_merges) return n;
        ids[at] = merges[best].result;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

/* Distinct random pairs of symbols that exist by then; each makes a new symbol. */
static int draw_merges(struct merge *merges, ssmq_rng *rng) {
    int n_wanted = (int)ssmq_rng_below(rng, MAX_MERGES + 1);
    int n = 0;
    while (n < n_wanted) {
        unsigned n_symbols = (unsigned)(N_BASE + n);
        struct merge drawn = {.left = (int32_t)ssmq_rng_below(rng, n_symbols),
                              .right = (int32_t)ssmq_rng_below(rng, n_symbols),
                              .result = N_BASE + n};
        int m = 0;
        while (m < n && (merges[m].left != drawn.left || merges[m].right != drawn.right)) m++;
        if (m == n) merges[n++] = drawn;
    }
    return n;
}

static void same_as_definition(void **state) {
    (void)state;
    ssmq_rng rng = ssmq_rng_from_text("bpe");
    ssmq_bpe_work work = {0};
    size_t n_merged = 0;
    for (int table = 0; table < N_TABLES; table++) {
        struct merge merges[MAX_MERGES];
        int n_merges = draw_merges(merges, &rng);
        /* Ranks need not follow the order in which the symbols came to be. */
        for (int i = n_merges - 1; i > 0 && table % 2 == 1; i--) {
            int j = (int)ssmq_rng_below(&rng, (uint64_t)i + 1);
            struct merge other = merges[i];
            merges[i] = merges[j];
            merges[j] = other;
        }
        ssmq_bpe bpe;
        assert_int_equal(ssmq_bpe_init(&bpe, (size_t)n_merges, NULL), SSMQ_OK);
        for (int m = 0; m < n_merges; m++) {
            ssmq_bpe_add(&bpe, merges[m].left, merges[m].right, merges[m].result);
        }
        for (int w = 0; w < N_WORDS; w++) {
            int32_t ids[MAX_WORD];
            int32_t expected[MAX_WORD];
            size_t n = (size_t)ssmq_rng_below(&rng, MAX_WORD + 1);
            uint64_t n_kinds = 1 + ssmq_rng_below(&rng, N_BASE);
            for (size_t i = 0; i < n; i++) ids[i] = (int32_t)ssmq_rng_below(&rng, n_kinds);
            memcpy(expected, ids, sizeof ids);
            size_t n_expected = merge_slowly(merges, n_merges, expected, n);
            size_t n_out = 0;
            assert_int_equal(ssmq_bpe_merge(&bpe, &work, ids, n, &n_out, NULL), SSMQ_OK);
            assert_int_equal(n_out, n_expected);
            assert_memory_equal(ids, expected, n_out * sizeof *ids);
            n_merged += n - n_out;
        }
        ssmq_bpe_free(&bpe);
    }
    ssmq_bpe_work_free(&work);
    assert_true(n_merged > 50000);
}

static void later_merge_of_a_pair_counts(void **state) {
    (void)state;
    ssmq_bpe bpe;
    ssmq_bpe_work work = {0};
    int32_t ids[] = {0, 1, 2};
    size_t n_out = 0;
    assert_int_equal(ssmq_bpe_init(&bpe, 3, NULL), SSMQ_OK);
    ssmq_bpe_add(&bpe, 0, 1, 3);
    ssmq_bpe_add(&bpe, 1, 2, 4);
    ssmq_bpe_add(&bpe, 0, 1, 3);
    assert_int_equal(ssmq_bpe_merge(&bpe, &work, ids, 3, &n_out, NULL), SSMQ_OK);
    assert_int_equal(n_out, 2);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 4);
    ssmq_bpe_work_free(&work);
    ssmq_bpe_free(&bpe);
}

static void refuses_too_many_merges(void **state) {
    (void)state;
    ssmq_err err = {0};
    ssmq_bpe bpe;
    assert_int_equal(ssmq_bpe_init(&bpe, (size_t)1 << 25, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "33554432 merges, more than the limit of 16777216");
    ssmq_bpe_free(&bpe);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_definition),
        cmocka_unit_test(later_merge_of_a_pair_counts),
        cmocka_unit_test(refuses_too_many_merges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
