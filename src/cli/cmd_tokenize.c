/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cmd_tokenize.c - ssmq tokenize: text to ids, one a line, or ids back to text. */
#include <stdio.h>

#include "base/mem.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/token_input.h"

static const ssmq_option options[] = {
    {"model", 'm', "DIR", false, "folder with a tokenizer.json; no checkpoint is needed"},
    {"decode", 0, NULL, false, "ids, separated by white space, to text"},
    {"help", 'h', NULL, false, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

static const size_t max_text_bytes = (size_t)1 << 32;

static ssmq_status encode(const ssmq_tokenizer *tokenizer, const char *text, size_t n_bytes,
                          const char *name, ssmq_err *err) {
    ssmq_ids ids = {0};
    ssmq_status status = ssmq_input_encode(text, n_bytes, name, tokenizer, &ids, err);
    for (size_t i = 0; status == SSMQ_OK && i < ids.n; i++) (void)printf("%d\n", ids.ids[i]);
    ssmq_ids_free(&ids);
    return status;
}

static ssmq_status decode(const ssmq_tokenizer *tokenizer, const char *text, size_t n_bytes,
                          const char *name, ssmq_err *err) {
    const int64_t any_id = (int64_t)INT32_MAX + 1;
    ssmq_ids ids = {0};
    ssmq_str out;
    ssmq_str_init(&out, max_text_bytes);
    ssmq_status status = ssmq_input_parse_ids(text, n_bytes, name, any_id, &ids, err);
    if (status == SSMQ_OK) status = ssmq_tokenizer_decode(tokenizer, ids.ids, ids.n, &out, err);
    if (status == SSMQ_OK) (void)fwrite(ssmq_str_get(&out), 1, out.n_bytes, stdout);
    ssmq_str_free(&out);
    ssmq_ids_free(&ids);
    return status;
}

static ssmq_status tokenize(const char *folder, const char *path, bool is_decoding, ssmq_err *err) {
    ssmq_tokenizer *tokenizer = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    const char *name = ssmq_input_name(path);
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY(ssmq_tokenizer_open(&tokenizer, folder, err));
    SSMQ_TRY_OR(ssmq_input_read(&text, &n_bytes, path, err), close_tokenizer);
    status = is_decoding ? decode(tokenizer, text, n_bytes, name, err)
                         : encode(tokenizer, text, n_bytes, name, err);
    ssmq_free(text);
close_tokenizer:
    ssmq_tokenizer_close(tokenizer);
    return status;
}

ssmq_status ssmq_command_tokenize(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    const char *paths[SSMQ_MAX_ARGS];
    const char *path = NULL;
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        (void)printf("usage: ssmq tokenize --model DIR [--decode] [FILE]\n\n"
                     "The token ids of a UTF-8 text, one a line; no id is added at either end. "
                     "With --decode\nthe text of ids, byte for byte; ids without text add "
                     "nothing. Without FILE, or with -,\nstandard input is read.\n\n");
        ssmq_args_print_help(options, N_OPTIONS);
        return SSMQ_OK;
    }
    const char *folder = ssmq_args_get(&args, "model");
    if (folder == NULL) return SSMQ_FAIL(err, CONFIG, "--model is missing");
    if (ssmq_args_all(&args, NULL, paths) > 0) {
        SSMQ_TRY(ssmq_args_positional(&args, "FILE", &path, err));
    }
    return tokenize(folder, path, ssmq_args_get(&args, "decode") != NULL, err);
}
