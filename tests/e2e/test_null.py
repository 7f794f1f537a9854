# SPDX-License-Identifier: Apache-2.0
"""The null check of every family of numbers, end to end on the CPU engine: what the baseline's own
numbers say of it is exactly 0, and so is what a quantized precision says of a checkpoint whose weights
already stand on its grid: there quantizing changes nothing, though every step of it is taken. Beside
it w4a4, of which the same numbers must not be 0. Needs the packages of analysis/requirements.txt."""
from analysis_python import ROOT  # before the packages that it finds

import json
import pathlib
import shutil
import struct
import tempfile
import unittest

import h5py
import numpy as np

from sweep_support import SweepTest
from ssmq_plots import paired, results, sensitivity, verdict

BASELINE, NULL, CONTROL = "bf16", "w8a16", "w4a4"


def put_on_grid(folder):
    """A copy of the demo in which each row of each projection is whole numbers up to 127, which is
    reached, times a power of two: what int8 with a scale a channel stores exactly, and bf16 too."""
    shutil.copytree(ROOT / "configs/demo", folder)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    size = struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8:8 + size]).items():
        if not name.endswith(("in_proj.weight", "out_proj.weight")):
            continue
        begin, end = (8 + size + at for at in entry["data_offsets"])
        bits = np.frombuffer(data[begin:end], dtype="<u2").astype(np.uint32) << 16
        weights = bits.view(np.float32).reshape(entry["shape"])
        largest = np.abs(weights).max(axis=1, keepdims=True)
        step = np.exp2(np.ceil(np.log2(largest / 127)))
        whole = np.rint(weights / step)
        rows, columns = np.arange(len(weights)), np.abs(weights).argmax(axis=1)
        whole[rows, columns] = np.copysign(127, weights[rows, columns])
        bits = (whole * step).astype("<f4").view(np.uint32)
        assert not np.any(bits & 0xFFFF)
        data[begin:end] = (bits >> 16).astype("<u2").tobytes()
    path.write_bytes(data)


def ppl(run, precision):
    trials = run.finished("ppl", "nll_mean")
    mine = [t for t in trials if t["precision"] == precision and t["scope"] in ("none", "all")]
    found = {}
    for trial in mine:
        for name, value in zip(("delta", "low", "high"), verdict.added_nll(run, trial, trials)):
            found[f"{trial['protocol']} {name}"] = value
    ratio, low, high, _ = verdict.ppl_ratio(run, precision)
    return {**found, "ratio": ratio - 1, "ratio low": low - 1, "ratio high": high - 1}


def fidelity(run, precision):
    trial, = (t for t in run.finished("fidelity", "kl_mean") if t["precision"] == precision
              and t["scope"] in ("none", "all") and t["protocol"] == "disjoint")
    found = {name: trial[name] for name in trial if name.startswith(("kl_", "delta_"))}
    found.update({name: trial[name] for name in ("reverse_kl_mean", "jsd_mean")})
    found.update({name: trial[name] - 1 for name in (
        "same_top_share", "same_top_ci_low", "top5_overlap", "ppl_ratio", "nll_correlation")})
    for name in ("kl_window", "delta_nll_window"):
        found.update({f"{name} {i}": x for i, x in enumerate(run.series(name, trial))})
    return found


def passkey(run, precision):
    template, = paired.templates(run.finished("passkey", "accuracy"))
    cells = verdict.passkey_cells(run, template)[precision]
    found = {"pairs, p": 1 - min(cell.p for cell in cells.values()),
             "pairs that differ": sum(cell.lost + cell.gained for cell in cells.values()),
             "pairs, change": sum(abs(cell.change) for cell in cells.values())}
    base, mine = ({t["context_length"]: t for t in run.finished("passkey", "accuracy")
                   if t["precision"] == name} for name in (BASELINE, precision))
    with h5py.File(run.path) as file:
        for length, trial in mine.items():
            for name in ("passkey_answer_nll", "passkey_answer_rank"):
                group = file["samples"][name]
                rows = dict(zip(group["trial"][:], np.split(
                    group["values"][:], np.cumsum(group["row_size"][:])[:-1])))
                found[f"{name} {length}"] = np.abs(rows[trial["row"]]
                                                   - rows[base[length]["row"]]).sum()
    return found


