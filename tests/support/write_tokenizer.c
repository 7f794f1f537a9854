/* SPDX-License-Identifier: Apache-2.0 */
#include "support/write_tokenizer.h"

#include <stdbool.h>

#define TOKEN(id, content, flags) "{\"id\":" id ",\"content\":\"" content "\"," flags "}"
#define RAW                                                                                        \
    "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":"    \
    "true"
#define NORMALIZED                                                                                 \
    "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":true,\"special\":"     \
    "false"
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}"

struct tokenizer_parts tokenizer_defaults(struct tokenizer_parts parts) {
    struct tokenizer_parts all = {
        .root_extra = "\"version\":\"1.0\",\"truncation\":null,\"padding\":null,",
        .added_tokens =
            "[" TOKEN("259", "<|end|>", RAW) "," TOKEN("260", "  ", NORMALIZED) "," TOKEN(
                "261", "   ", NORMALIZED) "," TOKEN("262", "e\\u0301",
                                                    NORMALIZED) "," TOKEN("263", "<|endless|>",
                                                                          RAW) "]",
        .normalizer = "{\"type\":\"NFC\"}",
        .pre_tokenizer = BYTE_LEVEL,
        .post_processor = BYTE_LEVEL,
        .decoder = BYTE_LEVEL,
        .model_extra = "\"dropout\":null,\"unk_token\":null,\"fuse_unk\":false,",
        .vocab_extra = ",\"ab\":256,\"abc\":257,\"\\u0120\\u0120\":258,\"<|end|>\":259",
        .merges = "[\"a b\",[\"ab\",\"c\"],\"\\u0120 \\u0120\"]",
        .skip_byte_p1 = parts.skip_byte_p1,
    };
#define TAKE(part)                                                                                 \
    if (parts.part != NULL) all.part = parts.part
    TAKE(root_extra);
    TAKE(added_tokens);
    TAKE(normalizer);
    TAKE(pre_tokenizer);
    TAKE(post_processor);
    TAKE(decoder);
    TAKE(model_extra);
    TAKE(vocab_extra);
    TAKE(merges);
#undef TAKE
    return all;
}

/* The symbols of GPT-2's table, written down anew: printable bytes stand for themselves. */
static void write_byte_symbols(ssmq_str *out, int skipped) {
    unsigned other = 0x100;
    bool is_first = true;
    for (unsigned b = 0; b < 256; b++) {
        bool is_kept = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b < 0xAD) || b > 0xAD;
        unsigned point = is_kept ? b : other++;
        if ((int)b == skipped) continue;
        ssmq_str_addf(out, "%s\"\\u%04x\":%u", is_first ? "" : ",", point, b);
        is_first = false;
    }
}

void write_tokenizer(ssmq_str *out, const struct tokenizer_parts *parts) {
    struct tokenizer_parts p = tokenizer_defaults(*parts);
    ssmq_str_addf(out, "{%s\"added_tokens\":%s,\"normalizer\":%s,\"pre_tokenizer\":%s,",
                  p.root_extra, p.added_tokens, p.normalizer, p.pre_tokenizer);
    ssmq_str_addf(out, "\"post_processor\":%s,\"decoder\":%s,\"model\":{%s\"type\":\"BPE\",",
                  p.post_processor, p.decoder, p.model_extra);
    ssmq_str_addf(out, "\"vocab\":{");
    write_byte_symbols(out, p.skip_byte_p1 - 1);
    ssmq_str_addf(out, "%s},\"merges\":%s}}\n", p.vocab_extra, p.merges);
}
