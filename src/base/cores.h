/* SPDX-License-Identifier: Apache-2.0 */
/* base/cores.h - processors this process may run on. */
#ifndef SSMQ_BASE_CORES_H
#define SSMQ_BASE_CORES_H

#ifdef __cplusplus
extern "C" {
#endif

/* Threads a rank should use when n_local_ranks share this host: all the processors it is bound to,
 * or its share of all of them if it is bound to none. At least 1. */
int ssmq_cores_per_rank(int n_local_ranks);

#ifdef __cplusplus
}
#endif
#endif
