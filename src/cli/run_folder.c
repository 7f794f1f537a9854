/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/run_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/plan.h"

enum {
    HOST_BYTES = 33, /* as much of its name as tells a session apart */
    CONFIG_BYTES = 1 << 20,
    FILE_MODE = 0666,
    /* A sweep killed a moment ago may still hold the lock until its last process is gone; mpirun
     * takes about two seconds to kill the ranks of a job that lost one. */
    LOCK_TRIES = 50
};
static const int64_t lock_retry_ns = 100000000;

static ssmq_status lock(ssmq_run_folder *folder, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    SSMQ_TRY(ssmq_path_join(path, folder->path, "lock", err));
    folder->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (folder->lock_fd < 0) return SSMQ_FAIL(err, IO, "%s: %s", path, strerror(errno));
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (fcntl(folder->lock_fd, F_SETLK, &whole) == 0) return SSMQ_OK;
        if (errno == ENOLCK || errno == EOPNOTSUPP || errno == ENOSYS) {
            ssmq_log(SSMQ_LOG_WARN,
                     "%s: this file system has no locks; do not start two sweeps on "
                     "one run folder",
                     path);
            return SSMQ_OK;
        }
        if (errno != EACCES && errno != EAGAIN && errno != EINTR) {
            return SSMQ_FAIL(err, IO, "%s: cannot lock: %s", path, strerror(errno));
        }
        ssmq_sleep_ns(lock_retry_ns);
    }
    return SSMQ_FAIL(err, IO, "%s: another sweep is working on this run folder", folder->path);
}

/* Leaves a mark in the lock file that no other session has left. */
static ssmq_status sign(ssmq_run_folder *folder, ssmq_err *err) {
    char host[HOST_BYTES] = "";
    char utc[SSMQ_UTC_BYTES];
    (void)gethostname(host, sizeof host - 1);
    ssmq_utc_iso(utc);
    (void)snprintf(folder->session_id, sizeof folder->session_id, "%s %lld %ld %s", utc,
                   (long long)ssmq_now_ns(), (long)getpid(), host);
    if (ftruncate(folder->lock_fd, 0) != 0 || lseek(folder->lock_fd, 0, SEEK_SET) < 0) {
        return SSMQ_FAIL(err, IO, "%s/lock: %s", folder->path, strerror(errno));
    }
    return ssmq_fd_write(folder->lock_fd, folder->session_id, strlen(folder->session_id), "lock",
                         err);
}

bool ssmq_run_folder_is_seen(const char *path, const char *session_id) {
    char lock_path[SSMQ_PATH_BYTES];
    char *text = NULL;
    size_t n_bytes = 0;
    ssmq_err ignored = {0};
    if (ssmq_path_join(lock_path, path, "lock", &ignored) != SSMQ_OK ||
        ssmq_file_read(&text, &n_bytes, lock_path, SSMQ_SESSION_ID_BYTES, &ignored) != SSMQ_OK) {
        return false;
    }
    const bool is_seen = strcmp(text, session_id) == 0;
    ssmq_free(text);
    return is_seen;
}

/* The folder may be new, empty but for what a sweep killed at its start left, or a run. */
static ssmq_status check_same_config(const ssmq_run_folder *folder, const char *config_path,
                                     const ssmq_config *config, ssmq_err *err) {
    ssmq_config old;
    ssmq_str text;
    ssmq_str_init(&text, CONFIG_BYTES);
    ssmq_config_sources sources = {.files = &config_path, .n_files = 1};
    ssmq_status status = ssmq_config_read(&old, &sources, &text, err);
    if (status == SSMQ_OK) {
        ssmq_str_clear(&text);
        status = ssmq_config_diff(&old, config, &text, err);
    }
    if (status == SSMQ_OK && text.n_bytes > 0) {
        status = SSMQ_FAIL(err, CONFIG, "%s: made with another configuration: %s", folder->path,
                           ssmq_str_get(&text));
    }
    ssmq_str_free(&text);
    return status;
}

