/* SPDX-License-Identifier: Apache-2.0 */
/* config/: exact fault lines with their places, what overrides what, and that every file of
 * configs/ survives being written and read again. Texts of faults are compared whole; "@" stands
 * for the path of the file under test, "~" for its folder. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "config/config.h"

static char folder[64];
static char path[128];

static int make_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/ssmq_test_config_XXXXXX");
    if (mkdtemp(folder) == NULL) return -1;
    (void)snprintf(path, sizeof path, "%s/c.yaml", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    DIR *dir = opendir(folder);
    if (dir == NULL) return -1;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char name[400];
        (void)snprintf(name, sizeof name, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.') (void)unlink(name);
    }
    (void)closedir(dir);
    return rmdir(folder);
}

static void write_file(const char *name, const char *text, size_t n_bytes) {
    char full[256];
    ssmq_err err = {0};
    (void)snprintf(full, sizeof full, "%s/%s", folder, name);
    assert_int_equal(ssmq_file_replace(full, text, n_bytes, &err), SSMQ_OK);
}

/* text with every `from` replaced. */
static void replace(char *out, size_t n_bytes, const char *text, const char *from, const char *to) {
    size_t n = 0;
    while (*text != '\0' && n + strlen(to) + 1 < n_bytes) {
        if (strncmp(text, from, strlen(from)) == 0) {
            memcpy(out + n, to, strlen(to));
            n += strlen(to);
            text += strlen(from);
        } else {
            out[n++] = *text++;
        }
    }
    out[n] = '\0';
}

/* Reads c.yaml and the overrides; the faults, shortened, into out. */
static ssmq_status read_faults(const char *const *sets, size_t n_sets, char *out, size_t n_bytes,
                               ssmq_config *config) {
    const char *files[1] = {path};
    ssmq_config_sources sources = {files, 1, sets, n_sets};
    ssmq_str faults;
    ssmq_err err = {0};
    char shorter[20000];
    ssmq_str_init(&faults, 1 << 20);
    ssmq_status status = ssmq_config_read(config, &sources, &faults, &err);
    assert_int_equal(status == SSMQ_OK, faults.n_bytes == 0);
    replace(shorter, sizeof shorter, ssmq_str_get(&faults), path, "@");
    replace(out, n_bytes, shorter, folder, "~");
    ssmq_str_free(&faults);
    return status;
}

static void expect_bytes(const char *yaml, size_t n_bytes, const char *expected) {
    char faults[20000];
    ssmq_config config;
    write_file("c.yaml", yaml, n_bytes);
    ssmq_status status = read_faults(NULL, 0, faults, sizeof faults, &config);
    assert_string_equal(faults, expected);
    assert_int_equal(status, expected[0] == '\0' ? SSMQ_OK : SSMQ_CONFIG);
}

static void expect(const char *yaml, const char *expected) {
    expect_bytes(yaml, strlen(yaml), expected);
}

static void expect_set(const char *set, const char *expected) {
    char faults[20000];
    ssmq_config config;
    const char *sets[1] = {set};
    write_file("c.yaml", "", 0);
    ssmq_status status = read_faults(sets, 1, faults, sizeof faults, &config);
    assert_string_equal(faults, expected);
    assert_int_equal(status, expected[0] == '\0' ? SSMQ_OK : SSMQ_CONFIG);
}

static void empty_is_valid(void **state) {
    (void)state;
    ssmq_config config;
    char faults[1000];
    for (int i = 0; i < 4; i++) {
        static const char *const texts[] = {"", "---\n", "# nothing\n", "model:\nppl: {}\n"};
        write_file("c.yaml", texts[i], strlen(texts[i]));
        assert_int_equal(read_faults(NULL, 0, faults, sizeof faults, &config), SSMQ_OK);
        assert_string_equal(config.model.path, "configs/demo");
        assert_string_equal(config.ppl.text, "configs/demo/demo-text.txt");
        assert_string_equal(config.passkey.prompt_template[0], "demo-1");
        assert_int_equal(config.sweep.n_tasks, 3);
        assert_int_equal(config.sweep.n_precisions, 2);
        assert_int_equal(config.ppl.seq_len.values[0], 2048);
        assert_int_equal(config.sweep.precisions[1].dtype, SSMQ_BF16);
        assert_true(config.passkey.depth.values[0] == 0.1);
        assert_false(config.run.fail_fast);
    }
}

