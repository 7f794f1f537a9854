/* SPDX-License-Identifier: Apache-2.0 */
/* comm/comm.c - MPI behind comm.h. Every call is checked; errors come back as values because
 * ssmq's own communicator returns them instead of ending the job. */
#include "comm/comm.h"

#include <string.h>

#include <mpi.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
    ROOT = 0,
    MESSAGE_TAG = 1,
    BYTES_TAG = 2,
    /* Open MPI's blocking receive spins on a core that another rank computes on. Asking nine
     * thousand times a second (a sleep takes 60 us longer than asked) costs about 1 % of a core and
     * 0.05 ms of latency. */
    POLL_NS = 50000,
    PART_BYTES = 1 << 30 /* counts of MPI calls are int */
};

struct ssmq_comm {
    MPI_Comm world;
    MPI_Comm local; /* ranks of this host */
    MPI_Comm hosts; /* the first rank of each; MPI_COMM_NULL on others */
    int rank, size;
    int local_rank, local_size;
    int host_idx, n_hosts;
};

#define MPI_TRY(call, err)                                                                         \
    do {                                                                                           \
        int mpi_code_ = (call);                                                                    \
        if (mpi_code_ != MPI_SUCCESS) return mpi_failed(mpi_code_, #call, __LINE__, (err));        \
    } while (0)

static ssmq_status mpi_failed(int code, const char *call, int line, ssmq_err *err) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int n_bytes = 0;
    (void)MPI_Error_string(code, text, &n_bytes);
    return ssmq_err_set(err, SSMQ_INTERNAL, __FILE__, line, "%.60s: %s", call, text);
}

static ssmq_status setup(ssmq_comm *comm, ssmq_err *err) {
    MPI_TRY(MPI_Comm_dup(MPI_COMM_WORLD, &comm->world), err);
    MPI_TRY(MPI_Comm_set_errhandler(comm->world, MPI_ERRORS_RETURN), err);
    MPI_TRY(MPI_Comm_rank(comm->world, &comm->rank), err);
    MPI_TRY(MPI_Comm_size(comm->world, &comm->size), err);
    MPI_TRY(MPI_Comm_split_type(comm->world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &comm->local),
            err);
    MPI_TRY(MPI_Comm_rank(comm->local, &comm->local_rank), err);
    MPI_TRY(MPI_Comm_size(comm->local, &comm->local_size), err);
    const int color = comm->local_rank == 0 ? 0 : MPI_UNDEFINED;
    MPI_TRY(MPI_Comm_split(comm->world, color, 0, &comm->hosts), err);
    int place[2] = {0, 0};
    if (comm->hosts != MPI_COMM_NULL) {
        MPI_TRY(MPI_Comm_rank(comm->hosts, &place[0]), err);
        MPI_TRY(MPI_Comm_size(comm->hosts, &place[1]), err);
    }
    MPI_TRY(MPI_Bcast(place, 2, MPI_INT, 0, comm->local), err);
    comm->host_idx = place[0];
    comm->n_hosts = place[1];
    return SSMQ_OK;
}

ssmq_status ssmq_comm_open(ssmq_comm **out, int *argc, char ***argv, ssmq_err *err) {
    int provided = MPI_THREAD_SINGLE;
    *out = NULL;
    MPI_TRY(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided), err);
    if (provided < MPI_THREAD_FUNNELED) {
        return SSMQ_FAIL(err, INTERNAL, "this MPI library does not work beside threads");
    }
    ssmq_comm *comm = NULL;
    SSMQ_TRY(ssmq_calloc(&comm, 1, sizeof *comm, err));
    comm->local = MPI_COMM_NULL;
    comm->hosts = MPI_COMM_NULL;
    ssmq_status status = setup(comm, err);
    if (status != SSMQ_OK) {
        ssmq_free(comm);
        return status;
    }
    *out = comm;
    return SSMQ_OK;
}

void ssmq_comm_close(ssmq_comm *comm) {
    if (comm == NULL) return;
    /* The process ends after this; what cannot be freed now is freed then. */
    if (comm->hosts != MPI_COMM_NULL) (void)MPI_Comm_free(&comm->hosts);
    (void)MPI_Comm_free(&comm->local);
    (void)MPI_Comm_free(&comm->world);
    (void)MPI_Finalize();
    ssmq_free(comm);
}

int ssmq_comm_rank(const ssmq_comm *comm) {
    return comm->rank;
}

int ssmq_comm_size(const ssmq_comm *comm) {
    return comm->size;
}

int ssmq_comm_local_rank(const ssmq_comm *comm) {
    return comm->local_rank;
}

int ssmq_comm_local_size(const ssmq_comm *comm) {
    return comm->local_size;
}

int ssmq_comm_n_hosts(const ssmq_comm *comm) {
    return comm->n_hosts;
}

int ssmq_comm_host_idx(const ssmq_comm *comm) {
    return comm->host_idx;
}

const char *ssmq_comm_mpi_version(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int n_bytes = 0;
    if (MPI_Get_library_version(text, &n_bytes) != MPI_SUCCESS) return "unknown";
    char *comma = strchr(text, ',');
    if (comma != NULL) *comma = '\0';
    return text;
}

/* Like every collective below, a wait that sleeps: a rank whose peers take seconds longer must not
 * take their core. */
static ssmq_status wait_for(MPI_Request *request, ssmq_err *err) {
    for (int done = 0; !done;) {
        MPI_TRY(MPI_Test(request, &done, MPI_STATUS_IGNORE), err);
        if (!done) ssmq_sleep_ns(POLL_NS);
    }
    return SSMQ_OK;
}

