/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/coordinate.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cli/merge.h"
#include "cli/progress.h"
#include "cli/sched_trials.h"
#include "sched/sched.h"

enum { ROOT = 0, PROGRESS_BYTES = 256 };

/* How long to wait for a word before looking at signals and limits. */
static const int64_t turn_ns = 50000000;
/* With other ranks, the mailbox of the root's worker is looked at this often. */
static const int64_t mailbox_turn_ns = 100000;
static const int64_t progress_every_ns = 5000000000;
/* results.h5 of a running sweep is at most this old when something new has finished; or so many
 * times as old as merging took, which takes a core. */
static const int64_t merge_every_ns = 30000000000;
static const int64_t merge_pause = 200;
static const double ns_per_s = 1e9;
static const double percent = 100.0;

/* results.h5 of a sweep that goes on, being made. */
typedef struct merging {
    pthread_t thread;
    bool is_begun; /* and not joined */
    atomic_bool is_ended;
    const char *run_dir;
    int64_t start_ns, duration_ns;
} merging;

typedef struct ssmq_coordinator {
    ssmq_coordinate setup;
    ssmq_coordinate_result *result;
    ssmq_sched *sched;
    bool is_shuffled; /* costs are drawn at random */
    bool *is_idle;    /* [size] asked and got nothing yet */
    bool *is_stopped; /* [size] told to stop, or retired */
    double *work_s;   /* [size] at trials, with loading */
    double *wait_s;   /* [size] for trials that then came, the first one aside */
    int size;
    int n_active;
    size_t n_finished, n_failed;
    int64_t start_ns, next_progress_ns, next_merge_ns;
    size_t n_merged;
    merging merging;
} coordinator;

static ssmq_status tell(coordinator *c, int rank, const ssmq_message *message, ssmq_err *err) {
    if (rank != ROOT) return ssmq_comm_send(c->setup.comm, rank, message, err);
    ssmq_mailbox_put(c->setup.mailbox, SSMQ_TO_WORKER, message);
    return SSMQ_OK;
}

/* Work or the end for every rank that waits; a lost rank's trial may serve one of them. */
static ssmq_status serve_idle(coordinator *c, ssmq_err *err) {
    for (int rank = 0; rank < c->size; rank++) {
        if (!c->is_idle[rank]) continue;
        int64_t i = ssmq_sched_next(c->sched, rank);
        if (i == SSMQ_SCHED_WAIT) continue;
        ssmq_message say = {.kind = SSMQ_WORD_STOP, .trial_idx = -1};
        if (i != SSMQ_SCHED_DONE) {
            say.kind = SSMQ_WORD_RUN;
            say.trial_idx = c->setup.todo[i].trial_idx;
            say.value = (int32_t)c->setup.todo[i].attempt;
        } else {
            c->is_stopped[rank] = true;
            c->n_active--;
        }
        c->is_idle[rank] = false;
        SSMQ_TRY(tell(c, rank, &say, err));
    }
    return SSMQ_OK;
}

/* -1: none of this session's. */
static int64_t todo_index(const coordinator *c, int64_t trial_idx) {
    /* todo is in grid order. */
    size_t low = 0;
    size_t high = c->setup.n_todo;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->setup.todo[middle].trial_idx < trial_idx) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < c->setup.n_todo && c->setup.todo[low].trial_idx == trial_idx ? (int64_t)low : -1;
}

static void give_up_if_asked(coordinator *c) {
    const ssmq_config_run *run = &c->setup.config->run;
    size_t n_failed = c->n_failed;
    bool too_many = run->max_failures > 0 && n_failed >= (size_t)run->max_failures;
    if (n_failed == 0 || !(run->fail_fast || too_many) || c->result->was_given_up) return;
    ssmq_log(SSMQ_LOG_WARN, "%zu trials failed; handing out no more", n_failed);
    c->result->was_given_up = true;
    ssmq_sched_drain(c->sched);
}

static void take_finished(coordinator *c, int rank, const ssmq_message *message) {
    ssmq_status status = (ssmq_status)message->value;
    const int64_t i = todo_index(c, message->trial_idx);
    /* A trial that failed says nothing about those that will not. */
    const double seconds = status == SSMQ_OK && !c->is_shuffled ? message->runtime_s : -1.0;
    const double load_s = message->seconds - message->runtime_s;
    if (!ssmq_sched_finished(c->sched, rank, i, seconds, load_s)) {
        ssmq_log(SSMQ_LOG_WARN, "rank %d reports a trial that it was not given: %" PRId64, rank,
                 message->trial_idx);
        return;
    }
    c->n_finished++;
    if (c->work_s[rank] > 0.0) c->wait_s[rank] += message->idle_s;
    c->work_s[rank] += message->seconds;
    bool is_failed = status != SSMQ_OK && status != SSMQ_SKIP;
    c->n_failed += is_failed;
    ssmq_log(is_failed ? SSMQ_LOG_WARN : SSMQ_LOG_INFO, "%zu/%zu %s in %.2f s on rank %d: %s",
             c->setup.n_done_before + c->n_finished, c->setup.n_done_before + c->setup.n_todo,
             ssmq_status_name(status), message->seconds, rank,
             c->setup.grid->trials[message->trial_idx].key);
    give_up_if_asked(c);
}

