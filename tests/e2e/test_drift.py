# SPDX-License-Identifier: Apache-2.0
"""Drift of the demo on the CPU engine: the record's numbers against NumPy over the arrays of
results.h5, the null check, half-lives against the checkpoint, and the figure. Needs the packages of
analysis/requirements.txt: the Python of .venv, where there is one; skipped without them."""
from analysis_python import ROOT  # before the packages that it finds

import json
import pathlib
import tempfile
import unittest

import h5py
import numpy as np
import xarray as xr

from sweep_support import SweepTest, records
from ssmq_plots import drift, results, style

STEPS, B, L, H = [128, 256, 384], 2, 8, 8
IMPULSE = 0.015625
T_4 = 2.7764451051977944  # 97.5 % point of Student's t with 3 * 2 - 2 degrees of freedom
ZEROS = ("drift_error", "drift_injected_error", "drift_conv_error", "drift_conv_injected_error",
         "drift_kl", "drift_injected_kl", "drift_layer_error", "drift_bin_error")


def rms(values, axis=None):
    return np.sqrt(np.mean(np.square(values), axis=axis))


def line(errors):
    """Slope of ln error on ln t with its interval; errors [step, sequence]."""
    x, y = np.repeat(np.log(STEPS), B), np.log(errors).ravel()
    slope, intercept = np.polyfit(x, y, 1)
    squares = np.sum(np.square(y - slope * x - intercept))
    half = T_4 * np.sqrt(squares / (len(x) - 2) / np.sum(np.square(x - x.mean())))
    return slope, slope - half, slope + half


