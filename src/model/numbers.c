/* SPDX-License-Identifier: Apache-2.0 */
/* Conversions between fp32 and the 16-bit types, on the bits; all round to nearest even. */
#include <string.h>

#include "base/bits.h"
#include "model/model.h"

const char *ssmq_dtype_name(ssmq_dtype dtype) {
    switch (dtype) {
    case SSMQ_F32:
        return "fp32";
    case SSMQ_F16:
        return "fp16";
    case SSMQ_BF16:
        return "bf16";
    }
    return "unknown";
}

size_t ssmq_dtype_bytes(ssmq_dtype dtype) {
    return dtype == SSMQ_F32 ? 4 : 2;
}

float ssmq_f32_from_f16(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t magnitude = (uint32_t)(bits & 0x7FFFu) << 13;
    if (magnitude >= 0x0F800000u) return ssmq_f32_of_bits(sign | 0x70000000u | magnitude);
    /* The fraction is in place; the exponent's bias grows from 15 to 127 by an exact product, which
     * also normalizes subnormals. */
    return ssmq_f32_of_bits(sign | ssmq_bits_of_f32(ssmq_f32_of_bits(magnitude) * 0x1p112f));
}

uint16_t ssmq_f16_from_f32(float x) {
    const uint32_t infinity = 0x7F800000u;
    const uint32_t overflow = 0x477FF000u;   /* 65520, half way from the largest fp16 to 2^16 */
    const uint32_t min_normal = 0x38800000u; /* 2^-14 */
    uint32_t bits = ssmq_bits_of_f32(x);
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > infinity) return (uint16_t)(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
    if (magnitude >= overflow) return (uint16_t)(sign | 0x7C00u);
    if (magnitude < min_normal) {
        /* In [0.5, 1) fp32 has the spacing of fp16 subnormals, 2^-24: the sum rounds. */
        return (uint16_t)(sign | (ssmq_bits_of_f32(ssmq_f32_of_bits(magnitude) + 0.5f) -
                                  ssmq_bits_of_f32(0.5f)));
    }
    uint32_t is_odd = magnitude >> 13 & 1u;
    return (uint16_t)(sign | (magnitude - (112u << 23) + 0xFFFu + is_odd) >> 13);
}

float ssmq_f32_from_bf16(uint16_t bits) {
    return ssmq_f32_of_bits((uint32_t)bits << 16);
}

uint16_t ssmq_bf16_from_f32(float x) {
    uint32_t bits = ssmq_bits_of_f32(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

float ssmq_round_to(float x, ssmq_dtype dtype) {
    switch (dtype) {
    case SSMQ_F16:
        return ssmq_f32_from_f16(ssmq_f16_from_f32(x));
    case SSMQ_BF16:
        return ssmq_f32_from_bf16(ssmq_bf16_from_f32(x));
    case SSMQ_F32:
        break;
    }
    return x;
}

void ssmq_tensor_f32(const ssmq_tensor *tensor, int64_t first, int64_t n, float *out) {
    const size_t item_bytes = ssmq_dtype_bytes(tensor->dtype);
    const unsigned char *bytes = (const unsigned char *)tensor->bytes + (size_t)first * item_bytes;
    if (tensor->dtype == SSMQ_F32) {
        if (n > 0) memcpy(out, bytes, (size_t)n * item_bytes);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t bits = 0;
        memcpy(&bits, bytes + 2 * i, sizeof bits);
        out[i] = tensor->dtype == SSMQ_F16 ? ssmq_f32_from_f16(bits) : ssmq_f32_from_bf16(bits);
    }
}