static void names(void **state) {
    (void)state;
    expect("modle:\n  path: x\n", "@:1:1: modle: unknown section, did you mean model?; include, "
                                  "model, sweep, ppl, passkey, profile, drift, run\n");
    expect("zebra: 1\n", "@:1:1: zebra: unknown section; include, model, sweep, ppl, passkey, "
                         "profile, drift, run\n");
    expect("ppl:\n  seq_lne: 5\n", "@:2:3: ppl.seq_lne: unknown key, did you mean seq_len?; text, "
                                   "protocols, seq_len, stride, max_tokens, batch_size\n");
    expect("ppl:\n  stride: 5\n  text: a\n  stride: 6\n",
           "@:4:3: ppl.stride: duplicate key, first on line 2; each key once\n");
    expect("ppl:\n  stride: 5\nppl:\n  stride: 6\n",
           "@:3:1: ppl: duplicate key, first on line 1; each key once\n");
    expect("[model]\n", "@:1:1: yaml: the file is a list; a mapping with the sections include, "
                        "model, sweep, ppl, passkey, profile, drift, run\n");
    expect("model: 5\n", "@:1:8: model: is a text; a mapping with the keys path, revision, device, "
                         "threads, null_script\n");
    expect("model:\n  [a]: 5\n", "@:2:3: model: a list stands as a key; a text\n");
}

static void numbers(void **state) {
    (void)state;
    static const char *const bad[] = {"010", "0x10", "1_000", "+5",   "5.0",
                                      "1e3", "5 6",  "five",  "true", "--5"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char yaml[64];
        char expected[160];
        (void)snprintf(yaml, sizeof yaml, "ppl:\n  seq_len: %s\n", bad[i]);
        (void)snprintf(expected, sizeof expected,
                       "@:2:12: ppl.seq_len: \"%s\" is not an integer; an integer from 2 to "
                       "16777216\n",
                       bad[i]);
        expect(yaml, expected);
    }
    expect("ppl:\n  seq_len: 1\n",
           "@:2:12: ppl.seq_len: \"1\" is out of range; an integer from 2 to 16777216\n");
    expect("ppl:\n  seq_len: 99999999999999999999\n",
           "@:2:12: ppl.seq_len: "
           "\"99999999999999999999\" is out of range; an integer from 2 to 16777216\n");
    expect("ppl:\n  seq_len: \"512\"\n", "@:2:12: ppl.seq_len: \"512\" is a text in quotes; an "
                                         "integer from 2 to 16777216\n");
    expect("ppl:\n  seq_len:\n",
           "@:2:11: ppl.seq_len: has no value; an integer from 2 to 16777216\n");
    static const char *const bad_reals[] = {"nan", ".inf", "0x1p3", "1e", ".5", "1.", "00.5"};
    for (size_t i = 0; i < sizeof bad_reals / sizeof bad_reals[0]; i++) {
        char yaml[64];
        char expected[160];
        (void)snprintf(yaml, sizeof yaml, "passkey:\n  depth: %s\n", bad_reals[i]);
        (void)snprintf(expected, sizeof expected,
                       "@:2:10: passkey.depth: \"%s\" is not a number; a number from 0 to 1\n",
                       bad_reals[i]);
        expect(yaml, expected);
    }
    expect("passkey:\n  depth: [0.5, 1.5, -1e-3]\n",
           "@:2:16: passkey.depth: \"1.5\" is out of range; a number from 0 to 1\n"
           "@:2:21: passkey.depth: \"-1e-3\" is out of range; a number from 0 to 1\n");
    expect("run:\n  time_limit_s: 1e999\n",
           "@:2:17: run.time_limit_s: \"1e999\" is out of range; a number from 0 to 1e+09\n");
    expect("run:\n  fail_fast: yes\n",
           "@:2:14: run.fail_fast: \"yes\" is not a truth value; true or false\n");
}

