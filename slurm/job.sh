# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What the scripts of this folder have in common: installs or asks for what is missing, builds,
# sweeps with one rank a GPU, or two ranks without one, draws the plots and writes the report.
#     ssmq_job=NAME ssmq_is_batch=0|1; . slurm/job.sh; ssmq_run_job CONFIG CONFIG_OF_DEMO_WITHOUT_GPU "$@"
# A job of Slurm that a signal stops goes back into the queue; one whose sweep dies, with a rank
# that was killed for example, starts it again as long as trials get done.
#
# Exit codes are those of ssmq-sweep: 0 every trial ok or skipped, 1 could not continue, 2 bad usage
# or configuration, 3 some trials failed, 4 stopped early and resumable.

readonly MAX_REQUEUES=20 MAX_RELAUNCHES=5
readonly EXIT_FAILURE=1 EXIT_USAGE=2 EXIT_TRIALS=3 EXIT_RESUMABLE=4

# shellcheck source=slurm/env.sh
. slurm/env.sh

readonly job_name=${ssmq_job:?} is_batch=${ssmq_is_batch:?}

# Whoever listened may be gone: a closed terminal, a tee that Ctrl-C ended.
say() {
    echo "$job_name: $*" >&2 || true
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

# What the arguments say: whether they name a configuration and a run, and where runs lie.
ssmq_run_id='' ssmq_shard=''
names_config=0 names_run=0 model=configs/demo wants_cpu=0 runs=runs
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
        --out | -o) runs=$value ;;
        esac
        case $value in
        model.path=*) model=${value#model.path=} ;;
        model.device=cpu) wants_cpu=1 ;;
        run.run_id=*) names_run=1 ;;
        run.out_dir=*) runs=${value#run.out_dir=} ;;
        esac
        shift
    done
}

# Cancelled: stopped by another signal than the one before a time limit, and so for good.
signalled=0 n_stops=0 is_cancelled=0 sweep_pid=
# shellcheck disable=SC2317 # called by traps
stop_sweep() {
    signalled=1
    n_stops=$((n_stops + 1))
    [ "$1" = USR1 ] || is_cancelled=1
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

# Sets n_gpus, n_ranks, has_plots.
prepare() {
    local info
    ssmq_env_lock
    ssmq_env_tools run || return 1
    has_plots=1
    ssmq_env_venv || has_plots=0
    build || return 1
    ssmq_env_unlock
    info=$(build/run/bin/ssmq info) || return 1
    n_gpus=$(awk '/^cuda devices/ { print $3 }' <<<"$info")
    [ $wants_cpu -eq 0 ] || n_gpus=0
    n_ranks=${SLURM_NTASKS:-$n_gpus}
    [ "$n_ranks" -gt 0 ] || n_ranks=2
}

# A task of a job array sweeps its part of the grid into a run of its own.
# shellcheck disable=SC2153 # Slurm's names
name_run() {
    ssmq_run_id=$job_name-job$SLURM_JOB_ID
    if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
        local shard=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN))
        ssmq_run_id=$job_name-job$SLURM_ARRAY_JOB_ID-shard$shard
        ssmq_shard=$shard/$SLURM_ARRAY_TASK_COUNT
    fi
}

# Trials that the run of this job has finished so far.
count_finished() {
    cat "$runs/$ssmq_run_id"/journal.*.jsonl 2>/dev/null | grep -c '"finished"' || true
}

# The sweep, and again after a death that was not its first word.
sweep_until_done() {
    local out=$1 rc n_before n_now n_relaunches=0
    shift
    while true; do
        n_before=0
        [ "$is_batch" -eq 0 ] || n_before=$(count_finished)
        rc=0
        run_sweep "$out" "$@" || rc=$?
        case $rc in 0 | "$EXIT_USAGE" | "$EXIT_TRIALS" | "$EXIT_RESUMABLE") return $rc ;; esac
        if [ "$is_batch" -eq 0 ] || [ $names_run -eq 1 ] || [ $is_cancelled -eq 1 ]; then return $rc; fi
        n_now=$(count_finished)
        if [ "$n_now" -le "$n_before" ] || [ $n_relaunches -ge $MAX_RELAUNCHES ]; then
            return $rc
        fi
        n_relaunches=$((n_relaunches + 1))
        say "the sweep ended with code $rc after $((n_now - n_before)) trials;" \
            "start $((n_relaunches + 1)) goes on"
    done
}

