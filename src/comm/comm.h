/* SPDX-License-Identifier: Apache-2.0 */
/* comm/comm.h - processes of a run: MPI start and end, agreement, and the small messages by which
 * ranks ask the root for trials. One process without mpirun is a run of one rank. */
#ifndef SSMQ_COMM_COMM_H
#define SSMQ_COMM_COMM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_comm ssmq_comm;

/* Starts MPI (thread level FUNNELED: only the thread that called this may use the comm).  Ranks:
 * all.  Owns: *out, ssmq_comm_close(). Fails: INTERNAL. */
SSMQ_MUST_USE ssmq_status ssmq_comm_open(ssmq_comm **out, int *argc, char ***argv, ssmq_err *err);
/* Ends MPI.  Ranks: all, after every file is closed. */
void ssmq_comm_close(ssmq_comm *comm);

int ssmq_comm_rank(const ssmq_comm *comm);
int ssmq_comm_size(const ssmq_comm *comm);
/* Among the ranks of this host. */
int ssmq_comm_local_rank(const ssmq_comm *comm);
int ssmq_comm_local_size(const ssmq_comm *comm);
/* Hosts of the run; the root's is number 0. The first rank of each host speaks for it. */
int ssmq_comm_n_hosts(const ssmq_comm *comm);
int ssmq_comm_host_idx(const ssmq_comm *comm);
/* Text of the MPI library's version. */
const char *ssmq_comm_mpi_version(void);

/* The worst status of all ranks, on all ranks; the text of the lowest rank that failed reaches
 * everybody's err.  Ranks: all. */
SSMQ_MUST_USE ssmq_status ssmq_comm_agree(ssmq_comm *comm, ssmq_status mine, ssmq_err *err);

/* Root's bytes to everybody's buffer of the same size.  Ranks: all. */
SSMQ_MUST_USE ssmq_status ssmq_comm_broadcast(ssmq_comm *comm, void *bytes, int64_t n_bytes,
                                              ssmq_err *err);

/* Root's bytes to the first rank of every host, for amounts that take long: the wait spins on a
 * core, which is several times faster.  Ranks: the first of each host. */
SSMQ_MUST_USE ssmq_status ssmq_comm_broadcast_to_hosts(ssmq_comm *comm, void *bytes,
                                                       int64_t n_bytes, ssmq_err *err);
/* The bytes of a host's first rank to all ranks of that host.  Ranks: all. */
SSMQ_MUST_USE ssmq_status ssmq_comm_broadcast_in_host(ssmq_comm *comm, void *bytes, int64_t n_bytes,
                                                      ssmq_err *err);
/* n_bytes of every rank into all[size * n_bytes], by rank.  Ranks: all. */
SSMQ_MUST_USE ssmq_status ssmq_comm_gather(ssmq_comm *comm, const void *mine, void *all,
                                           int n_bytes, ssmq_err *err);

/* n_bytes from one rank to another that waits for them. Both wait without bound.
 * Ranks: the two.  Fails: INTERNAL. */
SSMQ_MUST_USE ssmq_status ssmq_comm_send_bytes(ssmq_comm *comm, int to_rank, const void *bytes,
                                               int64_t n_bytes, ssmq_err *err);
SSMQ_MUST_USE ssmq_status ssmq_comm_receive_bytes(ssmq_comm *comm, int from_rank, void *bytes,
                                                  int64_t n_bytes, ssmq_err *err);

/* A message between a worker and the root's coordinator; what its members mean is the sender's and
 * receiver's matter (cli/coordinate.h). */
typedef struct ssmq_message {
    int32_t kind;
    int32_t value;
    int64_t trial_idx;
    double seconds;
    double runtime_s;
    double idle_s;
} ssmq_message;

/* Returns when the message is on its way.  Fails: INTERNAL. */
SSMQ_MUST_USE ssmq_status ssmq_comm_send(ssmq_comm *comm, int to_rank, const ssmq_message *message,
                                         ssmq_err *err);
/* Waits without spinning for a message from any rank, at most timeout_ns (< 0: for ever);
 * *from_rank is -1 if none came. */
SSMQ_MUST_USE ssmq_status ssmq_comm_receive(ssmq_comm *comm, ssmq_message *message, int *from_rank,
                                            int64_t timeout_ns, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
