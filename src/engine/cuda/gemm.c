/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cuda/gemm.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <cublasLt.h>

#include "base/mem.h"
#include "base/str.h"
#include "engine/cuda/algorithms.h"
#include "engine/cuda/check.h"

enum {
    MAX_PLANS = 256,
    MAX_CANDIDATES = 24,
    /* M at which fixed algorithms are asked for. */
    FIXED_PREFILL_ROWS = 2048,
    FIXED_DECODE_ROWS = CUDA_GEMM_PAD_ROWS,
    TIMED_RUNS = 5,   /* graph launches a candidate */
    TIMED_CALLS = 12, /* products in one of them */
    MAX_ALIGN_BYTES = 256
};

/* Everything that one shape needs at launch. */
typedef struct plan {
    cuda_gemm_shape shape;
    bool is_measured;
    bool is_looped; /* groups one after the other: the library has no batch of this shape */
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulAlgo_t algo;
    size_t workspace_bytes;
} plan;

struct cuda_gemms {
    cublasLtHandle_t handle;
    void *workspace;
    bool is_timed;
    int n_plans;
    plan plans[MAX_PLANS];
    cuda_algorithms *algorithms;
};

static ssmq_status lt_failed(ssmq_err *err, cublasStatus_t status, const char *call, int line) {
    const ssmq_status code = status == CUBLAS_STATUS_ALLOC_FAILED ? SSMQ_NOMEM : SSMQ_DEVICE;
    return ssmq_err_set(err, code, __FILE__, line, "cuBLASLt error %d, %s, in %s", (int)status,
                        cublasLtGetStatusString(status), call);
}

#define LT_TRY(call, err)                                                                          \
    do {                                                                                           \
        const cublasStatus_t lt_try_ = (call);                                                     \
        if (lt_try_ != CUBLAS_STATUS_SUCCESS) return lt_failed((err), lt_try_, #call, __LINE__);   \
    } while (0)

static cudaDataType_t type_of(ssmq_dtype dtype) {
    if (dtype == SSMQ_F32) return CUDA_R_32F;
    return dtype == SSMQ_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

static int64_t groups_of(const cuda_gemm_shape *s) {
    return s->n_groups > 1 ? s->n_groups : 1;
}

static cudaDataType_t x_type_of(const cuda_gemm_shape *s) {
    if (s->format == SSMQ_FORMAT_INT8) return CUDA_R_8I;
    return s->format == SSMQ_FORMAT_FP8_E4M3 ? CUDA_R_8F_E4M3 : type_of(s->dtype);
}

static cudaDataType_t y_type_of(const cuda_gemm_shape *s) {
    return s->format == SSMQ_FORMAT_INT8 ? CUDA_R_32I : type_of(s->y_dtype);
}

static int64_t x_bytes_of(const cuda_gemm_shape *s) {
    return s->format == SSMQ_FORMAT_FLOAT ? (int64_t)ssmq_dtype_bytes(s->dtype) : 1;
}

static int64_t y_bytes_of(const cuda_gemm_shape *s) {
    return s->format == SSMQ_FORMAT_INT8 ? (int64_t)sizeof(int32_t)
                                         : (int64_t)ssmq_dtype_bytes(s->y_dtype);
}

void cuda_gemms_version(char *out, size_t out_bytes) {
    const size_t version = cublasLtGetVersion();
    (void)snprintf(out, out_bytes, "%zu.%zu.%zu", version / 10000, version / 100 % 100,
                   version % 100);
}

ssmq_status cuda_gemms_open(cuda_gemms **out, const char *algorithms_path, ssmq_err *err) {
    cuda_gemms *g = NULL;
    *out = NULL;
    SSMQ_TRY(ssmq_calloc(&g, 1, sizeof *g, err));
    ssmq_status status = cuda_algorithms_open(&g->algorithms, algorithms_path, err);
    if (status != SSMQ_OK) {
        ssmq_free(g);
        return status;
    }
    const cublasStatus_t created = cublasLtCreate(&g->handle);
    if (created != CUBLAS_STATUS_SUCCESS) {
        cuda_algorithms_close(g->algorithms);
        ssmq_free(g);
        return lt_failed(err, created, "cublasLtCreate", __LINE__);
    }
    *out = g;
    return SSMQ_OK;
}

static void plan_free(plan *p) {
    if (p->desc != NULL) (void)cublasLtMatmulDescDestroy(p->desc);
    if (p->w != NULL) (void)cublasLtMatrixLayoutDestroy(p->w);
    if (p->x != NULL) (void)cublasLtMatrixLayoutDestroy(p->x);
    if (p->y != NULL) (void)cublasLtMatrixLayoutDestroy(p->y);
}

void cuda_gemms_close(cuda_gemms *gemms) {
    if (gemms == NULL) return;
    for (int i = 0; i < gemms->n_plans; i++) plan_free(&gemms->plans[i]);
    (void)cublasLtDestroy(gemms->handle);
    cuda_algorithms_close(gemms->algorithms);
    ssmq_free(gemms);
}

void cuda_gemms_set_workspace(cuda_gemms *gemms, void *workspace) {
    gemms->workspace = workspace;
}

void cuda_gemms_set_timed(cuda_gemms *gemms, bool is_timed) {
    gemms->is_timed = is_timed;
}

static ssmq_status set_bias(plan *p, const void *bias, ssmq_err *err) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t type = type_of(p->shape.dtype);
    LT_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                          sizeof epilogue),
           err);
    LT_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type,
                                          sizeof type),
           err);
    LT_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                          sizeof bias),
           err);
    return SSMQ_OK;
}

