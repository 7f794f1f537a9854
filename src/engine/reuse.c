/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/reuse.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

enum { MAX_ENTRIES = 1 << 20 };

/* The input of one layer for the tokens of one reset. */
typedef struct entry {
    unsigned char name[SSMQ_SHA256_BYTES];
    float *numbers; /* segment after segment, each [B * T, d] */
    int64_t n_bytes;
    int64_t last_load; /* number of the load that took it last */
    bool is_whole;     /* all segments have been kept */
} entry;

struct ssmq_reuse {
    const ssmq_reuse_memory *memory;
    int64_t max_bytes, n_bytes;
    entry *entries;
    size_t n_entries, capacity;
    int64_t n_loads;
    int64_t L, d;
    unsigned char inputs[SSMQ_MAX_LAYERS + 1][SSMQ_SHA256_BYTES]; /* of each layer, any tokens */
    int64_t n_alike; /* layers from the first on that are quantized alike */
    /* since begin_tokens */
    bool is_on;
    int64_t B, n_tokens, done_tokens;
    int64_t first_layer;
    int64_t start;                 /* entry of the first layer's input; -1: none */
    int64_t kept[SSMQ_MAX_LAYERS]; /* entries of inputs that are being kept; -1: none */
};

static void *take_host(int64_t n_bytes) {
    char *bytes = NULL;
    ssmq_err ignored = {0};
    return ssmq_calloc_aligned(&bytes, (size_t)n_bytes, 1, &ignored) == SSMQ_OK ? bytes : NULL;
}

static void give_back_host(void *bytes) {
    ssmq_free(bytes);
}

const ssmq_reuse_memory ssmq_reuse_host_memory = {take_host, give_back_host};

ssmq_status ssmq_reuse_open(ssmq_reuse **out, int64_t max_bytes, const ssmq_reuse_memory *memory,
                            ssmq_err *err) {
    SSMQ_TRY(ssmq_calloc(out, 1, sizeof **out, err));
    (*out)->memory = memory;
    (*out)->max_bytes = max_bytes;
    return SSMQ_OK;
}

static void drop(ssmq_reuse *reuse, size_t i) {
    entry *e = &reuse->entries[i];
    if (e->numbers != NULL) reuse->memory->give_back(e->numbers);
    reuse->n_bytes -= e->n_bytes;
    memset(e, 0, sizeof *e);
}

void ssmq_reuse_drop_all(ssmq_reuse *reuse) {
    for (size_t i = 0; i < reuse->n_entries; i++) drop(reuse, i);
    reuse->is_on = false;
}

void ssmq_reuse_close(ssmq_reuse *reuse) {
    if (reuse == NULL) return;
    ssmq_reuse_drop_all(reuse);
    ssmq_free(reuse->entries);
    ssmq_free(reuse);
}

static void add_i64(ssmq_sha256 *sha, int64_t value) {
    ssmq_sha256_add(sha, &value, sizeof value);
}

/* Everything before the first layer, and the types that all layers compute in. */
static void name_embeddings(const ssmq_model *model, const ssmq_spec *spec,
                            unsigned char digest[SSMQ_SHA256_BYTES]) {
    const ssmq_precision *p = &spec->precision;
    const bool has_embeddings = (spec->model_modules & SSMQ_MODULE_BIT(SSMQ_EMBEDDINGS)) != 0;
    ssmq_sha256 sha;
    ssmq_sha256_init(&sha);
    ssmq_sha256_add(&sha, model->sha256, sizeof model->sha256);
    ssmq_sha256_add(&sha, model->name, sizeof model->name);
    add_i64(&sha, p->dtype);
    add_i64(&sha, p->state_dtype);
    add_i64(&sha, p->state_format);
    add_i64(&sha, p->state_is_stochastic ? 1 : 0);
    add_i64(&sha, has_embeddings ? (int64_t)p->w_format : -1);
    ssmq_sha256_end(&sha, digest);
}

