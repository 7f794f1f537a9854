/* SPDX-License-Identifier: Apache-2.0 */
/* Every part of the file that decides how text becomes ids must be one that this tokenizer does;
 * anything else is named and refused, since near enough would be wrong. truncation and padding are
 * ignored: they are for batches of a fixed length. */
#include "model/tokenizer_file.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "model/nfc.h"

enum {
    /* The largest files in use have about 1.5 million values; bounds the parsed tree. */
    MAX_VALUES = 1 << 22,
    MAX_OBJECTS = 1 << 16,
    QUOTE_BYTES = 64,
    N_BYTE_POINTS = 0x144 /* one over the last code point that stands for a byte */
};

/* Token text of an id while the file is read; borrowed from the document. */
typedef struct entry {
    const char *text; /* NULL: the id is not used */
    size_t n_bytes;
    bool is_added; /* text is what it says, not byte symbols */
} entry;

typedef struct reader {
    const char *path;
    ssmq_tokenizer *tokenizer;
    const ssmq_json *root;
    const ssmq_json *model;
    const ssmq_json *vocab;
    entry *entries; /* [n_ids] */
    size_t entries_capacity;
    ssmq_str key;                         /* scratch of merges */
    int16_t byte_of_point[N_BYTE_POINTS]; /* -1: stands for no byte */
    uint16_t point_of_byte[256];
} reader;

/* A string for messages, in quotes and cut to fit. */
static const char *quote(char out[QUOTE_BYTES], const char *text, size_t n_bytes) {
    ssmq_str str;
    ssmq_str_init(&str, (size_t)QUOTE_BYTES * 8);
    size_t n_kept = n_bytes <= QUOTE_BYTES / 2 ? n_bytes : QUOTE_BYTES / 2;
    ssmq_str_add_json(&str, text, ssmq_utf8_valid_prefix(text, n_kept));
    ssmq_field_set(out, QUOTE_BYTES, ssmq_str_get(&str));
    ssmq_str_free(&str);
    return out;
}

static const char *describe(char out[QUOTE_BYTES], const ssmq_json *value) {
    size_t n_bytes = 0;
    bool is_true = false;
    const char *text = ssmq_json_string(value, &n_bytes);
    if (text != NULL) return quote(out, text, n_bytes);
    if (ssmq_json_bool(value, &is_true)) return is_true ? "true" : "false";
    return ssmq_json_type_name(ssmq_json_type_of(value));
}

/* The code points that stand for bytes in the vocabulary: printable Latin-1 for itself, the other
 * bytes in their order from U+0100. */
static void map_bytes(reader *r) {
    for (size_t i = 0; i < N_BYTE_POINTS; i++) r->byte_of_point[i] = -1;
    uint16_t next = 0x100;
    for (int b = 0; b < 256; b++) {
        bool is_printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
        r->point_of_byte[b] = is_printable ? (uint16_t)b : next++;
        r->byte_of_point[r->point_of_byte[b]] = (int16_t)b;
    }
}

/* A bound on the values of the document before it is parsed into a tree many times its size. */
static ssmq_status check_values(const reader *r, const char *text, size_t n_bytes, ssmq_err *err) {
    size_t n_values = 1;
    size_t n_objects = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        n_values += text[i] == ',' || text[i] == '[' || text[i] == '{';
        n_objects += text[i] == '{';
    }
    if (n_values <= MAX_VALUES && n_objects <= MAX_OBJECTS) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: over %d values or %d objects; too large for a tokenizer",
                     r->path, MAX_VALUES, MAX_OBJECTS);
}

static bool is_text(const ssmq_json *value, const char *wanted) {
    size_t n_bytes = 0;
    const char *text = ssmq_json_string(value, &n_bytes);
    return text != NULL && n_bytes == strlen(wanted) && memcmp(text, wanted, n_bytes) == 0;
}

