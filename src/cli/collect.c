/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/collect.h"

#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "journal/journal.h"

enum { ROOT = 0, HOST_BYTES = 256 };

/* What precedes a journal's bytes on the way; n_bytes < 0: no more of them. */
typedef struct announcement {
    char host[HOST_BYTES];
    int64_t number;
    int64_t n_bytes;
} announcement;

static ssmq_status keep(const char *run_dir, const announcement *what, const char *bytes,
                        ssmq_err *err) {
    bool is_news = false;
    SSMQ_TRY(ssmq_journal_keep_copy(run_dir, what->host, what->number, bytes, (size_t)what->n_bytes,
                                    &is_news, err));
    if (is_news) {
        ssmq_log(SSMQ_LOG_INFO, "journal %lld of %s is here, %lld bytes", (long long)what->number,
                 what->host, (long long)what->n_bytes);
    }
    return SSMQ_OK;
}

/* Takes what a sender sends to its end, also after a failure: the sender waits for that. */
static ssmq_status receive_all(ssmq_comm *comm, int from_rank, const char *run_dir, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    for (;;) {
        announcement what;
        SSMQ_TRY(ssmq_comm_receive_bytes(comm, from_rank, &what, sizeof what, err));
        if (what.n_bytes < 0) return status;
        char *bytes = NULL;
        /* A sender whose bytes nobody takes waits for ever; nothing is lost, it keeps its journal.
         */
        if (ssmq_calloc(&bytes, (size_t)what.n_bytes + 1, 1, err) != SSMQ_OK) {
            ssmq_panic(err->file, err->line, err->text);
        }
        ssmq_status received = ssmq_comm_receive_bytes(comm, from_rank, bytes, what.n_bytes, err);
        if (received == SSMQ_OK && status == SSMQ_OK) status = keep(run_dir, &what, bytes, err);
        ssmq_free(bytes);
        SSMQ_TRY(received);
    }
}

static ssmq_status send_one(ssmq_comm *comm, const char *run_dir, const char *name,
                            announcement *what, ssmq_err *err) {
    char *bytes = NULL;
    size_t n_bytes = 0;
    SSMQ_TRY(ssmq_journal_read(&bytes, &n_bytes, run_dir, name, err));
    what->number = ssmq_journal_number(name);
    what->n_bytes = (int64_t)n_bytes;
    ssmq_status status = ssmq_comm_send_bytes(comm, ROOT, what, sizeof *what, err);
    if (status == SSMQ_OK) {
        status = ssmq_comm_send_bytes(comm, ROOT, bytes, what->n_bytes, err);
    }
    ssmq_free(bytes);
    return status;
}

static ssmq_status send_all(ssmq_comm *comm, const char *run_dir, ssmq_err *err) {
    char(*names)[SSMQ_JOURNAL_NAME_BYTES] = NULL;
    size_t n_names = 0;
    announcement what = {.n_bytes = -1};
    (void)gethostname(what.host, sizeof what.host - 1);
    ssmq_status status = ssmq_journal_list(&names, &n_names, run_dir, err);
    for (size_t i = 0; i < n_names && status == SSMQ_OK; i++) {
        status = send_one(comm, run_dir, names[i], &what, err);
    }
    ssmq_free(names);
    what.n_bytes = -1;
    ssmq_status ended = ssmq_comm_send_bytes(comm, ROOT, &what, sizeof what, err);
    return status != SSMQ_OK ? status : ended;
}

static ssmq_status exchange(ssmq_comm *comm, const char *run_dir, const int *senders,
                            ssmq_err *err) {
    const int rank = ssmq_comm_rank(comm);
    if (rank != ROOT) return senders[rank] ? send_all(comm, run_dir, err) : SSMQ_OK;
    ssmq_status status = SSMQ_OK;
    for (int r = 0; r < ssmq_comm_size(comm); r++) {
        ssmq_err later = {0};
        if (!senders[r]) continue;
        ssmq_status received = receive_all(comm, r, run_dir, status == SSMQ_OK ? err : &later);
        if (status == SSMQ_OK) status = received;
    }
    return status;
}

ssmq_status ssmq_collect(ssmq_comm *comm, const char *run_dir, bool is_apart, ssmq_err *err) {
    const int is_sender = is_apart && ssmq_comm_local_rank(comm) == 0;
    int *senders = NULL;
    ssmq_status status = ssmq_calloc(&senders, (size_t)ssmq_comm_size(comm), sizeof *senders, err);
    status = ssmq_comm_agree(comm, status, err);
    if (status == SSMQ_OK) {
        status = ssmq_comm_gather(comm, &is_sender, senders, sizeof is_sender, err);
        if (status == SSMQ_OK) status = exchange(comm, run_dir, senders, err);
        status = ssmq_comm_agree(comm, status, err);
    }
    ssmq_free(senders);
    return status;
}
