# SPDX-License-Identifier: Apache-2.0
"""The perplexity protocols of other programs, rolling (lm-evaluation-harness) and half_window
(llama.cpp): each scored token against a run over nothing but its published context, words and bytes
against Python, records against what `ssmq score` prints. Python's standard library alone."""
import json
import math
import pathlib
import re
import unittest

from sweep_support import ROOT, SweepTest, records

TEXT = ("  A lamp, lit\u00a0early,\tburned\n\nin the h\u00e4ll.\u2003It was\u3000late. " * 3
        + "Nobody came; the road lay white under the moon, and the dogs were still.\n")
MODEL = ["--model", "configs/demo"]


def rolling(n, length):
    """[(context and scored tokens)] as get_rolling_token_windows and make_disjoint_window of
    lm-evaluation-harness 0.4.9 give them; -1 is the prefix."""
    tokens, predicted, found = list(range(n)), min(length, n), []
    found.append(([-1], tokens[:predicted]))
    while predicted < n:
        count = min(n - predicted, length)
        end = predicted + count
        given = tokens[end - length - 1:end - 1]
        found.append((given[:len(given) - (count - 1)], tokens[predicted:end]))
        predicted = end
    return found


def half_window(n, length):
    """As llama-perplexity: chunks of n_ctx, of which tokens n_ctx / 2 + 1 to n_ctx - 1 count."""
    first = length // 2
    return [(list(range(i * length, i * length + first + 1)),
             list(range(i * length + first + 1, (i + 1) * length)))
            for i in range(n // length if n >= 2 * length else 0)]


class Protocols(SweepTest):
    def setUp(self):
        super().setUp()
        self.out.mkdir(parents=True)
        self.path = self.out.parent / "text.txt"
        self.path.write_text(TEXT, encoding="utf-8", newline="")
        self.ids = [int(line) for line in
                    self.ssmq("tokenize", *MODEL, self.path).stdout.split()]

    def score(self, *arguments):
        """{position: NLL} of `ssmq score`."""
        lines = self.ssmq("score", *MODEL, "--threads", 1, *arguments).stdout.splitlines()
        return {int(at): float(nll) for at, _, nll in (line.split("\t") for line in lines)}

    def test_tokens_have_their_published_context(self):
        end_of_text = json.loads((ROOT / "configs/demo/tokenizer.json").read_text(
            encoding="utf-8"))["model"]["vocab"]["<|endoftext|>"]
        for protocol, windows, length in [("rolling", rolling, 40), ("half_window", half_window, 33),
                                          ("rolling", rolling, 500)]:
            got = self.score("--text", self.path, "--protocol", protocol, "--seq-len", length)
            expected = {}
            for context, scored in windows(len(self.ids), length):
                ids = [end_of_text if t < 0 else self.ids[t] for t in context + scored]
                alone = self.score_ids(ids)
                for place, t in enumerate(scored, len(context)):
                    self.assertNotIn(t, expected)
                    expected[t] = alone[place]
            self.assertEqual(sorted(got), sorted(expected))
            for t, nll in expected.items():
                self.assertAlmostEqual(got[t], nll, delta=2e-5 * max(1.0, nll), msg=f"token {t}")
            if protocol == "rolling":
                self.assertEqual(sorted(got), list(range(len(self.ids))))

    def score_ids(self, ids):
        path = self.out.parent / "ids.txt"
        path.write_text(" ".join(map(str, ids)))
        return self.score("--ids", path)

    def sweep_text(self, *arguments):
        settings = ["model.device=cpu", "model.threads=1", "sweep.tasks=ppl", "ppl.stride=0",
                    f"ppl.text={self.path}", "sweep.precisions=fp32",
                    "ppl.protocols=[rolling, half_window]"]
        run_dir = self.sweep_dir(*(word for setting in settings for word in ("--set", setting)),
                                 *arguments, ranks=0)
        return run_dir, {(t["protocol"], t["seq_len"]): t for t in records(run_dir).values()}

    def test_words_and_bytes(self):
        run_dir, trials = self.sweep_text("--set", "ppl.seq_len=[24, 41]")
        for length in (24, 41):
            trial = trials["rolling", length]
            nll = self.score("--text", self.path, "--protocol", "rolling", "--seq-len", length)
            total = math.fsum(nll.values())
            words, n_bytes = len(re.split(r"\s+", TEXT)), len(TEXT.encode())
            self.assertEqual((trial["n_tokens"], trial["n_words"], trial["n_bytes"]),
                             (len(self.ids), words, n_bytes))
            self.assertAlmostEqual(trial["nll_sum"], total, delta=1e-6 * total)
            for name, expected in [("word_perplexity", math.exp(trial["nll_sum"] / words)),
                                   ("byte_perplexity", math.exp(trial["nll_sum"] / n_bytes)),
                                   ("bits_per_byte", trial["nll_sum"] / n_bytes / math.log(2))]:
                self.assertAlmostEqual(trial[name], expected, delta=1e-12 * expected)
            half = trials["half_window", length]
            self.assertEqual(half["n_tokens"], len(self.ids) // length * (length - 1 - length // 2))
            self.assertIsNone(half["n_words"])
        self.assert_readable(run_dir)

    def test_cut_text(self):
        """Words and bytes are those of the tokens that were used."""
        _, trials = self.sweep_text("--set", "ppl.seq_len=[30]", "--set", "ppl.max_tokens=61")
        path = self.out.parent / "used.txt"
        path.write_text("\n".join(map(str, self.ids[:61])))
        used = self.ssmq("tokenize", *MODEL, "--decode", path).stdout.removesuffix("\n")
        trial = trials["rolling", 30]
        self.assertEqual(trial["n_tokens"], 61)
        self.assertTrue(TEXT.startswith(used))
        self.assertEqual((trial["n_words"], trial["n_bytes"]),
                         (len(re.split(r"\s+", used)), len(used.encode())))

    def test_too_short(self):
        """half_window needs two windows, as llama.cpp does."""
        n = len(self.ids)
        _, trials = self.sweep_text("--set", f"ppl.seq_len=[{n // 2 + 1}]")
        trial = trials["half_window", n // 2 + 1]
        self.assertEqual((trial["status"], trial["status_reason"]),
                         ("skipped", f"text has {n} tokens, the window needs {2 * (n // 2 + 1)}"))
        self.assertEqual(trials["rolling", n // 2 + 1]["status"], "ok")
        path = self.out.parent / "ids.txt"
        path.write_text("1 2 3")
        self.assertIn("protocol rolling needs a tokenizer that knows <|endoftext|>", self.ssmq(
            "score", *MODEL, "--ids", path, "--protocol", "rolling", expect=2).stderr)


if __name__ == "__main__":
    unittest.main()
