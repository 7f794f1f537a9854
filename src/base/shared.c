/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* memfd_create */
#include "base/shared.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

ssmq_status ssmq_shared_open(ssmq_shared *out, size_t n_bytes, ssmq_err *err) {
    memset(out, 0, sizeof *out);
    const int fd = memfd_create("ssmq", MFD_CLOEXEC);
    void *bytes = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, (off_t)n_bytes) == 0) {
        bytes = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (bytes == MAP_FAILED) {
        const int reason = errno;
        if (fd >= 0) (void)close(fd);
        return SSMQ_FAIL(err, NOMEM, "no shared memory of %zu bytes: %s", n_bytes,
                         strerror(reason));
    }
    *out = (ssmq_shared){.bytes = bytes, .n_bytes = n_bytes, .fd = fd};
    return SSMQ_OK;
}

void ssmq_shared_path(const ssmq_shared *shared, char path[SSMQ_PATH_BYTES]) {
    (void)snprintf(path, SSMQ_PATH_BYTES, "/proc/%ld/fd/%d", (long)getpid(), shared->fd);
}

void ssmq_shared_close(ssmq_shared *shared) {
    if (shared->bytes != NULL) {
        (void)munmap(shared->bytes, shared->n_bytes);
        (void)close(shared->fd);
    }
    memset(shared, 0, sizeof *shared);
}
