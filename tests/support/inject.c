/* SPDX-License-Identifier: Apache-2.0 */
/* A library for LD_PRELOAD that makes one call of a program go wrong: the nth that touches a folder
 * on disk, or the nth time that the program itself asks for memory.
 *     SSMQ_INJECT       what happens: eio | enospc | short | kill | nomem
 *     SSMQ_INJECT_AT    n, from 1
 *     SSMQ_INJECT_DIR   calls on this folder and below count (eio, enospc, short, kill)
 *     SSMQ_INJECT_MARK  file that is made when it happens
 * write, fsync, fdatasync, ftruncate, rename, mkdir and open with O_CREAT count; of `short`, whole
 * writes alone, of which half arrives, and the next write fails: the disk is full. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_PATH_BYTES = 4096, MARK_MODE = 0666 };

typedef enum fault {
    FAULT_NONE,
    FAULT_EIO,
    FAULT_ENOSPC,
    FAULT_SHORT,
    FAULT_KILL,
    FAULT_NOMEM
} fault;

static fault kind;
static long at;
static char folder[MAX_PATH_BYTES], mark[MAX_PATH_BYTES];
static long n_seen;
static bool is_full;                         /* after a short write */
static uintptr_t program_begin, program_end; /* code of the program itself */

void *__libc_malloc(size_t n_bytes);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n_bytes);
void *__libc_memalign(size_t align, size_t n_bytes);

/* The first object is the program. */
static int find_program(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD || (info->dlpi_phdr[i].p_flags & PF_X) == 0) {
            continue;
        }
        program_begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        program_end = program_begin + info->dlpi_phdr[i].p_memsz;
    }
    return 1;
}

__attribute__((constructor)) static void begin(void) {
    static const char *const names[] = {"", "eio", "enospc", "short", "kill", "nomem"};
    const char *wanted = getenv("SSMQ_INJECT"), *number = getenv("SSMQ_INJECT_AT");
    const char *dir = getenv("SSMQ_INJECT_DIR"), *mark_path = getenv("SSMQ_INJECT_MARK");
    if (wanted == NULL || number == NULL || mark_path == NULL) return;
    (void)dl_iterate_phdr(find_program, NULL);
    (void)snprintf(folder, sizeof folder, "%s", dir != NULL ? dir : "");
    (void)snprintf(mark, sizeof mark, "%s", mark_path);
    at = strtol(number, NULL, 10);
    for (int i = 1; i < (int)(sizeof names / sizeof names[0]); i++) {
        if (strcmp(wanted, names[i]) == 0) kind = (fault)i;
    }
}

static void leave_mark(void) {
    const long fd = syscall(SYS_openat, AT_FDCWD, mark, O_WRONLY | O_CREAT, MARK_MODE);
    if (fd >= 0) (void)syscall(SYS_close, fd);
}

static bool is_next(void) {
    if (__atomic_add_fetch(&n_seen, 1, __ATOMIC_RELAXED) != at) return false;
    leave_mark();
    if (kind == FAULT_KILL) (void)syscall(SYS_kill, getpid(), SIGKILL);
    return true;
}

static bool is_below(const char *path) {
    const size_t n = strlen(folder);
    return n > 0 && strncmp(path, folder, n) == 0;
}

static bool is_file_below(int fd) {
    char link[64], path[MAX_PATH_BYTES];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const long n = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (n <= 0) return false;
    path[n] = '\0';
    return is_below(path);
}

/* True, with errno set, if this call on the folder is the one that fails. */
static bool fails(bool is_there) {
    if (kind == FAULT_NONE || kind == FAULT_NOMEM || kind == FAULT_SHORT || !is_there) return false;
    if (!is_next()) return false;
    errno = kind == FAULT_EIO ? EIO : ENOSPC;
    return true;
}

ssize_t write(int fd, const void *bytes, size_t n_bytes) {
    if (kind == FAULT_SHORT && is_file_below(fd)) {
        if (__atomic_exchange_n(&is_full, false, __ATOMIC_RELAXED)) {
            errno = ENOSPC;
            return -1;
        }
        if (n_bytes > 1 && is_next()) {
            __atomic_store_n(&is_full, true, __ATOMIC_RELAXED);
            return syscall(SYS_write, fd, bytes, n_bytes / 2);
        }
    } else if (kind != FAULT_NONE && fails(is_file_below(fd))) {
        return -1;
    }
    return syscall(SYS_write, fd, bytes, n_bytes);
}

int fsync(int fd) {
    if (kind != FAULT_NONE && fails(is_file_below(fd))) return -1;
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    if (kind != FAULT_NONE && fails(is_file_below(fd))) return -1;
    return (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t n_bytes) {
    if (kind != FAULT_NONE && fails(is_file_below(fd))) return -1;
    return (int)syscall(SYS_ftruncate, fd, n_bytes);
}

int rename(const char *from, const char *to) {
    if (fails(is_below(from))) return -1;
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int mkdir(const char *path, mode_t mode) {
    if (fails(is_below(path))) return -1;
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

static int open_file(const char *path, int flags, va_list rest) {
    const bool makes = (flags & O_CREAT) != 0;
    const mode_t mode = makes ? va_arg(rest, mode_t) : 0;
    if (fails(makes && is_below(path))) return -1;
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
    const int fd = open_file(path, flags | O_LARGEFILE, rest);
    va_end(rest);
    return fd;
}

/* Memory for the program's own code; libraries are not what is tested. */
static bool has_none(const void *caller) {
    const uintptr_t place = (uintptr_t)caller;
    if (kind != FAULT_NOMEM || place < program_begin || place >= program_end) return false;
    if (!is_next()) return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n_bytes) { /* lint: allow malloc */
    return has_none(__builtin_return_address(0)) ? NULL : __libc_malloc(n_bytes);
}

void *calloc(size_t n, size_t size) { /* lint: allow calloc */
    return has_none(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n_bytes) { /* lint: allow realloc */
    return has_none(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n_bytes);
}

void *aligned_alloc(size_t align, size_t n_bytes) {
    return has_none(__builtin_return_address(0)) ? NULL : __libc_memalign(align, n_bytes);
}
