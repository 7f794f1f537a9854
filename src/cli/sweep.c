/* SPDX-License-Identifier: Apache-2.0 */
/* cli/sweep.c - ssmq-sweep from its arguments to its exit code. Every phase ends in an agreement
 * of all ranks, so that all of them go on or all of them leave with the same code. Nothing is
 * written before the configuration and everything it names have been checked on every rank. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cores.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/collect.h"
#include "cli/coordinate.h"
#include "cli/inputs.h"
#include "cli/merge.h"
#include "cli/plan.h"
#include "cli/progress.h"
#include "cli/provenance.h"
#include "cli/resume.h"
#include "cli/run_folder.h"
#include "cli/shard.h"
#include "cli/sweep_args.h"
#include "cli/version.h"
#include "cli/weights.h"
#include "cli/worker.h"
#include "comm/comm.h"

enum {
    ROOT = 0,
    HOST_BYTES = 256,
    /* A killed sweep's ranks may hold their journals for a moment longer than its root its lock. */
    JOURNAL_TRIES = 50,
    /* Linux' NFS client takes a folder's listing for good for up to a minute. */
    MERGE_TRIES = 90
};
static const int64_t journal_retry_ns = 100000000;
static const int64_t merge_retry_ns = 1000000000;
static const double ns_per_s = 1e9;
static const int64_t bytes_per_mb = 1000000;

/* Everything of one rank. */
typedef struct sweep {
    ssmq_comm *comm;
    ssmq_args args;
    ssmq_session session;
    ssmq_config config;
    ssmq_loaded loaded;
    ssmq_grid grid;
    ssmq_grid selected;     /* what --only and --shard keep of it; without, the same trials */
    ssmq_run_folder folder; /* root */
    char run_dir[SSMQ_PATH_BYTES];
    bool is_apart; /* run_dir is a folder of this rank's host, and not the root's */
    ssmq_worker_context worker;
    char algorithms_path[SSMQ_PATH_BYTES]; /* in worker.options */
    ssmq_todo todo;                        /* root */
    ssmq_mailbox *mailbox;                 /* root */
    ssmq_coordinator *coordinator;         /* root */
    ssmq_coordinate_result result;
    ssmq_err worker_err;
    int64_t start_ns;
} sweep;

static volatile sig_atomic_t g_stop_signal;

static void note_signal(int signal_number) {
    g_stop_signal = signal_number;
}

/* The journal that a fatal signal is noted in. */
static const ssmq_journal *g_journal;

static void note_crash(int signal_number) {
    if (g_journal != NULL) ssmq_journal_note_crash(g_journal);
    /* SA_RESETHAND has put the default action back. */
    (void)raise(signal_number);
}

static void catch_crashes(const ssmq_journal *journal) {
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_handler = journal != NULL ? note_crash : SIG_DFL,
                               .sa_flags = (int)SA_RESETHAND};
    g_journal = journal;
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof crashes / sizeof crashes[0]; i++) {
        (void)sigaction(crashes[i], &action, NULL);
    }
}

static void catch_signals(void) {
    static const int stops[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
    struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
        (void)sigaction(stops[i], &action, NULL);
    }
    /* A file size limit is then an error of write(2), which is reported, not a signal. */
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGXFSZ, &action, NULL);
}

static bool is_root(const sweep *s) {
    return ssmq_comm_rank(s->comm) == ROOT;
}

static ssmq_status read_config(sweep *s, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    if (is_root(s)) status = ssmq_config_from_args(&s->config, &s->args, err);
    SSMQ_TRY(ssmq_comm_agree(s->comm, status, err));
    return ssmq_comm_broadcast(s->comm, &s->config, sizeof s->config, err);
}