static ssmq_status take_message(coordinator *c, int rank, const ssmq_message *message,
                                ssmq_err *err) {
    switch ((ssmq_word)message->kind) {
    case SSMQ_WORD_IDLE:
        c->is_idle[rank] = true;
        break;
    case SSMQ_WORD_FINISHED:
        take_finished(c, rank, message);
        c->is_idle[rank] = true;
        break;
    case SSMQ_WORD_RETIRED:
        if (message->trial_idx >= 0) take_finished(c, rank, message);
        ssmq_log(SSMQ_LOG_WARN, "rank %d takes no more work: %s", rank,
                 ssmq_status_meaning((ssmq_status)message->value));
        ssmq_sched_lost(c->sched, rank);
        c->is_stopped[rank] = true;
        c->n_active--;
        break;
    default:
        return SSMQ_FAIL(err, INTERNAL, "rank %d sent a word of kind %" PRId32, rank,
                         message->kind);
    }
    return SSMQ_OK;
}

/* A word from any worker, or none within a turn. */
static ssmq_status listen(coordinator *c, ssmq_err *err) {
    ssmq_message message;
    int64_t until_ns = ssmq_now_ns() + turn_ns;
    bool has_others = c->size > 1;
    do {
        int64_t wait_ns = has_others ? mailbox_turn_ns : turn_ns;
        if (!c->is_stopped[ROOT] && ssmq_mailbox_take(c->setup.mailbox, SSMQ_TO_COORDINATOR,
                                                      has_others ? 0 : wait_ns, &message)) {
            return take_message(c, ROOT, &message, err);
        }
        if (has_others) {
            int from_rank = -1;
            SSMQ_TRY(ssmq_comm_receive(c->setup.comm, &message, &from_rank, wait_ns, err));
            if (from_rank >= 0) return take_message(c, from_rank, &message, err);
        }
    } while (ssmq_now_ns() < until_ns);
    return SSMQ_OK;
}

static void drain_if_asked(coordinator *c) {
    if (c->result->was_drained) return;
    double limit_s = c->setup.config->run.time_limit_s;
    bool over = limit_s > 0 && (double)(ssmq_now_ns() - c->start_ns) / ns_per_s > limit_s;
    if (*c->setup.stop_signal == 0 && !over) return;
    ssmq_log(SSMQ_LOG_WARN, over ? "time limit: finishing what runs, then stopping"
                                 : "signal: finishing what runs, then stopping");
    c->result->was_drained = true;
    ssmq_sched_drain(c->sched);
}

static void show_progress(coordinator *c) {
    int64_t now_ns = ssmq_now_ns();
    if (now_ns < c->next_progress_ns) return;
    c->next_progress_ns = now_ns + progress_every_ns;
    ssmq_sched_state state;
    ssmq_sched_get(c->sched, &state);
    ssmq_progress progress = {
        .n_done = c->setup.n_done_before + state.n_finished,
        .n_total = c->setup.n_done_before + c->setup.n_todo,
        .n_failed = c->setup.n_failed_before + c->n_failed,
        .cost_done = state.finished_s,
        .cost_total = state.finished_s + state.in_flight_s + state.waiting_s,
        .elapsed_s = (double)(now_ns - c->start_ns) / ns_per_s,
        .n_ranks_busy = (int)state.n_in_flight,
        .n_ranks = c->size,
    };
    char text[PROGRESS_BYTES];
    ssmq_progress_text(&progress, text, sizeof text);
    ssmq_log_progress(text);
}

/* Its own failure is not the sweep's. */
static void *merge_beside(void *context) {
    merging *m = context;
    ssmq_run_counts counts;
    ssmq_err err = {0};
    if (ssmq_merge(m->run_dir, &counts, &err) != SSMQ_OK) ssmq_log_err(SSMQ_LOG_WARN, &err);
    m->duration_ns = ssmq_now_ns() - m->start_ns;
    atomic_store(&m->is_ended, true);
    return NULL;
}

static void end_merging(coordinator *c) {
    merging *m = &c->merging;
    if (!m->is_begun) return;
    (void)pthread_join(m->thread, NULL);
    m->is_begun = false;
    const int64_t pause_ns = merge_pause * m->duration_ns;
    c->next_merge_ns = ssmq_now_ns() + (pause_ns > merge_every_ns ? pause_ns : merge_every_ns);
}

/* So that a running sweep can be looked at, in a thread of its own: ranks do not wait for it. */
static void merge_now_and_then(coordinator *c) {
    merging *m = &c->merging;
    if (m->is_begun && atomic_load(&m->is_ended)) end_merging(c);
    const int64_t now_ns = ssmq_now_ns();
    if (m->is_begun || now_ns < c->next_merge_ns || c->n_merged == c->n_finished) return;
    m->run_dir = c->setup.run_dir;
    m->start_ns = now_ns;
    atomic_store(&m->is_ended, false);
    m->is_begun = pthread_create(&m->thread, NULL, merge_beside, m) == 0;
    c->n_merged = c->n_finished;
}