def drift(run, precision):
    trial, = (t for t in run.finished("drift", "drift_floor") if t["precision"] == precision)
    arrays = run.drift(trial)
    found = {name: np.abs(arrays[name]).max() for name in (
        "drift_error", "drift_injected_error", "drift_conv_error", "drift_conv_injected_error",
        "drift_kl", "drift_injected_kl", "drift_layer_error", "drift_bin_error")}
    found["cosine"] = np.abs(arrays["drift_cosine"] - 1).max()
    found["norm_ratio"] = np.abs(arrays["drift_norm_ratio"] - 1).max()
    return {**found, **{name: trial[name] for name in (
        "drift_error_final", "drift_injected_error_final", "drift_conv_error_final",
        "drift_kl_mean", "drift_n_resolved")}}


def ranking(measure):
    def of(run, precision):
        """Of all at once, of each projection alone, and of each spared; of the baseline there is
        nothing to rank."""
        found = {}
        for group in sensitivity.groups(run, measure):
            if group.precision != precision:
                continue
            for place, effect in enumerate((group.whole, *group.only, *group.spared)):
                found.update({f"{place} {name}": value for name, value in (
                    ("effect", effect.delta), ("low", effect.low), ("high", effect.high))})
            found["sum of singles"] = group.sum_of_singles
        return found
    return of


# Of each family, which numbers of the control may be 0 by chance, by the beginning of their names.
FAMILIES = {
    "ppl": (ppl, ()),
    "fidelity": (fidelity, ()),
    "passkey": (passkey, ("pairs", "passkey_answer_rank")),
    "drift": (drift, ()),
    "sensitivity by NLL": (ranking("nll"), ()),
    "sensitivity by KL": (ranking("kl"), ()),
}


class Null(SweepTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="ssmq-null-")
        cls.addClassCleanup(cls.folder.cleanup)
        model = pathlib.Path(cls.folder.name) / "model"
        put_on_grid(model)
        sweep = SweepTest("run")
        sweep.out = pathlib.Path(cls.folder.name) / "runs"
        cls.run_of_all = results.read(sweep.sweep_dir(*(word for setting in (
            f"model.path={model}", "model.device=cpu", "ppl.text=configs/demo/demo-text.txt",
            "sweep.tasks=[ppl, fidelity, passkey, drift]",
            f"sweep.precisions=[{BASELINE}, {NULL}, {CONTROL}]", f"sweep.baseline={BASELINE}",
            'sweep.scopes=[all, "only:0.out_proj", "only:5.in_proj", "except:5.in_proj"]',
            "sweep.only=task=ppl,fidelity or scope=all,none", "ppl.protocols=[disjoint, stream]",
            "ppl.seq_len=[64]", "ppl.stride=0", "ppl.max_tokens=320", "passkey.prompt_template=demo-1",
            "passkey.context_length=[96, 192]", "passkey.depth=[0.1, 0.9]", "passkey.n_trials=2",
            "drift.context_length=256", "drift.n_sequences=1") for word in ("--set", setting))))

    def test_baseline_and_grid_are_zero(self):
        run = self.run_of_all
        null = [t for t in run.trials if t["precision"] == NULL]
        self.assertEqual({t["status"] for t in run.trials}, {"ok"})
        self.assertTrue(all(t["w_format"] == "int8" and t["storage_bits"] < 16 for t in null))
        for family, (of, _) in FAMILIES.items():
            for precision in (BASELINE, NULL):
                numbers = of(run, precision)
                is_ranking = family.startswith("sensitivity")
                self.assertEqual(not numbers, is_ranking and precision == BASELINE, family)
                for name, value in numbers.items():
                    with self.subTest(family=family, precision=precision, name=name):
                        self.assertEqual(value, 0.0)

    def test_control_is_not(self):
        for family, (of, by_chance) in FAMILIES.items():
            numbers = of(self.run_of_all, CONTROL)
            self.assertTrue(numbers, family)
            for name, value in numbers.items():
                if not name.startswith(by_chance or "-"):
                    with self.subTest(family=family, name=name):
                        self.assertNotEqual(value, 0.0)


if __name__ == "__main__":
    unittest.main()