static void lists_and_texts(void **state) {
    (void)state;
    expect("ppl:\n  seq_len: []\n", "@:2:12: ppl.seq_len: is an empty list; at least one value\n");
    expect("ppl:\n  seq_len: [512, 1024, 512]\n",
           "@:2:24: ppl.seq_len: value 3 equals value 1; each value once\n");
    expect("ppl:\n  seq_len: [[512]]\n",
           "@:2:13: ppl.seq_len: is a list; an integer from 2 to 16777216\n");
    expect("sweep:\n  tasks: [ppl, pll]\n",
           "@:2:16: sweep.tasks: \"pll\" is unknown; ppl | passkey | profile | fidelity | drift\n");
    expect("sweep:\n  tasks: [ppl, ppl, ppl, profile, profile, drift]\n",
           "@:2:16: sweep.tasks: value 2 equals value 1; each value once\n"
           "@:2:21: sweep.tasks: value 3 equals value 1; each value once\n"
           "@:2:35: sweep.tasks: value 5 equals value 4; each value once\n"
           "@:2:44: sweep.tasks: 6 values; at most 5\n");
    expect("ppl:\n  protocols: slide\n",
           "@:2:14: ppl.protocols: \"slide\" is unknown; disjoint | sliding | stream | "
           "rolling | half_window\n");
    expect("model:\n  device: gpu\n",
           "@:2:11: model.device: \"gpu\" is unknown; auto | cpu | cuda | null\n");
    expect("model:\n  path: {a: b}\n",
           "@:2:9: model.path: is a mapping; a text, \"\" for an empty one\n");
    expect("model:\n  path: \"\"\n", "@:2:9: model.path: \"\" is empty; a path\n");
    expect("passkey:\n  prompt_template: demo-2\n",
           "@:2:20: passkey.prompt_template: \"demo-2\" is unknown; demo-1 | landmark-1 | "
           "ruler-niah-1 | ruler-vt-1\n");
    expect("passkey:\n  prompt_template: [demo-1, ruler-vt-1, demo-1]\n",
           "@:2:41: passkey.prompt_template: value 3 equals value 1; each value once\n");
    expect("run:\n  run_id: ../x\n",
           "@:2:11: run.run_id: \"../x\" is not a plain file name; a name "
           "without \"/\", at most 127 bytes, not beginning with \"-\"\n");
    expect("sweep:\n  notes: \"a\\nb\"\n",
           "@:2:10: sweep.notes: \"a?b\" holds a control character; "
           "at most 511 bytes of printable text\n");
    expect("sweep:\n  notes: \"a\\u2028b\"\n",
           "@:2:10: sweep.notes: \"a\xE2\x80\xA8"
           "b\" holds a control character; at most 511 bytes of printable text\n");
    char yaml[800] = "sweep:\n  notes: ";
    memset(yaml + strlen(yaml), 'x', 600);
    expect(yaml, "@:2:10: sweep.notes: "
                 "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...\" is too long; "
                 "at most 511 bytes of printable text\n");
}

