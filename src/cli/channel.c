/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/channel.h"

#include <pthread.h>
#include <time.h>

#include "base/mem.h"

enum { ROOT = 0, NS_PER_S = 1000000000 };

struct ssmq_mailbox {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct {
        bool is_full;
        ssmq_message message;
    } slots[2];
};

ssmq_status ssmq_mailbox_open(ssmq_mailbox **out, ssmq_err *err) {
    pthread_condattr_t monotonic;
    SSMQ_TRY(ssmq_calloc(out, 1, sizeof **out, err));
    int failed = pthread_mutex_init(&(*out)->mutex, NULL) | pthread_condattr_init(&monotonic) |
                 pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) |
                 pthread_cond_init(&(*out)->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    if (failed == 0) return SSMQ_OK;
    ssmq_free(*out);
    *out = NULL;
    return SSMQ_FAIL(err, INTERNAL, "cannot set up threads");
}

void ssmq_mailbox_close(ssmq_mailbox *mailbox) {
    if (mailbox == NULL) return;
    (void)pthread_cond_destroy(&mailbox->changed);
    (void)pthread_mutex_destroy(&mailbox->mutex);
    ssmq_free(mailbox);
}

void ssmq_mailbox_put(ssmq_mailbox *mailbox, ssmq_mailbox_side to, const ssmq_message *message) {
    (void)pthread_mutex_lock(&mailbox->mutex);
    if (mailbox->slots[to].is_full) ssmq_panic(__FILE__, __LINE__, "a message was overwritten");
    mailbox->slots[to].is_full = true;
    mailbox->slots[to].message = *message;
    (void)pthread_cond_broadcast(&mailbox->changed);
    (void)pthread_mutex_unlock(&mailbox->mutex);
}

bool ssmq_mailbox_take(ssmq_mailbox *mailbox, ssmq_mailbox_side side, int64_t timeout_ns,
                       ssmq_message *message) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    if (timeout_ns > 0) {
        int64_t ns = until.tv_nsec + timeout_ns;
        until.tv_sec += (time_t)(ns / NS_PER_S);
        until.tv_nsec = (long)(ns % NS_PER_S);
    }
    (void)pthread_mutex_lock(&mailbox->mutex);
    int timed_out = 0;
    while (!mailbox->slots[side].is_full && timed_out == 0) {
        timed_out = timeout_ns < 0
                        ? pthread_cond_wait(&mailbox->changed, &mailbox->mutex)
                        : pthread_cond_timedwait(&mailbox->changed, &mailbox->mutex, &until);
    }
    bool is_here = mailbox->slots[side].is_full;
    if (is_here) {
        *message = mailbox->slots[side].message;
        mailbox->slots[side].is_full = false;
    }
    (void)pthread_mutex_unlock(&mailbox->mutex);
    return is_here;
}

ssmq_status ssmq_channel_send(ssmq_channel *channel, const ssmq_message *message, ssmq_err *err) {
    if (channel->comm != NULL) return ssmq_comm_send(channel->comm, ROOT, message, err);
    ssmq_mailbox_put(channel->mailbox, SSMQ_TO_COORDINATOR, message);
    return SSMQ_OK;
}

ssmq_status ssmq_channel_receive(ssmq_channel *channel, ssmq_message *message, ssmq_err *err) {
    int from_rank = 0;
    if (channel->comm != NULL) {
        return ssmq_comm_receive(channel->comm, message, &from_rank, -1, err);
    }
    (void)ssmq_mailbox_take(channel->mailbox, SSMQ_TO_WORKER, -1, message);
    return SSMQ_OK;
}