/* root[name].type must be `type`. */
static ssmq_status check_type(const reader *r, const char *name, const char *type,
                              const ssmq_json **part, ssmq_err *err) {
    char quoted[QUOTE_BYTES];
    const ssmq_json *found = NULL;
    if (!ssmq_json_get(r->root, name, part) || *part == NULL) {
        return SSMQ_FAIL(err, CONFIG, "%s: %s: missing or null; only %s is supported", r->path,
                         name, type);
    }
    if (ssmq_json_type_of(*part) != SSMQ_JSON_OBJECT || !ssmq_json_get(*part, "type", &found)) {
        return SSMQ_FAIL(err, CONFIG, "%s: %s: an object with a type is needed", r->path, name);
    }
    if (!is_text(found, type)) {
        return SSMQ_FAIL(err, CONFIG, "%s: %s: type %s is not supported; only %s is", r->path, name,
                         describe(quoted, found), type);
    }
    return SSMQ_OK;
}

/* part[key] must be `wanted`, or may be absent if is_optional. */
static ssmq_status check_bool(const reader *r, const char *name, const ssmq_json *part,
                              const char *key, bool wanted, bool is_optional, ssmq_err *err) {
    char quoted[QUOTE_BYTES];
    const ssmq_json *value = NULL;
    bool is_true = false;
    if (!ssmq_json_get(part, key, &value)) {
        if (is_optional) return SSMQ_OK;
        return SSMQ_FAIL(err, CONFIG, "%s: %s.%s: missing", r->path, name, key);
    }
    if (ssmq_json_bool(value, &is_true) && is_true == wanted) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: %s.%s: %s is not supported; only %s is", r->path, name, key,
                     describe(quoted, value), wanted ? "true" : "false");
}

/* True if single sequences come out of the template as they went in. */
static bool is_plain_template(const ssmq_json *processor) {
    const ssmq_json *single = NULL;
    const ssmq_json *sequence = NULL;
    if (!ssmq_json_get(processor, "single", &single)) return false;
    return ssmq_json_type_of(single) == SSMQ_JSON_ARRAY && ssmq_json_n_items(single) == 1 &&
           ssmq_json_get(ssmq_json_item(single, 0), "Sequence", &sequence);
}

static ssmq_status check_post_processor(const reader *r, ssmq_err *err) {
    char quoted[QUOTE_BYTES];
    const ssmq_json *processor = NULL;
    const ssmq_json *type = NULL;
    if (!ssmq_json_get(r->root, "post_processor", &processor) || processor == NULL) return SSMQ_OK;
    (void)ssmq_json_get(processor, "type", &type);
    if (is_text(type, "ByteLevel")) return SSMQ_OK;
    if (!is_text(type, "TemplateProcessing")) {
        return SSMQ_FAIL(err, CONFIG,
                         "%s: post_processor: type %s is not supported; only ByteLevel is", r->path,
                         describe(quoted, type));
    }
    if (is_plain_template(processor)) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG,
                     "%s: post_processor: a template that adds tokens is not supported", r->path);
}

static ssmq_status check_pipeline(const reader *r, ssmq_err *err) {
    char quoted[QUOTE_BYTES];
    const ssmq_json *part = NULL;
    if (ssmq_json_get(r->root, "version", &part) && !is_text(part, "1.0")) {
        return SSMQ_FAIL(err, CONFIG, "%s: version: %s is not supported; only \"1.0\" is", r->path,
                         describe(quoted, part));
    }
    SSMQ_TRY(check_type(r, "normalizer", "NFC", &part, err));
    SSMQ_TRY(check_type(r, "pre_tokenizer", "ByteLevel", &part, err));
    SSMQ_TRY(check_bool(r, "pre_tokenizer", part, "add_prefix_space", false, false, err));
    SSMQ_TRY(check_bool(r, "pre_tokenizer", part, "use_regex", true, true, err));
    SSMQ_TRY(check_post_processor(r, err));
    return check_type(r, "decoder", "ByteLevel", &part, err);
}