static void precisions_and_scopes(void **state) {
    (void)state;
    expect("sweep:\n  precisions: w9a9\n",
           "@:2:15: sweep.precisions: \"w9a9\" is not a precision; fp32, fp16, bf16, w8a8, w4a8, "
           "w4a4, w8a8-fp8, w8a16, w4a16, w16a8, w16a4, as fp16:NAME with another compute type, "
           "NAME:g64 or NAME:channel with other groups, or a mapping\n");
    expect("sweep:\n  precisions:\n    - {w_bits: 8, bits: 4, w_bits: 4, a_bits: 5}\n",
           "@:3:19: sweep.precisions: unknown key \"bits\"; name, dtype, w_bits, a_bits, w_format, "
           "a_format, group_size, state_dtype, state_rounding\n"
           "@:3:28: sweep.precisions: duplicate key \"w_bits\"; each key once\n"
           "@:3:47: sweep.precisions.a_bits: \"5\" is not allowed; 4, 8, or the 16 or 32 bits of "
           "dtype\n");
    expect("sweep:\n  precisions: [{w_bits: 16, dtype: fp32}]\n",
           "@:2:16: sweep.precisions.w_bits: 16 bits do not fit w_format float with dtype fp32; 32 "
           "bits\n");
    expect("sweep:\n  precisions: [{name: w8a8, w_bits: 4, a_bits: 8}]\n",
           "@:2:16: sweep.precisions.name: \"w8a8\" is the name of other values; a name of your "
           "own\n");
    expect("sweep:\n  precisions: [{dtype: f16, w_format: int5, name: \"a,b\", group_size: -1}]\n",
           "@:2:24: sweep.precisions.dtype: \"f16\" is unknown; fp32 | fp16 | bf16\n"
           "@:2:39: sweep.precisions.w_format: \"int5\" is unknown; float | int8 | int4 | "
           "fp8_e4m3\n"
           "@:2:51: sweep.precisions.name: \"a,b\" is unknown; 1 to 31 letters, digits and - _ . : "
           "/\n"
           "@:2:70: sweep.precisions.group_size: \"-1\" is not allowed; an integer from 0 (one "
           "scale a channel) to 262144\n");
    expect("sweep:\n  precisions: [w8a8, {w_bits: 8, a_bits: 8}]\n",
           "@:2:22: sweep.precisions: value 2 equals value 1; each value once\n");
    expect("sweep:\n  precisions: [{w_bits: 8, w_format: int4}, {group_size: 64}]\n",
           "@:2:16: sweep.precisions.w_bits: 8 bits do not fit w_format int4 with dtype bf16; 4 "
           "bits\n"
           "@:2:45: sweep.precisions.group_size: weights that are not quantized have no groups; 0, "
           "or w_bits of 4 or 8\n");
    expect(
        "sweep:\n  scopes: [all, \"only:each.in_proj\", \"only:each\", \"except:each.out_proj\", "
        "\"only:0-3.in_proj.z,lm_head\", \"except:*.out_proj\", none]\n",
        "");
    char faults[4000];
    ssmq_config config;
    write_file("c.yaml", "sweep: {scopes: only:each.proj}", 31);
    assert_int_equal(read_faults(NULL, 0, faults, sizeof faults, &config), SSMQ_CONFIG);
    assert_non_null(strstr(faults, "@:1:17: sweep.scopes: "));
    assert_non_null(strstr(faults, "; all, none, only:ITEM,... or except:ITEM,...\n"));
}

static void written_out_precisions(void **state) {
    (void)state;
    ssmq_config config;
    char faults[4000];
    const char *yaml = "sweep:\n  precisions:\n"
                       "    - w4a8\n"
                       "    - {w_bits: 4, a_bits: 8, name: mine}\n"
                       "    - {dtype: fp16, w_bits: 4, group_size: 0}\n"
                       "    - {w_format: fp8_e4m3, a_format: fp8_e4m3, dtype: fp32}\n"
                       "    - {dtype: bf16, state_dtype: bf16}\n";
    write_file("c.yaml", yaml, strlen(yaml));
    assert_int_equal(read_faults(NULL, 0, faults, sizeof faults, &config), SSMQ_OK);
    const ssmq_precision *p = config.sweep.precisions;
    assert_int_equal(config.sweep.n_precisions, 5);
    assert_string_equal(p[1].name, "mine");
    ssmq_field_set(config.sweep.precisions[1].name, sizeof p[1].name, p[0].name);
    assert_memory_equal(&p[0], &p[1], sizeof p[0]);
    assert_string_equal(p[2].name, "fp16:w4a16:channel");
    assert_true(p[2].a_format == SSMQ_FORMAT_FLOAT && p[2].a_bits == 16 && p[2].group_size == 0);
    assert_string_equal(p[3].name, "fp32:w8a8-fp8");
    assert_int_equal(p[3].w_bits, 8);
    assert_string_equal(p[4].name, "bf16/bf16");
    assert_int_equal(p[4].state_dtype, SSMQ_BF16);
}

