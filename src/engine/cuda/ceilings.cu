/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/ceilings.cu - what the device reaches on its own: a large copy and a large product,
 * on random numbers. */
#include "engine/cuda/cuda_engine.h"
#include "engine/cuda/device.cuh"

namespace {

enum { SIDE = 8192, REPEATS = 21, CALLS = 4, THREADS = 256, BLOCKS = 4096 };
const int64_t copy_bytes = (int64_t)1 << 30;

/* Uniform in [-1, 1), from a hash of the place. */
template <typename CT> __global__ void k_fill(CT *to, int64_t n) {
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        uint32_t x = (uint32_t)i * 2654435761u;
        x = (x ^ x >> 16) * 2246822519u;
        x ^= x >> 13;
        to[i] = from_float<CT>((float)x * 0x1p-31f - 1.0f);
    }
}

/* Owned by measure(); every piece is NULL until it is made. */
struct bench {
    cudaStream_t stream;
    cudaEvent_t begin, end;
    char *a, *b, *y, *workspace;
    cuda_gemms *gemms;
};

void bench_free(bench *k) {
    cuda_gemms_close(k->gemms);
    (void)cudaFree(k->a);
    (void)cudaFree(k->b);
    (void)cudaFree(k->y);
    (void)cudaFree(k->workspace);
    if (k->begin != NULL) (void)cudaEventDestroy(k->begin);
    if (k->end != NULL) (void)cudaEventDestroy(k->end);
    if (k->stream != NULL) (void)cudaStreamDestroy(k->stream);
}

ssmq_status bench_init(bench *k, ssmq_dtype dtype, ssmq_err *err) {
    const int64_t n = copy_bytes / (int64_t)ssmq_dtype_bytes(dtype);
    CUDA_TRY(cudaStreamCreateWithFlags(&k->stream, cudaStreamNonBlocking), err);
    CUDA_TRY(cudaEventCreate(&k->begin), err);
    CUDA_TRY(cudaEventCreate(&k->end), err);
    CUDA_TRY(cudaMalloc((void **)&k->a, (size_t)copy_bytes), err);
    CUDA_TRY(cudaMalloc((void **)&k->b, (size_t)copy_bytes), err);
    CUDA_TRY(cudaMalloc((void **)&k->y, (size_t)copy_bytes), err);
    CUDA_TRY(cudaMalloc((void **)&k->workspace, CUDA_GEMM_WORKSPACE_BYTES), err);
    DISPATCH(dtype, CT, (k_fill<CT><<<BLOCKS, THREADS, 0, k->stream>>>((CT *)k->a, n)));
    DISPATCH(dtype, CT, (k_fill<CT><<<BLOCKS, THREADS, 0, k->stream>>>((CT *)k->b, n)));
    CUDA_LAUNCHED(err);
    SSMQ_TRY(cuda_gemms_open(&k->gemms, NULL, err));
    cuda_gemms_set_workspace(k->gemms, k->workspace);
    cuda_gemms_set_timed(k->gemms, true);
    return SSMQ_OK;
}

/* Median of the elapsed times, which are sorted. */
double median_ms(float *ms, int n) {
    for (int i = 1; i < n; i++) {
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float larger = ms[j - 1];
            ms[j - 1] = ms[j];
            ms[j] = larger;
        }
    }
    return (double)ms[n / 2];
}

ssmq_status run_copies(bench *k, ssmq_err *err) {
    for (int i = 0; i < CALLS; i++) {
        CUDA_TRY(cudaMemcpyAsync(k->y, i % 2 == 0 ? k->a : k->b, (size_t)copy_bytes,
                                 cudaMemcpyDeviceToDevice, k->stream),
                 err);
    }
    return SSMQ_OK;
}

cuda_gemm_call product_of(const bench *k, ssmq_dtype dtype) {
    cuda_gemm_call call = {};
    call.shape.M = call.shape.N = call.shape.K = call.shape.y_ld = SIDE;
    call.shape.dtype = call.shape.y_dtype = dtype;
    call.x = k->a;
    call.w = k->b;
    call.y = k->y;
    call.stream = k->stream;
    return call;
}

ssmq_status run_products(bench *k, ssmq_dtype dtype, ssmq_err *err) {
    const cuda_gemm_call call = product_of(k, dtype);
    for (int i = 0; i < CALLS; i++) SSMQ_TRY(cuda_gemm(k->gemms, &call, err));
    return SSMQ_OK;
}

/* Median seconds of one of the CALLS. */
ssmq_status time_calls(bench *k, ssmq_dtype dtype, bool is_copy, double *seconds, ssmq_err *err) {
    float ms[REPEATS];
    for (int i = -2; i < REPEATS; i++) {
        CUDA_TRY(cudaEventRecord(k->begin, k->stream), err);
        SSMQ_TRY(is_copy ? run_copies(k, err) : run_products(k, dtype, err));
        CUDA_TRY(cudaEventRecord(k->end, k->stream), err);
        CUDA_TRY(cudaEventSynchronize(k->end), err);
        if (i >= 0) CUDA_TRY(cudaEventElapsedTime(&ms[i], k->begin, k->end), err);
    }
    *seconds = median_ms(ms, REPEATS) * 1e-3 / CALLS;
    return SSMQ_OK;
}

ssmq_status measure(bench *k, ssmq_dtype dtype, ssmq_ceilings *out, ssmq_err *err) {
    double seconds = 0.0;
    SSMQ_TRY(bench_init(k, dtype, err));
    SSMQ_TRY(time_calls(k, dtype, true, &seconds, err));
    out->copy_bytes_per_s = 2.0 * (double)copy_bytes / seconds;
    const cuda_gemm_call call = product_of(k, dtype);
    SSMQ_TRY(cuda_gemms_prepare(k->gemms, &call, &call.w, 1, err));
    SSMQ_TRY(time_calls(k, dtype, false, &seconds, err));
    out->gemm_flops = 2.0 * SIDE * SIDE * (double)SIDE / seconds;
    return SSMQ_OK;
}

} // namespace

ssmq_status cuda_measure_ceilings(int device_idx, ssmq_dtype dtype, ssmq_ceilings *out,
                                  ssmq_err *err) {
    bench k = {};
    ssmq_gpu gpu;
    const char *reason = NULL;
    if (ssmq_engine_gpus(&gpu, 1, &reason) == 0) return SSMQ_FAIL(err, SKIP, "no GPU: %s", reason);
    CUDA_TRY(cudaSetDevice(device_idx), err);
    const ssmq_status status = measure(&k, dtype, out, err);
    bench_free(&k);
    return status;
}
