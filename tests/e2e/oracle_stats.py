# SPDX-License-Identifier: Apache-2.0
"""Every statistic of ppl and fidelity, written again in NumPy from its published definition; what
test_oracle.py compares the programs with. Divergences are the textbook sums in extended precision;
windows are the loops of the published evaluations; the draws of the bootstrap are SplitMix64."""
import hashlib
import math
import statistics

import numpy as np

Z = statistics.NormalDist().inv_cdf(0.975)
N_RESAMPLES = 2000
KL_LEVELS = {"kl_min": 0, "kl_p001": 0.1, "kl_p01": 1, "kl_p05": 5, "kl_p10": 10, "kl_p50": 50,
             "kl_p90": 90, "kl_p95": 95, "kl_p99": 99, "kl_p999": 99.9, "kl_max": 100}
DELTA_P_LEVELS = {"delta_p_min": 0, "delta_p_p001": 0.1, "delta_p_p01": 1, "delta_p_p05": 5,
                  "delta_p_p10": 10, "delta_p_p25": 25, "delta_p_p50": 50, "delta_p_p75": 75,
                  "delta_p_p90": 90, "delta_p_p95": 95, "delta_p_p99": 99, "delta_p_p999": 99.9,
                  "delta_p_max": 100}


def windows(protocol, seq_len, stride, n):
    """[(begin, end, first target)] of a text of n tokens; windows that score nothing are none."""
    found = []
    if protocol == "disjoint":  # GPTQ's evaluation
        for i in range(n // seq_len if seq_len > 1 else 0):
            found.append((i * seq_len, (i + 1) * seq_len, i * seq_len + 1))
    elif protocol == "sliding" and 1 <= stride <= seq_len:  # perplexity guide of Transformers
        previous = 0
        for begin in range(0, n, stride):
            end = min(begin + seq_len, n)
            labels = end - previous
            first = begin + 1 if labels == end - begin else end - labels
            if first < end:
                found.append((begin, end, first))
            previous = end
            if end == n:
                break
    elif protocol == "stream" and n >= 2:
        found.append((0, n, 1))
    elif protocol == "rolling" and n >= 1:  # lm-evaluation-harness, context_len 1, prefix at -1
        predicted = min(seq_len, n)
        found.append((-1, predicted, 0))
        while predicted < n:
            count = min(n - predicted, seq_len)
            end = predicted + count
            found.append((end - seq_len - 1, end, predicted))
            predicted = end
    elif protocol == "half_window" and n >= 2 * seq_len:  # llama.cpp, needs two windows
        for i in range(n // seq_len):
            scored = range(seq_len // 2 + 1, seq_len)
            if scored:
                found.append((i * seq_len, (i + 1) * seq_len, i * seq_len + scored[0]))
    return found


def positions(protocol, seq_len, stride, n):
    """Of each scored token, in order of the windows: place in the text, block, place in its window.
    """
    rows = [(t, t // seq_len if protocol == "stream" else i, t - begin)
            for i, (begin, end, first) in enumerate(windows(protocol, seq_len, stride, n))
            for t in range(first, end)]
    return np.array(rows, dtype=np.int64).reshape(-1, 3).T


def n_blocks(protocol, seq_len, stride, n):
    found = windows(protocol, seq_len, stride, n)
    return -(-n // seq_len) if protocol == "stream" and found else len(found)


def wilson(k, n):
    """The roots of (k/n - p)^2 = Z^2 p (1 - p) / n."""
    if n == 0:
        return math.nan, math.nan
    share = k / n
    low, high = sorted(np.roots([1 + Z * Z / n, -(2 * share + Z * Z / n), share * share]).real)
    return (0.0 if k == 0 else low), (1.0 if k == n else high)


def ratio_sem(sums, counts):
    """Cochran 1977, 2.11: standard error of sum(sums) / sum(counts), blocks as units."""
    sums, counts = np.asarray(sums, float), np.asarray(counts, float)
    if len(sums) < 2:
        return math.nan
    residuals = sums - sums.sum() / counts.sum() * counts
    return math.sqrt(len(sums) / (len(sums) - 1) * np.square(residuals).sum()) / counts.sum()


def draws_below(text, bound, count):
    """`count` draws below `bound` of the stream that SHA-256 of the text seeds."""
    gamma = np.uint64(0x9E3779B97F4A7C15)
    seed = np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
    with np.errstate(over="ignore"):
        z = seed + gamma * np.arange(1, count + 65, dtype=np.uint64)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z = z ^ z >> np.uint64(31)
    kept = z[z >= np.uint64(2 ** 64 % bound)]
    return (kept % np.uint64(bound)).astype(np.int64)[:count]


def bootstrap(text, sums, counts):
    """95 % percentile interval of sum / count over resampled blocks."""
    sums, counts = np.asarray(sums, float), np.asarray(counts, float)
    n = len(sums)
    if n < 2:
        return math.nan, math.nan
    places = draws_below(text, n, N_RESAMPLES * n).reshape(N_RESAMPLES, n)
    total, count = sums[places].sum(axis=1), counts[places].sum(axis=1)
    ratios = np.divide(total, count, out=np.zeros(N_RESAMPLES), where=count > 0)
    return tuple(np.percentile(ratios, [2.5, 97.5]))


def log_softmax(logits):
    x = logits.astype(np.longdouble)
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def top5(logits):
    """The five likeliest ids, of equal logits the lower first."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :5]


def divergences(baseline, other, targets):
    """Columns of the tokens: kl, reverse_kl, jsd, baseline_nll, nll, delta_p, same_top, top5."""
    ln_p, ln_q = log_softmax(baseline), log_softmax(other)
    p, q = np.exp(ln_p), np.exp(ln_q)
    ln_m = np.log((p + q) / 2)
    rows = np.arange(len(targets))
    a, b = top5(baseline), top5(other)
    common = (a[:, :, None] == b[:, None, :]).sum(axis=(1, 2)) / a.shape[1]
    return np.stack([
        (p * (ln_p - ln_q)).sum(axis=1), (q * (ln_q - ln_p)).sum(axis=1),
        (p * (ln_p - ln_m) + q * (ln_q - ln_m)).sum(axis=1) / 2,
        -ln_p[rows, targets], -ln_q[rows, targets], q[rows, targets] - p[rows, targets],
        (baseline.argmax(axis=1) == other.argmax(axis=1)).astype(float), common], axis=1)


def block_sums(values, block, n):
    return np.bincount(block, weights=np.asarray(values, float), minlength=n)


def means(sums, counts):
    with np.errstate(invalid="ignore"):
        return np.asarray(sums) / counts


def bucket_sems(values, bucket, block):
    """Of each bucket's mean, blocks with tokens in it as units."""
    found = []
    for k in range(bucket.max() + 1):
        units = np.unique(block[bucket == k])
        mine = [values[(bucket == k) & (block == unit)] for unit in units]
        found.append(ratio_sem(np.array([math.fsum(m) for m in mine]),
                               np.array([len(m) for m in mine])))
    return np.array(found)


def nll_numbers(nll, protocol, seq_len, stride, n):
    """Fields and series of ppl from the NLL of each scored token, in order of the windows."""
    _, block, place = positions(protocol, seq_len, stride, n)
    if len(block) == 0:
        return {}, {}
    nll = np.asarray(nll, float)
    blocks = n_blocks(protocol, seq_len, stride, n)
    counts = np.bincount(block, minlength=blocks)
    sums = block_sums(nll, block, blocks)
    bucket = np.floor(np.log2(place)).astype(int)
    fields = {"nll_sum": math.fsum(nll), "nll_mean": math.fsum(nll) / len(nll),
              "ppl": math.exp(math.fsum(nll) / len(nll)), "n_tokens": len(nll),
              "n_windows": len(windows(protocol, seq_len, stride, n)),
              "nll_sem": ratio_sem(sums, counts)}
    n_buckets = bucket.max() + 1
    series = {"nll_bucket_sem": bucket_sems(nll, bucket, block),
              "nll_window": means(sums, counts), "nll_window_tokens": counts,
              "nll_bucket_tokens": np.bincount(bucket, minlength=n_buckets),
              "nll_bucket_mean": means(block_sums(nll, bucket, n_buckets),
                                       np.bincount(bucket, minlength=n_buckets))}
    return fields, series


def correlation(x, y):
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def fidelity_numbers(tokens, draw, protocol, seq_len, stride, n):
    """Fields and series of fidelity from the columns of divergences(), scored tokens alone, in
    order of the windows."""
    _, block, place = positions(protocol, seq_len, stride, n)
    kl, reverse, jsd, base, nll, delta_p, same, overlap = np.asarray(tokens).T
    fields, series = nll_numbers(nll, protocol, seq_len, stride, n)
    if not fields:
        return {}, {}
    blocks = n_blocks(protocol, seq_len, stride, n)
    counts = np.bincount(block, minlength=blocks)
    bucket = np.floor(np.log2(place)).astype(int)
    for name, values in {"kl": kl, "delta_nll": nll - base}.items():
        sums = block_sums(values, block, blocks)
        fields[f"{name}_mean"] = values.mean()
        fields[f"{name}_sem"] = ratio_sem(sums, counts)
        low, high = ("kl_mean_ci_low", "kl_mean_ci_high") if name == "kl" else (
            "delta_nll_ci_low", "delta_nll_ci_high")
        fields[low], fields[high] = bootstrap(draw, sums, counts)
        series[f"{name}_window"] = means(sums, counts)
        if name == "delta_nll":
            series["delta_nll_bucket_sem"] = bucket_sems(values, bucket, block)
        series[f"{name}_bucket_mean"] = means(block_sums(values, bucket, bucket.max() + 1),
                                              np.bincount(bucket))
    fields["same_top_ci_low"], fields["same_top_ci_high"] = bootstrap(
        draw, block_sums(same, block, blocks), counts)
    for levels, values in ((KL_LEVELS, kl), (DELTA_P_LEVELS, delta_p)):
        values = np.asarray(values, float)
        fields.update({name: np.percentile(values, q) for name, q in levels.items()})
    fields.update({
        "kl_worst5_mean": np.sort(kl)[len(kl) - -(-len(kl) // 20):].mean(),
        "reverse_kl_mean": reverse.mean(), "jsd_mean": jsd.mean(), "delta_p_mean": delta_p.mean(),
        "delta_p_rms": np.sqrt(np.square(delta_p).mean()), "same_top_share": same.mean(),
        "top5_overlap": overlap.mean(), "baseline_nll_mean": base.mean(),
        "baseline_ppl": np.exp(base.mean()), "ppl_ratio": np.exp((nll - base).mean()),
        "nll_correlation": correlation(nll, base)})
    return fields, series
