/* SPDX-License-Identifier: Apache-2.0 */
/* Batches of rows change hands between reader and taker: while one is taken others are read.
 * Together they hold more rows than are packed at a time, so that the reader goes on meanwhile. A
 * failure of the reader is the failure of its batch. */
#include "cli/rows_ahead.h"

#include <pthread.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

enum { N_BATCHES = 16, BATCH_ROWS = 64, LINES_BYTES = 1 << 30 };

typedef struct batch {
    bool is_full; /* the taker's; else the reader's */
    size_t n, n_taken;
    ssmq_status status; /* of the row after the last */
    ssmq_err err;
    ssmq_record records[BATCH_ROWS];
    ssmq_samples samples[BATCH_ROWS];
} batch;

struct ssmq_rows_ahead {
    ssmq_rows_ahead_setup setup;
    ssmq_replay_reader *reader;
    ssmq_str lines;
    size_t n_read, n_taken;
    bool is_closing;
    bool has_thread;
    pthread_t thread;
    ssmq_status status; /* of the thread, when it has ended */
    ssmq_err err;
    pthread_mutex_t mutex; /* of is_full and is_closing */
    pthread_cond_t changed;
    batch batches[N_BATCHES];
};

static ssmq_status read_rows(ssmq_rows_ahead *rows, batch *b) {
    const ssmq_rows_ahead_setup *setup = &rows->setup;
    b->n = b->n_taken = 0;
    ssmq_str_clear(&rows->lines);
    while (b->n < BATCH_ROWS && rows->n_read < setup->n) {
        const ssmq_str *json = NULL;
        SSMQ_TRY(ssmq_replay_reader_get(rows->reader, setup->entries[rows->n_read],
                                        &b->records[b->n], &b->samples[b->n], &json, &b->err));
        ssmq_str_add(&rows->lines, ssmq_str_get(json), json->n_bytes);
        ssmq_str_add(&rows->lines, "\n", 1);
        b->n++;
        rows->n_read++;
    }
    SSMQ_TRY(ssmq_str_check(&rows->lines, setup->lines_path, &b->err));
    return ssmq_fd_write(setup->lines_fd, ssmq_str_get(&rows->lines), rows->lines.n_bytes,
                         setup->lines_path, &b->err);
}

/* Waits until the batch is as wished; false if the taker has gone. */
static bool wait_for(ssmq_rows_ahead *rows, const batch *b, bool is_full) {
    (void)pthread_mutex_lock(&rows->mutex);
    while (b->is_full != is_full && !rows->is_closing) {
        (void)pthread_cond_wait(&rows->changed, &rows->mutex);
    }
    const bool goes_on = !rows->is_closing;
    (void)pthread_mutex_unlock(&rows->mutex);
    return goes_on;
}

static void hand_over(ssmq_rows_ahead *rows, batch *b, bool is_full) {
    (void)pthread_mutex_lock(&rows->mutex);
    b->is_full = is_full;
    (void)pthread_cond_signal(&rows->changed);
    (void)pthread_mutex_unlock(&rows->mutex);
}

static ssmq_status read_all(ssmq_rows_ahead *rows) {
    for (size_t i = 0; rows->n_read < rows->setup.n; i = (i + 1) % N_BATCHES) {
        batch *b = &rows->batches[i];
        if (!wait_for(rows, b, false)) return SSMQ_FAIL(&rows->err, INTERNAL, "rows were left");
        b->status = read_rows(rows, b);
        if (b->status != SSMQ_OK) rows->err = b->err;
        const ssmq_status status = b->status;
        hand_over(rows, b, true);
        SSMQ_TRY(status);
    }
    /* While the last rows are still being taken. */
    return ssmq_file_commit(rows->setup.lines_path, rows->setup.final_path, &rows->err);
}

static void *run_thread(void *context) {
    ssmq_rows_ahead *rows = context;
    rows->status = read_all(rows);
    return NULL;
}

ssmq_status ssmq_rows_ahead_open(ssmq_rows_ahead **out, const ssmq_rows_ahead_setup *setup,
                                 ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    ssmq_rows_ahead *rows = NULL;
    *out = NULL;
    SSMQ_TRY(ssmq_calloc(&rows, 1, sizeof *rows, err));
    rows->setup = *setup;
    (void)pthread_mutex_init(&rows->mutex, NULL);
    (void)pthread_cond_init(&rows->changed, NULL);
    ssmq_str_init(&rows->lines, LINES_BYTES);
    SSMQ_TRY_OR(ssmq_replay_reader_open(&rows->reader, setup->replay, setup->run_dir, err), failed);
    if (pthread_create(&rows->thread, NULL, run_thread, rows) != 0) {
        status = SSMQ_FAIL(err, NOMEM, "cannot start a thread");
        goto failed;
    }
    rows->has_thread = true;
    *out = rows;
    return SSMQ_OK;
failed:
    ssmq_rows_ahead_close(rows);
    return status;
}

void ssmq_rows_ahead_close(ssmq_rows_ahead *rows) {
    if (rows == NULL) return;
    (void)pthread_mutex_lock(&rows->mutex);
    rows->is_closing = true;
    (void)pthread_cond_signal(&rows->changed);
    (void)pthread_mutex_unlock(&rows->mutex);
    if (rows->has_thread) (void)pthread_join(rows->thread, NULL);
    for (int i = 0; i < N_BATCHES; i++) {
        batch *b = &rows->batches[i];
        for (size_t k = b->n_taken; k < b->n; k++) ssmq_samples_free(&b->samples[k]);
    }
    ssmq_replay_reader_close(rows->reader);
    ssmq_str_free(&rows->lines);
    (void)pthread_cond_destroy(&rows->changed);
    (void)pthread_mutex_destroy(&rows->mutex);
    ssmq_free(rows);
}

ssmq_status ssmq_rows_ahead_next(ssmq_rows_ahead *rows, ssmq_record *record, ssmq_samples *samples,
                                 ssmq_err *err) {
    SSMQ_CHECK(rows->n_taken < rows->setup.n, err);
    batch *b = &rows->batches[rows->n_taken / BATCH_ROWS % N_BATCHES];
    (void)wait_for(rows, b, true);
    if (b->status != SSMQ_OK) {
        *err = b->err;
        return b->status;
    }
    *record = b->records[b->n_taken];
    *samples = b->samples[b->n_taken++];
    rows->n_taken++;
    if (b->n_taken == b->n) hand_over(rows, b, false);
    return SSMQ_OK;
}

ssmq_status ssmq_rows_ahead_finish(ssmq_rows_ahead *rows, ssmq_err *err) {
    (void)pthread_join(rows->thread, NULL);
    rows->has_thread = false;
    if (rows->status != SSMQ_OK) *err = rows->err;
    return rows->status;
}