/* cuBLASLt's A is W and its B is X. */
static ssmq_status set_scales(const plan *p, const float *x_scales, const float *w_scales,
                              ssmq_err *err) {
    const int32_t mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    const struct {
        cublasLtMatmulDescAttributes_t name;
        const void *value;
        size_t bytes;
    } attributes[] = {
        {CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &mode, sizeof mode},
        {CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &mode, sizeof mode},
        {CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &w_scales, sizeof w_scales},
        {CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &x_scales, sizeof x_scales},
    };
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        LT_TRY(cublasLtMatmulDescSetAttribute(p->desc, attributes[i].name, attributes[i].value,
                                              attributes[i].bytes),
               err);
    }
    return SSMQ_OK;
}

/* Products of all groups as one batch: `stride` numbers from one group's matrix to the next's. */
static ssmq_status set_batch(cublasLtMatrixLayout_t layout, int64_t n_groups, int64_t stride,
                             ssmq_err *err) {
    const int32_t count = (int32_t)n_groups;
    LT_TRY(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                            sizeof count),
           err);
    LT_TRY(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                            &stride, sizeof stride),
           err);
    return SSMQ_OK;
}

/* Descriptors for M rows: row-major Y = X W^T is column-major Y^T = W X^T, so that A is W with
 * transposition, B is X, and cuBLASLt's m is N. */
static ssmq_status describe(plan *p, int64_t M, const cuda_gemm_call *call, ssmq_err *err) {
    const cuda_gemm_shape *s = &p->shape;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const uint64_t N = (uint64_t)s->N, K = (uint64_t)s->K;
    const int64_t n_groups = groups_of(s), ld = n_groups * s->K;
    const bool is_integer = s->format == SSMQ_FORMAT_INT8;
    LT_TRY(cublasLtMatmulDescCreate(&p->desc, is_integer ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
                                    is_integer ? CUDA_R_32I : CUDA_R_32F),
           err);
    LT_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                          sizeof transposed),
           err);
    if (s->has_bias) SSMQ_TRY(set_bias(p, call->bias, err));
    if (s->format == SSMQ_FORMAT_FP8_E4M3) {
        SSMQ_TRY(set_scales(p, call->x_scales, call->w_scales, err));
    }
    LT_TRY(cublasLtMatrixLayoutCreate(&p->w, x_type_of(s), K, N, ld), err);
    LT_TRY(cublasLtMatrixLayoutCreate(&p->x, x_type_of(s), K, (uint64_t)M, ld), err);
    LT_TRY(cublasLtMatrixLayoutCreate(&p->y, y_type_of(s), N, (uint64_t)M, s->y_ld), err);
    if (n_groups == 1 || p->is_looped) return SSMQ_OK;
    SSMQ_TRY(set_batch(p->w, n_groups, s->K, err));
    SSMQ_TRY(set_batch(p->x, n_groups, s->K, err));
    return set_batch(p->y, n_groups, M * s->y_ld, err);
}

