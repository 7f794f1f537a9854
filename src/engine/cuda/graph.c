/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/graph.c - one graph a segment length, and one for a decode step. Buffers never move
 * while graphs live, and everything that changes from run to run is read from device memory. */
#include <string.h>

#include "engine/cuda/check.h"
#include "engine/cuda/cuda_engine.h"

void cuda_graphs_drop(cuda_engine *e) {
    for (int i = 0; i < e->n_graphs; i++) (void)cudaGraphExecDestroy(e->graphs[i].exec);
    e->n_graphs = 0;
}

static cuda_graph *find(cuda_engine *e, int64_t T) {
    for (int i = 0; i < e->n_graphs; i++) {
        if (e->graphs[i].T == T) return &e->graphs[i];
    }
    return NULL;
}

static ssmq_status capture(cuda_engine *e, int64_t T, cudaGraphExec_t *out, ssmq_err *err) {
    cudaGraph_t graph = NULL;
    CUDA_TRY(cudaStreamBeginCapture(e->stream, cudaStreamCaptureModeThreadLocal), err);
    ssmq_status status = T > 0 ? cuda_forward_segment(e, T, err) : cuda_forward_step(e, err);
    const cudaError_t ended = cudaStreamEndCapture(e->stream, &graph);
    if (status == SSMQ_OK && ended != cudaSuccess) {
        status = cuda_failed(err, ended, "cudaStreamEndCapture", __FILE__, __LINE__);
    }
    if (status == SSMQ_OK) {
        const cudaError_t made = cudaGraphInstantiate(out, graph, 0);
        if (made != cudaSuccess) {
            status = cuda_failed(err, made, "cudaGraphInstantiate", __FILE__, __LINE__);
        }
    }
    if (graph != NULL) (void)cudaGraphDestroy(graph);
    /* A failed capture leaves its error behind; the next check must not find it. */
    if (status != SSMQ_OK) (void)cudaGetLastError();
    return status;
}

/* The new graph is the last one. */
static ssmq_status make(cuda_engine *e, int64_t T, ssmq_err *err) {
    cudaGraphExec_t exec = NULL;
    SSMQ_TRY(cuda_forward_prepare(e, T, err));
    SSMQ_TRY(capture(e, T, &exec, err));
    if (e->n_graphs == CUDA_MAX_GRAPHS) {
        /* The oldest goes; it may still be running. */
        CUDA_TRY(cudaStreamSynchronize(e->stream), err);
        (void)cudaGraphExecDestroy(e->graphs[0].exec);
        memmove(&e->graphs[0], &e->graphs[1], (CUDA_MAX_GRAPHS - 1) * sizeof e->graphs[0]);
        e->n_graphs--;
    }
    cuda_graph *graph = &e->graphs[e->n_graphs++];
    graph->T = T;
    graph->exec = exec;
    graph->n_marks = e->stages.n_marks;
    memcpy(graph->stage_of, e->stages.stage_of, sizeof graph->stage_of);
    return SSMQ_OK;
}

ssmq_status cuda_graph_run(cuda_engine *e, int64_t T, ssmq_err *err) {
    if (e->is_reused) {
        SSMQ_TRY(cuda_forward_prepare(e, T, err));
        return cuda_forward_segment(e, T, err);
    }
    const cuda_graph *graph = find(e, T);
    if (graph == NULL) {
        SSMQ_TRY(make(e, T, err));
        graph = &e->graphs[e->n_graphs - 1];
    }
    if (e->stages.is_on) {
        e->stages.n_marks = graph->n_marks;
        memcpy(e->stages.stage_of, graph->stage_of, sizeof graph->stage_of);
    }
    CUDA_TRY(cudaGraphLaunch(graph->exec, e->stream), err);
    return SSMQ_OK;
}
