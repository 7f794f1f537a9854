/* SPDX-License-Identifier: Apache-2.0 */
/* cli/channel.h - the words between a worker and the coordinator, whether the worker is another
 * rank (comm messages) or a thread of the root (a mailbox). */
#ifndef SSMQ_CLI_CHANNEL_H
#define SSMQ_CLI_CHANNEL_H

#include "base/status.h"
#include "comm/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ssmq_word {
    SSMQ_WORD_IDLE,     /* worker: ready for work */
    SSMQ_WORD_FINISHED, /* worker: trial_idx ended with status `value` after `seconds`, of which
                           runtime_s (NaN: not known) without loading, after idle_s of waiting
                           for it; ready */
    SSMQ_WORD_RETIRED,  /* worker: takes no more work, for the reason `value`; a trial in flight
                           goes back */
    SSMQ_WORD_RUN,      /* coordinator: run trial_idx as attempt `value` */
    SSMQ_WORD_STOP      /* coordinator: nothing more will come */
} ssmq_word;

/* Two slots between two threads of one process. */
typedef struct ssmq_mailbox ssmq_mailbox;

/* Owns: *out, ssmq_mailbox_close().  Fails: NOMEM, INTERNAL. */
SSMQ_MUST_USE ssmq_status ssmq_mailbox_open(ssmq_mailbox **out, ssmq_err *err);
void ssmq_mailbox_close(ssmq_mailbox *mailbox);

typedef enum ssmq_mailbox_side { SSMQ_TO_WORKER, SSMQ_TO_COORDINATOR } ssmq_mailbox_side;
/* Puts a message for one side; at most one may wait there. */
void ssmq_mailbox_put(ssmq_mailbox *mailbox, ssmq_mailbox_side to, const ssmq_message *message);
/* Takes the message for this side, waiting up to timeout_ns (< 0: for ever); false if none came. */
bool ssmq_mailbox_take(ssmq_mailbox *mailbox, ssmq_mailbox_side side, int64_t timeout_ns,
                       ssmq_message *message);

/* A worker's end of its line to the coordinator. */
typedef struct ssmq_channel {
    ssmq_comm *comm;       /* of another rank; NULL on the root */
    ssmq_mailbox *mailbox; /* of the root's worker thread; NULL elsewhere */
} ssmq_channel;

/* Fails: INTERNAL. */
SSMQ_MUST_USE ssmq_status ssmq_channel_send(ssmq_channel *channel, const ssmq_message *message,
                                            ssmq_err *err);
/* Waits for ever.  Fails: INTERNAL. */
SSMQ_MUST_USE ssmq_status ssmq_channel_receive(ssmq_channel *channel, ssmq_message *message,
                                               ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