static ssmq_status check_same_plan(const ssmq_run_folder *folder, const char *plan_path,
                                   const ssmq_str *plan, ssmq_err *err) {
    char *old = NULL;
    size_t n_bytes = 0;
    SSMQ_TRY(ssmq_file_read(&old, &n_bytes, plan_path, SSMQ_MAX_PLAN_BYTES, err));
    bool is_same = n_bytes == plan->n_bytes && memcmp(old, plan->text, n_bytes) == 0;
    ssmq_free(old);
    if (is_same) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG,
                     "%s: made with other inputs: checkpoint, tokenizer, text, device or ssmq's "
                     "numerics have changed since; start a new run",
                     folder->path);
}

static ssmq_status make_run_id(char *run_id, const ssmq_str *config, const ssmq_str *plan,
                               ssmq_err *err) {
    char now[SSMQ_UTC_BYTES];
    char hex[SSMQ_SHA256_HEX_BYTES];
    unsigned char digest[SSMQ_SHA256_BYTES];
    int64_t moment[2] = {ssmq_now_ns(), (int64_t)getpid()};
    ssmq_sha256 sha;
    ssmq_utc_compact(now);
    ssmq_sha256_init(&sha);
    ssmq_sha256_add(&sha, config->text, config->n_bytes);
    ssmq_sha256_add(&sha, plan->text, plan->n_bytes);
    ssmq_sha256_add(&sha, moment, sizeof moment);
    ssmq_sha256_end(&sha, digest);
    ssmq_sha256_hex(digest, hex);
    int length = snprintf(run_id, SSMQ_RUN_ID_BYTES, "%s-%.8s", now, hex);
    SSMQ_CHECK(length > 0 && length < SSMQ_RUN_ID_BYTES, err);
    return SSMQ_OK;
}

static ssmq_status choose_path(ssmq_run_folder *folder, const char *resume_dir,
                               const ssmq_config *config, const ssmq_str *config_text,
                               const ssmq_str *plan, ssmq_err *err) {
    if (resume_dir != NULL) {
        if (!ssmq_path_is_folder(resume_dir)) {
            return SSMQ_FAIL(err, CONFIG, "%s: no such run folder", resume_dir);
        }
        size_t length = strlen(resume_dir);
        while (length > 1 && resume_dir[length - 1] == '/') length--;
        if (length >= sizeof folder->path) {
            return SSMQ_FAIL(err, CONFIG, "%s: path too long", resume_dir);
        }
        memcpy(folder->path, resume_dir, length);
        const char *slash = strrchr(folder->path, '/');
        ssmq_field_set(folder->run_id, sizeof folder->run_id,
                       slash != NULL ? slash + 1 : folder->path);
        return SSMQ_OK;
    }
    if (config->run.run_id[0] != '\0') {
        ssmq_field_set(folder->run_id, sizeof folder->run_id, config->run.run_id);
    } else {
        SSMQ_TRY(make_run_id(folder->run_id, config_text, plan, err));
    }
    if (!ssmq_name_is_safe(folder->run_id)) {
        return SSMQ_FAIL(err, CONFIG, "run.run_id: '%s' is not a plain folder name",
                         folder->run_id);
    }
    return ssmq_path_join(folder->path, config->run.out_dir, folder->run_id, err);
}

/* An existing run keeps its files and must match; a new one gets them, the configuration last of
 * those that make it a run. */
static ssmq_status settle(ssmq_run_folder *folder, const ssmq_config *config,
                          const ssmq_str *config_text, const ssmq_str *plan, ssmq_err *err) {
    char config_path[SSMQ_PATH_BYTES];
    char plan_path[SSMQ_PATH_BYTES];
    SSMQ_TRY(ssmq_path_join(config_path, folder->path, "config_resolved.yaml", err));
    SSMQ_TRY(ssmq_path_join(plan_path, folder->path, "plan.csv", err));
    folder->is_resumed = ssmq_path_exists(config_path);
    if (folder->is_resumed) {
        SSMQ_TRY(check_same_config(folder, config_path, config, err));
        return check_same_plan(folder, plan_path, plan, err);
    }
    SSMQ_TRY(ssmq_file_replace(plan_path, plan->text, plan->n_bytes, err));
    return ssmq_file_replace(config_path, config_text->text, config_text->n_bytes, err);
}

