# SPDX-License-Identifier: Apache-2.0
"""Scores the beginning of the demo text with the demo model in numpy, at every precision.

An implementation apart from ssmq's: fp64 arithmetic with the definition's rounding points, the
state space model as a plain recurrence over tokens, quantizers written from their definition.
README.md has the commands.
"""

import json
import os

import ml_dtypes
import numpy as np
import tokenizers
from safetensors import safe_open

HERE = os.path.dirname(os.path.abspath(__file__))
DEMO = os.path.normpath(os.path.join(HERE, "..", "..", "..", "configs", "demo"))
WINDOWS, SEQ_LEN = 4, 1024
L, D, DI, H, P, N, K, EPS = 8, 256, 512, 8, 64, 128, 4, 1e-5

# name: compute type, weight bits, activation bits ("fp8": E4M3), weights a scale (0: a channel)
PRECISIONS = {
    "fp32": ("fp32", 0, 0, 0),
    "fp16": ("fp16", 0, 0, 0),
    "bf16": ("bf16", 0, 0, 0),
    "fp32:w8a8": ("fp32", 8, 8, 0),
    "w8a8": ("bf16", 8, 8, 0),
    "fp32:w4a8": ("fp32", 4, 8, 128),
    "w4a8": ("bf16", 4, 8, 128),
    "w4a8:channel": ("bf16", 4, 8, 0),
    "w4a4": ("bf16", 4, 4, 128),
    "fp32:w8a8-fp8": ("fp32", "fp8", "fp8", 0),
    "w8a8-fp8": ("bf16", "fp8", "fp8", 0),
    "w8a16": ("bf16", 8, 0, 0),
    "w4a16": ("bf16", 4, 0, 128),
}


def rounded(x, dtype):
    """fp64 numbers to a 16-bit type, half to even, through fp32 as an fp32 product would be."""
    x = np.asarray(x, np.float32)
    if dtype == "fp16":
        return x.astype(np.float16).astype(np.float64)
    if dtype == "bf16":
        bits = x.view(np.uint32).astype(np.uint64)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return bits.astype(np.uint32).view(np.float32).astype(np.float64)
    return x.astype(np.float64)


def quantize(x, bits):
    """Rows of fp32 numbers to integers, or fp8 values, and a scale each."""
    x = np.asarray(x, np.float32)
    largest = np.float32({8: 127, 4: 7, "fp8": 448}[bits])
    scale = np.abs(x).max(-1, keepdims=True) / largest
    scale[scale == 0] = 1
    if bits == "fp8":
        return (x / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float64), scale
    return np.clip(np.rint(x / scale), -largest, largest).astype(np.float64), scale


class Linear:
    def __init__(self, w, precision):
        self.dtype, self.w_bits, self.a_bits, group = precision
        columns = w.shape[1]
        width = group or columns
        self.spans = [slice(k, min(k + width, columns)) for k in range(0, columns, width)]
        if self.w_bits:
            parts = [quantize(w[:, span], self.w_bits) for span in self.spans]
            self.parts = parts
            values = [q.astype(np.float32) * scale for q, scale in parts]
            w = np.concatenate(values, axis=1)
        self.w = rounded(w, self.dtype)

    def __call__(self, x):
        if not self.a_bits:
            return rounded(x @ self.w.T, self.dtype)
        q, scale = quantize(x, self.a_bits)
        y = None
        for (w, w_scale), span in zip(self.parts, self.spans):
            acc = (q[:, span] @ w.T).astype(np.float32)  # integers below 2^53, or fp8: exact in fp64
            term = acc * scale * w_scale[:, 0]
            y = term if y is None else y + term
        return rounded(y, self.dtype)


def rms_norm(x, weight, dtype):
    return rounded(x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weight, dtype)


def silu(x):
    return x / (1 + np.exp(-x))


