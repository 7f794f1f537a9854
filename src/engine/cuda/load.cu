/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/load.cu - the checkpoint's tensors into the weight slab: bytes as stored go to the
 * device piece by piece, unless they are there, and are converted, or quantized, there. */
#include "engine/cuda/cuda_engine.h"
#include "engine/cuda/device.cuh"
#include "engine/cuda/quant.h"

namespace {

enum { THREADS = 256, MAX_BLOCKS = 4096 };

/* How numbers change on their way. */
enum class change { none, taps, minus_exp };

/* to[place(first + i)] = from[i]; taps: [conv_dim, K] becomes [K, conv_dim]. */
template <typename From, typename To>
__global__ void k_convert(const From *from, To *to, int64_t first, int64_t n, change how, int64_t K,
                          int64_t conv_dim) {
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        float x = to_float(from[i]);
        int64_t place = first + i;
        if (how == change::minus_exp) x = -expf(x);
        if (how == change::taps) place = place % K * conv_dim + place / K;
        to[place] = from_float<To>(x);
    }
}

/* Where the pieces land before they are converted, and int4 codes before they are packed. */
struct upload {
    cuda_engine *e;
    bool is_on_device; /* the tensors; nothing is staged then */
    char *staging;
    int64_t staging_bytes;
    uint8_t *codes;
    int64_t code_bytes;
};

/* Where a piece that fits into staging is on the device, before the next is asked for. */
ssmq_status fetch(const upload *up, const void *bytes, int64_t n_bytes, const void **out,
                  ssmq_err *err) {
    *out = up->is_on_device ? bytes : up->staging;
    if (up->is_on_device) return SSMQ_OK;
    CUDA_TRY(
        cudaMemcpyAsync(up->staging, bytes, (size_t)n_bytes, cudaMemcpyHostToDevice, up->e->stream),
        err);
    return SSMQ_OK;
}

template <typename From>
void convert_from(const upload *up, const void *bytes, void *to, ssmq_dtype to_dtype, int64_t first,
                  int64_t n, change how) {
    const ssmq_shape *s = &up->e->shape;
    const int64_t wanted = (n + THREADS - 1) / THREADS;
    const unsigned blocks = (unsigned)(wanted < MAX_BLOCKS ? wanted : MAX_BLOCKS);
    const From *from = (const From *)bytes;
    DISPATCH(to_dtype, To,
             (k_convert<From, To><<<blocks, THREADS, 0, up->e->stream>>>(from, (To *)to, first, n,
                                                                         how, s->K, s->conv_dim)));
}

/* Rows of the slab past the tensor's keep their zeros. */
ssmq_status put(const upload *up, const ssmq_tensor *tensor, void *to, ssmq_dtype to_dtype,
                change how, ssmq_err *err) {
    if (tensor->bytes == NULL) return SSMQ_OK;
    const int64_t size = (int64_t)ssmq_dtype_bytes(tensor->dtype);
    const int64_t n_all = tensor->rows * tensor->columns;
    const int64_t n_piece = up->staging_bytes / size;
    for (int64_t first = 0; first < n_all; first += n_piece) {
        const int64_t n = n_all - first < n_piece ? n_all - first : n_piece;
        const void *from = NULL;
        SSMQ_TRY(fetch(up, (const char *)tensor->bytes + first * size, n * size, &from, err));
        DISPATCH(tensor->dtype, From, convert_from<From>(up, from, to, to_dtype, first, n, how));
        CUDA_LAUNCHED(err);
    }
    return SSMQ_OK;
}

/* Rows [first, first + rows) of a matrix. */
ssmq_tensor rows_of(const ssmq_tensor *tensor, int64_t first, int64_t rows) {
    const int64_t size = (int64_t)ssmq_dtype_bytes(tensor->dtype);
    ssmq_tensor part = *tensor;
    part.bytes = (const char *)tensor->bytes + first * tensor->columns * size;
    part.rows = rows;
    return part;
}

/* Codes and scales of rows [first, first + rows) of the block, whose numbers lie on the device. */
ssmq_status quantize_piece(const upload *up, const cuda_linear *linear, const cuda_block *block,
                           const ssmq_tensor *piece, int64_t first, ssmq_err *err) {
    const bool is_packed = linear->w_format == SSMQ_FORMAT_INT4;
    const int64_t ld = linear->codes.ld, n = piece->rows * ld;
    uint8_t *to = (uint8_t *)block->w + first * (is_packed ? ld / 2 : ld);
    cuda_quantize_call call = {};
    call.x = piece->bytes;
    call.dtype = piece->dtype;
    call.rows = piece->rows;
    call.shape = linear->codes;
    call.format = linear->w_format;
    call.by_group = true;
    call.codes = is_packed ? up->codes : to;
    call.scales = block->scales + first;
    call.scale_stride = block->N;
    call.stream = up->e->stream;
    if (is_packed) CUDA_TRY(cudaMemsetAsync(up->codes, 0, (size_t)n, up->e->stream), err);
    SSMQ_TRY(cuda_quantize(&call, err));
    return is_packed ? cuda_pack_int4(up->codes, n, to, up->e->stream, err) : SSMQ_OK;
}

