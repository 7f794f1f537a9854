/* SPDX-License-Identifier: Apache-2.0 */
/* Journals that were written elsewhere, kept beside those of this folder. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "journal/journal.h"

enum {
    /* A copy's number is nine digits: three of its origin, six of its number there. */
    FIRST_ORIGIN = 100,
    N_ORIGINS = 900,
    N_NUMBERS = 1000000
};
static const size_t max_journal_bytes = (size_t)1 << 40;

static bool begins_with(const char *text, size_t n_bytes, const char *head, size_t n_head) {
    return n_head <= n_bytes && memcmp(text, head, n_head) == 0;
}

/* Whether path may hold this copy: nothing is there, or another state of the same journal.
 * *is_newer: the copy has lines that path has not. */
static ssmq_status compare(const char *path, const char *bytes, size_t n_bytes, bool *is_place,
                           bool *is_newer, ssmq_err *err) {
    char *old = NULL;
    size_t n_old = 0;
    *is_place = true;
    *is_newer = true;
    if (!ssmq_path_exists(path)) return SSMQ_OK;
    SSMQ_TRY(ssmq_file_read(&old, &n_old, path, max_journal_bytes, err));
    *is_newer = n_bytes > n_old && begins_with(bytes, n_bytes, old, n_old);
    *is_place = *is_newer || begins_with(old, n_old, bytes, n_bytes);
    ssmq_free(old);
    return SSMQ_OK;
}

ssmq_status ssmq_journal_read(char **out, size_t *n_bytes, const char *run_dir, const char *name,
                              ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    SSMQ_TRY(ssmq_path_join(path, run_dir, name, err));
    return ssmq_file_read(out, n_bytes, path, max_journal_bytes, err);
}

ssmq_status ssmq_journal_keep_copy(const char *run_dir, const char *origin, int64_t number,
                                   const char *bytes, size_t n_bytes, bool *is_news,
                                   ssmq_err *err) {
    const uint32_t first = ssmq_crc32c(0, origin, strlen(origin));
    for (uint32_t i = 0; i < N_ORIGINS; i++) {
        char name[SSMQ_JOURNAL_NAME_BYTES];
        char path[SSMQ_PATH_BYTES];
        bool is_place = false;
        (void)snprintf(name, sizeof name, "journal.%u%06lld.jsonl",
                       (unsigned)(FIRST_ORIGIN + (first + i) % N_ORIGINS),
                       (long long)(number % N_NUMBERS));
        SSMQ_TRY(ssmq_path_join(path, run_dir, name, err));
        SSMQ_TRY(compare(path, bytes, n_bytes, &is_place, is_news, err));
        if (!is_place) continue;
        return *is_news ? ssmq_file_replace(path, bytes, n_bytes, err) : SSMQ_OK;
    }
    return SSMQ_FAIL(err, IO, "%s: no place for a journal from %s", run_dir, origin);
}