def tensor(name):
    data = (ROOT / "configs/demo/model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8:8 + size])[name]
    begin, end = (8 + size + at for at in entry["data_offsets"])
    assert entry["dtype"] == "F32"
    return np.frombuffer(data[begin:end], dtype="<f4").astype(float)


class Drift(SweepTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="ssmq-drift-")
        cls.addClassCleanup(cls.folder.cleanup)
        sweep = SweepTest("run")
        sweep.out = pathlib.Path(cls.folder.name)
        cls.made = sweep.sweep_dir(
            "--config", "configs/drift.yaml", "--set", "model.device=cpu", "--set",
            "model.threads=1", "--set", f"drift.context_length={STEPS[-1]}", "--set",
            f"drift.n_sequences={B}", "--set", f"drift.impulse={IMPULSE}", "--set", 'sweep.precisions=[fp32, "fp32:w8a8", "fp32:w4a4"]')
        cls.records = {r["precision"]: r for r in records(cls.made).values()}
        cls.arrays = {}
        with h5py.File(cls.made / "results.h5", "r") as file:
            for group in file["drift"].values():
                cls.arrays[group.attrs["precision"]] = {name: group[name][:] for name in group}

    def test_null_check(self):
        for name in ZEROS:
            self.assertTrue(np.all(self.arrays["fp32"][name] == 0.0), name)
            self.assertTrue(np.any(self.arrays["fp32:w8a8"][name] > 0.0), name)
        null = self.records["fp32"]
        self.assertEqual(null["drift_error_final"], 0)
        self.assertEqual(null["drift_verdict"], "not resolved")
        self.assertIsNone(null["drift_exponent"])
        self.assertTrue(0 < null["drift_floor"] < 1e-4)

    def test_records_are_numpys(self):
        for precision in ("fp32:w8a8", "fp32:w4a4"):
            record, arrays = self.records[precision], self.arrays[precision]
            self.assertEqual(arrays["drift_error"].shape, (len(STEPS), B, L, H))
            self.assertEqual(arrays["drift_conv_error"].shape, (len(STEPS), B, L))
            np.testing.assert_array_equal(arrays["step"], STEPS)
            near = {
                "drift_error_final": rms(arrays["drift_error"][-1]),
                "drift_injected_error_final": rms(arrays["drift_injected_error"][-1]),
                "drift_floor": rms(arrays["drift_floor"][-1]),
                "drift_conv_error_final": rms(arrays["drift_conv_error"][-1]),
                "drift_kl_mean": arrays["drift_kl"].mean(),
                "drift_same_top_share": arrays["drift_same_top"].mean(),
            }
            errors = rms(arrays["drift_error"], axis=(2, 3))
            self.assertTrue(np.all(errors > rms(arrays["drift_floor"], axis=(2, 3))))
            near.update(zip(("drift_exponent", "drift_exponent_ci_low", "drift_exponent_ci_high"),
                            line(errors)))
            for name, expected in near.items():
                np.testing.assert_allclose(record[name], expected, rtol=1e-11, atol=1e-14,
                                           err_msg=name)
            resolved = rms(arrays["drift_error"][-1], 0) > rms(arrays["drift_floor"][-1], 0)
            self.assertEqual(record["drift_n_resolved"], resolved.sum())
            self.assertEqual(record["drift_worst_layer"],
                             rms(arrays["drift_error"][-1], (0, 2)).argmax())
            self.assertEqual(record["drift_verdict"], "resolved")
            self.assertEqual(record["drift_n_points"], len(STEPS) * B)
            np.testing.assert_allclose(arrays["drift_error_rms"], rms(arrays["drift_error"],
                                                                      (1, 2, 3)), rtol=1e-12)
            for layer in range(L):
                np.testing.assert_allclose(
                    [arrays[f"drift_layer_exponent{end}"][layer] for end in
                     ("", "_ci_low", "_ci_high")],
                    line(rms(arrays["drift_error"][:, :, layer], 2)), rtol=1e-10, atol=1e-13)
            # From the same state on, the first stretch is the same.
            np.testing.assert_array_equal(arrays["drift_error"][0],
                                          arrays["drift_injected_error"][0])
            self.assertFalse(np.array_equal(arrays["drift_error"][1],
                                            arrays["drift_injected_error"][1]))
        self.assertLess(self.records["fp32:w8a8"]["drift_error_final"],
                        self.records["fp32:w4a4"]["drift_error_final"])

    def test_impulse(self):
        """What is left of an error put into the state at 256 tokens, of the baseline too; and its
        half-lives, which rank heads as those that A_log and dt_bias give."""
        for precision, record in self.records.items():
            arrays = self.arrays[precision]
            response = arrays["drift_impulse_response"]
            looks = arrays["impulse_step"]
            np.testing.assert_array_equal(looks, 2 ** np.arange(8))
            self.assertEqual(response.shape, (8, B, L, H))
            left = rms(response, 1).reshape(8, L * H)
            self.assertTrue(np.all(np.isfinite(left)))
            lives = []
            for head in left.T:
                below = np.flatnonzero(head <= 0.5)
                if len(below) == 0:
                    lives.append(np.nan)
                    continue
                i = below[0]
                xs, ys = np.r_[0, looks][i:i + 2], np.r_[1, head][i:i + 2]
                lives.append(xs[1] if ys[1] == 0 else
                             np.interp(np.log(2), -np.log(ys), xs))
            np.testing.assert_allclose(arrays["drift_impulse_head_half_life"].ravel(), lives,
                                       rtol=1e-12)
            np.testing.assert_allclose(record["drift_impulse_left"], rms(left[-1]), rtol=1e-12)
            found = np.where(np.isnan(lives), 1e300, lives)
            middle = record["drift_impulse_half_life"]
            np.testing.assert_allclose(1e300 if middle is None else middle, np.median(found),
                                       rtol=1e-12)
            self.assertEqual(record["drift_impulse"], IMPULSE)
            if precision == "fp32":
                ranks = [np.argsort(np.argsort(x, kind="stable"))
                         for x in (arrays["drift_half_life"].ravel(), found)]
                self.assertGreater(np.corrcoef(*ranks)[0, 1], 0.9)

        # Unquantized the state forgets it; codes that flip do not.
        left = [self.records[name]["drift_impulse_left"] for name in ("fp32", "fp32:w8a8",
                                                                      "fp32:w4a4")]
        self.assertTrue(left[0] < 0.5 < left[1] < left[2], left)

    def test_half_lives(self):
        arrays = self.arrays["fp32:w8a8"]
        expected = []
        for i in range(L):
            mixer = f"backbone.layers.{i}.mixer."
            dt = np.log1p(np.exp(tensor(mixer + "dt_bias")))
            expected.append(np.log(2) / (np.exp(tensor(mixer + "A_log")) * dt))
        np.testing.assert_allclose(arrays["drift_half_life"], expected, rtol=1e-6)
        bins = np.floor(np.log2(np.maximum(expected, 1))).astype(int)
        lows, counts = np.unique(bins, return_counts=True)
        np.testing.assert_array_equal(arrays["bin"], 2 ** lows)
        np.testing.assert_array_equal(arrays["drift_bin_heads"], counts)
        for k, low in enumerate(lows):
            mine = arrays["drift_error"][:, :, bins == low]
            np.testing.assert_allclose(arrays["drift_bin_error"][:, k], rms(mine, (1, 2)),
                                       rtol=1e-12)

    def test_readers(self):
        with xr.open_dataset(self.made / "results.h5", group="drift/1", engine="h5netcdf") as data:
            self.assertEqual(data["drift_error"].dims, ("step", "sequence", "layer", "head"))
            self.assertEqual(data["drift_error"].sel(step=256).shape, (B, L, H))
            self.assertEqual(data.attrs["baseline"], "fp32")
        with xr.open_dataset(self.made / "results.h5", engine="h5netcdf") as cube:
            found = cube["drift_exponent"].sel(precision="fp32:w8a8", context=STEPS[-1], seed=0)
            self.assertAlmostEqual(float(found.max()), self.records["fp32:w8a8"]["drift_exponent"])

    def test_table(self):
        text = self.ssmq("export", self.made, "--format", "md", "--task", "drift").stdout
        row, = [line for line in text.splitlines() if "fp32:w8a8" in line]
        self.assertIn(f"{self.records['fp32:w8a8']['drift_error_final']:.5f}", row)
        self.assertIn(f"{self.records['fp32:w8a8']['drift_exponent']:.3f}", row)

    def test_figure(self):
        figure = drift.draw(results.read(self.made))
        texts = "\n".join(text.get_text() for text in figure.texts)
        first = [line for line in figure.axes[0].lines if line.get_marker() in style.SIZES]
        drawn = sorted(float(y) for mark in first for y in mark.get_ydata() if np.isfinite(y))
        hit = [float(y) for line in figure.axes[3].lines if line.get_marker() in style.SIZES
               for y in line.get_ydata()]
        style.close(figure)
        np.testing.assert_allclose(sorted(hit), sorted(
            left for arrays in self.arrays.values()
            for left in rms(arrays["drift_impulse_response"], (1, 2, 3))), rtol=1e-12)
        self.assertEqual(drawn, sorted([*self.arrays["fp32:w8a8"]["drift_error_rms"],
                                        *self.arrays["fp32:w4a4"]["drift_error_rms"]]))
        self.assertIn("fp32 not resolved", texts)

    def test_text_too_short(self):
        made = self.sweep_dir("--config", "configs/drift.yaml", "--set", "model.device=cpu",
                              "--set", "ppl.max_tokens=1000", "--set", "drift.n_sequences=2",
                              "--set", "drift.context_length=512", "--set",
                              "sweep.precisions=[fp32]")
        record, = records(made).values()
        self.assertEqual((record["status"], record["status_reason"]),
                         ("skipped", "text has 1000 tokens, drift needs 1024"))


if __name__ == "__main__":
    unittest.main()
