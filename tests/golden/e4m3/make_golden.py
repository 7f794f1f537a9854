# SPDX-License-Identifier: Apache-2.0
"""Codes and values of the 8-bit float E4M3 by ml_dtypes and by PyTorch, which must agree.

README.md has the commands.
"""

import json
import os

import ml_dtypes
import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
SATURATES_BEYOND = 464  # halfway from 448 to what would be 480; both packages give NaN there


def encode(x):
    """Codes of fp32 numbers."""
    by_numpy = x.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    by_torch = torch.from_numpy(x).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    assert (by_numpy == by_torch).all()
    return by_numpy


def decode(codes):
    by_numpy = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    by_torch = torch.from_numpy(codes).view(torch.float8_e4m3fn).float().numpy()
    np.testing.assert_array_equal(by_numpy, by_torch)
    return by_numpy


def main():
    codes = np.arange(256, dtype=np.uint8)
    values = decode(codes)
    finite = values[:127]
    assert np.isfinite(finite).all() and np.isnan(values[[127, 255]]).all()
    assert (values[128:255].view(np.uint32) == (-finite).view(np.uint32)).all()
    # Each value, each midpoint of neighbours, and the fp32 numbers on both sides of them.
    points = np.concatenate([finite, (finite[1:] + finite[:-1]) / 2, [SATURATES_BEYOND]])
    points = points.astype(np.float32)
    points = np.concatenate([points, np.nextafter(points, np.float32(np.inf)),
                             np.nextafter(points, np.float32(0))])
    random = np.random.default_rng(4).standard_normal(200) * 2.0 ** np.arange(-100, 100)
    tiny = [2.0 ** -149, 2.0 ** -126, 2.0 ** -11]
    x = np.unique(np.concatenate([points, np.abs(random), tiny]).astype(np.float32))
    x = x[x <= SATURATES_BEYOND]
    x = np.concatenate([x, -x])
    cases = [[int(bits), int(code)] for bits, code in zip(x.view(np.uint32), encode(x))]
    with open(os.path.join(HERE, "e4m3.json"), "w", encoding="utf-8") as file:
        file.write('{"values": %s,\n' % json.dumps(finite.tolist()))
        file.write(' "fp32_bits": %s,\n' % json.dumps([bits for bits, _ in cases]))
        file.write(' "codes": %s}\n' % json.dumps([code for _, code in cases]))


if __name__ == "__main__":
    main()