/* The same paths may be other files on another host: what the root has read is what counts. */
static ssmq_status compare_inputs(sweep *s, ssmq_err *err) {
    const ssmq_inputs *mine = &s->loaded.inputs;
    ssmq_inputs of_root = *mine;
    char host[HOST_BYTES] = "";
    SSMQ_TRY(ssmq_comm_broadcast(s->comm, &of_root, sizeof of_root, err));
    const struct {
        const char *name, *mine, *of_root;
    } texts[] = {
        {"model.path", mine->model_sha256, of_root.model_sha256},
        {"tokenizer.json", mine->tokenizer_sha256, of_root.tokenizer_sha256},
        {"ppl.text", mine->text_sha256, of_root.text_sha256},
        {"passkey.filler_text", mine->filler_sha256, of_root.filler_sha256},
        {"model.device", mine->device, of_root.device},
    };
    ssmq_status status = SSMQ_OK;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && status == SSMQ_OK; i++) {
        if (strcmp(texts[i].mine, texts[i].of_root) == 0) continue;
        (void)gethostname(host, sizeof host - 1);
        status = SSMQ_FAIL(err, CONFIG, "%s: rank %d on %s has %s, rank 0 has %s", texts[i].name,
                           ssmq_comm_rank(s->comm), host, texts[i].mine, texts[i].of_root);
    }
    return ssmq_comm_agree(s->comm, status, err);
}

/* What --only and --shard leave of the grid. */
static ssmq_status select_part(sweep *s, ssmq_err *err) {
    const char *only = ssmq_args_get(&s->args, "only");
    const char *shard_text = ssmq_args_get(&s->args, "shard");
    ssmq_shard shard = {0};
    s->selected = s->grid;
    if (only == NULL && shard_text == NULL) return SSMQ_OK;
    if (shard_text != NULL) SSMQ_TRY(ssmq_shard_read(&shard, shard_text, err));
    SSMQ_TRY(ssmq_grid_init(&s->selected, &s->config, &s->loaded.inputs, err));
    if (only != NULL) SSMQ_TRY(ssmq_grid_only(&s->selected, "--only", only, err));
    return shard_text != NULL ? ssmq_shard_select(&s->selected, shard, err) : SSMQ_OK;
}

static ssmq_status open_inputs(sweep *s, ssmq_err *err) {
    const ssmq_engine_api *engine_api = NULL;
    ssmq_model *model = NULL;
    ssmq_status status = ssmq_device_find(&engine_api, s->config.model.device, true, err);
    SSMQ_TRY(ssmq_comm_agree(s->comm, status, err));
    SSMQ_TRY(ssmq_weights_open(&model, s->comm, s->config.model.path, &s->session.weights, err));
    status = ssmq_loaded_open_with(&s->loaded, &s->config, engine_api, model, err);
    SSMQ_TRY(ssmq_comm_agree(s->comm, status, err));
    SSMQ_TRY(compare_inputs(s, err));
    status = ssmq_grid_init(&s->grid, &s->config, &s->loaded.inputs, err);
    if (status == SSMQ_OK) status = select_part(s, err);
    return ssmq_comm_agree(s->comm, status, err);
}

static ssmq_status print_plan(const sweep *s, ssmq_err *err) {
    ssmq_str plan;
    ssmq_str_init(&plan, SSMQ_MAX_PLAN_BYTES);
    ssmq_status status = ssmq_plan_write(&s->selected, &s->loaded, &plan, err);
    if (status == SSMQ_OK) (void)fputs(ssmq_str_get(&plan), stdout);
    ssmq_str_free(&plan);
    return status;
}

static ssmq_status dry_run(sweep *s, ssmq_err *err) {
    ssmq_status status = is_root(s) ? print_plan(s, err) : SSMQ_OK;
    return ssmq_comm_agree(s->comm, status, err);
}

static ssmq_status open_folder(sweep *s, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    if (is_root(s)) {
        status = ssmq_run_folder_open(&s->folder, ssmq_args_get(&s->args, "resume"), &s->loaded,
                                      &s->grid, err);
        ssmq_field_set(s->run_dir, sizeof s->run_dir, s->folder.path);
        ssmq_field_set(s->worker.run_id, sizeof s->worker.run_id, s->folder.run_id);
    }
    SSMQ_TRY(ssmq_comm_agree(s->comm, status, err));
    ssmq_run_folder *folder = &s->folder;
    SSMQ_TRY(ssmq_comm_broadcast(s->comm, s->run_dir, sizeof s->run_dir, err));
    SSMQ_TRY(ssmq_comm_broadcast(s->comm, s->worker.run_id, sizeof s->worker.run_id, err));
    SSMQ_TRY(ssmq_comm_broadcast(s->comm, folder->session_id, sizeof folder->session_id, err));
    if (is_root(s)) return SSMQ_OK;
    s->is_apart = !ssmq_run_folder_is_seen(s->run_dir, folder->session_id);
    return SSMQ_OK;
}

