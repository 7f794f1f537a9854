/* SPDX-License-Identifier: Apache-2.0 */
/* engine/reuse, in the CPU engine or the one on the command line: trials that share layers give the
 * bits that they give alone, whatever is kept, and save what the order of trials lets them save. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/mem.h"
#include "engine/reuse.h"
#include "support/tested_engine.h"

/* Segments are whole chunks of every engine. */
enum { B = 2, T = 300, L = 8, CHUNK = 128, ENTRY_BYTES = B * T * 32 * 4 };

static const struct checkpoint_options shape = {.d = 32, .P = 8, .N = 8, .V = 40, .L = L};

typedef struct bench {
    ssmq_model *model;
    ssmq_engine *engine;
    int32_t *ids; /* [B, T + 1] */
    int64_t computed, reused;
} bench;

static bench bench_of(int64_t reuse_bytes) {
    const ssmq_engine_options options = {.n_threads = 1, .reuse_bytes = reuse_bytes};
    ssmq_err err = {0};
    bench b = {.model = cpu_fixture_model(&shape), .ids = cpu_fixture_ids(B * (T + 1), 40, 7)};
    assert_ok(tested_engine_api()->open(&b.engine, &options, &err), &err);
    return b;
}

static void bench_free(bench *b) {
    b->engine->api->close(b->engine);
    ssmq_model_close(b->model);
    ssmq_free(b->ids);
}

static void load(bench *b, const char *precision, const char *scope) {
    const ssmq_spec spec = cpu_fixture_spec(b->model, precision, scope);
    ssmq_err err = {0};
    assert_ok(b->engine->api->load(b->engine, b->model, &spec, &err), &err);
}

/* The extent of these ids in segments of a chunk; key is for reset alone. */
static ssmq_engine_extent extent_of(const int32_t *ids, unsigned char key[SSMQ_SHA256_BYTES]) {
    ssmq_sha256 sha;
    ssmq_sha256_init(&sha);
    ssmq_sha256_add(&sha, ids, (size_t)(B * (T + 1)) * sizeof *ids);
    ssmq_sha256_end(&sha, key);
    const ssmq_engine_extent extent = {
        .n_sequences = B, .max_segment_tokens = CHUNK, .reuse_key = key, .reuse_tokens = T};
    return extent;
}

/* NLL of all ids of a reset, in calls of `call` tokens. */
static void score(bench *b, const int32_t *ids, int64_t call_tokens, float nll[B * T]) {
    int32_t tokens[B * T], targets[B * T];
    float part[B * T];
    unsigned char key[SSMQ_SHA256_BYTES];
    ssmq_engine_stats stats;
    ssmq_err err = {0};
    const ssmq_engine_extent extent = extent_of(ids, key);
    b->engine->api->take_stats(b->engine, &stats);
    assert_ok(b->engine->api->reset(b->engine, &extent, &err), &err);
    memset(key, 0, sizeof key);
    for (int64_t first = 0; first < T; first += call_tokens) {
        const int64_t n = T - first < call_tokens ? T - first : call_tokens;
        for (int64_t i = 0; i < B * n; i++) {
            const int64_t at = i / n * (T + 1) + first + i % n;
            tokens[i] = ids[at];
            targets[i] = ids[at + 1];
        }
        const ssmq_prefill call = {
            .tokens = tokens, .n_tokens = n, .targets = targets, .nll = part};
        assert_ok(b->engine->api->prefill(b->engine, &call, &err), &err);
        for (int64_t i = 0; i < B * n; i++) nll[i / n * T + first + i % n] = part[i];
    }
    b->engine->api->take_stats(b->engine, &stats);
    assert_int_equal(stats.computed_layer_tokens + stats.reused_layer_tokens, L * B * T);
    b->computed += stats.computed_layer_tokens;
    b->reused += stats.reused_layer_tokens;
}

/* Layers of the trial that the store spared. */
static int64_t score_and_count(bench *b, const char *precision, const char *scope) {
    float nll[B * T], alone[B * T];
    const int64_t before = b->reused;
    bench fresh = bench_of(0);
    load(b, precision, scope);
    score(b, b->ids, T, nll);
    load(&fresh, precision, scope);
    score(&fresh, fresh.ids, T, alone);
    assert_int_equal(fresh.reused, 0);
    assert_memory_equal(nll, alone, sizeof nll);
    bench_free(&fresh);
    assert_int_equal((b->reused - before) % (B * T), 0);
    return (b->reused - before) / (B * T);
}

static void starts_where_trials_part(void **state) {
    (void)state;
    bench b = bench_of(100 * ENTRY_BYTES);
    const struct {
        const char *precision, *scope;
        int64_t n_spared;
    } steps[] = {
        {"bf16", "none", 0},
        {"bf16", "none", L - 1},
        {"w4a4:g8", "only:5.in_proj", 5},
        {"w8a8", "only:7", 7},
        {"w8a8", "only:0.out_proj", 0},
        /* Layer 0 quantized in the same way before. */
        {"w8a8", "only:0.out_proj,6.in_proj", 1},
        {"w4a4:g8", "all", 0},
        {"w4a4:g8", "except:3.in_proj", 3},
        /* Its first layers are those of the baseline. */
        {"w4a4:g8", "except:0-6", 7},
        /* Another compute type, another group size: other numbers everywhere. */
        {"fp32", "none", 0},
        {"fp32:w4a4:g8", "only:4", 4},
        {"w4a4:g16", "except:3.in_proj", 0},
        /* Seven layers of the baseline in a format that does not matter. */
        {"w8a16", "only:7.in_proj.dt", 7},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        assert_int_equal(score_and_count(&b, steps[i].precision, steps[i].scope),
                         steps[i].n_spared);
    }
    bench_free(&b);
}

