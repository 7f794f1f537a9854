/* SPDX-License-Identifier: Apache-2.0 */
/* base/shared.h - memory that other processes of this host can map. It has no name in any folder,
 * so that nothing stays behind when processes are killed. */
#ifndef SSMQ_BASE_SHARED_H
#define SSMQ_BASE_SHARED_H

#include <stddef.h>

#include "base/file.h"
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_shared {
    unsigned char *bytes; /* writable here */
    size_t n_bytes;
    int fd;
} ssmq_shared;

/* n_bytes > 0 of zeros.  Owns: *out, ssmq_shared_close().  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_shared_open(ssmq_shared *out, size_t n_bytes, ssmq_err *err);
/* What ssmq_map_open() of another process of the same user takes, until this one closes it; what
 * has been mapped by then stays. */
void ssmq_shared_path(const ssmq_shared *shared, char path[SSMQ_PATH_BYTES]);
/* All zero is a no-op. */
void ssmq_shared_close(ssmq_shared *shared);

#ifdef __cplusplus
}
#endif
#endif