static void hostile_yaml(void **state) {
    (void)state;
    static const char anchors[] =
        "yaml: anchors and aliases are not supported; write the value out\n";
    char expected[1000];
    (void)snprintf(expected, sizeof expected, "@:2:9: %s@:3:8: %s", anchors, anchors);
    expect("ppl:\n  text: &a x\nmodel: *a\n", expected);
    expect("ppl:\n  text: !!str x\n",
           "@:2:9: yaml: tags are not supported; write the value alone\n");
    expect("%YAML 1.1\n---\nppl:\n",
           "@:1:1: yaml: directives are not supported; no line that begins with %\n");
    expect("ppl:\n---\nppl:\n",
           "@:2:1: yaml: more than one document; one document, without \"---\" after it began\n");
    expect("ppl: [[[[[[[[[[[[[[[[[[[[\n", "@:1:13: yaml: nested too deeply; at most 8 levels\n");
    expect("ppl:\n  text: \"a\n", "@:3:1: yaml: found unexpected end of stream; one YAML document "
                                  "of mappings, lists and texts\n");
    expect("ppl:\n\ttext: a\n", "@:2:1: yaml: found character that cannot start any token; one "
                                "YAML document of mappings, lists and texts\n");
    expect("a\x01: b\n", "@:1:2: yaml: control characters are not allowed; one YAML document of "
                         "mappings, lists and texts\n");
    expect("ppl:\n  text: \xC3\xA9\xFF\n", "@:2:10: yaml: not valid UTF-8; UTF-8 text\n");
    expect_bytes("ppl:\n  te\0xt: a\n", 17, "@:2:5: yaml: a zero byte; UTF-8 text\n");
    expect("ppl:\n  text: \"a\\0b\"\n", "@:2:9: yaml: a text holds a zero byte; printable text\n");
}

/* Nine levels of nine references each would be 9^9 values; nothing is expanded. */
static void alias_bomb(void **state) {
    (void)state;
    char yaml[2000] = "ppl:\n  a: &a [x]\n";
    for (int c = 'b'; c <= 'i'; c++) {
        char line[100];
        int b = c - 1;
        (void)snprintf(line, sizeof line, "  %c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n", c,
                       c, b, b, b, b, b, b, b, b);
        memcpy(yaml + strlen(yaml), line, strlen(line) + 1);
    }
    char faults[20000];
    ssmq_config config;
    write_file("c.yaml", yaml, strlen(yaml));
    assert_int_equal(read_faults(NULL, 0, faults, sizeof faults, &config), SSMQ_CONFIG);
    assert_non_null(strstr(faults, "@:2:6: yaml: anchors and aliases are not supported"));
}

static void sizes(void **state) {
    (void)state;
    ssmq_config config;
    char faults[20000];
    char *big = NULL;
    ssmq_err err = {0};
    size_t n = (1 << 20) + 1;
    assert_int_equal(ssmq_calloc(&big, n, 1, &err), SSMQ_OK);
    memset(big, '#', n);
    write_file("c.yaml", big, n);
    assert_int_equal(read_faults(NULL, 0, faults, sizeof faults, &config), SSMQ_CONFIG);
    assert_string_equal(faults, "@:1:1: file: @: 1048577 bytes, more than the limit of 1048576; a "
                                "readable file of at most 1 MiB\n");
    for (size_t i = 0; i < n; i++) big[i] = "a:\n\n"[i % 4];
    write_file("c.yaml", big, n - 8);
    assert_int_equal(read_faults(NULL, 0, faults, sizeof faults, &config), SSMQ_CONFIG);
    assert_string_equal(faults, "@:19999:3: yaml: too many values; at most 20000 in a file\n");
    write_file("c.yaml", big, 1200);
    assert_int_equal(read_faults(NULL, 0, faults, sizeof faults, &config), SSMQ_CONFIG);
    assert_string_equal(faults, "@:1:1: yaml: 300 keys; at most 256\n");
    write_file("c.yaml", big, 1000);
    assert_int_equal(read_faults(NULL, 0, faults, sizeof faults, &config), SSMQ_CONFIG);
    assert_non_null(strstr(faults, "\nand 150 faults more\n"));
    ssmq_free(big);
}

