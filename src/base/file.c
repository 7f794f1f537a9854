/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

enum { NAME_MAX_BYTES = 200, FOLDER_MODE = 0777, FILE_MODE = 0666 };

/* A regular file for reading, with its size. */
static ssmq_status open_regular(int *fd, size_t *n_bytes, const char *path, ssmq_err *err) {
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return SSMQ_FAIL(err, CONFIG, "%s: %s", path, strerror(errno));
    struct stat info;
    if (fstat(*fd, &info) != 0) {
        (void)close(*fd);
        return SSMQ_FAIL(err, IO, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        (void)close(*fd);
        return SSMQ_FAIL(err, CONFIG, "%s: not a regular file", path);
    }
    *n_bytes = (size_t)info.st_size;
    return SSMQ_OK;
}

ssmq_status ssmq_file_read(char **out, size_t *n_bytes, const char *path, size_t max_bytes,
                           ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    int fd = -1;
    size_t size = 0;
    size_t done = 0;
    *out = NULL;
    *n_bytes = 0;
    SSMQ_TRY(open_regular(&fd, &size, path, err));
    if (size > max_bytes) {
        status = SSMQ_FAIL(err, CONFIG, "%s: %zu bytes, more than the limit of %zu", path, size,
                           max_bytes);
        goto close_fd;
    }
    SSMQ_TRY_OR(ssmq_calloc(out, size + 1, 1, err), close_fd);
    while (done < size) {
        ssize_t part = read(fd, *out + done, size - done);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) {
            status = SSMQ_FAIL(err, IO, "%s: %s", path, part < 0 ? strerror(errno) : "got shorter");
            ssmq_free(*out);
            *out = NULL;
            goto close_fd;
        }
        done += (size_t)part;
    }
    *n_bytes = size;
close_fd:
    (void)close(fd);
    return status;
}

ssmq_status ssmq_fd_write(int fd, const void *bytes, size_t n_bytes, const char *path,
                          ssmq_err *err) {
    const char *p = bytes;
    while (n_bytes > 0) {
        ssize_t part = write(fd, p, n_bytes);
        if (part < 0 && errno == EINTR) continue;
        if (part < 0) return SSMQ_FAIL(err, IO, "%s: cannot write: %s", path, strerror(errno));
        p += part;
        n_bytes -= (size_t)part;
    }
    return SSMQ_OK;
}

ssmq_status ssmq_folder_sync(const char *path, ssmq_err *err) {
    char folder[SSMQ_PATH_BYTES];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (length >= sizeof folder) return SSMQ_FAIL(err, CONFIG, "%s: path too long", path);
    memcpy(folder, path, length);
    folder[length] = '\0';
    int fd = open(length > 0 ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return SSMQ_FAIL(err, IO, "%s: %s", folder, strerror(errno));
    /* Some network file systems refuse fsync on folders; the rename itself has then to do. */
    int failed = fsync(fd) != 0 && errno != EINVAL;
    int reason = errno;
    (void)close(fd);
    if (failed) return SSMQ_FAIL(err, IO, "%s: cannot sync: %s", folder, strerror(reason));
    return SSMQ_OK;
}

ssmq_status ssmq_file_commit(const char *tmp_path, const char *path, ssmq_err *err) {
    int fd = open(tmp_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return SSMQ_FAIL(err, IO, "%s: %s", tmp_path, strerror(errno));
    int failed = fsync(fd) != 0;
    int reason = errno;
    failed |= close(fd) != 0;
    if (failed) return SSMQ_FAIL(err, IO, "%s: cannot sync: %s", tmp_path, strerror(reason));
    if (rename(tmp_path, path) != 0) {
        return SSMQ_FAIL(err, IO, "%s: cannot rename to it: %s", path, strerror(errno));
    }
    return ssmq_folder_sync(path, err);
}

ssmq_status ssmq_file_replace(const char *path, const void *bytes, size_t n_bytes, ssmq_err *err) {
    char tmp_path[SSMQ_PATH_BYTES];
    int length = snprintf(tmp_path, sizeof tmp_path, "%s.%ld.tmp", path, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof tmp_path) {
        return SSMQ_FAIL(err, CONFIG, "%s: path too long", path);
    }
    int fd = open(tmp_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (fd < 0) return SSMQ_FAIL(err, IO, "%s: cannot create: %s", tmp_path, strerror(errno));
    ssmq_status status = ssmq_fd_write(fd, bytes, n_bytes, tmp_path, err);
    if (close(fd) != 0 && status == SSMQ_OK) {
        status = SSMQ_FAIL(err, IO, "%s: cannot close: %s", tmp_path, strerror(errno));
    }
    if (status == SSMQ_OK) status = ssmq_file_commit(tmp_path, path, err);
    if (status != SSMQ_OK) (void)unlink(tmp_path);
    return status;
}

ssmq_status ssmq_map_open(ssmq_map *out, const char *path, ssmq_err *err) {
    int fd = -1;
    memset(out, 0, sizeof *out);
    size_t size = 0;
    SSMQ_TRY(open_regular(&fd, &size, path, err));
    void *bytes = size > 0 ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    int reason = errno;
    (void)close(fd);
    if (bytes == MAP_FAILED) {
        return SSMQ_FAIL(err, IO, "%s: cannot map: %s", path, strerror(reason));
    }
    out->bytes = bytes;
    out->n_bytes = size;
    return SSMQ_OK;
}

void ssmq_map_close(ssmq_map *map) {
    if (map->bytes != NULL) (void)munmap((void *)map->bytes, map->n_bytes);
    memset(map, 0, sizeof *map);
}

ssmq_status ssmq_path_join(char *out, const char *folder, const char *name, ssmq_err *err) {
    int length = snprintf(out, SSMQ_PATH_BYTES, "%s/%s", folder, name);
    if (length < 0 || length >= SSMQ_PATH_BYTES) {
        return SSMQ_FAIL(err, CONFIG, "%s/%s: path too long", folder, name);
    }
    return SSMQ_OK;
}

void ssmq_path_name(char *out, size_t out_bytes, const char *path) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    (void)snprintf(out, out_bytes, "%.*s", (int)(end - begin), path + begin);
}

bool ssmq_name_is_safe(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length > NAME_MAX_BYTES || name[0] == '-') return false;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == 0x7F || c == '/') return false;
    }
    return true;
}

bool ssmq_path_exists(const char *path) {
    return access(path, F_OK) == 0;
}

bool ssmq_path_is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

ssmq_status ssmq_folder_make(const char *path, ssmq_err *err) {
    char part[SSMQ_PATH_BYTES];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part) {
        return SSMQ_FAIL(err, CONFIG, "%s: path empty or too long", path);
    }
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (part[i] != '/' && part[i] != '\0') continue;
        char kept = part[i];
        part[i] = '\0';
        if (mkdir(part, FOLDER_MODE) != 0 && errno != EEXIST) {
            return SSMQ_FAIL(err, IO, "%s: cannot create the folder: %s", part, strerror(errno));
        }
        part[i] = kept;
    }
    if (!ssmq_path_is_folder(path)) return SSMQ_FAIL(err, IO, "%s: not a folder", path);
    return SSMQ_OK;
}
