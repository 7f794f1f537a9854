#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ranks the projections of a sensitivity run, and finds what to quantize within a budget.

usage: plan_bits.py --run_dir runs/RUN_ID --precision w4a4 [--bits 9] [--out plan.yaml]

Prints the ranking as a table. With --bits it takes projections in the order of least added NLL for
each bit saved, until the linear layers store at most that many bits a weight, and writes a
configuration that runs the plan beside its ends: nothing quantized, and everything. Predicted is the
sum of single effects; the sweep of the written file shows what is true:

    ssmq-sweep --config configs/sensitivity.yaml --config plan.yaml

Exit codes: 0 done, 1 cannot write, 2 bad usage, or a run that has no such trials, or no plan."""
import argparse
import pathlib
import sys

SCOPE_BYTES = 128  # of a scope, see src/quant/scope.h


def options(argv):
    parser = argparse.ArgumentParser(prog="plan_bits.py", description="A plan of bits.")
    parser.add_argument("--run_dir", "--run-dir", required=True, metavar="DIR")
    parser.add_argument("--precision", required=True, metavar="P")
    parser.add_argument("--bits", type=float, metavar="B",
                        help="stored bits a weight, over all linear layers, at most")
    parser.add_argument("--out", metavar="FILE", help="where the plan goes (default: printed)")
    return parser.parse_args(argv)


def ranges(numbers):
    """'0-2,5' of 0, 1, 2, 5."""
    parts = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def scope_of(chosen):
    """Scope of effects; the layers of a module as ranges."""
    parts = []
    for module in sorted({effect.module for effect in chosen}):
        for part in ranges(e.layer for e in chosen if e.module == module).split(","):
            parts.append(f"{part}.{module}")
    return "only:" + ",".join(parts)


def choose(group, bits, baseline_bits):
    """Effects in the order of least harm for each bit, until the budget is met; None if it is not
    met with all."""
    chosen, stored = [], baseline_bits
    for effect in sorted(group.only, key=lambda e: (e.delta / e.spared_bits, e.layer, e.module)):
        if stored <= bits:
            break
        chosen.append(effect)
        stored -= effect.spared_bits
    return (chosen, stored) if stored <= bits else None


def ranking(group):
    lines = [f"{group.precision}, {group.protocol} {group.seq_len}: added NLL in nats a token, 95 % "
             "interval over windows", "",
             "| rank | module | alone | 95 % | sparing it gains | bits saved |",
             "|---|---|---|---|---|---|"]
    gains = {(e.layer, e.module): e for e in group.spared}
    for rank, effect in enumerate(group.only, 1):
        gain = gains.get((effect.layer, effect.module))
        lines.append(f"| {rank} | {effect.layer}.{effect.module} | {effect.delta:.5f} | "
                     f"{effect.low:.5f} to {effect.high:.5f} | "
                     f"{'' if gain is None else f'{gain.delta:.5f}'} | {effect.spared_bits:.3f} |")
    lines.append("")
    lines.append(f"Sum of single effects {group.sum_of_singles:.5f}"
                 + ("" if group.whole is None else f"; all at once {group.whole.delta:.5f}, "
                    f"{group.whole.low:.5f} to {group.whole.high:.5f}") + ".")
    return "\n".join(lines)


def plan_text(group, chosen, stored, run):
    scope = scope_of(chosen)
    return (f"# A plan for {group.precision} from run {run.attributes['run_id']}: {stored:.3f} bits "
            f"a weight over all linear\n# layers, {len(chosen)} of {len(group.only)} projections; "
            f"predicted {sum(e.delta for e in chosen):+.5f} nats a token.\n"
            f"sweep:\n  precisions: [{group.dtype}, \"{group.precision}\"]\n"
            f"  scopes: [all, \"{scope}\"]\n  baseline: {group.dtype}\n"), scope


def main(argv):
    args = options(argv)
    try:
        from ssmq_plots import results, sensitivity
    except ImportError as missing:
        print(f"plan_bits: {missing}; pip install -r analysis/requirements.txt", file=sys.stderr)
        return 1
    try:
        run = results.read(pathlib.Path(args.run_dir))
        found = [g for g in sensitivity.groups(run) if g.precision == args.precision]
    except (results.BadRun, results.NoData) as fault:
        print(f"plan_bits: {fault}", file=sys.stderr)
        return 2
    if not found:
        print(f"plan_bits: --precision: no single modules of {args.precision} in {run.path}",
              file=sys.stderr)
        return 2
    group = found[0]
    print(ranking(group))
    if args.bits is None:
        return 0
    baseline_bits = next(t["storage_bits"] for t in run.trials if t["scope"] == "none"
                         and t["dtype"] == group.dtype and t["storage_bits"] is not None)
    plan = choose(group, args.bits, baseline_bits)
    if plan is None:
        print(f"plan_bits: --bits: even with all of {args.precision} more than {args.bits:g} bits "
              "are stored", file=sys.stderr)
        return 2
    text, scope = plan_text(group, *plan, run)
    if len(scope) >= SCOPE_BYTES:
        print(f"plan_bits: the plan's scope has {len(scope)} characters; at most {SCOPE_BYTES - 1}: "
              f"{scope}", file=sys.stderr)
        return 2
    print()
    if args.out is None:
        print(text, end="")
        return 0
    try:
        pathlib.Path(args.out).write_text(text, encoding="utf-8")
    except OSError as fault:
        print(f"plan_bits: {args.out}: {fault.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