/* unk_token and fuse_unk are not looked at: every byte has a symbol, so nothing is unknown. */
static ssmq_status check_model(reader *r, ssmq_err *err) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    char quoted[QUOTE_BYTES];
    const ssmq_json *value = NULL;
    SSMQ_TRY(check_type(r, "model", "BPE", &r->model, err));
    if (ssmq_json_get(r->model, "dropout", &value) && value != NULL) {
        return SSMQ_FAIL(err, CONFIG, "%s: model.dropout: %s is not supported; only null is",
                         r->path, describe(quoted, value));
    }
    for (size_t i = 0; i < sizeof affixes / sizeof affixes[0]; i++) {
        if (!ssmq_json_get(r->model, affixes[i], &value) || value == NULL) continue;
        if (is_text(value, "")) continue;
        return SSMQ_FAIL(err, CONFIG, "%s: model.%s: %s is not supported; only null is", r->path,
                         affixes[i], describe(quoted, value));
    }
    SSMQ_TRY(check_bool(r, "model", r->model, "byte_fallback", false, true, err));
    return check_bool(r, "model", r->model, "ignore_merges", false, true, err);
}

/* Sets the text of an id.  Fails: CONFIG (id out of range or of another text), NOMEM. */
static ssmq_status set_entry(reader *r, const ssmq_json *id_value, entry new_entry, ssmq_err *err) {
    char quoted[QUOTE_BYTES];
    int64_t id = 0;
    if (!ssmq_json_i64(id_value, &id) || id < 0 || id >= SSMQ_TOKENIZER_MAX_IDS) {
        return SSMQ_FAIL(err, CONFIG, "%s: token %s: id is no integer from 0 to %d", r->path,
                         quote(quoted, new_entry.text, new_entry.n_bytes),
                         SSMQ_TOKENIZER_MAX_IDS - 1);
    }
    size_t n_ids = (size_t)r->tokenizer->n_ids;
    if ((size_t)id >= n_ids) {
        SSMQ_TRY(ssmq_grow(&r->entries, &r->entries_capacity, (size_t)id + 1, sizeof *r->entries,
                           SSMQ_TOKENIZER_MAX_IDS, err));
        memset(r->entries + n_ids, 0, ((size_t)id + 1 - n_ids) * sizeof *r->entries);
        r->tokenizer->n_ids = (int32_t)id + 1;
    }
    entry *old = &r->entries[id];
    bool is_same = old->text != NULL && !old->is_added && new_entry.is_added &&
                   old->n_bytes == new_entry.n_bytes &&
                   memcmp(old->text, new_entry.text, old->n_bytes) == 0;
    if (old->text != NULL && !is_same) {
        return SSMQ_FAIL(err, CONFIG, "%s: token %s: id %lld is another token's too", r->path,
                         quote(quoted, new_entry.text, new_entry.n_bytes), (long long)id);
    }
    *old = new_entry;
    return SSMQ_OK;
}

static ssmq_status read_vocab(reader *r, ssmq_err *err) {
    if (!ssmq_json_get(r->model, "vocab", &r->vocab) ||
        ssmq_json_type_of(r->vocab) != SSMQ_JSON_OBJECT) {
        return SSMQ_FAIL(err, CONFIG, "%s: model.vocab: an object is needed", r->path);
    }
    for (ssmq_json_iter it = ssmq_json_begin(r->vocab); ssmq_json_next(&it);) {
        entry new_entry = {.text = it.key, .n_bytes = strlen(it.key)};
        SSMQ_TRY(set_entry(r, it.value, new_entry, err));
    }
    return SSMQ_OK;
}

/* Id of a token text of the vocabulary; -1 if it is not there. */
static int32_t vocab_id(const reader *r, const char *text, size_t n_bytes) {
    const ssmq_json *value = NULL;
    int64_t id = 0;
    if (strlen(text) != n_bytes || !ssmq_json_get(r->vocab, text, &value)) return -1;
    return ssmq_json_i64(value, &id) ? (int32_t)id : -1;
}

