/* SPDX-License-Identifier: Apache-2.0 */
/* cli/provenance.h - what a run was made with: versions, hashes, and every session that worked on
 * it (time, command line, hosts, Slurm job). Kept as provenance.json in the run folder and copied
 * into /provenance of results.h5. */
#ifndef SSMQ_CLI_PROVENANCE_H
#define SSMQ_CLI_PROVENANCE_H

#include "base/status.h"
#include "cli/inputs.h"
#include "cli/weights.h"
#include "store/store.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_MAX_FACTS = 64 };

typedef struct ssmq_provenance {
    ssmq_fact facts[SSMQ_MAX_FACTS];
    size_t n_facts;
    char *texts[SSMQ_MAX_FACTS]; /* memory behind the facts */
} ssmq_provenance;

typedef struct ssmq_session {
    int argc;
    const char *const *argv;
    int n_ranks;
    const char *mpi_version;
    ssmq_weights weights;
} ssmq_session;

/* Writes provenance.json: the facts of the run if it is new, and one more session.
 * Fails: IO, CONFIG (damaged file), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_provenance_add(const char *run_dir, const char *run_id,
                                              const ssmq_loaded *loaded,
                                              const ssmq_session *session, ssmq_err *err);

/* Writes into/provenance.json: the facts of the first run under another run_id, and the sessions of
 * all, those that stand in `into` already first, each once.  Fails: as above. */
SSMQ_MUST_USE ssmq_status ssmq_provenance_unite(const char *into, const char *run_id,
                                                const char *const *runs, size_t n_runs,
                                                ssmq_err *err);

/* Reads it back, with config_resolved.yaml as the fact "config".
 * Owns: *out, ssmq_provenance_free().  Fails: CONFIG, IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_provenance_read(ssmq_provenance *out, const char *run_dir,
                                               ssmq_err *err);
/* Text of a fact, borrowed; NULL if there is none of this name. */
const char *ssmq_provenance_get(const ssmq_provenance *provenance, const char *name);
void ssmq_provenance_free(ssmq_provenance *provenance);

#ifdef __cplusplus
}
#endif
#endif
