# SPDX-License-Identifier: Apache-2.0
"""A Slurm cluster of one node, this machine, for as long as a test takes: munged, slurmctld and
slurmd with keys, sockets, ports and state in a folder of their own, and empty files as GPUs."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
N_GPUS = 2
START_S = 30.0

CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
KillWait=10
MinJobAge=300
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 Boards=1 SocketsPerBoard=1 CoresPerSocket=64 \
ThreadsPerCore=1 RealMemory=1000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def reason_against():
    """Why there can be no cluster here, or ""."""
    if os.geteuid() != 0:
        return "slurmd needs root"
    missing = [name for name in PROGRAMS if program(name) is None]
    return f"{', '.join(missing)}: not installed" if missing else ""


def program(name):
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Cluster:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.daemons = []
        host = socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        # munged wants its clients to be able to come to its socket.
        for part in (self.folder, self.folder.parent):
            part.chmod(0o755)
        conf = self.folder / "slurm.conf"
        conf.write_text(CONF.format(host=host, ports=free_ports(2), folder=folder, gpus=N_GPUS))
        gpus = [self.folder / f"gpu{i}" for i in range(N_GPUS)]
        for gpu in gpus:
            gpu.touch()
        (self.folder / "gres.conf").write_text("".join(f"Name=gpu File={gpu}\n" for gpu in gpus))
        self.environment = {"SLURM_CONF": str(conf)}
        try:
            self.run(conf)
        except BaseException:
            self.stop()
            raise

    def run(self, conf):
        names = {"--key-file": "munge.key", "--socket": "munge.sock", "--pid-file": "munged.pid",
                 "--log-file": "munged.log", "--seed-file": "munge.seed"}
        self.start("munged", "-F", *(f"{option}={self.folder / name}"
                                     for option, name in names.items()))
        self.wait(lambda: (self.folder / "munge.sock").exists())
        self.start("slurmctld", "-D", "-c", "-f", str(conf))
        self.start("slurmd", "-D", "-f", str(conf))
        self.wait(lambda: self.ask("sinfo", "-h", "-o", "%T").strip() == "idle")

    def start(self, name, *arguments):
        with (self.folder / f"{name}.out").open("wb") as out:
            self.daemons.append(subprocess.Popen([program(name), *arguments], stdout=out,
                                                 stderr=out, env={**os.environ, **self.environment},
                                                 start_new_session=True))

    def wait(self, condition):
        end = time.monotonic() + START_S
        while not condition():
            if time.monotonic() > end or any(one.poll() is not None for one in self.daemons):
                logs = "".join(path.read_text(errors="replace")[-2000:]
                               for end in ("out", "log") for path in self.folder.glob(f"*.{end}"))
                raise RuntimeError(f"no cluster: {logs}")
            time.sleep(0.05)

    def ask(self, *command):
        """Standard output of one of Slurm's commands; what it says against it is left out."""
        return subprocess.run([program(command[0]), *command[1:]], text=True, timeout=60,
                              env={**os.environ, **self.environment}, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout

    def state(self, job_id):
        return self.ask("squeue", "-h", "-t", "all", "-j", str(job_id), "-o", "%T").strip()

    def facts(self, job_id):
        """{name: value} of scontrol show job."""
        words = self.ask("scontrol", "show", "job", str(job_id)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def stop(self):
        self.ask("scancel", "--user=root")
        for one in reversed(self.daemons):
            one.send_signal(signal.SIGTERM)
        for one in self.daemons:
            try:
                one.wait(timeout=10)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
        self.daemons = []