static ssmq_status keep_added_token(reader *r, const entry *token, int32_t id, bool is_normalized,
                                    ssmq_err *err) {
    ssmq_tokenizer *t = r->tokenizer;
    if (!is_normalized) {
        return ssmq_added_tokens_add(&t->raw, token->text, token->n_bytes, id, err);
    }
    ssmq_nfc_work work = {0};
    ssmq_str_clear(&r->key);
    ssmq_status status = ssmq_nfc_append(&work, &r->key, token->text, token->n_bytes, err);
    ssmq_nfc_work_free(&work);
    SSMQ_TRY(status);
    SSMQ_TRY(ssmq_str_check(&r->key, r->path, err));
    return ssmq_added_tokens_add(&t->normalized, r->key.text, r->key.n_bytes, id, err);
}

static ssmq_status read_added_token(reader *r, const ssmq_json *token, ssmq_err *err) {
    static const char *const unsupported[] = {"single_word", "lstrip", "rstrip"};
    char quoted[QUOTE_BYTES];
    const ssmq_json *content = NULL;
    const ssmq_json *id_value = NULL;
    const ssmq_json *value = NULL;
    entry new_entry = {.is_added = true};
    (void)ssmq_json_get(token, "content", &content);
    new_entry.text = ssmq_json_string(content, &new_entry.n_bytes);
    if (new_entry.text == NULL || new_entry.n_bytes == 0) {
        return SSMQ_FAIL(err, CONFIG, "%s: added_tokens: a token without content", r->path);
    }
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        SSMQ_TRY(check_bool(r, "added_tokens", token, unsupported[i], false, true, err));
    }
    bool is_normalized = true;
    if (!ssmq_json_get(token, "normalized", &value) || !ssmq_json_bool(value, &is_normalized)) {
        return SSMQ_FAIL(err, CONFIG, "%s: added token %s: normalized is not true or false",
                         r->path, quote(quoted, new_entry.text, new_entry.n_bytes));
    }
    (void)ssmq_json_get(token, "id", &id_value);
    SSMQ_TRY(set_entry(r, id_value, new_entry, err));
    int64_t id = 0;
    (void)ssmq_json_i64(id_value, &id);
    int32_t other = vocab_id(r, new_entry.text, new_entry.n_bytes);
    if (other >= 0 && other != id) {
        return SSMQ_FAIL(err, CONFIG, "%s: added token %s: id %lld, but %d in the vocabulary",
                         r->path, quote(quoted, new_entry.text, new_entry.n_bytes), (long long)id,
                         other);
    }
    return keep_added_token(r, &new_entry, (int32_t)id, is_normalized, err);
}

static ssmq_status read_added_tokens(reader *r, ssmq_err *err) {
    char quoted[QUOTE_BYTES];
    const ssmq_json *list = NULL;
    ssmq_tokenizer *t = r->tokenizer;
    if (!ssmq_json_get(r->root, "added_tokens", &list) || list == NULL) return SSMQ_OK;
    if (ssmq_json_type_of(list) != SSMQ_JSON_ARRAY) {
        return SSMQ_FAIL(err, CONFIG, "%s: added_tokens: a list is needed", r->path);
    }
    for (size_t i = 0; i < ssmq_json_n_items(list); i++) {
        SSMQ_TRY(read_added_token(r, ssmq_json_item(list, i), err));
    }
    const ssmq_added_token *twice = ssmq_added_tokens_sort(&t->raw);
    if (twice == NULL) twice = ssmq_added_tokens_sort(&t->normalized);
    if (twice == NULL) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: added token %s is there twice", r->path,
                     quote(quoted, twice->text, twice->n_bytes));
}

/* Code point at text, which is valid UTF-8 of one or two bytes, into *point; its length, or 0 for
 * a longer character. */
static size_t short_point(const char *text, unsigned *point) {
    unsigned lead = (unsigned char)text[0];
    *point = lead;
    if (lead < 0x80) return 1;
    if (lead >= 0xE0) return 0;
    *point = (lead & 0x1F) << 6 | ((unsigned char)text[1] & 0x3F);
    return 2;
}

