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
# The embedded model without a GPU gets the sizes of quickstart.yaml. What a job does, its signals
# and its exit codes: slurm/job.sh.
set -eu

# sbatch runs a copy of this file from a folder of its own.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ssmq_is_batch=0
if [ -n "${SLURM_JOB_ID:-}" ] && [ ! -f "$here/job.sh" ]; then
    ssmq_is_batch=1
    here=${SLURM_SUBMIT_DIR:?}/slurm
fi
[ -f "$here/job.sh" ] || {
    echo "week1: $here/job.sh: no such file; submit from the folder of the clone" >&2
    exit 1
}
cd "$here/.."
ssmq_job=week1
# shellcheck source=slurm/job.sh
. slurm/job.sh
ssmq_run_job configs/week1.yaml configs/quickstart.yaml "$@"
