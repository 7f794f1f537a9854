/* SPDX-License-Identifier: Apache-2.0 */
/* trial/text_counts: against len(re.split(r"\s+", text)) of Python 3.11, by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "trial/text_counts.h"

static void words_are_pythons(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t n_words;
    } cases[] = {
        {"", 1},
        {"word", 1},
        {"two words", 2},
        {" \t\n both ends \r\n", 4},
        {"   ", 2},
        {"a\x1c\x1d\x1e\x1f"
         "b\x0b\x0c"
         "c",
         3},
        {"no\x08 control\x7f", 2},
        /* U+0085, U+00A0, U+1680, U+2000, U+200A, U+2028, U+202F, U+205F, U+3000 */
        {"a\xc2\x85"
         "b\xc2\xa0"
         "c\xe1\x9a\x80"
         "d\xe2\x80\x80"
         "e\xe2\x80\x8a"
         "f\xe2\x80\xa8"
         "g\xe2\x80\xaf"
         "h\xe2\x81\x9f"
         "i\xe3\x80\x80"
         "j",
         10},
        /* U+200B and U+FEFF have no width and are no white space; nor is U+180E. */
        {"a\xe2\x80\x8b"
         "b\xef\xbb\xbf"
         "c\xe1\xa0\x8e"
         "d",
         1},
        {"\xc3\xa4\xc3\xb6 \xf0\x9f\x98\x80\xe2\x80\x83\xf0\x9f\x98\x80", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t n_bytes = strlen(cases[i].text);
        const ssmq_text_counts counts = ssmq_text_count(cases[i].text, n_bytes);
        assert_int_equal(counts.n_words, cases[i].n_words);
        assert_int_equal(counts.n_bytes, n_bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(words_are_pythons)};
    return cmocka_run_group_tests_name("text_counts", tests, NULL, NULL);
}
