/* SPDX-License-Identifier: Apache-2.0 */
/* cli/run_folder.h - runs/<run_id>: made once, locked by one sweep at a time, resumed only by the
 * configuration and inputs that made it. */
#ifndef SSMQ_CLI_RUN_FOLDER_H
#define SSMQ_CLI_RUN_FOLDER_H

#include <stdbool.h>

#include "base/file.h"
#include "base/status.h"
#include "base/str.h"
#include "cli/inputs.h"
#include "grid/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_RUN_ID_BYTES = 128, SSMQ_SESSION_ID_BYTES = 96 };

typedef struct ssmq_run_folder {
    char path[SSMQ_PATH_BYTES];
    char run_id[SSMQ_RUN_ID_BYTES];
    char session_id[SSMQ_SESSION_ID_BYTES]; /* of this taking over; in the file "lock" */
    bool is_resumed;
    int lock_fd;
    int log_fd;
} ssmq_run_folder;

/* Creates or takes over the run folder of this configuration: `resume_dir` if given, else
 * run.out_dir/run.run_id, else a new name of UTC time and a short hash. Holds its lock, writes
 * config_resolved.yaml and plan.csv (of the whole grid), opens sweep.log.
 * Ranks: root.  Owns: *out, release with ssmq_run_folder_close().
 * Fails: CONFIG (another configuration's or inputs' folder, with the differences; not a run
 * folder; a run id that leaves its folder), IO (in use by another sweep, cannot write). */
SSMQ_MUST_USE ssmq_status ssmq_run_folder_open(ssmq_run_folder *out, const char *resume_dir,
                                               const ssmq_loaded *loaded, const ssmq_grid *grid,
                                               ssmq_err *err);
/* Whether the folder at this path is the one that this session has taken over: on another host it
 * may be a folder of that host. Where files show late, the answer may be a wrong no, never a wrong
 * yes. */
bool ssmq_run_folder_is_seen(const char *path, const char *session_id);
void ssmq_run_folder_close(ssmq_run_folder *folder);

#ifdef __cplusplus
}
#endif
#endif
