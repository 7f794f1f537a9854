/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/weights.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/shared.h"
#include "comm/gpu_broadcast.h"
#include "model/model_image.h"

enum { ROOT = 0 };
static const double ns_per_s = 1e9;
static const double bytes_per_gb = 1e9;

static bool is_root(const ssmq_comm *comm) {
    return ssmq_comm_rank(comm) == ROOT;
}

static bool has_files(const ssmq_comm *comm) {
    return ssmq_comm_host_idx(comm) == 0;
}

static bool is_first_of_host(const ssmq_comm *comm) {
    return ssmq_comm_local_rank(comm) == 0;
}

/* Names and sizes of the checkpoint's files, on every rank. */
static ssmq_status share_list(ssmq_model_image *image, ssmq_comm *comm, const ssmq_model *model,
                              ssmq_err *err) {
    ssmq_status status = is_root(comm) ? ssmq_model_image_of(image, model, err) : SSMQ_OK;
    SSMQ_TRY(ssmq_comm_agree(comm, status, err));
    int64_t n_parts = image->n_parts;
    SSMQ_TRY(ssmq_comm_broadcast(comm, &n_parts, sizeof n_parts, err));
    if (!is_root(comm)) status = ssmq_model_image_init(image, n_parts, err);
    SSMQ_TRY(ssmq_comm_agree(comm, status, err));
    return ssmq_comm_broadcast(comm, image->parts, n_parts * (int64_t)sizeof *image->parts, err);
}

/* The files' bytes, from the root to the memory of each other host. */
static ssmq_status send_parts(ssmq_model_image *image, ssmq_comm *comm, ssmq_shared *memory,
                              ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    if (is_first_of_host(comm) && !is_root(comm)) {
        status = ssmq_shared_open(memory, (size_t)ssmq_model_image_bytes(image), err);
        ssmq_model_image_place(image, memory->bytes);
    }
    SSMQ_TRY(ssmq_comm_agree(comm, status, err));
    for (int64_t i = 0; i < image->n_parts && is_first_of_host(comm); i++) {
        const int64_t n_bytes = image->parts[i].n_bytes;
        status = ssmq_comm_broadcast_to_hosts(comm, image->bytes[i], n_bytes, err);
        if (status != SSMQ_OK) break;
    }
    return ssmq_comm_agree(comm, status, err);
}

static ssmq_status open_received(ssmq_model **out, ssmq_model_image *image, const char *path,
                                 const char *memory_path, ssmq_err *err) {
    ssmq_map map;
    SSMQ_TRY(ssmq_map_open(&map, memory_path, err));
    ssmq_model_image_place(image, (unsigned char *)map.bytes);
    const ssmq_status status = ssmq_model_open_image(out, path, image, &map, err);
    ssmq_map_close(&map);
    return status;
}

static ssmq_status send_to_hosts(ssmq_model **model, ssmq_model_image *image, ssmq_comm *comm,
                                 const char *path, ssmq_delivery *delivery, ssmq_err *err) {
    char memory_path[SSMQ_PATH_BYTES] = "";
    ssmq_shared memory = {0};
    SSMQ_TRY(share_list(image, comm, *model, err));
    const int64_t start_ns = ssmq_now_ns();
    ssmq_status status = send_parts(image, comm, &memory, err);
    delivery->seconds = (double)(ssmq_now_ns() - start_ns) / ns_per_s;
    delivery->n_bytes = ssmq_model_image_bytes(image);
    if (status == SSMQ_OK) {
        if (memory.bytes != NULL) ssmq_shared_path(&memory, memory_path);
        status = ssmq_comm_broadcast_in_host(comm, memory_path, sizeof memory_path, err);
        if (status == SSMQ_OK && !has_files(comm)) {
            status = open_received(model, image, path, memory_path, err);
        }
        status = ssmq_comm_agree(comm, status, err);
    }
    ssmq_shared_close(&memory);
    return status;
}

ssmq_status ssmq_weights_open(ssmq_model **out, ssmq_comm *comm, const char *path,
                              ssmq_weights *weights, ssmq_err *err) {
    const bool is_random = ssmq_model_path_is_random(path);
    const bool is_sent = ssmq_comm_n_hosts(comm) > 1 && !is_random;
    memset(weights, 0, sizeof *weights);
    *out = NULL;
    ssmq_status status = SSMQ_OK;
    if (!is_sent || has_files(comm)) status = ssmq_model_open(out, path, err);
    status = ssmq_comm_agree(comm, status, err);
    const char *way = is_sent ? "mpi" : is_random ? "none" : "files";
    ssmq_field_set(weights->hosts.way, sizeof weights->hosts.way, way);
    ssmq_field_set(weights->gpus.way, sizeof weights->gpus.way, "none");
    if (status == SSMQ_OK && is_sent) {
        ssmq_model_image image = {0};
        status = send_to_hosts(out, &image, comm, path, &weights->hosts, err);
        ssmq_model_image_free(&image);
    }
    if (status != SSMQ_OK) {
        ssmq_model_close(*out);
        *out = NULL;
    }
    return status;
}