static ssmq_status open_journal(sweep *s, ssmq_err *err) {
    int rank = ssmq_comm_rank(s->comm);
    ssmq_status status = SSMQ_OK;
    for (int i = 0; i < JOURNAL_TRIES; i++) {
        if (err != NULL) ssmq_err_clear(err);
        status = ssmq_journal_open(&s->worker.journal, s->run_dir, rank, err);
        if (status != SSMQ_IO) return status;
        ssmq_sleep_ns(journal_retry_ns);
    }
    return status;
}

static int threads_of_rank(const sweep *s) {
    if (s->config.model.threads > 0) return (int)s->config.model.threads;
    return ssmq_cores_per_rank(ssmq_comm_local_size(s->comm));
}

static ssmq_status open_worker(sweep *s, ssmq_err *err) {
    if (s->is_apart) SSMQ_TRY(ssmq_folder_make(s->run_dir, err));
    SSMQ_TRY(ssmq_path_join(s->algorithms_path, s->run_dir, "gemm_algorithms.tsv", err));
    s->worker.options = (ssmq_engine_options){
        .device_idx = ssmq_comm_local_rank(s->comm),
        .n_threads = threads_of_rank(s),
        .script = s->config.model.null_script,
        .algorithms_path = s->algorithms_path,
        .reuse_bytes = s->config.sweep.reuse_mb * bytes_per_mb,
    };
    s->worker.loaded = &s->loaded;
    s->worker.grid = &s->grid;
    s->worker.rank = ssmq_comm_rank(s->comm);
    SSMQ_TRY(s->loaded.engine_api->open(&s->worker.engine, &s->worker.options, err));
    SSMQ_TRY(open_journal(s, err));
    catch_crashes(s->worker.journal);
    return SSMQ_OK;
}

static ssmq_status note_session(sweep *s, ssmq_err *err) {
    ssmq_weights_log(&s->session.weights);
    return ssmq_provenance_add(s->run_dir, s->worker.run_id, &s->loaded, &s->session, err);
}

static ssmq_status find_todo(sweep *s, ssmq_err *err) {
    ssmq_todo_wish wish = {
        .selected = &s->selected,
        .retry_failed = ssmq_args_get(&s->args, "retry-failed") != NULL,
    };
    SSMQ_TRY(ssmq_todo_init(&s->todo, s->run_dir, &wish, &s->worker, err));
    ssmq_log(SSMQ_LOG_INFO, "%s: %zu trials to do, %zu done before, on %d ranks of %s", s->run_dir,
             s->todo.n, s->todo.n_done, ssmq_comm_size(s->comm), s->loaded.engine_api->name);
    return SSMQ_OK;
}

static ssmq_status open_coordinator(sweep *s, ssmq_err *err) {
    SSMQ_TRY(ssmq_mailbox_open(&s->mailbox, err));
    s->worker.channel.mailbox = s->mailbox;
    const ssmq_coordinate setup = {
        .config = &s->config,
        .grid = &s->grid,
        .run_dir = s->run_dir,
        .comm = s->comm,
        .mailbox = s->mailbox,
        .todo = s->todo.orders,
        .n_todo = s->todo.n,
        .done = s->todo.done,
        .n_done_ok = s->todo.n_done_ok,
        .n_done_before = s->todo.n_done,
        .n_failed_before = s->todo.n_failed,
        .stop_signal = &g_stop_signal,
    };
    return ssmq_coordinator_open(&s->coordinator, &setup, err);
}

