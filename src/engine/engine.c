/* SPDX-License-Identifier: Apache-2.0 */
/* engine/engine.c - the engines of this build, by name. */
#include "engine/engine.h"

#include <string.h>

extern const ssmq_engine_api ssmq_engine_null;
extern const ssmq_engine_api ssmq_engine_cpu;
#ifdef SSMQ_HAVE_CUDA
extern int cuda_list_gpus(ssmq_gpu *out, int max_gpus, const char **reason);
#endif

static const ssmq_engine_api *const engines[] = {&ssmq_engine_cpu, &ssmq_engine_null};

const ssmq_engine_api *ssmq_engine_find(const char *name) {
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        if (strcmp(engines[i]->name, name) == 0) return engines[i];
    }
    return NULL;
}

const char *ssmq_engine_names(void) {
    return "cpu, null";
}

int ssmq_engine_n_devices(void) {
    return 0;
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