# Plots and report of a run that is complete.
draw() {
    local script rc=0
    for script in make_plots make_report; do
        if [ "$has_plots" -eq 1 ] && .venv/bin/python analysis/$script.py --run_dir "$1" >&2; then
            continue
        fi
        say "plots or report are missing; later: python analysis/$script.py --run_dir $1"
        rc=1
    done
    return $rc
}

go_back_into_queue() {
    if [ "$is_batch" -eq 1 ] && [ $is_cancelled -eq 0 ] &&
        [ "${SLURM_RESTART_COUNT:-0}" -lt $MAX_REQUEUES ]; then
        say "stopped early; the job goes back into the queue and resumes $1"
        scontrol requeue "$SLURM_JOB_ID"
    else
        say "stopped early; this goes on: bash slurm/$job_name.sh --resume $1"
    fi
}

# Sets launch: mpirun where there is one, else srun, or what SSMQ_LAUNCHER says.
choose_launch() {
    local launcher=${SSMQ_LAUNCHER:-mpirun}
    if [ -z "${SSMQ_LAUNCHER:-}" ] && ! command -v mpirun >/dev/null 2>&1; then launcher=srun; fi
    case $launcher in
    mpirun) launch=(mpirun -np "$n_ranks") ;;
    srun) launch=(srun --mpi=pmix --kill-on-bad-exit=0 --ntasks="$n_ranks") ;;
    *)
        say "SSMQ_LAUNCHER: '$launcher'; allowed are mpirun and srun"
        return 1
        ;;
    esac
}

ssmq_run_job() {
    local config=$1 config_of_demo=$2 out rc=0 run_dir defaults=() launch
    shift 2
    look_at_arguments "$@"
    prepare || exit $EXIT_FAILURE
    if [ $names_config -eq 0 ]; then
        if [ "$model" = configs/demo ] && [ "$n_gpus" -eq 0 ] && [ "$config_of_demo" != "$config" ]; then
            config=$config_of_demo
            say "no GPU: the embedded model runs the smaller sizes of $config"
        fi
        defaults+=(--config "$config")
    fi
    # A requeued job is the same job: it finds its run by its name.
    if [ "$is_batch" -eq 1 ] && [ $names_run -eq 0 ]; then
        name_run
        defaults+=(--run-id "$ssmq_run_id")
        [ -z "$ssmq_shard" ] || defaults+=(--shard "$ssmq_shard")
    fi
    choose_launch || exit $EXIT_USAGE
    out=$(mktemp)
    # shellcheck disable=SC2064 # the name as it is now: the trap runs where it is no more
    trap "rm -f '$out'" EXIT
    say "sweeping with $n_ranks ranks and $n_gpus GPUs"
    sweep_until_done "$out" "${launch[@]}" build/run/bin/ssmq-sweep "${defaults[@]}" "$@" || rc=$?
    run_dir=$(tail -n 1 "$out")
    if [ ! -f "$run_dir/results.h5" ]; then
        cat "$out"
        # Slurm stops mpirun too, which stops its ranks: what is done is in their journals.
        [ $is_cancelled -eq 0 ] || [ -z "$ssmq_run_id" ] ||
            say "cancelled; this goes on: bash slurm/$job_name.sh --resume $runs/$ssmq_run_id"
        exit $rc
    fi
    case $rc in
    0 | "$EXIT_TRIALS") draw "$run_dir" || [ $rc -ne 0 ] || rc=$EXIT_FAILURE ;;
    "$EXIT_RESUMABLE") go_back_into_queue "$run_dir" ;;
    esac
    if [ -n "$ssmq_shard" ]; then
        say "shard $ssmq_shard; with all done: build/run/bin/ssmq merge --into" \
            "${run_dir%-shard*} ${run_dir%-shard*}-shard*"
    fi
    say "results: $run_dir/results.h5, metrics.jsonl, config_resolved.yaml, report.md, plots/*.png"
    echo "$run_dir" || true
    exit $rc
}
