/* SPDX-License-Identifier: Apache-2.0 */
/* base/file.h - whole files in and out. A file written here is either the old one or the new one,
 * never a part: temporary name in the same folder, fsync, rename, fsync of the folder. */
#ifndef SSMQ_BASE_FILE_H
#define SSMQ_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_PATH_BYTES = 1024 };

/* The file's bytes and a terminating zero.  Owns: *out, ssmq_free().
 * Fails: CONFIG (missing, not a regular file, over max_bytes), IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_file_read(char **out, size_t *n_bytes, const char *path,
                                         size_t max_bytes, ssmq_err *err);

/* Replaces path by these bytes, durably.  Fails: IO (the old file is untouched). */
SSMQ_MUST_USE ssmq_status ssmq_file_replace(const char *path, const void *bytes, size_t n_bytes,
                                            ssmq_err *err);

/* Makes an existing file durable under its final name: fsync(tmp_path), rename to path, fsync of
 * the folder. tmp_path must lie in the same folder.  Fails: IO. */
SSMQ_MUST_USE ssmq_status ssmq_file_commit(const char *tmp_path, const char *path, ssmq_err *err);

/* Makes the names in path's folder durable: after a file was created or renamed in it.
 * Fails: IO; CONFIG (path too long). */
SSMQ_MUST_USE ssmq_status ssmq_folder_sync(const char *path, ssmq_err *err);

/* All of the bytes to fd, restarting short and interrupted writes.  Fails: IO; `path` names the
 * file in the message. */
SSMQ_MUST_USE ssmq_status ssmq_fd_write(int fd, const void *bytes, size_t n_bytes, const char *path,
                                        ssmq_err *err);

/* A file mapped read-only. */
typedef struct ssmq_map {
    const unsigned char *bytes; /* NULL for an empty file */
    size_t n_bytes;
} ssmq_map;

/* Owns: *out, ssmq_map_close().  Fails: CONFIG (missing, not a regular file), IO. */
SSMQ_MUST_USE ssmq_status ssmq_map_open(ssmq_map *out, const char *path, ssmq_err *err);
void ssmq_map_close(ssmq_map *map);

/* folder/name into out[SSMQ_PATH_BYTES].  Fails: CONFIG (too long). */
SSMQ_MUST_USE ssmq_status ssmq_path_join(char *out, const char *folder, const char *name,
                                         ssmq_err *err);
/* Last part of a path, slashes at its end aside, cut to out_bytes. */
void ssmq_path_name(char *out, size_t out_bytes, const char *path);
/* True for a plain file name that stays in its folder: not empty, no '/', no control characters,
 * not "." or "..", no leading '-', at most 200 bytes. */
bool ssmq_name_is_safe(const char *name);
bool ssmq_path_exists(const char *path);
bool ssmq_path_is_folder(const char *path);
/* Creates the folder and its parents; an existing folder is fine.  Fails: IO. */
SSMQ_MUST_USE ssmq_status ssmq_folder_make(const char *path, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