/* A layer with nothing quantized is the same in every precision of its compute type. */
static void name_next_input(const ssmq_spec *spec, int64_t layer_idx,
                            const unsigned char input[SSMQ_SHA256_BYTES],
                            unsigned char digest[SSMQ_SHA256_BYTES]) {
    const ssmq_precision *p = &spec->precision;
    const uint32_t modules = spec->layer_modules[layer_idx];
    ssmq_sha256 sha;
    ssmq_sha256_init(&sha);
    ssmq_sha256_add(&sha, input, SSMQ_SHA256_BYTES);
    add_i64(&sha, modules);
    add_i64(&sha, modules != 0 ? (int64_t)p->w_format : -1);
    add_i64(&sha, modules != 0 ? (int64_t)p->a_format : -1);
    add_i64(&sha, modules != 0 ? p->group_size : -1);
    ssmq_sha256_end(&sha, digest);
}

/* Tokens that end before their last segment leave entries that nobody can use. */
static void drop_unfinished(ssmq_reuse *reuse) {
    for (int64_t i = 0; reuse->is_on && i < reuse->L; i++) {
        const int64_t at = reuse->kept[i];
        if (at >= 0 && !reuse->entries[at].is_whole) drop(reuse, (size_t)at);
    }
    reuse->is_on = false;
}

void ssmq_reuse_begin_load(ssmq_reuse *reuse, const ssmq_model *model, const ssmq_spec *spec) {
    const int64_t L = model->shape.L;
    drop_unfinished(reuse);
    reuse->L = L;
    reuse->d = model->shape.d;
    reuse->n_loads++;
    name_embeddings(model, spec, reuse->inputs[0]);
    for (int64_t i = 0; i < L; i++) {
        name_next_input(spec, i, reuse->inputs[i], reuse->inputs[i + 1]);
    }
    reuse->n_alike = 1;
    while (reuse->n_alike < L && spec->layer_modules[reuse->n_alike] == spec->layer_modules[0]) {
        reuse->n_alike++;
    }
}

static int64_t find(const ssmq_reuse *reuse, const unsigned char name[SSMQ_SHA256_BYTES]) {
    for (size_t i = 0; i < reuse->n_entries; i++) {
        const entry *e = &reuse->entries[i];
        if (e->numbers != NULL && memcmp(e->name, name, sizeof e->name) == 0) return (int64_t)i;
    }
    return -1;
}

/* What this load has not taken goes first, the oldest before others; false if nothing may go. */
static bool drop_oldest(ssmq_reuse *reuse) {
    int64_t oldest = -1;
    for (size_t i = 0; i < reuse->n_entries; i++) {
        const entry *e = &reuse->entries[i];
        if (e->numbers == NULL || e->last_load == reuse->n_loads) continue;
        if (oldest < 0 || e->last_load < reuse->entries[oldest].last_load) oldest = (int64_t)i;
    }
    if (oldest < 0) return false;
    drop(reuse, (size_t)oldest);
    return true;
}

static int64_t free_place(ssmq_reuse *reuse) {
    ssmq_err ignored = {0};
    for (size_t i = 0; i < reuse->n_entries; i++) {
        if (reuse->entries[i].numbers == NULL) return (int64_t)i;
    }
    if (ssmq_grow(&reuse->entries, &reuse->capacity, reuse->n_entries + 1, sizeof *reuse->entries,
                  MAX_ENTRIES, &ignored) != SSMQ_OK) {
        return -1;
    }
    memset(&reuse->entries[reuse->n_entries], 0, sizeof *reuse->entries);
    return (int64_t)reuse->n_entries++;
}

