/* SPDX-License-Identifier: Apache-2.0 */
/* A trial is in flight if its started line is the last of a journal that was written since the last
 * session began, by a rank of that session; its age is that of the journal's last change. The time
 * left is the plan's estimate of what is left, for each task times measured over estimated seconds
 * of what is done of it (of all tasks, if nothing is), shared among the ranks. */
#include "cli/watch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/plan.h"
#include "cli/progress.h"
#include "cli/provenance.h"
#include "cli/run_rows.h"
#include "journal/journal.h"
#include "json/json.h"

enum { DURATION_BYTES = 32, MAX_TEXT_BYTES = 1 << 26 };
static const int64_t ns_per_s = 1000000000;
static const double s_per_ms = 1e-3;

bool ssmq_run_is_running(const char *run_dir) {
    char path[SSMQ_PATH_BYTES];
    ssmq_err ignored = {0};
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (ssmq_path_join(path, run_dir, "lock", &ignored) != SSMQ_OK) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool is_locked = fcntl(fd, F_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
    (void)close(fd);
    return is_locked;
}

/* The session that is running, or ran last. */
typedef struct session {
    int64_t n_ranks;
    char started_utc[SSMQ_UTC_BYTES];
} session;

static void read_session(session *out, const ssmq_json *sessions) {
    const size_t n = ssmq_json_n_items(sessions);
    const ssmq_json *member = NULL;
    size_t n_bytes = 0;
    if (n == 0) return;
    const ssmq_json *last = ssmq_json_item(sessions, n - 1);
    if (ssmq_json_get(last, "n_ranks", &member)) (void)ssmq_json_i64(member, &out->n_ranks);
    if (!ssmq_json_get(last, "started_utc", &member)) return;
    const char *started = ssmq_json_string(member, &n_bytes);
    if (started != NULL) ssmq_field_set(out->started_utc, sizeof out->started_utc, started);
}

/* A sweep that has just begun may have written none yet; nothing is then known to be in flight. */
static session find_session(const char *run_dir) {
    session out = {0};
    ssmq_provenance provenance;
    ssmq_err ignored = {0};
    if (ssmq_provenance_read(&provenance, run_dir, &ignored) != SSMQ_OK) return out;
    for (size_t i = 0; i < provenance.n_facts; i++) {
        const char *text = provenance.facts[i].text;
        ssmq_json *document = NULL;
        if (strcmp(provenance.facts[i].name, "sessions") != 0) continue;
        if (ssmq_json_parse(&document, text, strlen(text), "sessions", &ignored) == SSMQ_OK) {
            read_session(&out, document);
        }
        ssmq_json_free(document);
    }
    ssmq_provenance_free(&provenance);
    return out;
}

/* What a rank is at. */
typedef struct rank_state {
    const ssmq_plan_row *trial; /* NULL: nothing */
    double age_s;
} rank_state;

/* Of a task's trials, or of all. */
typedef struct work {
    double left_s;                  /* estimated, of trials without outcome */
    double measured_s, estimated_s; /* of those that went well */
} work;

typedef struct picture {
    const char *run_dir;
    bool is_running;
    session session;
    ssmq_plan_rows plan;
    ssmq_replay replay;
    rank_state *of_file; /* [replay.n_files] */
    size_t n_done, n_in_flight;
    size_t by_status[SSMQ_N_STATUSES];
    work all, of_task[SSMQ_N_TASKS];
} picture;

/* Seconds since a journal that ends with this line was written to; negative if it is none of the
 * session's, or has grown since. */
static double age_of(const picture *p, const ssmq_journal_entry *entry) {
    char path[SSMQ_PATH_BYTES];
    char written_utc[SSMQ_UTC_BYTES] = "";
    const char *name = p->replay.files[entry->file_idx];
    struct stat info;
    struct timespec now;
    struct tm parts;
    ssmq_err ignored = {0};
    const long rank = strtol(name + strlen("journal."), NULL, 10);
    if (!p->is_running || rank >= p->session.n_ranks) return -1.0;
    if (ssmq_path_join(path, p->run_dir, name, &ignored) != SSMQ_OK) return -1.0;
    if (stat(path, &info) != 0 || info.st_size != entry->offset + entry->n_bytes) return -1.0;
    if (gmtime_r(&info.st_mtim.tv_sec, &parts) == NULL) return -1.0;
    (void)strftime(written_utc, sizeof written_utc, "%Y-%m-%dT%H:%M:%SZ", &parts);
    if (strcmp(written_utc, p->session.started_utc) < 0) return -1.0;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    const double age_s = (double)(now.tv_sec - info.st_mtim.tv_sec) +
                         (double)(now.tv_nsec - info.st_mtim.tv_nsec) / (double)ns_per_s;
    return age_s > 0.0 ? age_s : 0.0;
}

/* The first word of the key; SSMQ_N_TASKS for one of another version. */
static ssmq_task task_of(const ssmq_plan_row *row) {
    int task = 0;
    while (task < SSMQ_N_TASKS) {
        const char *name = ssmq_task_name((ssmq_task)task);
        const size_t n_bytes = strlen(name);
        if (strncmp(row->key, name, n_bytes) == 0 && row->key[n_bytes] == '/') break;
        task++;
    }
    return (ssmq_task)task;
}

static void add_work(work *to, double left_s, double measured_s, double estimated_s) {
    to->left_s += left_s;
    to->measured_s += measured_s;
    to->estimated_s += estimated_s;
}

static void count_work(picture *p, const ssmq_plan_row *row, double left_s, double measured_s,
                       double estimated_s) {
    const ssmq_task task = task_of(row);
    add_work(&p->all, left_s, measured_s, estimated_s);
    if (task < SSMQ_N_TASKS) add_work(&p->of_task[task], left_s, measured_s, estimated_s);
}

static void add_trial(picture *p, const ssmq_plan_row *row) {
    const ssmq_journal_entry *entry = ssmq_replay_find(&p->replay, row->id);
    if (entry != NULL && entry->status != SSMQ_N_STATUSES) {
        p->n_done++;
        p->by_status[entry->status]++;
        const double measured_s = (double)entry->duration_ms * s_per_ms;
        if (entry->status == SSMQ_OK && measured_s > 0.0 && row->cost_s > 0.0) {
            count_work(p, row, 0.0, measured_s, row->cost_s);
        }
        return;
    }
    count_work(p, row, row->cost_s, 0.0, 0.0);
    if (entry == NULL) return;
    const double age_s = age_of(p, entry);
    if (age_s < 0.0) return;
    p->n_in_flight++;
    p->of_file[entry->file_idx] = (rank_state){row, age_s};
}

/* Measured over estimated seconds; negative if nothing is known. */
static double ratio_of(const picture *p, ssmq_task task) {
    const bool is_known = task < SSMQ_N_TASKS && p->of_task[task].estimated_s > 0.0;
    const work *w = is_known ? &p->of_task[task] : &p->all;
    return w->estimated_s > 0.0 ? w->measured_s / w->estimated_s : -1.0;
}

/* Seconds for all ranks together to the end; negative if nothing is known. */
static double left_s(const picture *p) {
    double s = 0.0;
    if (p->all.estimated_s <= 0.0) return -1.0;
    for (int task = 0; task < SSMQ_N_TASKS; task++) {
        s += p->of_task[task].left_s * ratio_of(p, (ssmq_task)task);
    }
    for (size_t i = 0; i < p->replay.n_files; i++) {
        const rank_state *rank = &p->of_file[i];
        if (rank->trial == NULL) continue;
        const double expected_s = rank->trial->cost_s * ratio_of(p, task_of(rank->trial));
        s -= rank->age_s < expected_s ? rank->age_s : expected_s;
    }
    return s > 0.0 ? s : 0.0;
}

static ssmq_status take_picture(picture *p, const char *run_dir, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    *p = (picture){.run_dir = run_dir, .is_running = ssmq_run_is_running(run_dir)};
    SSMQ_TRY(ssmq_run_plan_path(path, run_dir, err));
    p->session = find_session(run_dir);
    SSMQ_TRY(ssmq_plan_rows_read(&p->plan, path, err));
    SSMQ_TRY(ssmq_replay_init(&p->replay, run_dir, err));
    SSMQ_TRY(ssmq_calloc(&p->of_file, p->replay.n_files, sizeof *p->of_file, err));
    for (size_t i = 0; i < p->plan.n; i++) add_trial(p, &p->plan.rows[i]);
    return SSMQ_OK;
}

static void free_picture(picture *p) {
    ssmq_plan_rows_free(&p->plan);
    ssmq_replay_free(&p->replay);
    ssmq_free(p->of_file);
}

static void add_left(const picture *p, ssmq_str *out) {
    char left[DURATION_BYTES] = "?";
    const double s = left_s(p);
    if (s >= 0.0 && p->session.n_ranks > 0) {
        ssmq_duration_text(s / (double)p->session.n_ranks, left, sizeof left);
    }
    ssmq_str_addf(out, ", %zu of %lld ranks at work, about %s left\n", p->n_in_flight,
                  (long long)p->session.n_ranks, left);
}

static void add_picture(const picture *p, ssmq_str *out) {
    char now[SSMQ_UTC_BYTES];
    ssmq_utc_iso(now);
    const bool is_complete = p->n_done == p->plan.n;
    ssmq_str_addf(out, "%s %s: %zu/%zu trials", now,
                  p->is_running ? "running"
                  : is_complete ? "complete"
                                : "stopped early",
                  p->n_done, p->plan.n);
    for (int i = 0; i < SSMQ_N_STATUSES; i++) {
        if (p->by_status[i] == 0) continue;
        ssmq_str_addf(out, ", %zu %s", p->by_status[i], ssmq_status_name((ssmq_status)i));
    }
    if (!p->is_running) {
        if (!is_complete) ssmq_str_addf(out, "; ssmq-sweep --resume %s goes on", p->run_dir);
        ssmq_str_add(out, "\n", 1);
        return;
    }
    add_left(p, out);
    for (size_t i = 0; i < p->replay.n_files; i++) {
        const rank_state *rank = &p->of_file[i];
        char age[DURATION_BYTES];
        if (rank->trial == NULL) continue;
        ssmq_duration_text(rank->age_s, age, sizeof age);
        ssmq_str_addf(out, "  rank %-4ld %8s  %s\n",
                      strtol(p->replay.files[i] + strlen("journal."), NULL, 10), age,
                      rank->trial->key);
    }
}

static ssmq_status show_once(const char *run_dir, bool *is_running, ssmq_err *err) {
    static const char clear_screen[] = "\033[H\033[J";
    picture p;
    ssmq_str text;
    ssmq_str_init(&text, MAX_TEXT_BYTES);
    ssmq_status status = take_picture(&p, run_dir, err);
    if (status == SSMQ_OK) {
        if (isatty(STDOUT_FILENO) == 1) ssmq_str_add(&text, clear_screen, sizeof clear_screen - 1);
        add_picture(&p, &text);
        status = ssmq_str_check(&text, "picture of the run", err);
    }
    if (status == SSMQ_OK && (fputs(ssmq_str_get(&text), stdout) < 0 || fflush(stdout) != 0)) {
        status = SSMQ_FAIL(err, IO, "standard output: cannot write");
    }
    *is_running = p.is_running;
    free_picture(&p);
    ssmq_str_free(&text);
    return status;
}

ssmq_status ssmq_watch(const char *run_dir, int64_t every_s, ssmq_err *err) {
    for (;;) {
        bool is_running = false;
        SSMQ_TRY(show_once(run_dir, &is_running, err));
        if (!is_running) return SSMQ_OK;
        ssmq_sleep_ns(every_s * ns_per_s);
    }
}
