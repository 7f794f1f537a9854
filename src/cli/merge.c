/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/plan.h"
#include "cli/provenance.h"
#include "journal/journal.h"
#include "store/store.h"

enum { LINE_MAX_BYTES = 1 << 20, FLUSH_BYTES = 1 << 18, FILE_MODE = 0666 };

/* Finished trials of a run, in the order of its plan, and the file that they go to as lines. */
typedef struct rows {
    const char *run_dir;
    const ssmq_replay *replay;
    ssmq_replay_reader *reader;
    const ssmq_journal_entry **entries;
    size_t n;
    int lines_fd;
    char lines_path[SSMQ_PATH_BYTES];
    ssmq_str lines; /* not yet written */
} rows;

static ssmq_status flush_lines(rows *all, ssmq_err *err) {
    SSMQ_TRY(ssmq_str_check(&all->lines, all->lines_path, err));
    SSMQ_TRY(ssmq_fd_write(all->lines_fd, ssmq_str_get(&all->lines), all->lines.n_bytes,
                           all->lines_path, err));
    ssmq_str_clear(&all->lines);
    return SSMQ_OK;
}

/* Row i for results.h5, and as a line of metrics.jsonl on the way: a record is read only once. */
static ssmq_status get_row(void *context, size_t i, ssmq_record *record, ssmq_samples *samples,
                           ssmq_err *err) {
    rows *all = context;
    const ssmq_str *json = NULL;
    SSMQ_TRY(ssmq_replay_reader_get(all->reader, all->entries[i], record, samples, &json, err));
    ssmq_str_add(&all->lines, ssmq_str_get(json), json->n_bytes);
    ssmq_str_add(&all->lines, "\n", 1);
    const bool is_full = all->lines.n_bytes >= FLUSH_BYTES || i + 1 == all->n;
    ssmq_status status = is_full ? flush_lines(all, err) : SSMQ_OK;
    if (status != SSMQ_OK) ssmq_samples_free(samples);
    return status;
}

static ssmq_status write_store(rows *all, size_t n_planned, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    ssmq_provenance provenance;
    SSMQ_TRY(ssmq_path_join(path, all->run_dir, "results.h5", err));
    SSMQ_TRY(ssmq_provenance_read(&provenance, all->run_dir, err));
    ssmq_store_rows store_rows = {
        .n_rows = all->n, .get = get_row, .context = all, .n_planned = n_planned};
    ssmq_status status =
        ssmq_store_write(path, &store_rows, provenance.facts, provenance.n_facts, err);
    ssmq_provenance_free(&provenance);
    return status;
}

/* Both files: the lines under another name until all of them are there. */
static ssmq_status write_files(rows *all, size_t n_planned, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    SSMQ_TRY(ssmq_path_join(path, all->run_dir, "metrics.jsonl", err));
    SSMQ_TRY(ssmq_path_join(all->lines_path, all->run_dir, "metrics.jsonl.tmp", err));
    all->lines_fd = open(all->lines_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (all->lines_fd < 0) {
        return SSMQ_FAIL(err, IO, "%s: cannot create: %s", all->lines_path, strerror(errno));
    }
    ssmq_str_init(&all->lines, FLUSH_BYTES + LINE_MAX_BYTES);
    ssmq_status status = write_store(all, n_planned, err);
    ssmq_str_free(&all->lines);
    if (close(all->lines_fd) != 0 && status == SSMQ_OK) {
        status = SSMQ_FAIL(err, IO, "%s: cannot close: %s", all->lines_path, strerror(errno));
    }
    if (status == SSMQ_OK) status = ssmq_file_commit(all->lines_path, path, err);
    if (status != SSMQ_OK) (void)unlink(all->lines_path);
    return status;
}

static void count(ssmq_run_counts *counts, const ssmq_journal_entry *entry) {
    counts->n_finished++;
    counts->by_status[entry->status]++;
    counts->n_failed += entry->status != SSMQ_OK && entry->status != SSMQ_SKIP;
}

ssmq_status ssmq_merge(const char *run_dir, ssmq_run_counts *counts, ssmq_err *err) {
    char plan_path[SSMQ_PATH_BYTES];
    char(*ids)[SSMQ_SHA256_HEX_BYTES] = NULL;
    ssmq_replay replay = {0};
    rows all = {.run_dir = run_dir, .replay = &replay};
    ssmq_status status = SSMQ_OK;
    memset(counts, 0, sizeof *counts);
    SSMQ_TRY(ssmq_path_join(plan_path, run_dir, "plan.csv", err));
    if (!ssmq_path_exists(plan_path)) {
        return SSMQ_FAIL(err, CONFIG, "%s: not a run folder (it has no plan.csv)", run_dir);
    }
    SSMQ_TRY(ssmq_plan_read(plan_path, &ids, &counts->n_planned, err));
    SSMQ_TRY_OR(ssmq_replay_init(&replay, run_dir, err), free_ids);
    SSMQ_TRY_OR(ssmq_calloc(&all.entries, counts->n_planned, sizeof(void *), err), free_replay);
    for (size_t i = 0; i < counts->n_planned; i++) {
        const ssmq_journal_entry *entry = ssmq_replay_find(&replay, ids[i]);
        if (entry == NULL || entry->status == SSMQ_N_STATUSES) continue;
        all.entries[all.n++] = entry;
        count(counts, entry);
    }
    SSMQ_TRY_OR(ssmq_replay_reader_open(&all.reader, &replay, run_dir, err), free_entries);
    status = write_files(&all, counts->n_planned, err);
    ssmq_replay_reader_close(all.reader);
free_entries:
    ssmq_free((void *)all.entries);
free_replay:
    ssmq_replay_free(&replay);
free_ids:
    ssmq_free(ids);
    return status;
}

static const ssmq_option options[] = {
    {.name = "help", .letter = 'h', .help = "this text"},
};

ssmq_status ssmq_command_merge(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    const char *run_dir = NULL;
    enum { N_OPTIONS = sizeof options / sizeof options[0] };
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        (void)printf("usage: ssmq merge RUN\n\nRebuilds RUN/metrics.jsonl and RUN/results.h5 from "
                     "the journals.\n\n");
        ssmq_args_print_help(options, N_OPTIONS);
        return SSMQ_OK;
    }
    SSMQ_TRY(ssmq_args_positional(&args, "RUN", &run_dir, err));
    ssmq_run_counts counts;
    SSMQ_TRY(ssmq_merge(run_dir, &counts, err));
    (void)printf("%s: %zu of %zu trials finished, %zu failed\n", run_dir, counts.n_finished,
                 counts.n_planned, counts.n_failed);
    return SSMQ_OK;
}