/* An empty entry of that name, or -1 without room: keeping is a saving, not a duty. */
static int64_t make(ssmq_reuse *reuse, const unsigned char name[SSMQ_SHA256_BYTES]) {
    const int64_t n_bytes = reuse->B * reuse->n_tokens * reuse->d * (int64_t)sizeof(float);
    if (n_bytes > reuse->max_bytes) return -1;
    while (reuse->n_bytes + n_bytes > reuse->max_bytes) {
        if (!drop_oldest(reuse)) return -1;
    }
    const int64_t at = free_place(reuse);
    if (at < 0) return -1;
    entry *e = &reuse->entries[at];
    e->numbers = (float *)reuse->memory->take(n_bytes);
    if (e->numbers == NULL) return -1;
    memcpy(e->name, name, sizeof e->name);
    e->n_bytes = n_bytes;
    e->last_load = reuse->n_loads;
    reuse->n_bytes += n_bytes;
    return at;
}

/* The input of a layer for the tokens of this extent. */
static void name_entry(const ssmq_reuse *reuse, int64_t layer_idx, const ssmq_engine_extent *extent,
                       int64_t segment_tokens, unsigned char name[SSMQ_SHA256_BYTES]) {
    ssmq_sha256 sha;
    ssmq_sha256_init(&sha);
    ssmq_sha256_add(&sha, reuse->inputs[layer_idx], SSMQ_SHA256_BYTES);
    ssmq_sha256_add(&sha, extent->reuse_key, SSMQ_SHA256_BYTES);
    add_i64(&sha, extent->n_sequences);
    add_i64(&sha, extent->reuse_tokens);
    add_i64(&sha, segment_tokens);
    ssmq_sha256_end(&sha, name);
}

void ssmq_reuse_begin_tokens(ssmq_reuse *reuse, const ssmq_engine_extent *extent,
                             int64_t segment_tokens) {
    unsigned char name[SSMQ_SHA256_BYTES];
    drop_unfinished(reuse);
    reuse->is_on = extent->reuse_key != NULL;
    reuse->first_layer = 0;
    reuse->start = -1;
    if (!reuse->is_on) return;
    reuse->B = extent->n_sequences;
    reuse->n_tokens = extent->reuse_tokens;
    reuse->done_tokens = 0;
    for (int64_t i = reuse->L - 1; i > 0 && reuse->start < 0; i--) {
        name_entry(reuse, i, extent, segment_tokens, name);
        const int64_t at = find(reuse, name);
        if (at < 0 || !reuse->entries[at].is_whole) continue;
        reuse->entries[at].last_load = reuse->n_loads;
        reuse->start = at;
        reuse->first_layer = i;
    }
    for (int64_t i = 0; i < reuse->L; i++) {
        reuse->kept[i] = -1;
        if (i <= reuse->first_layer || i > reuse->n_alike) continue;
        name_entry(reuse, i, extent, segment_tokens, name);
        if (find(reuse, name) < 0) reuse->kept[i] = make(reuse, name);
    }
}

int64_t ssmq_reuse_first_layer(const ssmq_reuse *reuse) {
    return reuse->is_on ? reuse->first_layer : 0;
}

static float *segment_of(const ssmq_reuse *reuse, int64_t at) {
    return reuse->entries[at].numbers + reuse->B * reuse->done_tokens * reuse->d;
}

const float *ssmq_reuse_start(const ssmq_reuse *reuse) {
    return reuse->is_on && reuse->start >= 0 ? segment_of(reuse, reuse->start) : NULL;
}

float *ssmq_reuse_keep(const ssmq_reuse *reuse, int64_t layer_idx) {
    const int64_t at = reuse->is_on ? reuse->kept[layer_idx] : -1;
    return at >= 0 ? segment_of(reuse, at) : NULL;
}

void ssmq_reuse_end_segment(ssmq_reuse *reuse, int64_t T) {
    if (!reuse->is_on) return;
    reuse->done_tokens += T;
    if (reuse->done_tokens < reuse->n_tokens) return;
    for (int64_t i = 0; i < reuse->L; i++) {
        if (reuse->kept[i] >= 0) reuse->entries[reuse->kept[i]].is_whole = true;
    }
}
