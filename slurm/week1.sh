#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#SBATCH --job-name=ssmq-week1
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --output=runs/%x-%j.out
#
# The Week-1 sweep with its plots and its report, from a fresh clone on:
#     bash slurm/week1.sh [options of ssmq-sweep]
#     sbatch slurm/week1.sh [options of ssmq-sweep]       (in the folder of the clone)
#     sbatch --ntasks-per-node=8 --gpus-per-node=8 slurm/week1.sh --set model.path=/my/model
# Installs or asks for what is missing, builds, sweeps with one rank a GPU, or two ranks without
# one, draws the plots and writes the report. The embedded model without a GPU gets the sizes of quickstart.yaml.
#
# Before its time limit and before a preemption Slurm sends a signal: ssmq-sweep then finishes the
# trials in flight and the job requeues itself, resuming runs/week1-job<id>. Ctrl-C and a closed
# terminal do the first half; a second Ctrl-C stops at once.
#
# Exit codes are those of ssmq-sweep: 0 every trial ok or skipped, 1 could not continue, 2 bad usage
# or configuration, 3 some trials failed, 4 stopped early and resumable.
set -eu

readonly MAX_REQUEUES=20 EXIT_FAILURE=1 EXIT_TRIALS=3 EXIT_RESUMABLE=4

# sbatch runs a copy of this file from a folder of its own.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
is_batch=0
if [ -n "${SLURM_JOB_ID:-}" ] && [ ! -f "$here/env.sh" ]; then
    is_batch=1
    here=${SLURM_SUBMIT_DIR:?}/slurm
fi
[ -f "$here/env.sh" ] || {
    echo "week1: $here/env.sh: no such file; submit from the folder of the clone" >&2
    exit $EXIT_FAILURE
}
cd "$here/.."
# shellcheck source=slurm/env.sh
. slurm/env.sh

# Whoever listened may be gone: a closed terminal, a tee that Ctrl-C ended.
say() {
    echo "week1: $*" >&2 || true
}

build() {
    local log=build/run.log
    say "building"
    if ! { cmake --preset run && cmake --build --preset run --target ssmq ssmq-sweep; } >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        say "the build failed; all of it is in $log"
        return 1
    fi
}

# True if the arguments name a configuration, and if they name a run.
names_config=0 names_run=0 model=configs/demo wants_cpu=0
look_at_arguments() {
    local option value
    while [ $# -gt 0 ]; do
        option=$1 value=${2:-}
        case $option in --*=*) value=${option#*=} option=${option%%=*} ;; esac
        case $option in
        --config | -c) names_config=1 ;;
        --resume | -r) names_config=1 names_run=1 ;;
        --run-id) names_run=1 ;;
        --device | -d) value=model.device=$value ;;
        esac
        case $value in
        model.path=*) model=${value#model.path=} ;;
        model.device=cpu) wants_cpu=1 ;;
        run.run_id=*) names_run=1 ;;
        esac
        shift
    done
}

signalled=0 n_stops=0 sweep_pid=
# shellcheck disable=SC2317 # called by traps
stop_sweep() {
    signalled=1
    n_stops=$((n_stops + 1))
    if [ "$1" = INT ] && [ "$n_stops" -gt 1 ]; then
        kill -TERM "$sweep_pid" 2>/dev/null || true
    else
        say "stopping after the trials in flight (signal $1)"
        kill -USR1 "$sweep_pid" 2>/dev/null || true
    fi
}

# Starts the sweep so that a Ctrl-C reaches this script alone, and waits for it. A wait that a
# signal cut short says nothing about the sweep, so it is done again.
run_sweep() {
    local out=$1 rc=0
    shift
    setsid "$@" >"$out" </dev/null &
    sweep_pid=$!
    trap 'stop_sweep USR1' USR1
    trap 'stop_sweep TERM' TERM
    trap 'stop_sweep INT' INT
    trap 'stop_sweep HUP' HUP
    trap '' PIPE
    signalled=1
    while [ $signalled -eq 1 ]; do
        signalled=0 rc=0
        wait "$sweep_pid" || rc=$?
    done
    # What is left is short, and another warning of Slurm shall not cut it off.
    trap '' USR1
    trap - TERM INT HUP
    return $rc
}

look_at_arguments "$@"
ssmq_env_lock
ssmq_env_tools run || exit $EXIT_FAILURE
has_plots=1
ssmq_env_venv || has_plots=0
build || exit $EXIT_FAILURE
ssmq_env_unlock

info=$(build/run/bin/ssmq info) || exit $EXIT_FAILURE
n_gpus=$(awk '/^cuda devices/ { print $3 }' <<<"$info")
[ $wants_cpu -eq 0 ] || n_gpus=0
n_ranks=${SLURM_NTASKS:-$n_gpus}
[ "$n_ranks" -gt 0 ] || n_ranks=2

defaults=()
if [ $names_config -eq 0 ]; then
    config=configs/week1.yaml
    if [ "$model" = configs/demo ] && [ "$n_gpus" -eq 0 ]; then
        config=configs/quickstart.yaml
        say "no GPU: the embedded model runs the smaller sizes of $config"
    fi
    defaults+=(--config "$config")
fi
# A requeued job is the same job: it finds its run by its name.
if [ $is_batch -eq 1 ] && [ $names_run -eq 0 ]; then
    defaults+=(--run-id "week1-job$SLURM_JOB_ID")
fi

if command -v mpirun >/dev/null 2>&1; then
    launch=(mpirun -np "$n_ranks")
else
    launch=(srun --mpi=pmix --kill-on-bad-exit=0 --ntasks="$n_ranks")
fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT
say "sweeping with $n_ranks ranks and $n_gpus GPUs"
rc=0
run_sweep "$out" "${launch[@]}" build/run/bin/ssmq-sweep "${defaults[@]}" "$@" || rc=$?

run_dir=$(tail -n 1 "$out")
if [ ! -f "$run_dir/results.h5" ]; then
    cat "$out"
    exit $rc
fi
case $rc in
0 | "$EXIT_TRIALS")
    for script in make_plots make_report; do
        if [ $has_plots -eq 0 ] || ! .venv/bin/python analysis/$script.py --run_dir "$run_dir" >&2; then
            say "plots or report are missing; later: python analysis/$script.py --run_dir $run_dir"
            [ $rc -ne 0 ] || rc=$EXIT_FAILURE
        fi
    done
    ;;
"$EXIT_RESUMABLE")
    if [ $is_batch -eq 1 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt $MAX_REQUEUES ]; then
        say "stopped early; the job goes back into the queue and resumes $run_dir"
        scontrol requeue "$SLURM_JOB_ID"
    else
        say "stopped early; this goes on: bash slurm/week1.sh --resume $run_dir"
    fi
    ;;
esac
say "results: $run_dir/results.h5, metrics.jsonl, config_resolved.yaml, report.md and plots/*.png"
echo "$run_dir" || true
exit $rc