/* Writes the bytes that a vocabulary text stands for; n_bytes of out are enough. A text with any
 * other character stands for itself. */
static size_t decode_symbols(const reader *r, const entry *e, char *out) {
    size_t n_out = 0;
    for (size_t i = 0; !e->is_added && i < e->n_bytes;) {
        unsigned point = 0;
        size_t length = short_point(e->text + i, &point);
        if (length == 0 || point >= N_BYTE_POINTS || r->byte_of_point[point] < 0) break;
        out[n_out++] = (char)r->byte_of_point[point];
        i += length;
        if (i == e->n_bytes) return n_out;
    }
    memcpy(out, e->text, e->n_bytes);
    return e->n_bytes;
}

static ssmq_status fill_texts(reader *r, ssmq_err *err) {
    ssmq_tokenizer *t = r->tokenizer;
    size_t n_ids = (size_t)t->n_ids;
    size_t n_bytes = 0;
    for (size_t i = 0; i < n_ids; i++) n_bytes += r->entries[i].n_bytes;
    SSMQ_TRY(ssmq_calloc(&t->text, n_bytes, 1, err));
    SSMQ_TRY(ssmq_calloc(&t->text_begin, n_ids + 1, sizeof *t->text_begin, err));
    for (size_t i = 0; i < n_ids; i++) {
        const entry *e = &r->entries[i];
        size_t length = e->n_bytes > 0 ? decode_symbols(r, e, t->text + t->text_begin[i]) : 0;
        t->text_begin[i + 1] = t->text_begin[i] + length;
    }
    return SSMQ_OK;
}

static ssmq_status fill_byte_ids(reader *r, ssmq_err *err) {
    for (unsigned b = 0; b < 256; b++) {
        unsigned point = r->point_of_byte[b];
        char symbol[3] = {(char)point, '\0', '\0'};
        if (point >= 0x80) {
            symbol[0] = (char)(0xC0 | point >> 6);
            symbol[1] = (char)(0x80 | (point & 0x3F));
        }
        int32_t id = vocab_id(r, symbol, strlen(symbol));
        bool is_in_utf8 = b != 0xC0 && b != 0xC1 && b < 0xF5;
        if (id < 0 && is_in_utf8) {
            return SSMQ_FAIL(err, CONFIG, "%s: model.vocab: no token for byte 0x%02X (\"%s\")",
                             r->path, b, symbol);
        }
        r->tokenizer->byte_ids[b] = id;
    }
    return SSMQ_OK;
}

/* Id of n_bytes of r->key from `begin`; bytes behind them are left out for the time. */
static int32_t key_id(reader *r, size_t begin, size_t n_bytes) {
    char *end = r->key.text + begin + n_bytes;
    char kept = *end;
    *end = '\0';
    int32_t id = vocab_id(r, r->key.text + begin, n_bytes);
    *end = kept;
    return id;
}

/* Puts both symbols of a merge into r->key, one behind the other; false if it is neither "a b" nor
 * ["a", "b"]. */
static bool split_merge(reader *r, const ssmq_json *merge, size_t *n_left) {
    size_t n_bytes = 0;
    size_t n_right = 0;
    ssmq_str_clear(&r->key);
    const char *text = ssmq_json_string(merge, &n_bytes);
    if (text != NULL) {
        const char *space = memchr(text, ' ', n_bytes);
        if (space == NULL) return false;
        *n_left = (size_t)(space - text);
        n_right = n_bytes - *n_left - 1;
        ssmq_str_add(&r->key, text, *n_left);
        ssmq_str_add(&r->key, space + 1, n_right);
        return *n_left > 0 && n_right > 0 && memchr(space + 1, ' ', n_right) == NULL;
    }
    if (ssmq_json_n_items(merge) != 2) return false;
    const char *left = ssmq_json_string(ssmq_json_item(merge, 0), n_left);
    const char *right = ssmq_json_string(ssmq_json_item(merge, 1), &n_right);
    if (left == NULL || right == NULL || *n_left == 0 || n_right == 0) return false;
    ssmq_str_add(&r->key, left, *n_left);
    ssmq_str_add(&r->key, right, n_right);
    return true;
}

