# SPDX-License-Identifier: Apache-2.0
"""Every statistic against NumPy (oracle_stats.py), from the NLL and logits that the engine itself
handed out (tests/support/tap.c), to 1e-12 relative; differences of probabilities, which are small
numbers from large ones, and of NLLs, and standard errors of buckets to 1e-14. Needs the packages of analysis/requirements.txt."""
from analysis_python import ROOT  # before the packages that it finds

import json
import math
import os
import pathlib
import subprocess
import tempfile
import unittest

import numpy as np

import oracle_stats as oracle
from ssmq_plots import paired, sensitivity

TAP = pathlib.Path(os.environ.get("SSMQ_BUILD", ROOT / "build/dev")) / "tests/e2e/tap"
V = 4096
RELATIVE, DIFFERENCE = 1e-12, 1e-14


def tap(*arguments, stdin=None):
    done = subprocess.run([TAP, *map(str, arguments)], cwd=ROOT, input=stdin, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout


def ask(*lines):
    """Answers of the statistics, each a list of numbers."""
    answers = tap("stats", stdin="".join(f"{line}\n" for line in lines)).splitlines()
    return [[float(word) for word in line.split()] for line in answers]


def words(numbers):
    return " ".join(f"{number:.17g}" for number in numbers)


class OracleTest(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory(prefix="ssmq-oracle-")
        self.addCleanup(self._folder.cleanup)
        self.folder = pathlib.Path(self._folder.name)

    def near(self, name, got, expected):
        expected = float(expected)
        if got is None or math.isnan(expected):
            self.assertTrue(got is None and math.isnan(expected), f"{name}: {got}, {expected}")
            return
        absolute = DIFFERENCE if name.startswith("delta_") or name.endswith("_bucket_sem") else 0.0
        self.assertLessEqual(abs(got - expected), RELATIVE * abs(expected) + absolute,
                             f"{name}: {got!r} is not {expected!r}")

    def outcome(self):
        return [json.loads((self.folder / f"{name}.json").read_text())
                for name in ("record", "samples")]

    def compare(self, fields, series):
        """Every expected field and series, and no other result than these."""
        record, samples = self.outcome()
        for name, value in fields.items():
            self.near(name, record[name], value)
        for name, values in series.items():
            self.assertEqual(len(samples[name]), len(values), name)
            for got, expected in zip(samples[name], values):
                self.near(name, got, expected)
        self.assertEqual(set(samples), set(series))
        return record


class Recorded(OracleTest):
    """Trials of the demo on the CPU engine."""

    def rows(self, name, has_logits):
        kind = [("target", "<i4"), ("nll", "<f4")] + [("logits", "<f4", (V,))] * has_logits
        return np.fromfile(self.folder / f"{name}.bin", dtype=kind)

    def test_fidelity(self):
        for precision, case in [("w4a4", ("disjoint", 40, -1, 130)), ("w8a8", ("sliding", 48, 24, 97)),
                                ("w4a8", ("stream", 30, -1, 91)), ("bf16", ("disjoint", 32, -1, 70)),
                                ("w4a4", ("disjoint", 64, -1, 65)), ("w4a4", ("rolling", 30, -1, 71)),
                                ("w4a8", ("half_window", 60, -1, 190))]:
            with self.subTest(precision=precision, case=case):
                tap("run", self.folder, "fidelity", precision, *case, "demo-1")
                base, other = self.rows("baseline", True), self.rows("trial", True)
                ids = np.fromfile(self.folder / "ids.bin", dtype="<i4")
                at = oracle.positions(*case)[0]
                np.testing.assert_array_equal(other["target"], ids[at])
                np.testing.assert_array_equal(base["target"], ids[at])
                tokens = oracle.divergences(base["logits"], other["logits"], ids[at])
                fields, series = oracle.fidelity_numbers(tokens, "tap", *case)
                if precision == "bf16":  # the null: textbook sums would leave rounding
                    distances = [name for name in fields if name.startswith(("kl_", "delta_"))]
                    fields.update(dict.fromkeys([*distances, "jsd_mean", "reverse_kl_mean"], 0.0))
                    series.update({name: np.zeros(len(series[name])) for name in series
                                   if name.startswith(("kl_", "delta_"))})
                record = self.compare(fields, series)
                self.assertGreater(record["n_tokens"], 60)
                # Nothing that the record reports of the tokens is left unchecked.
                results = {name for name, value in record.items() if isinstance(value, float)
                           and name.startswith(("kl_", "delta_", "nll_", "same_", "jsd", "reverse",
                                                "top5", "baseline_", "ppl"))}
                self.assertLessEqual(results, set(fields))

    def test_ppl(self):
        for case in [("disjoint", 48, -1, 250), ("sliding", 64, 24, 193), ("stream", 50, -1, 201),
                     ("sliding", 40, 40, 121), ("disjoint", 90, -1, 91),
                     ("rolling", 40, -1, 90), ("rolling", 40, -1, 80), ("rolling", 40, -1, 13),
                     ("half_window", 41, -1, 130), ("half_window", 64, -1, 128)]:
            with self.subTest(case=case):
                tap("run", self.folder, "ppl", "bf16", *case, "demo-1")
                rows = self.rows("trial", False)
                ids = np.fromfile(self.folder / "ids.bin", dtype="<i4")
                np.testing.assert_array_equal(rows["target"], ids[oracle.positions(*case)[0]])
                fields, series = oracle.nll_numbers(rows["nll"], *case)
                if case[0] == "rolling":  # of the counts that tap.c gives
                    fields.update(n_words=77, n_bytes=401,
                                  word_perplexity=math.exp(fields["nll_sum"] / 77),
                                  byte_perplexity=math.exp(fields["nll_sum"] / 401),
                                  bits_per_byte=fields["nll_sum"] / 401 / math.log(2))
                self.compare(fields, series)

    def prompts(self):
        """[(logits after the prompt, right ids, greedy ids, NLL of the right ids)]."""
        data, at, found = (self.folder / "trial.bin").read_bytes(), 0, []
        step = np.dtype([("forced", "<i4"), ("argmax", "<i4"), ("nll", "<f4")])
        while at < len(data):
            logits = np.frombuffer(data, "<f4", V, at)
            n_steps, first = np.frombuffer(data, "<i4", 2, at + 4 * V)
            steps = np.frombuffer(data, step, n_steps, at + 4 * V + 8)
            at += 4 * V + 8 + n_steps * step.itemsize
            nll = -float(oracle.log_softmax(logits[None])[0, first])
            found.append((logits, [first, *steps["forced"]], [int(logits.argmax()),
                          *steps["argmax"]], [nll, *steps["nll"].astype(float)]))
        return found

    def test_passkey(self):
        """Of the classic prompt, of RULER's needle with its 7 digits, and of its chain of names."""
        for template, length, characters in [("demo-1", 96, 5), ("ruler-niah-1", 150, 7),
                                             ("ruler-vt-1", 560, 25)]:
            with self.subTest(template=template):
                tap("run", self.folder, "passkey", "bf16", "disjoint", length, -1, 2, template)
                record = self.compare_passkey(template, characters)
                self.assertTrue(0 < record["digit_accuracy"] < 1, record["digit_accuracy"])

    def compare_passkey(self, template, characters):
        vocabulary = json.loads((ROOT / "configs/demo/tokenizer.json").read_text())["model"]["vocab"]
        text = {number: word.replace("\u0120", "") for word, number in vocabulary.items()}
        prompts = self.prompts()
        self.assertEqual(len(prompts), 18)
        columns = {"digits": [], "correct": [], "answer_nll": [], "answer_rank": [], "key": []}
        for logits, right, said, nll in prompts:
            n_key = len(right) - (template == "demo-1")  # which ends with a full stop
            asked = "".join(text[token] for token in right[:n_key])
            self.assertRegex(asked, rf"^[0-9A-Z]{{{characters}}}$")
            rank = 1 + sum((value, -v) > (logits[right[0]], -right[0])
                           for v, value in enumerate(logits))
            columns["answer_rank"].append(rank)
            columns["correct"].append(float(right[:n_key] == said[:n_key]))
            columns["answer_nll"].append(math.fsum(nll) / len(nll))
            columns["digits"].append(sum(a == b and a in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                         for x, y in zip(right[:n_key], said)
                                         for a, b in zip(text[x], text[y])))
            columns["key"].append(float(asked) if asked.isdigit() else None)
        plain = {name: values[:6] for name, values in columns.items()}
        if template == "ruler-vt-1":  # the value of the chain, which no answer holds
            plain["key"] = self.outcome()[1]["passkey_key"]
            self.assertTrue(all(10000 <= key <= 99999 for key in plain["key"]))
        low, high = oracle.wilson(int(sum(plain["correct"])), 6)
        return self.compare(
            {"n_trials": 6, "n_correct": sum(plain["correct"]),
             "accuracy": np.mean(plain["correct"]), "accuracy_ci_low": low,
             "accuracy_ci_high": high, "digit_accuracy": sum(plain["digits"]) / (6 * characters),
             "answer_nll_mean": math.fsum(x for p in prompts[:6] for x in p[3])
             / sum(len(p[3]) for p in prompts[:6]),
             "answer_rank_mean": np.mean(plain["answer_rank"]),
             "control_accuracy": np.mean(columns["correct"][6:12]),
             "wrong_key_accuracy": np.mean(columns["correct"][12:])},
            {**{f"passkey_{name}": values for name, values in plain.items()},
             "passkey_depth": [0.2] * 3 + [0.9] * 3,
             "passkey_control": columns["correct"][6:12],
             "passkey_wrong_key": columns["correct"][12:]})


class Synthetic(OracleTest):
    """Reports of tokens made up for the edges."""

    def report(self, tokens, case, draw="draw"):
        tokens.astype("<f8").tofile(self.folder / "tokens.bin")
        tap("report", self.folder, *case[:3], draw)
        at = oracle.positions(*case)[0]
        self.compare(*oracle.fidelity_numbers(tokens[at], draw, *case))
        return self.outcome()[0]

    def tokens(self, n, seed=1):
        draw = np.random.default_rng(seed)
        return np.stack([np.exp(3 * draw.normal(size=n)), draw.random(n), draw.random(n),
                         5 * draw.random(n), 5 * draw.random(n), draw.random(n) - 0.5,
                         draw.integers(0, 2, n), draw.integers(0, 6, n) / 5], axis=1)

    def test_texts_at_the_edges(self):
        """No window, one window, a length of windows, one more, one token at the end."""
        for case in [("disjoint", 8, -1, 1), ("disjoint", 8, -1, 7), ("disjoint", 8, -1, 8),
                     ("disjoint", 8, -1, 9), ("disjoint", 2, -1, 400), ("sliding", 8, 4, 2),
                     ("sliding", 8, 4, 7), ("sliding", 8, 4, 8), ("sliding", 8, 4, 9),
                     ("sliding", 8, 4, 12), ("sliding", 8, 8, 17), ("sliding", 8, 1, 40),
                     ("sliding", 8, 9, 40), ("stream", 8, -1, 1), ("stream", 8, -1, 2),
                     ("stream", 8, -1, 9), ("stream", 1, -1, 30), ("stream", 8, -1, 141),
                     ("disjoint", 500, -1, 4100), ("rolling", 8, -1, 1), ("rolling", 8, -1, 8),
                     ("rolling", 8, -1, 9), ("rolling", 8, -1, 60), ("half_window", 8, -1, 15),
                     ("half_window", 8, -1, 16), ("half_window", 9, -1, 31)]:
            with self.subTest(case=case):
                record = self.report(self.tokens(case[3]), case, f"draw of {case[0]}".replace(
                    " ", "-"))
                if not oracle.windows(*case):
                    self.assertIsNone(record["n_tokens"])
                    self.assertIsNone(record["kl_mean"])

    def test_equal_tokens(self):
        """Without spread: intervals of no width, and no correlation."""
        tokens = np.tile([0.1, 0.1, 0.1, 3.3, 3.4, 0.01, 1, 1], (90, 1))
        record = self.report(tokens, ("disjoint", 9, -1, 90))
        self.assertIsNone(record["nll_correlation"])
        self.assertAlmostEqual(record["kl_mean_ci_low"], record["kl_mean_ci_high"], delta=1e-15)
        zeros = np.tile([0, 0, 0, 3.3, 3.3, 0, 1, 1], (90, 1))
        record = self.report(zeros, ("stream", 9, -1, 90))
        self.assertEqual((record["kl_mean"], record["kl_mean_ci_high"], record["ppl_ratio"]),
                         (0, 0, 1))


class Functions(OracleTest):
    def compare_all(self, name, lines, expected):
        answers = ask(*lines)
        self.assertEqual(len(answers), len(lines))
        for line, got, values in zip(lines, answers, expected):
            self.assertEqual(len(got), len(values), line)
            for a, b in zip(got, values):
                self.near(f"{name} {line[:60]}", None if math.isnan(a) else a, b)

    def test_wilson(self):
        cases = [(k, n) for n in (0, 1, 2, 3, 10, 50, 997) for k in {0, 1, n // 3, n - 1, n}
                 if 0 <= k <= n]
        self.compare_all("wilson", [f"wilson - {k} {n}" for k, n in cases],
                         [oracle.wilson(k, n) for k, n in cases])

    def test_means_and_percentiles(self):
        draw = np.random.default_rng(5)
        lists = [[], [3.25], [1, 1, 1, 1], [2.5, -1], list(draw.normal(size=1000)),
                 list(np.exp(9 * draw.normal(size=333)))]
        self.compare_all("mean", [f"mean - {words(x)}" for x in lists],
                         [(np.mean(x) if x else math.nan,
                           np.std(x, ddof=1) / math.sqrt(len(x)) if len(x) > 1 else math.nan)
                          for x in lists])
        pairs = [(q, x) for x in lists for q in (0, 0.1, 2.5, 25, 50, 99.9, 100)]
        self.compare_all("percentile", [f"percentile {q} {words(x)}" for q, x in pairs],
                         [[np.percentile(x, q) if x else math.nan] for q, x in pairs])

    def test_errors_and_bootstrap(self):
        draw = np.random.default_rng(6)
        blocks = [([], []), ([4.5], [3]), ([0, 0, 0], [5, 5, 5]), ([1, 9, 0], [1, 3, 0])]
        for n in (2, 3, 7, 64, 1000):
            blocks.append((100 * draw.random(n), draw.integers(1, 50, n)))
        self.compare_all("ratio_sem", [f"ratio_sem - {words([*s, *c])}" for s, c in blocks],
                         [[oracle.ratio_sem(s, c)] for s, c in blocks])
        self.compare_all("bootstrap", [f"bootstrap a/{len(s)} {words([*s, *c])}" for s, c in blocks],
                         [oracle.bootstrap(f"a/{len(s)}", s, c) for s, c in blocks])

    def test_windows(self):
        """Of every short text: begin, end and first target of each window."""
        cases = [(protocol, seq_len, stride, n) for n in range(0, 34) for seq_len in range(1, 10)
                 for protocol, strides in (("disjoint", [-1]), ("stream", [-1]),
                                           ("rolling", [-1]), ("half_window", [-1]),
                                           ("sliding", range(1, seq_len + 2)))
                 for stride in strides if not (protocol == "sliding" and seq_len < 2)]
        answers = ask(*(f"windows {p} {length} {stride} {n}" for p, length, stride, n in cases))
        for case, got in zip(cases, answers):
            self.assertEqual(got, [x for window in oracle.windows(*case) for x in window], case)


class Analysis(OracleTest):
    """What analysis/ computes itself; more of it in test_plots.py and test_sensitivity.py."""

    def test_mcnemar(self):
        """Of all outcomes of n coins, those as far from n / 2 or farther."""
        for n in range(0, 11):
            heads = np.array([bin(outcome).count("1") for outcome in range(2 ** n)])
            for lost in range(n + 1):
                p = np.mean(np.abs(2 * heads - n) >= abs(2 * lost - n))
                self.near("p", paired.mcnemar(lost, n - lost), p)

    def test_wilson(self):
        for k, n in [(0, 0), (0, 5), (5, 5), (3, 20), (499, 997)]:
            for got, expected in zip(paired.wilson(k, n), oracle.wilson(k, n)):
                self.near("wilson", None if math.isnan(got) else got, expected)

    def test_intervals_of_windows(self):
        """No window and one have none; equal windows have one of no width."""
        for few in ([], [0.3]):
            self.assertTrue(all(map(math.isnan, sensitivity.interval(np.array(few)))))
        self.assertEqual(sensitivity.interval(np.full(5, 0.25)), (0.25, 0.25))
        # A window without tokens says nothing, not even through its NaN.
        self.assertEqual(sensitivity.interval(np.array([np.nan, 0.5, 0.5]), np.array([0, 3, 4])),
                         sensitivity.interval(np.array([9.0, 0.5, 0.5]), np.array([0, 3, 4])))
        differences = np.random.default_rng(3).normal(size=17)
        places = np.random.Generator(np.random.PCG64(sensitivity.SEED)).integers(
            0, 17, (sensitivity.DRAWS, 17))
        counts = np.stack([(places == i).sum(axis=1) for i in range(17)], axis=1)
        means = np.sort(counts @ differences / 17)
        for got, tail in zip(sensitivity.interval(differences), (0.025, 0.975)):
            at = tail * (len(means) - 1)
            below = int(at)
            self.near("delta_interval", got, means[below] + (at - below) * (
                means[below + 1] - means[below]))


if __name__ == "__main__":
    unittest.main()