static void calls_and_tokens(void **state) {
    (void)state;
    float whole[B * T], cut[B * T], other[B * T];
    bench b = bench_of(100 * ENTRY_BYTES);
    load(&b, "w8a8", "all");
    score(&b, b.ids, T, whole);
    load(&b, "w8a8", "except:6");
    score(&b, b.ids, CHUNK, cut);
    assert_int_equal(b.reused, 6 * B * T);
    load(&b, "w8a8", "all");
    score(&b, b.ids, CHUNK, cut);
    assert_int_equal(b.reused, 13 * B * T);
    assert_memory_equal(cut, whole, sizeof cut);
    /* The last token of the last sequence differs: nothing may be taken. */
    b.ids[B * (T + 1) - 2] = (b.ids[B * (T + 1) - 2] + 1) % 40;
    score(&b, b.ids, T, other);
    assert_int_equal(b.reused, 13 * B * T);
    assert_memory_equal(other, whole, (T - 1) * sizeof *other);
    assert_true(other[B * T - 1] != whole[B * T - 1]);
    bench_free(&b);
}

/* Without room for everything the bits are the same, and what this load takes stays. */
static void little_room(void **state) {
    (void)state;
    for (int64_t room = 0; room <= 9; room++) {
        bench b = bench_of(room * ENTRY_BYTES + 1);
        (void)score_and_count(&b, "bf16", "none");
        const int64_t kept = room < L - 1 ? room : L - 1;
        assert_int_equal(score_and_count(&b, "w8a8", "only:7"), kept);
        /* Other layers need the room, and what nobody has taken lately goes. */
        (void)score_and_count(&b, "w4a4:g8", "all");
        (void)score_and_count(&b, "w4a4:g8", "except:5");
        (void)score_and_count(&b, "bf16", "none");
        bench_free(&b);
    }
}

/* A prefill that nobody finished is not taken for a whole one. */
static void unfinished(void **state) {
    (void)state;
    unsigned char key[SSMQ_SHA256_BYTES];
    ssmq_err err = {0};
    bench b = bench_of(100 * ENTRY_BYTES);
    load(&b, "bf16", "none");
    const ssmq_engine_extent extent = extent_of(b.ids, key);
    assert_ok(b.engine->api->reset(b.engine, &extent, &err), &err);
    int32_t tokens[B * CHUNK];
    for (int64_t i = 0; i < B * CHUNK; i++) tokens[i] = b.ids[i / CHUNK * (T + 1) + i % CHUNK];
    const ssmq_prefill call = {.tokens = tokens, .n_tokens = CHUNK};
    assert_ok(b.engine->api->prefill(b.engine, &call, &err), &err);
    assert_int_equal(score_and_count(&b, "bf16", "none"), 0);
    assert_int_equal(score_and_count(&b, "bf16", "none"), L - 1);
    bench_free(&b);
}

/* The state of left-out layers is nobody's: more tokens, and decode, are refused. */
static void refuses_what_needs_the_state(void **state) {
    (void)state;
    float nll[B * T];
    int32_t argmax[B];
    ssmq_err err = {0};
    bench b = bench_of(100 * ENTRY_BYTES);
    load(&b, "bf16", "none");
    score(&b, b.ids, T, nll);
    const ssmq_prefill more = {.tokens = b.ids, .n_tokens = 1};
    assert_int_equal(b.engine->api->prefill(b.engine, &more, &err), SSMQ_INTERNAL);
    ssmq_err_clear(&err);
    const ssmq_decode decode = {.first = b.ids, .n_steps = 1, .argmax = argmax};
    assert_int_equal(b.engine->api->decode(b.engine, &decode, &err), SSMQ_INTERNAL);
    bench_free(&b);
}

/* The sweep of single layers: every projection of every layer alone, and all but it, twice. */
static void sensitivity_sweep(void **state) {
    (void)state;
    const char *const precisions[] = {"w8a8", "w4a4:g8"};
    const char *const kinds[] = {"only", "except"}, *const modules[] = {"in_proj", "out_proj"};
    float nll[B * T];
    bench b = bench_of(200 * ENTRY_BYTES);
    load(&b, "bf16", "none");
    score(&b, b.ids, T, nll);
    for (size_t p = 0; p < 2; p++) {
        load(&b, precisions[p], "all");
        score(&b, b.ids, T, nll);
        for (int64_t i = 0; i < 4 * L; i++) {
            char scope[64];
            (void)snprintf(scope, sizeof scope, "%s:%lld.%s", kinds[i % 2], (long long)(i / 4),
                           modules[i / 2 % 2]);
            load(&b, precisions[p], scope);
            score(&b, b.ids, T, nll);
        }
    }
    const double share = (double)b.reused / (double)(b.reused + b.computed);
    print_message("a sweep of single layers reuses %.1f %% of %d x 67 layers\n", share * 100, L);
    assert_true(share >= 0.40);
    bench_free(&b);
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"starts where trials part", starts_where_trials_part, true},
        {"calls and tokens", calls_and_tokens, true},
        {"little room", little_room, true},
        {"unfinished", unfinished, true},
        {"refuses what needs the state", refuses_what_needs_the_state, true},
        {"sensitivity sweep", sensitivity_sweep, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("reuse", checks, sizeof checks / sizeof checks[0], NULL, 0);
}
