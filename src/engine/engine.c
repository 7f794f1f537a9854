/* SPDX-License-Identifier: Apache-2.0 */
/* engine/engine.c - the engines of this build, by name. */
#include "engine/engine.h"

#include <string.h>

#include "engine/device.h"

extern const ssmq_engine_api ssmq_engine_null;
extern const ssmq_engine_api ssmq_engine_cpu;
#ifdef SSMQ_HAVE_CUDA
extern const ssmq_engine_api ssmq_engine_cuda;
extern int cuda_list_gpus(ssmq_gpu *out, int max_gpus, const char **reason);
extern void cuda_plan_bytes(const ssmq_shape *shape, const ssmq_spec *spec,
                            const ssmq_engine_extent *extent, ssmq_engine_stats *out);
extern ssmq_status cuda_measure_ceilings(int device_idx, ssmq_dtype dtype, ssmq_ceilings *out,
                                         ssmq_err *err);
#endif

static const ssmq_engine_api *const engines[] = {
#ifdef SSMQ_HAVE_CUDA
    &ssmq_engine_cuda,
#endif
    &ssmq_engine_cpu,
    &ssmq_engine_null,
};

const ssmq_engine_api *ssmq_engine_find(const char *name) {
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        if (strcmp(engines[i]->name, name) == 0) return engines[i];
    }
    return NULL;
}

const char *ssmq_engine_names(void) {
#ifdef SSMQ_HAVE_CUDA
    return "cuda, cpu, null";
#else
    return "cpu, null";
#endif
}

int ssmq_engine_n_devices(void) {
    enum { MAX_GPUS = 64 };
    ssmq_gpu gpus[MAX_GPUS];
    const char *reason;
    return ssmq_engine_gpus(gpus, MAX_GPUS, &reason);
}

ssmq_status ssmq_engine_check_ids(const ssmq_shape *shape, const int32_t *ids, int64_t n,
                                  int32_t least, ssmq_err *err) {
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < least || ids[i] >= shape->V) {
            return SSMQ_FAIL(err, CONFIG, "token id %d at place %lld; the model has ids 0 to %lld",
                             ids[i], (long long)i, (long long)shape->V - 1);
        }
    }
    return SSMQ_OK;
}

const char *ssmq_stage_name(ssmq_stage stage) {
    static const char *const names[] = {
#define X(code, name) name,
        SSMQ_STAGE_TABLE(X)
#undef X
    };
    return names[stage];
}

bool ssmq_engine_sizes(const char *engine, const ssmq_shape *shape, const ssmq_spec *spec,
                       const ssmq_engine_extent *extent, ssmq_engine_stats *out) {
#ifdef SSMQ_HAVE_CUDA
    if (strcmp(engine, "cuda") == 0) {
        cuda_plan_bytes(shape, spec, extent, out);
        return true;
    }
#endif
    (void)engine;
    (void)shape;
    (void)spec;
    (void)extent;
    (void)out;
    return false;
}

ssmq_status ssmq_engine_ceilings(int device_idx, ssmq_dtype dtype, ssmq_ceilings *out,
                                 ssmq_err *err) {
#ifdef SSMQ_HAVE_CUDA
    return cuda_measure_ceilings(device_idx, dtype, out, err);
#else
    (void)device_idx;
    (void)dtype;
    (void)out;
    return SSMQ_FAIL(err, SKIP, "this build has no CUDA");
#endif
}

int ssmq_engine_gpus(ssmq_gpu *out, int max_gpus, const char **reason) {
#ifdef SSMQ_HAVE_CUDA
    return cuda_list_gpus(out, max_gpus, reason);
#else
    (void)out;
    (void)max_gpus;
    *reason = "this build has no CUDA";
    return 0;
#endif
}
