# SPDX-License-Identifier: Apache-2.0
"""A sweep over two hosts, which are two network namespaces of this machine with names and mounts of
their own: with the run folder in common and with one on each, and with a checkpoint that only the
root's host has. Needs root."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from sweep_support import (BIN, ROOT, acknowledged, children_of, fixed_part, kill, records,
                           wait_for)

SKIPPED = 77
RANKS_OF_HOST = 2

# Makes the second host, then becomes mpirun on the first: WORK COMMAND...
FIRST_HOST = r"""
set -eu
work=$1; shift
mount --make-rprivate /
mount --bind "$work/hosts" /etc/hosts
hostname h1
ip link set lo up
ip netns add h2
trap 'ip netns delete h2' EXIT
ip link add left type veth peer name right netns h2
ip addr add 10.77.0.1/24 dev left
ip link set left up
ip -n h2 addr add 10.77.0.2/24 dev right
ip -n h2 link set right up
ip -n h2 link set lo up
mkdir -p "$work/tmp-h1" "$work/tmp-h2"
export TMPDIR=$work/tmp-h1
"$@"
"""
# What mpirun starts a process on the other host with: HOST COMMAND...
AGENT = r"""#!/bin/sh
host=$1; shift
exec ip netns exec "$host" unshare --uts --mount sh -c "
    hostname $host
    mount --bind '{work}/hosts' /etc/hosts
    {mounts}
    {variables}
    export TMPDIR='{work}/tmp-$host'
    cd '{root}'
    $*"
"""
NETWORK = ["--mca", "plm", "rsh", "--mca", "oob_tcp_if_include", "10.77.0.0/24",
           "--mca", "btl_tcp_if_include", "10.77.0.0/24", "--mca", "btl", "self,vader,tcp",
           "--mca", "pml", "ob1"]


def can_make_hosts():
    probe = ["unshare", "--net", "--uts", "--mount", "sh", "-c", "mount -t tmpfs none /run && "
             "ip netns add h2 && ip link add left type veth peer name right netns h2"]
    if not all(map(shutil.which, ("unshare", "ip", "mpirun"))):
        return False
    return subprocess.run(probe, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


def copies_in(run_dir):
    """Journals that came from another host: their numbers have nine digits."""
    return [path for path in run_dir.glob("journal.*.jsonl") if len(path.name) > 20]


def processes_of(work):
    """Processes whose command line names this folder."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(work) in path.read_bytes().decode(errors="replace"):
                found.append(path)
        except OSError:
            continue
    return found


class HostsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ssmq-hosts-")
        self.addCleanup(folder.cleanup)
        self.work = pathlib.Path(folder.name)
        (self.work / "hosts").write_text("127.0.0.1 localhost\n10.77.0.1 h1\n10.77.0.2 h2\n")
        self.out = self.work / "runs"
        self.out_of_h2 = self.work / "runs-of-h2"
        self.out.mkdir()
        self.out_of_h2.mkdir()
        self.model = self.work / "model"
        shutil.copytree(ROOT / "configs/demo", self.model)

    def arguments(self, run_id, *more):
        return [str(BIN.resolve() / "ssmq-sweep"), "--config", str(ROOT / "configs/smoke.yaml"),
                "--out", str(self.out), "--run-id", run_id, "--set", "sweep.tasks=[ppl, passkey]",
                "--set", f"model.path={self.model}", "--set", "model.threads=1", *more]

    def command(self, run_id, *more, mounts=(), variables=()):
        """On both hosts; where h2 sees (place, other) of mounts, it sees the other one there; its
        processes get the variables, NAME=VALUE."""
        agent = self.work / "agent.sh"
        agent.write_text(AGENT.format(work=self.work, root=ROOT, mounts="\n    ".join(
            f"mount --bind '{other}' '{place}'" for place, other in mounts), variables="\n    ".join(
                f"export '{variable}'" for variable in variables)))
        agent.chmod(0o755)
        launch = ["mpirun", "--allow-run-as-root", "-np", str(2 * RANKS_OF_HOST), "--host",
                  f"h1:{RANKS_OF_HOST},h2:{RANKS_OF_HOST}", "--mca", "plm_rsh_agent", str(agent),
                  *NETWORK, *self.arguments(run_id, *more)]
        return ["unshare", "--net", "--uts", "--mount", "sh", "-c",
                "mount -t tmpfs none /run; exec sh -c \"$0\" sh \"$@\"", FIRST_HOST,
                str(self.work), *launch]

    def sweep(self, run_id, *more, **of_h2):
        done = subprocess.run(self.command(run_id, *more, **of_h2), cwd=ROOT, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=240)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return self.out / run_id

    def one_host(self):
        done = subprocess.run(self.arguments("alone"), cwd=ROOT, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=240)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return self.out / "alone"

    def assert_whole(self, run_dir, alone):
        self.assertEqual(fixed_part(run_dir), fixed_part(alone))
        self.assertEqual({record["host"] for record in records(run_dir).values()}, {"h1", "h2"})

    def test_common_run_folder(self):
        """The weights are files of h1 alone."""
        nothing = self.work / "nothing"
        nothing.touch()
        run_dir = self.sweep("together", mounts=[(self.model / "model.safetensors", nothing)])
        self.assert_whole(run_dir, self.one_host())
        self.assertEqual(len(list(run_dir.glob("journal.*.jsonl"))), 2 * RANKS_OF_HOST)
        sent = json.loads((run_dir / "provenance.json").read_text())["sessions"][-1]["weights"]
        size = sum((self.model / name).stat().st_size
                   for name in ("config.json", "model.safetensors"))
        self.assertEqual(sent["hosts"]["way"], "mpi")
        self.assertTrue(size <= sent["hosts"]["bytes"] < size + 128, (size, sent))

    def test_common_run_folder_that_shows_late(self):
        """h2 takes it for another one and sends its journals too, which does no harm."""
        library = pathlib.Path(os.environ["SSMQ_BUILD"]).resolve() / "tests/e2e/libodd_host.so"
        run_dir = self.sweep("late", variables=[f"LD_PRELOAD={library}", "SSMQ_HIDDEN=lock",
                                                "SSMQ_HIDDEN_MS=60000"])
        self.assert_whole(run_dir, self.one_host())
        self.assertEqual(len(copies_in(run_dir)), 2 * RANKS_OF_HOST)

    def test_run_folder_of_each(self):
        run_dir = self.sweep("apart", mounts=[(self.out, self.out_of_h2)])
        self.assert_whole(run_dir, self.one_host())
        self.assertEqual(len(copies_in(run_dir)), RANKS_OF_HOST)
        self.assertIn("journal 2 of h2 is here", (run_dir / "sweep.log").read_text())
        # The copies are part of the run: nothing is left to do, for whoever resumes it.
        done = subprocess.run(self.arguments("apart"), cwd=ROOT, text=True, timeout=240,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(" 0 trials to do", done.stderr)

    def test_killed_with_a_run_folder_of_each(self):
        """What h2 had done before the kill comes with the next start, and is not done again."""
        slow = ["--set", "model.device=null", "--set", "model.null_script=delay:100ms"]
        mounts = [(self.out, self.out_of_h2)]
        apart = self.out_of_h2 / "killed"
        killed = subprocess.Popen(self.command("killed", *slow, mounts=mounts), cwd=ROOT,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.assertTrue(wait_for(lambda: len(acknowledged(apart)) >= 2))
        for pid in [*children_of(killed.pid), killed.pid]:
            kill(pid)
        killed.wait()
        # Ranks of h2 end when they miss mpirun's daemon, and with them their hold on h2.
        self.assertTrue(wait_for(lambda: not processes_of(self.work)))
        done_on_h2 = acknowledged(apart)
        run_dir = self.sweep("killed", *slow, mounts=mounts)
        for trial_id in done_on_h2:
            record = records(run_dir)[trial_id]
            self.assertEqual((record["attempt"], record["host"]), (1, "h2"))
        self.assertEqual(len(records(run_dir)), self.n_planned(run_dir))
        self.assertEqual(len(copies_in(run_dir)), RANKS_OF_HOST)

    def n_planned(self, run_dir):
        return len((run_dir / "plan.csv").read_text().splitlines()) - 1


if __name__ == "__main__":
    if not can_make_hosts():
        # Containers of a build service may forbid it; a machine of one's own does not.
        print("needs root and network namespaces", file=sys.stderr)
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
