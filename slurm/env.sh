# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The one place that installs or loads what ssmq needs. slurm/week1.sh and tests/run.sh source it;
#     bash slurm/env.sh
# does the same by itself, for a login node whose compute nodes cannot download.
#
# On Debian and Ubuntu, as root, missing packages are installed by apt. Elsewhere a line says what
# is missing and how a cluster usually loads it. Nothing is done when everything is there.

# Open MPI, 4 and 5: cores are shared out by ssmq itself, so no rank is tied to one; more ranks
# than cores are allowed, for tests and small machines.
export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
# As root, which mostly means in a container: mpirun wants to hear twice that this is meant, and
# one process may not read another's memory there.
if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export OMPI_MCA_btl_vader_single_copy_mechanism=none
fi
# One host needs no remote shell, but Open MPI looks for one.
command -v ssh >/dev/null 2>&1 || export OMPI_MCA_plm_rsh_agent=false

# Threads that wait let go of their core: spinning ones cost other ranks and other users more than
# they save (on 2 shared cores the demo text took 1.7 times as long).
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

# What is needed: set, check, Debian packages, what clusters call the module. A check is
# command:NAME, library:PKG-CONFIG-NAME or a function below.
ssmq_env_table() {
    cat <<'TABLE'
run  command:git         git                            git
run  command:cc          gcc,libc6-dev                  gcc
run  command:ninja       ninja-build                    ninja
run  command:pkg-config  pkg-config                     pkgconf
run  ssmq_env_has_cmake  cmake                          cmake
run  command:mpicc       libopenmpi-dev                 openmpi
run  command:mpirun      openmpi-bin                    openmpi
run  ssmq_env_has_hdf5   libhdf5-dev                    hdf5
run  library:yaml-0.1    libyaml-dev                    libyaml
run  library:json-c      libjson-c-dev                  json-c
run  library:libutf8proc libutf8proc-dev                utf8proc
run  library:openblas    libopenblas-dev                openblas
run  ssmq_env_has_python python3,python3-venv           python
test command:c++         g++                            gcc
test library:cmocka      libcmocka-dev                  cmocka
test command:h5dump      hdf5-tools                     hdf5
test command:clang-format clang-format                  llvm
test ssmq_env_has_tidy   clang-tidy,libomp-dev          llvm
test command:shellcheck  shellcheck                     shellcheck
cluster ssmq_env_has_slurmd slurmctld,slurmd,slurm-client,munge slurm
cluster command:ip       iproute2                       iproute2
TABLE
}

ssmq_env_has_cmake() {
    local version
    version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*//p')
    [ -n "$version" ] && [ "$(printf '%s\n3.25\n' "$version" | sort -V | head -n 1)" = 3.25 ]
}

ssmq_env_has_hdf5() {
    pkg-config --exists hdf5 2>/dev/null || command -v h5cc >/dev/null 2>&1
}

# clang-tidy has to find a header of OpenMP; it cannot read gcc's.
ssmq_env_has_tidy() {
    clang-tidy --quiet --checks='-*,cert-err34-c' /dev/stdin -- -xc <<<'#include <omp.h>' \
        >/dev/null 2>&1
}

# On Debian in a folder that is not everybody's path.
ssmq_env_has_slurmd() {
    local name
    for name in slurmctld slurmd munged sbatch; do
        PATH=$PATH:/usr/sbin command -v $name >/dev/null 2>&1 || return 1
    done
}

# Prints the first Python that is new enough and can make virtual environments.
ssmq_env_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

ssmq_env_has_python() {
    [ -x .venv/bin/python ] || ssmq_env_python >/dev/null
}

ssmq_env_has() {
    case $1 in
    command:*) command -v "${1#command:}" >/dev/null 2>&1 ;;
    library:*) pkg-config --exists "${1#library:}" 2>/dev/null ;;
    *) "$1" ;;
    esac
}

# Rows of the table that belong to one of the given sets and are not satisfied.
ssmq_env_missing() {
    local set check packages module
    ssmq_env_table | while read -r set check packages module; do
        case " $* " in *" $set "*) ;; *) continue ;; esac
        ssmq_env_has "$check" || echo "$check $packages $module"
    done
}

ssmq_env_apt_install() {
    local packages
    packages=$(awk '{ gsub(",", " ", $2); print $2 }' | xargs -n 1 | sort -u)
    echo "env: installing by apt: $(echo "$packages" | xargs)" >&2
    {
        apt-get -q -o DPkg::Lock::Timeout=300 update &&
            echo "$packages" | DEBIAN_FRONTEND=noninteractive xargs apt-get -q -y \
                -o DPkg::Lock::Timeout=300 install --no-install-recommends
    } >&2
}

# What is missing, by name, and what to do about it.
ssmq_env_complain() {
    local missing=$1
    {
        echo "env: missing: $(echo "$missing" | sed 's/ .*//; s/^ssmq_env_has_//; s/^[a-z]*://' | xargs)"
        echo "env: (cmake from 3.25 on, python from 3.11 on, with its venv module)"
        echo "env: on Debian and Ubuntu: apt-get install $(echo "$missing" |
            awk '{ gsub(",", " ", $2); print $2 }' | xargs -n 1 | sort -u | xargs)"
        echo "env: on a cluster, something like: module load $(echo "$missing" |
            awk '{ print $3 }' | sort -u | xargs)   (with a GPU also: cuda)"
    } >&2
}

# Programs and libraries of the given sets: run, test.
ssmq_env_tools() {
    local missing
    missing=$(ssmq_env_missing "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "$missing" | ssmq_env_apt_install || true
        hash -r
        missing=$(ssmq_env_missing "$@")
        [ -n "$missing" ] || return 0
    fi
    ssmq_env_complain "$missing"
    return 1
}

# .venv from analysis/requirements.txt, made anew when that file has changed.
ssmq_env_venv() {
    local wanted stamp=.venv/requirements.sha256 python
    wanted=$(sha256sum <analysis/requirements.txt)
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return 0; fi
    python=$(ssmq_env_python) || {
        echo "env: no python from 3.11 on with its venv module" >&2
        return 1
    }
    echo "env: making .venv from analysis/requirements.txt" >&2
    "$python" -m venv --clear .venv &&
        .venv/bin/python -m pip install -q --disable-pip-version-check --no-input \
            --only-binary :all: -r analysis/requirements.txt >&2 &&
        echo "$wanted" >"$stamp" && return 0
    echo "env: .venv could not be made; without a network here, run 'bash slurm/env.sh' where" \
        "there is one" >&2
    return 1
}

# Two jobs that start at once do not install or build over one another. Held until the script ends
# or ssmq_env_unlock.
ssmq_env_lock() {
    mkdir -p build
    exec 9>build/.lock
    flock -n 9 || {
        echo "env: waiting for another script that installs or builds here" >&2
        flock 9
    }
}

ssmq_env_unlock() {
    exec 9>&-
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -eu
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    ssmq_env_lock
    ssmq_env_tools run test
    ssmq_env_venv
    echo "env: everything is there"
fi