static void cross_checks(void **state) {
    (void)state;
    expect("ppl:\n  seq_len: [512, 256]\n  stride: 300\n",
           "@:3:11: ppl.stride: 300 is more than ppl.seq_len 256; 1 to 256\n");
    expect("ppl:\n  protocols: [sliding]\n", "@:2:14: ppl.stride: not set, but ppl.protocols has "
                                             "sliding; 1 to 2048\n");
    expect("ppl:\n  protocols: [sliding]\n  stride: 0\n",
           "@:3:11: ppl.stride: not set, but ppl.protocols has sliding; 1 to 2048\n");
    /* A key that is wrong in itself is reported once. */
    expect("ppl:\n  protocols: [sliding]\n  stride: x\n",
           "@:3:11: ppl.stride: \"x\" is not an integer; an integer from 0 to 16777216\n");
    expect("ppl: {max_tokens: 1}\n", "@:1:19: ppl.max_tokens: 1 token leaves nothing to score; 0 "
                                     "for the whole text, or at least 2\n");
    expect("passkey: {filler: text}\n", "@:1:19: passkey.filler_text: not set, but passkey.filler "
                                        "is text; a UTF-8 file\n");
    expect("sweep: {baseline: bf17}\n", "@:1:19: sweep.baseline: \"bf17\" is not a precision; a "
                                        "known name or a name in sweep.precisions\n");
    expect("sweep: {baseline: mine, precisions: [{name: mine}]}\n", "");
    expect("model: {null_script: oom}\n", "@:1:22: model.null_script: set, but model.device is "
                                          "auto; only with device null\n");
    expect("model: {null_script: oom, device: null}\n", "");
    expect("profile: {decode_products: own}\nmodel: {device: cpu}\n",
           "@:1:28: profile.decode_products: own, but model.device is cpu; cuda or auto\n");
}

static void includes(void **state) {
    (void)state;
    ssmq_config config;
    char faults[4000];
    static const char base[] = "ppl: {seq_len: [512, 1024], batch_size: 3}\nmodel: {path: base}\n";
    static const char more[] = "include: base.yaml\nppl: {seq_len: 256}\n";
    static const char top[] = "model: {path: top}\ninclude: [base.yaml, more.yaml]\n";
    write_file("base.yaml", base, strlen(base));
    write_file("more.yaml", more, strlen(more));
    write_file("c.yaml", top, strlen(top));
    assert_int_equal(read_faults(NULL, 0, faults, sizeof faults, &config), SSMQ_OK);
    assert_string_equal(config.model.path, "top");
    assert_string_equal(config.passkey.prompt_template[0], "landmark-1");
    assert_int_equal(config.ppl.seq_len.n, 1);
    assert_int_equal(config.ppl.seq_len.values[0], 256);
    assert_int_equal(config.ppl.batch_size, 3);
    const char *sets[] = {"ppl.seq_len=[64, 128]", "model.path=a/configs/demo/", "ppl.batch_size=5",
                          "ppl.batch_size=6"};
    assert_int_equal(read_faults(sets, 4, faults, sizeof faults, &config), SSMQ_OK);
    assert_int_equal(config.ppl.seq_len.n, 2);
    assert_int_equal(config.ppl.seq_len.values[1], 128);
    assert_int_equal(config.ppl.batch_size, 6);
    assert_string_equal(config.passkey.prompt_template[0], "demo-1");

    /* Faults of an included file name that file. */
    write_file("base.yaml", "ppl: {stride: -1}\n", 18);
    expect("include: base.yaml\n", "~/base.yaml:1:15: ppl.stride: \"-1\" is out of range; an "
                                   "integer from 0 to 16777216\n");
    expect("include: [none.yaml, [x], \"\"]\n",
           "@:1:11: include: ~/none.yaml: No such file or directory; a readable file of at most 1 "
           "MiB\n@:1:22: include: is a list; a file name or a list of them\n"
           "@:1:27: include: is empty; a file name or a list of them\n");
    expect("include: c.yaml\n",
           "@:1:10: include: @ includes itself; a file that does not lead back here\n");
    write_file("base.yaml", "include: c.yaml\n", 16);
    expect("include: ./base.yaml\n",
           "~/./base.yaml:1:10: include: ~/./c.yaml includes itself; a file that does not lead "
           "back here\n");
    for (int i = 0; i < 20; i++) {
        char name[32];
        char text[64];
        (void)snprintf(name, sizeof name, "d%d.yaml", i);
        (void)snprintf(text, sizeof text, "include: d%d.yaml\n", i + 1);
        write_file(name, text, strlen(text));
    }
    expect("include: d0.yaml\n", "~/d14.yaml:1:10: include: ~/d15.yaml: includes nested too "
                                 "deeply; at most 16\n");
    /* Two references a level would be 2^16 files. */
    for (int i = 0; i < 14; i++) {
        char name[32];
        char text[64];
        (void)snprintf(name, sizeof name, "d%d.yaml", i);
        (void)snprintf(text, sizeof text, "include: [d%d.yaml, d%d.yaml]\n", i + 1, i + 1);
        write_file(name, text, strlen(text));
    }
    write_file("d14.yaml", "", 0);
    write_file("c.yaml", "include: d0.yaml", 16);
    assert_int_equal(read_faults(NULL, 0, faults, sizeof faults, &config), SSMQ_CONFIG);
    assert_non_null(strstr(faults, "include: too many files; at most 256\n"));
}