static ssmq_status prepare(sweep *s, ssmq_err *err) {
    SSMQ_TRY(open_folder(s, err));
    ssmq_status status = open_worker(s, err);
    SSMQ_TRY(ssmq_comm_agree(s->comm, status, err));
    SSMQ_TRY(ssmq_weights_to_gpus(s->worker.engine, s->comm, s->loaded.model,
                                  s->config.sweep.nccl_least_mb * bytes_per_mb, &s->session.weights,
                                  err));
    SSMQ_TRY(ssmq_collect(s->comm, s->run_dir, s->is_apart, err));
    if (is_root(s)) status = note_session(s, err);
    if (is_root(s) && status == SSMQ_OK) status = find_todo(s, err);
    if (is_root(s) && status == SSMQ_OK) status = open_coordinator(s, err);
    return ssmq_comm_agree(s->comm, status, err);
}

static void *root_worker(void *context) {
    sweep *s = context;
    ssmq_status status = ssmq_worker_run(&s->worker, &s->worker_err);
    if (status != SSMQ_OK) ssmq_log_err(SSMQ_LOG_ERROR, &s->worker_err);
    return NULL;
}

/* The root coordinates in this thread, which alone may use MPI, and computes in another. */
static ssmq_status run_root(sweep *s, ssmq_err *err) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, root_worker, s) != 0) {
        ssmq_panic(__FILE__, __LINE__, "cannot start a thread");
    }
    ssmq_status status = ssmq_coordinator_run(s->coordinator, &s->result, err);
    /* Without words between ranks there is no orderly end; the journals hold what was done. */
    if (status != SSMQ_OK) ssmq_panic(err->file, err->line, err->text);
    (void)pthread_join(thread, NULL);
    return SSMQ_OK;
}

static ssmq_status run(sweep *s, ssmq_err *err) {
    if (is_root(s)) return run_root(s, err);
    s->worker.channel.comm = s->comm;
    if (ssmq_worker_run(&s->worker, &s->worker_err) != SSMQ_OK) {
        ssmq_log_err(SSMQ_LOG_ERROR, &s->worker_err);
    }
    return SSMQ_OK;
}

/* Files of every rank are closed before anybody ends, see style 3d.4. */
static void close_worker(sweep *s) {
    catch_crashes(NULL);
    ssmq_journal_close(s->worker.journal);
    if (s->worker.engine != NULL) s->worker.engine->api->close(s->worker.engine);
    s->worker.journal = NULL;
    s->worker.engine = NULL;
}

static int exit_code_of(const sweep *s, const ssmq_run_counts *counts) {
    if (s->result.n_left == 0) {
        return counts->n_failed > 0 ? SSMQ_EXIT_TRIALS : SSMQ_EXIT_OK;
    }
    if (s->result.was_given_up) return SSMQ_EXIT_TRIALS;
    return s->result.was_drained ? SSMQ_EXIT_RESUMABLE : SSMQ_EXIT_FAILURE;
}

/* A network file system may show this host late what others have written: what the ranks said that
 * they have finished is waited for. */
static ssmq_status merge_all(const sweep *s, ssmq_run_counts *counts, ssmq_err *err) {
    const size_t n_expected = s->todo.n_done + s->todo.n - s->result.n_left;
    for (int i = 0;; i++) {
        SSMQ_TRY(ssmq_merge(s->run_dir, counts, err));
        if (counts->n_finished >= n_expected || i == MERGE_TRIES) return SSMQ_OK;
        if (i == 0) {
            ssmq_log(SSMQ_LOG_WARN,
                     "%s: the journals show %zu of %zu finished trials; looking again", s->run_dir,
                     counts->n_finished, n_expected);
        }
        ssmq_sleep_ns(merge_retry_ns);
    }
}

static ssmq_status report(sweep *s, int *exit_code, ssmq_err *err) {
    ssmq_run_counts counts;
    char elapsed[32];
    SSMQ_TRY(merge_all(s, &counts, err));
    *exit_code = exit_code_of(s, &counts);
    ssmq_duration_text((double)(ssmq_now_ns() - s->start_ns) / ns_per_s, elapsed, sizeof elapsed);
    ssmq_log(SSMQ_LOG_INFO, "%zu of %zu trials finished, %zu skipped, %zu failed, %zu left; %s",
             counts.n_finished, counts.n_planned, counts.by_status[SSMQ_SKIP], counts.n_failed,
             counts.n_planned - counts.n_finished, elapsed);
    if (s->result.n_left > 0 && *exit_code == SSMQ_EXIT_FAILURE) {
        ssmq_log(SSMQ_LOG_ERROR, "no rank is left to work; ssmq-sweep --resume %s goes on",
                 s->run_dir);
    }
    ssmq_log(SSMQ_LOG_INFO, "results: %s/results.h5, %s/metrics.jsonl", s->run_dir, s->run_dir);
    if (printf("%s\n", s->run_dir) < 0 || fflush(stdout) != 0) {
        return SSMQ_FAIL(err, IO, "standard output: cannot write");
    }
    return SSMQ_OK;
}