/* What lies on every GPU is what lies on the root's. */
static ssmq_status seal(ssmq_engine *engine, ssmq_comm *comm, ssmq_err *err) {
    uint64_t mine = 0;
    ssmq_status status = engine->api->seal_source(engine, &mine, err);
    SSMQ_TRY(ssmq_comm_agree(comm, status, err));
    uint64_t of_root = mine;
    SSMQ_TRY(ssmq_comm_broadcast(comm, &of_root, sizeof of_root, err));
    if (mine != of_root) {
        status =
            SSMQ_FAIL(err, DEVICE,
                      "rank %d: the weights on its GPU have checksum %016llx, on the root's "
                      "%016llx",
                      ssmq_comm_rank(comm), (unsigned long long)mine, (unsigned long long)of_root);
    }
    return ssmq_comm_agree(comm, status, err);
}

static ssmq_status broadcast_source(ssmq_engine *engine, ssmq_comm *comm, const ssmq_model *model,
                                    int64_t least_bytes, ssmq_delivery *delivery, ssmq_err *err) {
    ssmq_device_bytes source = {0};
    ssmq_gpu_broadcast sent = {0};
    if (model->stored_bytes < least_bytes) {
        return SSMQ_FAIL(err, SKIP, "%lld bytes are fewer than sweep.nccl_least_mb",
                         (long long)model->stored_bytes);
    }
    ssmq_status status = engine->api->hold_source(engine, model, is_root(comm), &source, err);
    SSMQ_TRY(ssmq_comm_agree(comm, status, err));
    SSMQ_TRY(ssmq_comm_broadcast_on_gpus(comm, source.bytes, source.n_bytes, &sent, err));
    ssmq_field_set(delivery->way, sizeof delivery->way, sent.library);
    delivery->n_bytes = source.n_bytes;
    delivery->seconds = sent.seconds;
    return SSMQ_OK;
}

ssmq_status ssmq_weights_to_gpus(ssmq_engine *engine, ssmq_comm *comm, const ssmq_model *model,
                                 int64_t least_bytes, ssmq_weights *weights, ssmq_err *err) {
    ssmq_delivery *delivery = &weights->gpus;
    ssmq_err why = {0};
    if (ssmq_comm_size(comm) == 1 || engine->api->hold_source == NULL) return SSMQ_OK;
    if (broadcast_source(engine, comm, model, least_bytes, delivery, &why) != SSMQ_OK) {
        ssmq_field_set(delivery->way, sizeof delivery->way, "host memory");
        ssmq_field_set(delivery->reason, sizeof delivery->reason, why.text);
        return SSMQ_OK;
    }
    return seal(engine, comm, err);
}

static double gb_per_s(const ssmq_delivery *delivery) {
    if (delivery->seconds <= 0) return 0.0;
    return (double)delivery->n_bytes / bytes_per_gb / delivery->seconds;
}

static void log_sent(const ssmq_delivery *delivery, const char *receivers) {
    if (delivery->n_bytes == 0) return;
    ssmq_log(SSMQ_LOG_INFO, "weights: %lld bytes to every %s by %s in %.3f s, %.2f GB/s",
             (long long)delivery->n_bytes, receivers, delivery->way, delivery->seconds,
             gb_per_s(delivery));
}

void ssmq_weights_log(const ssmq_weights *weights) {
    log_sent(&weights->hosts, "host");
    log_sent(&weights->gpus, "GPU");
    if (weights->gpus.reason[0] != '\0') {
        ssmq_log(SSMQ_LOG_INFO, "weights: every GPU takes them from host memory (%s)",
                 weights->gpus.reason);
    }
}

static void add_delivery(ssmq_str *out, const char *name, const ssmq_delivery *delivery) {
    ssmq_str_addf(out, "\"%s\": {\"way\": \"%s\", \"reason\": ", name, delivery->way);
    ssmq_str_add_json(out, delivery->reason, strlen(delivery->reason));
    ssmq_str_addf(out, ", \"bytes\": %lld, \"seconds\": %.6f, \"gb_per_s\": %.3f}",
                  (long long)delivery->n_bytes, delivery->seconds, gb_per_s(delivery));
}

void ssmq_weights_json(const ssmq_weights *weights, ssmq_str *out) {
    ssmq_str_addf(out, "{");
    add_delivery(out, "hosts", &weights->hosts);
    ssmq_str_addf(out, ", ");
    add_delivery(out, "gpus", &weights->gpus);
    ssmq_str_addf(out, "}");
}