def mixer(t, layer, u, dtype, in_proj, out_proj):
    """u [windows * T, D], rounded; the mixer's output, rounded."""
    name = f"backbone.layers.{layer}.mixer."
    p = in_proj(u).reshape(WINDOWS, SEQ_LEN, -1)
    z, xbc, raw_dt = p[..., :DI], p[..., DI:2 * DI + 2 * N], p[..., 2 * DI + 2 * N:]
    taps, bias = t[name + "conv1d.weight"][:, 0], t[name + "conv1d.bias"]
    padded = np.concatenate([np.zeros((WINDOWS, K - 1, xbc.shape[2])), xbc], 1)
    conv = sum(padded[:, k:k + SEQ_LEN] * taps[:, k] for k in range(K)) + bias
    conv = rounded(silu(conv), dtype)
    x = conv[..., :DI].reshape(WINDOWS, SEQ_LEN, H, P)
    b, c = conv[..., DI:DI + N], conv[..., DI + N:]
    dt = np.logaddexp(0, raw_dt + t[name + "dt_bias"])
    decay = np.exp(-dt * np.exp(t[name + "A_log"]))
    state = np.zeros((WINDOWS, H, P, N))
    y = np.empty_like(x)
    for i in range(SEQ_LEN):
        state *= decay[:, i, :, None, None]
        state += (dt[:, i, :, None] * x[:, i])[..., None] * b[:, i, None, None]
        y[:, i] = np.matmul(state, c[:, i, None, :, None])[..., 0]
    y = rounded(y + t[name + "D"][:, None] * x, dtype).reshape(WINDOWS, SEQ_LEN, DI)
    v = rms_norm(y * silu(z), t[name + "norm.weight"], dtype)
    return out_proj(v.reshape(-1, DI))


def score(tensors, ids, precision):
    dtype = precision[0]
    fp32_names = ("A_log", ".D", "dt_bias")
    t = {k: v if k.endswith(fp32_names) else rounded(v, dtype) for k, v in tensors.items()}
    r = t["backbone.embeddings.weight"][ids.reshape(-1)]
    for layer in range(L):
        name = f"backbone.layers.{layer}."
        linears = [Linear(tensors[name + f"mixer.{m}.weight"], precision)
                   for m in ("in_proj", "out_proj")]
        u = rms_norm(r, t[name + "norm.weight"], dtype)
        r = r + mixer(t, layer, u, dtype, *linears)
    h = rms_norm(r, t["backbone.norm_f.weight"], dtype)
    logits = (h @ t["backbone.embeddings.weight"].T).reshape(WINDOWS, SEQ_LEN, -1)
    largest = logits.max(-1)
    total = np.log(np.exp(logits - largest[..., None]).sum(-1)) + largest
    target = np.take_along_axis(logits[:, :-1], ids[:, 1:, None], 2)[..., 0]
    return (total[:, :-1] - target).sum(-1)


def main():
    tokenizer = tokenizers.Tokenizer.from_file(os.path.join(DEMO, "tokenizer.json"))
    with open(os.path.join(DEMO, "demo-text.txt"), encoding="utf-8") as file:
        ids = tokenizer.encode(file.read()).ids[:WINDOWS * SEQ_LEN]
    ids = np.array(ids).reshape(WINDOWS, SEQ_LEN)
    with safe_open(os.path.join(DEMO, "model.safetensors"), "pt") as file:
        tensors = {k: file.get_tensor(k).double().numpy() for k in file.keys()}
    sums = {}
    for name, precision in PRECISIONS.items():
        sums[name] = [round(x, 4) for x in score(tensors, ids, precision).tolist()]
        print(name, sums[name], flush=True)
    with open(os.path.join(HERE, "expected.json"), "w", encoding="utf-8") as file:
        file.write('{"seq_len": %d,\n "nll_sums": {\n' % SEQ_LEN)
        file.write(",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sums.items()))
        file.write('},\n "ids": %s}\n' % json.dumps(ids.reshape(-1).tolist()))


if __name__ == "__main__":
    main()