static ssmq_status open_log(ssmq_run_folder *folder, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    SSMQ_TRY(ssmq_path_join(path, folder->path, "sweep.log", err));
    folder->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, FILE_MODE);
    if (folder->log_fd < 0) return SSMQ_FAIL(err, IO, "%s: %s", path, strerror(errno));
    ssmq_log_copy_to(folder->log_fd);
    return SSMQ_OK;
}

/* What a sweep killed while it replaced a file left behind. */
static void remove_leftovers(const ssmq_run_folder *folder) {
    static const char tail[] = ".tmp";
    DIR *items = opendir(folder->path);
    if (items == NULL) return;
    for (const struct dirent *item = readdir(items); item != NULL; item = readdir(items)) {
        const size_t length = strlen(item->d_name);
        if (length < sizeof tail || strcmp(item->d_name + length + 1 - sizeof tail, tail) != 0) {
            continue;
        }
        (void)unlinkat(dirfd(items), item->d_name, 0);
    }
    (void)closedir(items);
}

static ssmq_status open_with(ssmq_run_folder *out, const char *resume_dir,
                             const ssmq_loaded *loaded, const ssmq_str *config_text,
                             const ssmq_str *plan, ssmq_err *err) {
    SSMQ_TRY(choose_path(out, resume_dir, &loaded->config, config_text, plan, err));
    /* A folder of something else is left as it is, without even a lock file. */
    char config_path[SSMQ_PATH_BYTES];
    char lock_path[SSMQ_PATH_BYTES];
    SSMQ_TRY(ssmq_path_join(config_path, out->path, "config_resolved.yaml", err));
    SSMQ_TRY(ssmq_path_join(lock_path, out->path, "lock", err));
    if (ssmq_path_is_folder(out->path) && rmdir(out->path) != 0 && !ssmq_path_exists(config_path) &&
        !ssmq_path_exists(lock_path)) {
        return SSMQ_FAIL(err, CONFIG, "%s: neither empty nor a run folder", out->path);
    }
    SSMQ_TRY(ssmq_folder_make(out->path, err));
    SSMQ_TRY(lock(out, err));
    SSMQ_TRY(sign(out, err));
    remove_leftovers(out);
    SSMQ_TRY(settle(out, &loaded->config, config_text, plan, err));
    return open_log(out, err);
}

ssmq_status ssmq_run_folder_open(ssmq_run_folder *out, const char *resume_dir,
                                 const ssmq_loaded *loaded, const ssmq_grid *grid, ssmq_err *err) {
    ssmq_str config_text;
    ssmq_str plan;
    memset(out, 0, sizeof *out);
    out->lock_fd = -1;
    out->log_fd = -1;
    ssmq_str_init(&config_text, CONFIG_BYTES);
    ssmq_str_init(&plan, SSMQ_MAX_PLAN_BYTES);
    ssmq_status status = ssmq_config_write(&loaded->config, false, &config_text, err);
    if (status == SSMQ_OK) status = ssmq_plan_write(grid, loaded, &plan, err);
    if (status == SSMQ_OK) {
        status = open_with(out, resume_dir, loaded, &config_text, &plan, err);
    }
    ssmq_str_free(&plan);
    ssmq_str_free(&config_text);
    if (status != SSMQ_OK) ssmq_run_folder_close(out);
    return status;
}

void ssmq_run_folder_close(ssmq_run_folder *folder) {
    if (folder->log_fd >= 0) {
        ssmq_log_copy_to(-1);
        (void)close(folder->log_fd);
    }
    if (folder->lock_fd >= 0) (void)close(folder->lock_fd);
    folder->lock_fd = -1;
    folder->log_fd = -1;
}