/* Largest power of two that divides so many bytes. */
static uint32_t alignment_of(int64_t n_bytes) {
    const uint64_t bytes = (uint64_t)n_bytes;
    const uint64_t power = bytes & (~bytes + 1);
    return bytes != 0 && power < MAX_ALIGN_BYTES ? (uint32_t)power : MAX_ALIGN_BYTES;
}

/* Of Y: its rows, and where it begins in them. */
static uint32_t y_alignment_of(const cuda_gemm_shape *s) {
    const uint32_t rows = alignment_of(s->y_ld * y_bytes_of(s));
    const uint32_t first = alignment_of(s->y_first * y_bytes_of(s));
    return rows < first ? rows : first;
}

/* Heuristics in the library's order; *n may be 0. */
static ssmq_status ask(const cuda_gemms *g, const plan *p, uint32_t reductions, int max_results,
                       cublasLtMatmulHeuristicResult_t *results, int *n, ssmq_err *err) {
    const cuda_gemm_shape *s = &p->shape;
    const size_t workspace_bytes = CUDA_GEMM_WORKSPACE_BYTES;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        uint32_t value;
    } limits[] = {
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(s->K * x_bytes_of(s))},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(s->K * x_bytes_of(s))},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, y_alignment_of(s)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, y_alignment_of(s)},
    };
    cublasLtMatmulPreference_t preference = NULL;
    *n = 0;
    LT_TRY(cublasLtMatmulPreferenceCreate(&preference), err);
    cublasStatus_t status =
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace_bytes, sizeof workspace_bytes);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (status != CUBLAS_STATUS_SUCCESS) break;
        status = cublasLtMatmulPreferenceSetAttribute(preference, limits[i].name, &limits[i].value,
                                                      sizeof limits[i].value);
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = cublasLtMatmulAlgoGetHeuristic(g->handle, p->desc, p->w, p->x, p->y, p->y,
                                                preference, max_results, results, n);
    }
    (void)cublasLtMatmulPreferenceDestroy(preference);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) {
        *n = 0;
        return SSMQ_OK;
    }
    LT_TRY(status, err);
    return SSMQ_OK;
}

static ssmq_status no_algorithm(const cuda_gemm_shape *s, ssmq_err *err) {
    const bool is_float = s->format == SSMQ_FORMAT_FLOAT;
    return SSMQ_FAIL(err, SKIP, "cuBLASLt has no algorithm for M %lld, N %lld, K %lld, %s to %s",
                     (long long)s->M, (long long)s->N, (long long)s->K,
                     is_float ? ssmq_dtype_name(s->dtype) : ssmq_format_get(s->format)->name,
                     s->format == SSMQ_FORMAT_INT8 ? "int32" : ssmq_dtype_name(s->y_dtype));
}

/* True if the algorithm takes the plan's shape, within the workspace. */
static bool takes(const cuda_gemms *g, const plan *p, const cublasLtMatmulAlgo_t *algo,
                  size_t *workspace_bytes) {
    cublasLtMatmulHeuristicResult_t checked;
    if (cublasLtMatmulAlgoCheck(g->handle, p->desc, p->w, p->x, p->y, p->y, algo, &checked) !=
        CUBLAS_STATUS_SUCCESS) {
        return false;
    }
    *workspace_bytes = checked.workspaceSize;
    return checked.workspaceSize <= CUDA_GEMM_WORKSPACE_BYTES;
}

/* Of the heuristics at `rows` rows, the first that the plan takes too; SKIP without one. */
static ssmq_status choose_at(const cuda_gemms *g, plan *p, int64_t rows, const cuda_gemm_call *call,
                             ssmq_err *err) {
    cublasLtMatmulHeuristicResult_t results[MAX_CANDIDATES];
    plan typical = {.shape = p->shape, .is_looped = p->is_looped};
    int n = 0;
    ssmq_status status = describe(&typical, rows, call, err);
    if (status == SSMQ_OK) {
        status = ask(g, &typical, CUBLASLT_REDUCTION_SCHEME_NONE, MAX_CANDIDATES, results, &n, err);
    }
    plan_free(&typical);
    SSMQ_TRY(status);
    for (int i = 0; i < n; i++) {
        if (!takes(g, p, &results[i].algo, &p->workspace_bytes)) continue;
        p->algo = results[i].algo;
        return SSMQ_OK;
    }
    return SSMQ_SKIP;
}

