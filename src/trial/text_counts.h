/* SPDX-License-Identifier: Apache-2.0 */
/* trial/text_counts.h - words and bytes of a text, which word and byte perplexity divide by. */
#ifndef SSMQ_TRIAL_TEXT_COUNTS_H
#define SSMQ_TRIAL_TEXT_COUNTS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_text_counts {
    /* As lm-evaluation-harness counts them, len(re.split(r"\s+", text)) of Python: one more than
     * there are runs of Unicode white space, also where a run begins or ends the text. */
    int64_t n_words;
    int64_t n_bytes; /* of its UTF-8 */
} ssmq_text_counts;

/* Of valid UTF-8. */
ssmq_text_counts ssmq_text_count(const char *text, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
