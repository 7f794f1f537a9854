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
#include "cli/rows_ahead.h"
#include "cli/unite.h"
#include "journal/journal.h"
#include "store/store.h"

enum { FILE_MODE = 0666 };

/* Finished trials of a run, in the order of its plan. */
typedef struct rows {
    const char *run_dir;
    const ssmq_replay *replay;
    const ssmq_journal_entry **entries;
    size_t n;
    ssmq_rows_ahead *ahead;
} rows;

static ssmq_status get_row(void *context, size_t i, ssmq_record *record, ssmq_samples *samples,
                           ssmq_err *err) {
    rows *all = context;
    (void)i;
    return ssmq_rows_ahead_next(all->ahead, record, samples, err);
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

static ssmq_status write_rows(rows *all, size_t n_planned, const ssmq_rows_ahead_setup *setup,
                              ssmq_err *err) {
    SSMQ_TRY(ssmq_rows_ahead_open(&all->ahead, setup, err));
    ssmq_status status = write_store(all, n_planned, err);
    if (status == SSMQ_OK) status = ssmq_rows_ahead_finish(all->ahead, err);
    ssmq_rows_ahead_close(all->ahead);
    return status;
}

/* Both files in one pass: records become lines on their way to results.h5. */
static ssmq_status write_files(rows *all, size_t n_planned, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    char tmp_path[SSMQ_PATH_BYTES];
    SSMQ_TRY(ssmq_path_join(path, all->run_dir, "metrics.jsonl", err));
    SSMQ_TRY(ssmq_path_join(tmp_path, all->run_dir, "metrics.jsonl.tmp", err));
    int fd = open(tmp_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (fd < 0) return SSMQ_FAIL(err, IO, "%s: cannot create: %s", tmp_path, strerror(errno));
    const ssmq_rows_ahead_setup setup = {
        .replay = all->replay,
        .run_dir = all->run_dir,
        .entries = all->entries,
        .n = all->n,
        .lines_fd = fd,
        .lines_path = tmp_path,
        .final_path = path,
    };
    ssmq_status status = write_rows(all, n_planned, &setup, err);
    /* All of it has been synced, or the status says otherwise. */
    (void)close(fd);
    if (status != SSMQ_OK) (void)unlink(tmp_path);
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
    /* Memory that the files are written in. */
    ssmq_free(ids);
    ids = NULL;
    status = write_files(&all, counts->n_planned, err);
    ssmq_free((void *)all.entries);
free_replay:
    ssmq_replay_free(&replay);
free_ids:
    ssmq_free(ids);
    return status;
}

static const ssmq_option options[] = {
    {.name = "into",
     .value_name = "DIR",
     .help = "unite run folders of one grid in this one first"},
    {.name = "help", .letter = 'h', .help = "this text"},
};

ssmq_status ssmq_command_merge(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    const char *runs[SSMQ_MAX_ARGS];
    enum { N_OPTIONS = sizeof options / sizeof options[0] };
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        (void)printf("usage: ssmq merge RUN | ssmq merge --into DIR RUN...\n\n"
                     "Rebuilds metrics.jsonl and results.h5 of RUN from its journals; or of DIR, "
                     "after copying to it\nthe journals of the RUNs: shards of one grid, or what "
                     "hosts without a common file system did.\nThey must agree where they have "
                     "the same trials. DIR can be resumed.\n\n");
        ssmq_args_print_help(options, N_OPTIONS);
        return SSMQ_OK;
    }
    const char *run_dir = ssmq_args_get(&args, "into");
    const size_t n_runs = ssmq_args_all(&args, NULL, runs);
    if (run_dir == NULL) {
        SSMQ_TRY(ssmq_args_positional(&args, "RUN", &run_dir, err));
    } else if (n_runs == 0) {
        return SSMQ_FAIL(err, CONFIG, "RUN is missing: what goes into %s?", run_dir);
    } else {
        SSMQ_TRY(ssmq_unite(run_dir, runs, n_runs, err));
    }
    ssmq_run_counts counts;
    SSMQ_TRY(ssmq_merge(run_dir, &counts, err));
    (void)printf("%s: %zu of %zu trials finished, %zu failed\n", run_dir, counts.n_finished,
                 counts.n_planned, counts.n_failed);
    return SSMQ_OK;
}