int64_t rows_within(int64_t bytes, int64_t row_bytes, int64_t most) {
    const int64_t rows = bytes / row_bytes;
    return rows < most ? rows : most;
}

/* Piece by piece of whole rows: a row has a scale, or several. */
ssmq_status put_codes(const upload *up, const ssmq_tensor *tensor, const cuda_linear *linear,
                      const cuda_block *block, ssmq_err *err) {
    const int64_t row_bytes = tensor->columns * (int64_t)ssmq_dtype_bytes(tensor->dtype);
    int64_t n_piece = rows_within(up->staging_bytes, row_bytes, block->rows);
    n_piece = rows_within(up->code_bytes, linear->codes.ld, n_piece);
    if (n_piece < 1) return SSMQ_FAIL(err, SKIP, "rows of %lld bytes", (long long)row_bytes);
    for (int64_t first = 0; first < block->rows; first += n_piece) {
        const int64_t left = block->rows - first;
        ssmq_tensor piece =
            rows_of(tensor, block->first_row + first, left < n_piece ? left : n_piece);
        SSMQ_TRY(fetch(up, piece.bytes, piece.rows * row_bytes, &piece.bytes, err));
        SSMQ_TRY(quantize_piece(up, linear, block, &piece, first, err));
    }
    return SSMQ_OK;
}

ssmq_status put_linear(const upload *up, const ssmq_tensor *w, const ssmq_tensor *bias,
                       const cuda_linear *to, ssmq_err *err) {
    for (int i = 0; i < to->n_blocks; i++) {
        const cuda_block *block = &to->blocks[i];
        if (block->is_quantized) {
            SSMQ_TRY(put_codes(up, w, to, block, err));
        } else {
            const ssmq_tensor part = rows_of(w, block->first_row, block->rows);
            SSMQ_TRY(put(up, &part, block->w, to->dtype, change::none, err));
        }
    }
    return put(up, bias, to->bias, to->dtype, change::none, err);
}

ssmq_status put_layer(const upload *up, const ssmq_layer *from, const cuda_layer *to,
                      ssmq_err *err) {
    const ssmq_dtype dtype = up->e->spec.precision.dtype;
    const struct {
        const ssmq_tensor *tensor;
        void *to;
        ssmq_dtype dtype;
        change how;
    } pieces[] = {
        {&from->norm, to->norm, dtype, change::none},
        {&from->conv, to->conv, dtype, change::taps},
        {&from->conv_bias, to->conv_bias, dtype, change::none},
        {&from->dt_bias, to->dt_bias, SSMQ_F32, change::none},
        {&from->A_log, to->A, SSMQ_F32, change::minus_exp},
        {&from->D, to->D, SSMQ_F32, change::none},
        {&from->gated_norm, to->gated_norm, dtype, change::none},
    };
    for (const auto &piece : pieces) {
        SSMQ_TRY(put(up, piece.tensor, piece.to, piece.dtype, piece.how, err));
    }
    SSMQ_TRY(put_linear(up, &from->in_proj, &from->in_proj_bias, &to->in_proj, err));
    return put_linear(up, &from->out_proj, &from->out_proj_bias, &to->out_proj, err);
}

ssmq_status put_all(const upload *up, const ssmq_model *model, ssmq_err *err) {
    cuda_engine *e = up->e;
    const ssmq_dtype dtype = e->spec.precision.dtype;
    SSMQ_TRY(put(up, &model->embeddings, e->weights.embeddings, dtype, change::none, err));
    if (!e->shape.is_tied) {
        SSMQ_TRY(put(up, &model->lm_head, e->weights.head, dtype, change::none, err));
    }
    SSMQ_TRY(put(up, &model->norm_f, e->weights.norm_f, dtype, change::none, err));
    for (int64_t i = 0; i < e->shape.L; i++) {
        SSMQ_TRY(put_layer(up, &model->layers[i], &e->weights.layers[i], err));
    }
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    return SSMQ_OK;
}

} // namespace

ssmq_status cuda_load_weights(cuda_engine *e, const ssmq_model *model, bool is_on_device,
                              ssmq_err *err) {
    const int64_t staging_bytes = 64 << 20;
    const bool is_packed = e->spec.precision.w_format == SSMQ_FORMAT_INT4;
    /* Other codes go straight to their place. */
    upload up = {e, is_on_device, NULL, staging_bytes, NULL, is_packed ? staging_bytes : INT64_MAX};
    CUDA_TRY(cudaMemsetAsync(e->weight_slab.bytes, 0, (size_t)e->weight_slab.n_bytes, e->stream),
             err);
    CUDA_TRY(cudaMalloc((void **)&up.staging, (size_t)staging_bytes), err);
    ssmq_status status = SSMQ_OK;
    if (is_packed) {
        const cudaError_t error = cudaMalloc((void **)&up.codes, (size_t)staging_bytes);
        if (error != cudaSuccess) {
            (void)cudaGetLastError();
            status = cuda_failed(err, error, "cudaMalloc", __FILE__, __LINE__);
        }
    }
    if (status == SSMQ_OK) status = put_all(&up, model, err);
    (void)cudaFree(up.codes);
    (void)cudaFree(up.staging);
    return status;
}