/* The library's first choice at a representative number of rows: a function of N, K, types, device
 * and library alone. Every decode step runs in pieces of FIXED_DECODE_ROWS rows; a segment's
 * product has as many rows as it has, so its algorithm must take them. */
static ssmq_status choose_fixed(const cuda_gemms *g, plan *p, const cuda_gemm_call *call,
                                ssmq_err *err) {
    const int64_t first = p->shape.is_decode ? FIXED_DECODE_ROWS : FIXED_PREFILL_ROWS;
    const int64_t second = p->shape.is_decode ? FIXED_PREFILL_ROWS : FIXED_DECODE_ROWS;
    ssmq_status status = choose_at(g, p, first, call, err);
    if (status == SSMQ_SKIP) status = choose_at(g, p, second, call, err);
    return status == SSMQ_SKIP ? no_algorithm(&p->shape, err) : status;
}

static cublasStatus_t multiply(const cuda_gemms *g, const plan *p, const cuda_gemm_call *call,
                               const void *w) {
    const float one = 1.0f, zero = 0.0f;
    const int32_t integer_one = 1, integer_zero = 0;
    const cuda_gemm_shape *s = &p->shape;
    const bool is_integer = s->format == SSMQ_FORMAT_INT8;
    const void *alpha = is_integer ? (const void *)&integer_one : &one;
    const void *beta = is_integer ? (const void *)&integer_zero : &zero;
    const int64_t n = p->is_looped ? groups_of(s) : 1;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    for (int64_t i = 0; i < n && status == CUBLAS_STATUS_SUCCESS; i++) {
        const char *from_w = (const char *)w + i * s->K * x_bytes_of(s);
        const char *from_x = (const char *)call->x + i * s->K * x_bytes_of(s);
        char *y = (char *)call->y + i * s->M * s->y_ld * y_bytes_of(s);
        status =
            cublasLtMatmul(g->handle, p->desc, alpha, from_w, p->w, from_x, p->x, beta, y, p->y, y,
                           p->y, &p->algo, g->workspace, p->workspace_bytes, call->stream);
    }
    return status;
}

/* Products of one candidate as a graph, so that the host's launches are not what is timed. */
static cudaError_t record_candidate(const cuda_gemms *g, const plan *p, const cuda_gemm_call *call,
                                    const void *const *w, int64_t n_w, cudaGraphExec_t *out) {
    cudaGraph_t graph = NULL;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    cudaError_t error = cudaStreamBeginCapture(call->stream, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess) return error;
    for (int i = 0; i < TIMED_CALLS && status == CUBLAS_STATUS_SUCCESS; i++) {
        status = multiply(g, p, call, w[i % n_w]);
    }
    error = cudaStreamEndCapture(call->stream, &graph);
    if (error == cudaSuccess && status != CUBLAS_STATUS_SUCCESS) error = cudaErrorNotSupported;
    if (error == cudaSuccess) error = cudaGraphInstantiate(out, graph, 0);
    if (graph != NULL) (void)cudaGraphDestroy(graph);
    return error;
}

/* Least time of a run of a candidate in ms; a candidate that does not run gives an error. */
static cudaError_t time_candidate(const cuda_gemms *g, const plan *p, const cuda_gemm_call *call,
                                  const void *const *w, int64_t n_w, float *least_ms) {
    cudaGraphExec_t exec = NULL;
    cudaEvent_t begin = NULL, end = NULL;
    /* Outside of a graph first: modules load now. */
    if (multiply(g, p, call, w[0]) != CUBLAS_STATUS_SUCCESS) return cudaErrorNotSupported;
    cudaError_t error = record_candidate(g, p, call, w, n_w, &exec);
    if (error == cudaSuccess) error = cudaEventCreate(&begin);
    if (error == cudaSuccess) error = cudaEventCreate(&end);
    *least_ms = 0.0f;
    for (int i = 0; i <= TIMED_RUNS && error == cudaSuccess; i++) {
        float ms = 0.0f;
        (void)cudaEventRecord(begin, call->stream);
        (void)cudaGraphLaunch(exec, call->stream);
        (void)cudaEventRecord(end, call->stream);
        error = cudaEventSynchronize(end);
        if (error == cudaSuccess) error = cudaEventElapsedTime(&ms, begin, end);
        if (i == 1 || (i > 1 && ms < *least_ms)) *least_ms = ms;
    }
    if (exec != NULL) (void)cudaGraphExecDestroy(exec);
    if (begin != NULL) (void)cudaEventDestroy(begin);
    if (end != NULL) (void)cudaEventDestroy(end);
    return error;
}