static void overrides(void **state) {
    (void)state;
    expect_set("ppl.seq_len=5x", "--set:1:13: ppl.seq_len: \"5x\" is not an integer; an integer "
                                 "from 2 to 16777216\n");
    expect_set("ppl.seqlen=5", "--set:1:1: ppl.seqlen: unknown key, did you mean seq_len?; text, "
                               "protocols, seq_len, stride, max_tokens, batch_size\n");
    expect_set("seq_len=5", "--set:1:1: --set: \"seq_len=5\" is not section.key=value; for example "
                            "ppl.seq_len=512\n");
    expect_set("include=a.yaml", "--set:1:1: --set: \"include=a.yaml\" is not section.key=value; "
                                 "for example ppl.seq_len=512\n");
    expect_set("run.out_dir=", "--set:1:13: run.out_dir: has no value; '\"\"' for an empty text\n");
    expect_set("modl.path=x", "--set:1:1: modl: unknown section, did you mean model?; include, "
                              "model, sweep, ppl, passkey, profile, drift, run\n");
    expect_set("ppl.stride=[1", "--set:1:14: yaml: did not find expected ',' or ']'; one YAML "
                                "document of mappings, lists and texts\n");
    expect_set("model.path=random:mamba2-130m", "");
    expect_set("sweep.scopes=only:*.in_proj", "");
    expect_set("model.device=null", "");
    write_file("c.yaml", "model: {threads: x}\n", 20);
    char faults[4000];
    ssmq_config config;
    const char *sets[] = {"ppl.stride=x", "sweep.order=up"};
    assert_int_equal(read_faults(sets, 2, faults, sizeof faults, &config), SSMQ_CONFIG);
    assert_string_equal(
        faults, "@:1:18: model.threads: \"x\" is not an integer; an integer from 0 to 4096\n"
                "--set:1:12: ppl.stride: \"x\" is not an integer; an integer from 0 to 16777216\n"
                "--set:1:13: sweep.order: \"up\" is unknown; cost | grid | shuffled\n");
    const char *files[1] = {"no/such.yaml"};
    ssmq_config_sources sources = {files, 1, NULL, 0};
    ssmq_str text;
    ssmq_err err = {0};
    ssmq_str_init(&text, 4000);
    assert_int_equal(ssmq_config_read(&config, &sources, &text, &err), SSMQ_CONFIG);
    assert_string_equal(ssmq_str_get(&text), "no/such.yaml:1:1: file: no/such.yaml: No such file "
                                             "or directory; a readable file of at most 1 MiB\n");
    assert_string_equal(err.text, "configuration: 1 fault");
    ssmq_str_free(&text);
}

static void read_ok(ssmq_config *config, const char *file) {
    ssmq_config_sources sources = {&file, 1, NULL, 0};
    ssmq_str faults;
    ssmq_err err = {0};
    ssmq_str_init(&faults, 1 << 20);
    ssmq_status status = ssmq_config_read(config, &sources, &faults, &err);
    assert_string_equal(ssmq_str_get(&faults), "");
    assert_int_equal(status, SSMQ_OK);
    ssmq_str_free(&faults);
}