static ssmq_status read_merge(reader *r, const ssmq_json *merge, size_t i, ssmq_err *err) {
    char quoted[QUOTE_BYTES];
    size_t n_left = 0;
    bool is_pair = split_merge(r, merge, &n_left);
    SSMQ_TRY(ssmq_str_check(&r->key, r->path, err));
    if (!is_pair) {
        return SSMQ_FAIL(err, CONFIG, "%s: model.merges[%zu]: neither \"a b\" nor [\"a\", \"b\"]",
                         r->path, i);
    }
    size_t n_right = r->key.n_bytes - n_left;
    int32_t left = key_id(r, 0, n_left);
    int32_t right = key_id(r, n_left, n_right);
    int32_t result = key_id(r, 0, r->key.n_bytes);
    if (left >= 0 && right >= 0 && result >= 0) {
        ssmq_bpe_add(&r->tokenizer->bpe, left, right, result);
        return SSMQ_OK;
    }
    size_t begin = left >= 0 && right < 0 ? n_left : 0;
    size_t n_bytes = left < 0 ? n_left : right < 0 ? n_right : r->key.n_bytes;
    return SSMQ_FAIL(err, CONFIG, "%s: model.merges[%zu]: %s is not in the vocabulary", r->path, i,
                     quote(quoted, r->key.text + begin, n_bytes));
}

static ssmq_status read_merges(reader *r, ssmq_err *err) {
    const ssmq_json *merges = NULL;
    if (!ssmq_json_get(r->model, "merges", &merges) ||
        ssmq_json_type_of(merges) != SSMQ_JSON_ARRAY) {
        return SSMQ_FAIL(err, CONFIG, "%s: model.merges: a list is needed", r->path);
    }
    size_t n_merges = ssmq_json_n_items(merges);
    SSMQ_TRY(ssmq_bpe_init(&r->tokenizer->bpe, n_merges, err));
    for (size_t i = 0; i < n_merges; i++) {
        SSMQ_TRY(read_merge(r, ssmq_json_item(merges, i), i, err));
    }
    return SSMQ_OK;
}

static ssmq_status read_document(reader *r, ssmq_err *err) {
    if (ssmq_json_type_of(r->root) != SSMQ_JSON_OBJECT) {
        return SSMQ_FAIL(err, CONFIG, "%s: an object is needed", r->path);
    }
    map_bytes(r);
    SSMQ_TRY(check_pipeline(r, err));
    SSMQ_TRY(check_model(r, err));
    SSMQ_TRY(read_vocab(r, err));
    SSMQ_TRY(read_added_tokens(r, err));
    SSMQ_TRY(fill_byte_ids(r, err));
    SSMQ_TRY(fill_texts(r, err));
    return read_merges(r, err);
}

ssmq_status ssmq_tokenizer_parse(ssmq_tokenizer **out, const char *text, size_t n_bytes,
                                 const char *path, ssmq_err *err) {
    reader r = {.path = path};
    ssmq_json *document = NULL;
    *out = NULL;
    SSMQ_TRY(check_values(&r, text, n_bytes, err));
    SSMQ_TRY(ssmq_json_parse(&document, text, n_bytes, path, err));
    r.root = document;
    ssmq_str_init(&r.key, (size_t)SSMQ_TOKENIZER_MAX_BYTES * 4);
    ssmq_status status = ssmq_calloc(&r.tokenizer, 1, sizeof *r.tokenizer, err);
    if (status == SSMQ_OK) {
        ssmq_sha256_of(text, n_bytes, r.tokenizer->sha256);
        status = read_document(&r, err);
    }
    if (status == SSMQ_OK) {
        *out = r.tokenizer;
    } else {
        ssmq_tokenizer_close(r.tokenizer);
    }
    ssmq_free(r.entries);
    ssmq_str_free(&r.key);
    ssmq_json_free(document);
    return status;
}