static ssmq_status finish(sweep *s, int *exit_code, ssmq_err *err) {
    close_worker(s);
    SSMQ_TRY(ssmq_comm_agree(s->comm, SSMQ_OK, err));
    SSMQ_TRY(ssmq_collect(s->comm, s->run_dir, s->is_apart, err));
    ssmq_status status = SSMQ_OK;
    if (is_root(s)) status = report(s, exit_code, err);
    SSMQ_TRY(ssmq_comm_agree(s->comm, status, err));
    return ssmq_comm_broadcast(s->comm, exit_code, sizeof *exit_code, err);
}

static ssmq_status sweep_all(sweep *s, int *exit_code, ssmq_err *err) {
    SSMQ_TRY(read_config(s, err));
    SSMQ_TRY(open_inputs(s, err));
    if (ssmq_args_get(&s->args, "dry-run") != NULL) return dry_run(s, err);
    SSMQ_TRY(prepare(s, err));
    SSMQ_TRY(run(s, err));
    return finish(s, exit_code, err);
}

static void close_all(sweep *s) {
    close_worker(s);
    ssmq_coordinator_close(s->coordinator);
    ssmq_mailbox_close(s->mailbox);
    ssmq_todo_free(&s->todo);
    if (s->selected.trials != s->grid.trials) ssmq_grid_free(&s->selected);
    ssmq_grid_free(&s->grid);
    ssmq_loaded_close(&s->loaded);
    if (is_root(s)) ssmq_run_folder_close(&s->folder);
}

int ssmq_sweep_main(int argc, char **argv) {
    /* Large and cleared once; a rank has exactly one. */
    static sweep s;
    ssmq_err err = {0};
    int exit_code = SSMQ_EXIT_OK;
    ssmq_status usage = ssmq_sweep_args_parse(&s.args, argc, (const char *const *)argv, &err);
    if (usage == SSMQ_OK && ssmq_args_get(&s.args, "help") != NULL) {
        ssmq_sweep_args_print_help();
        return SSMQ_EXIT_OK;
    }
    if (usage == SSMQ_OK && ssmq_args_get(&s.args, "version") != NULL) {
        (void)printf("ssmq-sweep %s (%s)\n", ssmq_version(), ssmq_git_commit());
        return SSMQ_EXIT_OK;
    }
    ssmq_err comm_err = {0};
    if (ssmq_comm_open(&s.comm, &argc, &argv, &comm_err) != SSMQ_OK) {
        (void)fprintf(stderr, "ssmq-sweep: %s\n", comm_err.text);
        return SSMQ_EXIT_FAILURE;
    }
    catch_signals();
    s.start_ns = ssmq_now_ns();
    s.folder.lock_fd = -1;
    s.folder.log_fd = -1;
    s.session = (ssmq_session){.argc = argc,
                               .argv = (const char *const *)argv,
                               .n_ranks = ssmq_comm_size(s.comm),
                               .mpi_version = ssmq_comm_mpi_version()};
    bool is_quiet = usage == SSMQ_OK && ssmq_args_get(&s.args, "quiet") != NULL;
    ssmq_log_setup(is_quiet ? SSMQ_LOG_WARN : SSMQ_LOG_INFO, ssmq_comm_rank(s.comm),
                   ssmq_comm_size(s.comm));
    ssmq_status status = usage == SSMQ_OK ? sweep_all(&s, &exit_code, &err) : usage;
    if (status != SSMQ_OK) {
        exit_code = ssmq_exit_code(status);
        if (is_root(&s)) (void)fprintf(stderr, "ssmq-sweep: %s\n", err.text);
    }
    close_all(&s);
    ssmq_comm_close(s.comm);
    return exit_code;
}