/* Written, read and written again, a configuration has the same bytes, as text and in memory. */
static void expect_fixpoint(const char *file) {
    ssmq_config first;
    ssmq_config second;
    ssmq_str texts[2];
    ssmq_str difference;
    ssmq_err err = {0};
    ssmq_str_init(&texts[0], 1 << 20);
    ssmq_str_init(&texts[1], 1 << 20);
    ssmq_str_init(&difference, 1 << 20);
    read_ok(&first, file);
    assert_int_equal(ssmq_config_write(&first, false, &texts[0], &err), SSMQ_OK);
    write_file("again.yaml", ssmq_str_get(&texts[0]), texts[0].n_bytes);
    char again[128];
    (void)snprintf(again, sizeof again, "%s/again.yaml", folder);
    read_ok(&second, again);
    assert_int_equal(ssmq_config_write(&second, false, &texts[1], &err), SSMQ_OK);
    assert_string_equal(ssmq_str_get(&texts[0]), ssmq_str_get(&texts[1]));
    assert_int_equal(ssmq_config_diff(&first, &second, &difference, &err), SSMQ_OK);
    assert_string_equal(ssmq_str_get(&difference), "");
    ssmq_str_free(&texts[0]);
    ssmq_str_free(&texts[1]);
    ssmq_str_free(&difference);
}

static void every_file_of_configs(void **state) {
    (void)state;
    int n = 0;
    DIR *dir = opendir("configs");
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 5, ".yaml") != 0) continue;
        char file[300];
        (void)snprintf(file, sizeof file, "configs/%s", entry->d_name);
        expect_fixpoint(file);
        n++;
    }
    (void)closedir(dir);
    assert_true(n >= 8);
}

static void write_and_diff(void **state) {
    (void)state;
    ssmq_config a;
    ssmq_config b;
    ssmq_str text;
    ssmq_err err = {0};
    ssmq_str_init(&text, 1 << 20);
    static const char yaml[] =
        "sweep:\n  notes: 'quote \" backslash \\ \xC3\xA9 # : {'\n  precisions: [{w_bits: 4, "
        "dtype: fp32, state_dtype: int8, state_rounding: stochastic}, w8a8]\npasskey: {depth: "
        "[0.1, 0.30000000000000004, "
        "1e-7, -0]}\nrun: {run_id: x, time_limit_s: 0.5, fail_fast: true}\n";
    write_file("c.yaml", yaml, strlen(yaml));
    expect_fixpoint(path);
    read_ok(&a, path);
    b = a;
    ssmq_field_set(b.run.run_id, sizeof b.run.run_id, "y");
    assert_int_equal(ssmq_config_diff(&a, &b, &text, &err), SSMQ_OK);
    assert_string_equal(ssmq_str_get(&text), "");
    b.passkey.depth.n = 2;
    b.ppl.stride = 7;
    ssmq_field_set(b.model.path, sizeof b.model.path, "elsewhere");
    assert_int_equal(ssmq_config_diff(&a, &b, &text, &err), SSMQ_OK);
    assert_string_equal(ssmq_str_get(&text),
                        "model.path: \"configs/demo\" -> \"elsewhere\"\n"
                        "ppl.stride: 0 -> 7\n"
                        "passkey.depth: [0.1, 0.30000000000000004, 1e-07, 0] -> [0.1, "
                        "0.30000000000000004]\n");
    ssmq_str_clear(&text);
    assert_int_equal(ssmq_config_write(&a, true, &text, &err), SSMQ_OK);
    assert_null(strstr(ssmq_str_get(&text), "run:"));
    assert_non_null(strstr(ssmq_str_get(&text), "\n  depth: [0.1, 0.30000000000000004, 1e-07, 0]"));
    ssmq_str_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_is_valid),
        cmocka_unit_test(names),
        cmocka_unit_test(numbers),
        cmocka_unit_test(lists_and_texts),
        cmocka_unit_test(precisions_and_scopes),
        cmocka_unit_test(written_out_precisions),
        cmocka_unit_test(hostile_yaml),
        cmocka_unit_test(alias_bomb),
        cmocka_unit_test(sizes),
        cmocka_unit_test(cross_checks),
        cmocka_unit_test(includes),
        cmocka_unit_test(overrides),
        cmocka_unit_test(every_file_of_configs),
        cmocka_unit_test(write_and_diff),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
