/* SPDX-License-Identifier: Apache-2.0 */
/* cli/weights.h - a run's checkpoint on every rank: its files are read by the root's host alone,
 * sent to other hosts by MPI, and from GPU to GPU by NCCL. */
#ifndef SSMQ_CLI_WEIGHTS_H
#define SSMQ_CLI_WEIGHTS_H

#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "comm/comm.h"
#include "engine/engine.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How weights came to a kind of place. */
typedef struct ssmq_delivery {
    char way[32];     /* hosts: "files" | "mpi"; GPUs: "nccl 2.28.9" | "host memory"; "none" */
    char reason[200]; /* why not from GPU to GPU, or "" */
    int64_t n_bytes;  /* that each receiver got; 0 if nothing was sent */
    double seconds;   /* of sending alone */
} ssmq_delivery;

typedef struct ssmq_weights {
    ssmq_delivery hosts;
    ssmq_delivery gpus;
} ssmq_weights;

/* Opens the model on every rank. Ranks of the root's host map its files. Those of another host map
 * one copy in memory, which their first rank received; every rank hashes what it mapped. Random
 * models are drawn by each rank.  Ranks: all; the same status on all.
 * Owns: *out, ssmq_model_close().  Fails: as ssmq_model_open(), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_weights_open(ssmq_model **out, ssmq_comm *comm, const char *path,
                                            ssmq_weights *weights, ssmq_err *err);

/* The model in the memory of every rank's GPU, sent from the root's; checksums must agree. Where
 * that cannot be, and for a model of fewer than least_bytes, each engine takes it from host memory
 * at its first load, and the reason is in weights->gpus: making a communicator takes over a second.
 * Ranks: all; the same status on all.  Fails: DEVICE (other bytes have arrived). */
SSMQ_MUST_USE ssmq_status ssmq_weights_to_gpus(ssmq_engine *engine, ssmq_comm *comm,
                                               const ssmq_model *model, int64_t least_bytes,
                                               ssmq_weights *weights, ssmq_err *err);

/* A line of the log for each way that was taken. */
void ssmq_weights_log(const ssmq_weights *weights);
/* The member "weights" of a session in provenance.json. */
void ssmq_weights_json(const ssmq_weights *weights, ssmq_str *out);

#ifdef __cplusplus
}
#endif
#endif