static ssmq_status run(coordinator *c, ssmq_err *err) {
    while (c->n_active > 0) {
        SSMQ_TRY(listen(c, err));
        drain_if_asked(c);
        SSMQ_TRY(serve_idle(c, err));
        show_progress(c);
        merge_now_and_then(c);
    }
    end_merging(c);
    c->result->n_left = c->setup.n_todo - c->n_finished;
    return SSMQ_OK;
}

static ssmq_status open_sched(coordinator *c, ssmq_err *err) {
    const ssmq_coordinate *setup = &c->setup;
    ssmq_sched_trial *trials = NULL;
    /* Random costs, longest first: for showing that the order changes no result. */
    c->is_shuffled = strcmp(setup->config->sweep.order, "shuffled") == 0;
    bool is_grid = strcmp(setup->config->sweep.order, "grid") == 0;
    ssmq_rng rng = ssmq_rng_from_seed((uint64_t)ssmq_now_ns());
    SSMQ_TRY(ssmq_calloc(&trials, setup->n_todo, sizeof *trials, err));
    for (size_t i = 0; i < setup->n_todo; i++) {
        const ssmq_trial *trial = &setup->grid->trials[setup->todo[i].trial_idx];
        trials[i] = ssmq_sched_trial_of(trial);
        if (c->is_shuffled) trials[i].cost = ssmq_rng_f64(&rng);
    }
    ssmq_status status = ssmq_sched_open(&c->sched, trials, setup->n_todo, c->size,
                                         is_grid ? SSMQ_ORDER_GRID : SSMQ_ORDER_COST, err);
    ssmq_free(trials);
    for (size_t i = 0; status == SSMQ_OK && !c->is_shuffled && i < setup->n_done_ok; i++) {
        const ssmq_task_done *done = &setup->done[i];
        const ssmq_sched_trial trial = ssmq_sched_trial_of(&setup->grid->trials[done->trial_idx]);
        ssmq_sched_learn(c->sched, trial.group, trial.cost, done->runtime_s);
    }
    return status;
}

ssmq_status ssmq_coordinator_open(ssmq_coordinator **out, const ssmq_coordinate *setup,
                                  ssmq_err *err) {
    coordinator *c = NULL;
    ssmq_status status = SSMQ_OK;
    *out = NULL;
    SSMQ_TRY(ssmq_calloc(&c, 1, sizeof *c, err));
    c->setup = *setup;
    c->size = ssmq_comm_size(setup->comm);
    c->n_active = c->size;
    SSMQ_TRY_OR(open_sched(c, err), failed);
    SSMQ_TRY_OR(ssmq_calloc(&c->is_idle, (size_t)c->size, sizeof *c->is_idle, err), failed);
    SSMQ_TRY_OR(ssmq_calloc(&c->is_stopped, (size_t)c->size, sizeof *c->is_stopped, err), failed);
    SSMQ_TRY_OR(ssmq_calloc(&c->work_s, (size_t)c->size, sizeof *c->work_s, err), failed);
    SSMQ_TRY_OR(ssmq_calloc(&c->wait_s, (size_t)c->size, sizeof *c->wait_s, err), failed);
    *out = c;
    return SSMQ_OK;
failed:
    ssmq_coordinator_close(c);
    return status;
}

void ssmq_coordinator_close(ssmq_coordinator *c) {
    if (c == NULL) return;
    ssmq_sched_close(c->sched);
    ssmq_free(c->is_idle);
    ssmq_free(c->is_stopped);
    ssmq_free(c->work_s);
    ssmq_free(c->wait_s);
    ssmq_free(c);
}

/* What share of their time ranks waited while trials were left. */
static void log_waiting(const coordinator *c) {
    double work_s = 0.0;
    double wait_s = 0.0;
    double most = 0.0;
    int slowest = ROOT;
    for (int rank = 0; rank < c->size; rank++) {
        const double share = c->wait_s[rank] / fmax(c->work_s[rank] + c->wait_s[rank], DBL_MIN);
        work_s += c->work_s[rank];
        wait_s += c->wait_s[rank];
        if (share > most) slowest = rank;
        most = fmax(most, share);
    }
    if (work_s <= 0.0) return;
    ssmq_log(SSMQ_LOG_INFO,
             "%d ranks worked %.2f s in all and waited %.2f s for trials, %.2f %%; rank %d most, "
             "%.2f %%",
             c->size, work_s, wait_s, percent * wait_s / (work_s + wait_s), slowest,
             percent * most);
}

ssmq_status ssmq_coordinator_run(ssmq_coordinator *c, ssmq_coordinate_result *result,
                                 ssmq_err *err) {
    memset(result, 0, sizeof *result);
    c->result = result;
    c->start_ns = ssmq_now_ns();
    c->next_progress_ns = c->start_ns + progress_every_ns;
    c->next_merge_ns = c->start_ns + merge_every_ns;
    const ssmq_status status = run(c, err);
    log_waiting(c);
    return status;
}