/* The fastest of all heuristics whose partial sums, if any, are fp32. */
static ssmq_status measure(cuda_gemms *g, plan *p, const cuda_gemm_call *call, const void *const *w,
                           int64_t n_w, ssmq_err *err) {
    cublasLtMatmulHeuristicResult_t results[MAX_CANDIDATES];
    cublasLtMatmulAlgo_t best;
    size_t best_bytes = 0;
    float best_ms = 0.0f;
    int n = 0, n_timed = 0;
    SSMQ_TRY(ask(g, p, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, MAX_CANDIDATES, results, &n, err));
    for (int i = 0; i < n; i++) {
        float ms = 0.0f;
        if (results[i].state != CUBLAS_STATUS_SUCCESS) continue;
        p->algo = results[i].algo;
        p->workspace_bytes = results[i].workspaceSize;
        const cudaError_t error = time_candidate(g, p, call, w, n_w, &ms);
        if (error == cudaErrorNotSupported) {
            (void)cudaGetLastError();
            continue;
        }
        CUDA_TRY(error, err);
        if (n_timed++ == 0 || ms < best_ms) {
            best_ms = ms;
            best = p->algo;
            best_bytes = p->workspace_bytes;
        }
    }
    if (n_timed == 0) return no_algorithm(&p->shape, err);
    p->algo = best;
    p->workspace_bytes = best_bytes;
    return SSMQ_OK;
}

/* The algorithm that the file names, if this library still takes it. */
static bool recall(const cuda_gemms *g, plan *p, const cuda_algorithm_key *key) {
    return cuda_algorithms_find(g->algorithms, key, p->algo.data, sizeof p->algo.data) &&
           takes(g, p, &p->algo, &p->workspace_bytes);
}

static ssmq_status choose_measured(cuda_gemms *g, plan *p, const cuda_gemm_call *call,
                                   const void *const *w, int64_t n_w, ssmq_err *err) {
    cuda_algorithm_key key;
    SSMQ_TRY(cuda_algorithm_key_init(&key, &p->shape, cublasLtGetVersion(), err));
    if (recall(g, p, &key)) return SSMQ_OK;
    SSMQ_TRY(measure(g, p, call, w, n_w, err));
    SSMQ_TRY(cuda_algorithms_add(g->algorithms, &key, p->algo.data, sizeof p->algo.data, err));
    /* Another rank may have been first; all take the first line of the file. */
    const plan measured = *p;
    if (!recall(g, p, &key)) *p = measured;
    return SSMQ_OK;
}

static bool same_shape(const cuda_gemm_shape *a, const cuda_gemm_shape *b) {
    return a->M == b->M && a->N == b->N && a->K == b->K && a->y_ld == b->y_ld &&
           a->y_first == b->y_first && a->format == b->format && groups_of(a) == groups_of(b) &&
           a->dtype == b->dtype && a->y_dtype == b->y_dtype && a->has_bias == b->has_bias &&
           a->is_decode == b->is_decode;
}

static plan *find_plan(cuda_gemms *g, const cuda_gemm_shape *shape) {
    for (int i = 0; i < g->n_plans; i++) {
        plan *p = &g->plans[i];
        if (p->is_measured == g->is_timed && same_shape(&p->shape, shape)) return p;
    }
    return NULL;
}

/* A free place; the oldest plan goes if there is none. */
static plan *take_place(cuda_gemms *g) {
    if (g->n_plans == MAX_PLANS) {
        plan_free(&g->plans[0]);
        memmove(&g->plans[0], &g->plans[1], (MAX_PLANS - 1) * sizeof(plan));
        g->n_plans--;
    }
    plan *p = &g->plans[g->n_plans++];
    memset(p, 0, sizeof *p);
    return p;
}

static bool runs_in_pieces(const cuda_gemms *gemms, const cuda_gemm_shape *shape) {
    return shape->is_decode && !gemms->is_timed && shape->format != SSMQ_FORMAT_INT8;
}

/* Descriptors and algorithm of a plan whose shape stands. */
static ssmq_status fill(cuda_gemms *gemms, plan *p, const cuda_gemm_call *call,
                        const void *const *w, int64_t n_w, ssmq_err *err) {
    SSMQ_TRY(describe(p, p->shape.M, call, err));
    return gemms->is_timed ? choose_measured(gemms, p, call, w, n_w, err)
                           : choose_fixed(gemms, p, call, err);
}

