#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#SBATCH --job-name=ssmq-phase1
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
#SBATCH --output=runs/%x-%j.out
#
# The Phase-1 sweep, the whole precision ladder over contexts and layers, on eight GPUs of one host:
#     sbatch slurm/phase1.sh --set model.path=/my/model --set ppl.text=wikitext-2-test.txt
#     sbatch --ntasks-per-node=1 --gpus-per-node=1 slurm/phase1.sh [options of ssmq-sweep]
#     bash slurm/phase1.sh [options of ssmq-sweep]
# What a job does, its signals and its exit codes: slurm/job.sh.
set -eu

# sbatch runs a copy of this file from a folder of its own.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ssmq_is_batch=0
if [ -n "${SLURM_JOB_ID:-}" ] && [ ! -f "$here/job.sh" ]; then
    ssmq_is_batch=1
    here=${SLURM_SUBMIT_DIR:?}/slurm
fi
[ -f "$here/job.sh" ] || {
    echo "phase1: $here/job.sh: no such file; submit from the folder of the clone" >&2
    exit 1
}
cd "$here/.."
ssmq_job=phase1
# shellcheck source=slurm/job.sh
. slurm/job.sh
ssmq_run_job configs/phase1.yaml configs/phase1_demo.yaml "$@"
