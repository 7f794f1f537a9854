/* SPDX-License-Identifier: Apache-2.0 */
/* A library for LD_PRELOAD that makes a host odd:
 *     SSMQ_CLOCK_JUMP_S    the wall clock is off by so many seconds, forth or back, at every second
 *                          look at it
 *     SSMQ_HIDDEN          a file of this name is not there, neither by opening nor by listing,
 *     SSMQ_HIDDEN_MS       for so long after the process began: a network file system that shows
 *                          late what others have made */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *hidden;
static long hidden_ms, jump_s;
static struct timespec begun;
static int n_looks;

__attribute__((constructor)) static void begin(void) {
    const char *ms = getenv("SSMQ_HIDDEN_MS"), *s = getenv("SSMQ_CLOCK_JUMP_S");
    hidden = getenv("SSMQ_HIDDEN");
    hidden_ms = ms != NULL ? strtol(ms, NULL, 10) : 0;
    jump_s = s != NULL ? strtol(s, NULL, 10) : 0;
    (void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &begun);
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    const int failed = (int)syscall(SYS_clock_gettime, clock, out);
    if (failed == 0 && clock == CLOCK_REALTIME && __atomic_fetch_add(&n_looks, 1, 0) % 2 == 1) {
        out->tv_sec += jump_s;
    }
    return failed;
}

time_t time(time_t *out) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL) *out = now.tv_sec;
    return now.tv_sec;
}

static bool is_hidden(const char *path) {
    const char *slash = strrchr(path, '/');
    struct timespec now;
    if (hidden == NULL || strcmp(slash != NULL ? slash + 1 : path, hidden) != 0) return false;
    (void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000 < hidden_ms;
}

static int open_file(const char *path, int flags, va_list rest) {
    const int mode = (flags & O_CREAT) != 0 ? va_arg(rest, int) : 0;
    if ((flags & O_CREAT) == 0 && is_hidden(path)) {
        errno = ENOENT;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const int fd = open_file(path, flags, rest);
    va_end(rest);
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const int fd = open_file(path, flags, rest);
    va_end(rest);
    return fd;
}

struct dirent *readdir(DIR *folder) {
    static struct dirent *(*next)(DIR *);
    if (next == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "readdir");
        memcpy((void *)&next, (void *)&symbol, sizeof symbol);
    }
    struct dirent *item = next(folder);
    while (item != NULL && is_hidden(item->d_name)) item = next(folder);
    return item;
}