/* As fill(), group by group. */
static ssmq_status fill_looped(cuda_gemms *gemms, plan *p, const cuda_gemm_call *call,
                               const void *const *w, int64_t n_w, ssmq_err *err) {
    const cuda_gemm_shape shape = p->shape;
    plan_free(p);
    memset(p, 0, sizeof *p);
    p->shape = shape;
    p->is_measured = gemms->is_timed;
    p->is_looped = true;
    return fill(gemms, p, call, w, n_w, err);
}

static ssmq_status prepare(cuda_gemms *gemms, const cuda_gemm_call *call, const void *const *w,
                           int64_t n_w, plan **out, ssmq_err *err) {
    cuda_gemm_shape shape = call->shape;
    if (runs_in_pieces(gemms, &shape)) shape.M = FIXED_DECODE_ROWS;
    *out = find_plan(gemms, &shape);
    if (*out != NULL) return SSMQ_OK;
    plan *p = take_place(gemms);
    p->shape = shape;
    p->is_measured = gemms->is_timed;
    /* A batch that the library does not take is no failure yet. */
    const bool is_batch = groups_of(&shape) > 1;
    ssmq_status status = fill(gemms, p, call, w, n_w, is_batch ? NULL : err);
    if (status != SSMQ_OK && is_batch) status = fill_looped(gemms, p, call, w, n_w, err);
    if (status != SSMQ_OK) {
        plan_free(p);
        gemms->n_plans--;
    }
    *out = p;
    return status;
}

ssmq_status cuda_gemms_prepare(cuda_gemms *gemms, const cuda_gemm_call *call, const void *const *w,
                               int64_t n_w, ssmq_err *err) {
    plan *unused = NULL;
    return prepare(gemms, call, w, n_w, &unused, err);
}

ssmq_status cuda_gemm(cuda_gemms *gemms, const cuda_gemm_call *call, ssmq_err *err) {
    plan *p = NULL;
    SSMQ_TRY(prepare(gemms, call, &call->w, 1, &p, err));
    if (call->shape.has_bias) {
        LT_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                              &call->bias, sizeof call->bias),
               err);
    }
    const cuda_gemm_shape *s = &call->shape;
    const int64_t rows = runs_in_pieces(gemms, s) ? FIXED_DECODE_ROWS : s->M;
    cuda_gemm_call piece = *call;
    for (int64_t first = 0; first < s->M; first += rows) {
        if (s->format == SSMQ_FORMAT_FP8_E4M3) {
            SSMQ_TRY(set_scales(p, call->x_scales + first, call->w_scales, err));
        }
        LT_TRY(multiply(gemms, p, &piece, call->w), err);
        piece.x = (const char *)piece.x + rows * groups_of(s) * s->K * x_bytes_of(s);
        piece.y = (char *)piece.y + rows * s->y_ld * y_bytes_of(s);
    }
    return SSMQ_OK;
}

/* The number of a plan's algorithm; -1 if it does not tell. */
static int number_of(const plan *p) {
    int id = -1;
    size_t n_written = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoConfigGetAttribute(
        &p->algo, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof id, &n_written);
    return status == CUBLAS_STATUS_SUCCESS ? id : -1;
}

void cuda_gemms_name_algorithms(const cuda_gemms *gemms, ssmq_format format, ssmq_dtype dtype,
                                char *out, size_t out_bytes) {
    size_t n = 0;
    int last = -1;
    out[0] = '\0';
    for (;;) {
        int next = INT_MAX;
        for (int i = 0; i < gemms->n_plans; i++) {
            const plan *p = &gemms->plans[i];
            const bool is_asked = p->shape.format == format && p->shape.dtype == dtype &&
                                  p->is_measured == gemms->is_timed;
            const int id = is_asked ? number_of(p) : -1;
            if (id > last && id < next) next = id;
        }
        if (next == INT_MAX) return;
        const int n_text = snprintf(out + n, out_bytes - n, n > 0 ? ",%d" : "%d", next);
        if (n_text < 0 || (size_t)n_text >= out_bytes - n) {
            out[n] = '\0';
            return;
        }
        n += (size_t)n_text;
        last = next;
    }
}