ssmq_status ssmq_comm_agree(ssmq_comm *comm, ssmq_status mine, ssmq_err *err) {
    /* Key of a rank: worst status first, then lowest rank, so that one maximum finds both. */
    int key = mine == SSMQ_OK ? -1 : (int)mine * comm->size + (comm->size - 1 - comm->rank);
    int worst = -1;
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_TRY(MPI_Iallreduce(&key, &worst, 1, MPI_INT, MPI_MAX, comm->world, &request), err);
    SSMQ_TRY(wait_for(&request, err));
    if (worst < 0) return SSMQ_OK;
    int failed_rank = comm->size - 1 - worst % comm->size;
    ssmq_err first = {0};
    if (failed_rank == comm->rank && err != NULL) first = *err;
    MPI_TRY(MPI_Ibcast(first.text, sizeof first.text, MPI_CHAR, failed_rank, comm->world, &request),
            err);
    SSMQ_TRY(wait_for(&request, err));
    ssmq_status status = (ssmq_status)(worst / comm->size);
    if (err != NULL && failed_rank != comm->rank) {
        ssmq_err_clear(err);
        return ssmq_err_set(err, status, __FILE__, __LINE__, "%s", first.text);
    }
    return status;
}

static ssmq_status broadcast(MPI_Comm comm, void *bytes, int64_t n_bytes, ssmq_err *err) {
    for (int64_t at = 0; at < n_bytes; at += PART_BYTES) {
        int64_t part = n_bytes - at < PART_BYTES ? n_bytes - at : PART_BYTES;
        MPI_Request request = MPI_REQUEST_NULL;
        MPI_TRY(MPI_Ibcast((char *)bytes + at, (int)part, MPI_BYTE, ROOT, comm, &request), err);
        SSMQ_TRY(wait_for(&request, err));
    }
    return SSMQ_OK;
}

ssmq_status ssmq_comm_broadcast(ssmq_comm *comm, void *bytes, int64_t n_bytes, ssmq_err *err) {
    return broadcast(comm->world, bytes, n_bytes, err);
}

ssmq_status ssmq_comm_broadcast_in_host(ssmq_comm *comm, void *bytes, int64_t n_bytes,
                                        ssmq_err *err) {
    return broadcast(comm->local, bytes, n_bytes, err);
}

ssmq_status ssmq_comm_broadcast_to_hosts(ssmq_comm *comm, void *bytes, int64_t n_bytes,
                                         ssmq_err *err) {
    for (int64_t at = 0; at < n_bytes; at += PART_BYTES) {
        int64_t part = n_bytes - at < PART_BYTES ? n_bytes - at : PART_BYTES;
        MPI_TRY(MPI_Bcast((char *)bytes + at, (int)part, MPI_BYTE, ROOT, comm->hosts), err);
    }
    return SSMQ_OK;
}

ssmq_status ssmq_comm_gather(ssmq_comm *comm, const void *mine, void *all, int n_bytes,
                             ssmq_err *err) {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_TRY(MPI_Iallgather(mine, n_bytes, MPI_BYTE, all, n_bytes, MPI_BYTE, comm->world, &request),
            err);
    return wait_for(&request, err);
}

ssmq_status ssmq_comm_send_bytes(ssmq_comm *comm, int to_rank, const void *bytes, int64_t n_bytes,
                                 ssmq_err *err) {
    for (int64_t at = 0; at < n_bytes; at += PART_BYTES) {
        const int part = (int)(n_bytes - at < PART_BYTES ? n_bytes - at : PART_BYTES);
        MPI_TRY(MPI_Send((const char *)bytes + at, part, MPI_BYTE, to_rank, BYTES_TAG, comm->world),
                err);
    }
    return SSMQ_OK;
}

ssmq_status ssmq_comm_receive_bytes(ssmq_comm *comm, int from_rank, void *bytes, int64_t n_bytes,
                                    ssmq_err *err) {
    for (int64_t at = 0; at < n_bytes; at += PART_BYTES) {
        const int part = (int)(n_bytes - at < PART_BYTES ? n_bytes - at : PART_BYTES);
        MPI_TRY(MPI_Recv((char *)bytes + at, part, MPI_BYTE, from_rank, BYTES_TAG, comm->world,
                         MPI_STATUS_IGNORE),
                err);
    }
    return SSMQ_OK;
}

ssmq_status ssmq_comm_send(ssmq_comm *comm, int to_rank, const ssmq_message *message,
                           ssmq_err *err) {
    MPI_TRY(MPI_Send(message, (int)sizeof *message, MPI_BYTE, to_rank, MESSAGE_TAG, comm->world),
            err);
    return SSMQ_OK;
}

ssmq_status ssmq_comm_receive(ssmq_comm *comm, ssmq_message *message, int *from_rank,
                              int64_t timeout_ns, ssmq_err *err) {
    int64_t start_ns = ssmq_now_ns();
    *from_rank = -1;
    for (;;) {
        int is_here = 0;
        MPI_Status seen;
        MPI_TRY(MPI_Iprobe(MPI_ANY_SOURCE, MESSAGE_TAG, comm->world, &is_here, &seen), err);
        if (is_here) {
            MPI_TRY(MPI_Recv(message, (int)sizeof *message, MPI_BYTE, seen.MPI_SOURCE, MESSAGE_TAG,
                             comm->world, MPI_STATUS_IGNORE),
                    err);
            *from_rank = seen.MPI_SOURCE;
            return SSMQ_OK;
        }
        if (timeout_ns >= 0 && ssmq_now_ns() - start_ns >= timeout_ns) return SSMQ_OK;
        ssmq_sleep_ns(POLL_NS);
    }
}
