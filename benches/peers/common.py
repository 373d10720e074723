"""What `compare` and `step` share: the environment with PyTorch, and what there is to say of the machine."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

PEERS = Path(__file__).resolve().parent
ROOT = PEERS.parents[1]
VENV = PEERS / ".venv"
REQUIREMENTS = PEERS / "requirements.txt"
BUSY_LIMIT = 0.1


class Failure(Exception):
    """An error that the user can act on: printed as one line."""


def run(command, **options):
    """Runs a command whose own output the user sees."""
    try:
        code = subprocess.run(command, **options).returncode
    except OSError as error:
        raise Failure(f"cannot run {command[0]}: {error.strerror}") from error
    if code != 0:
        raise Failure(f"failed with exit status {code}: {shlex.join(map(str, command))}")


def output_of(command, **options):
    """The standard output of a command, None where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, **options)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def prepare_venv():
    """Makes the environment if there is none with these requirements, and returns its Python."""
    python = VENV / "bin" / "python"
    stamp = VENV / "requirements.sha256"  # written last: an install cut short is done again
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    if sys.version_info < (3, 11):
        raise Failure(f"PyTorch needs Python 3.11 or newer, this is {platform.python_version()}")
    print(f"making {VENV} (a download of about 2.5 GB on Linux)", file=sys.stderr)
    run([sys.executable, "-m", "venv", "--clear", VENV])
    # Without --no-deps pip adds CUDA packages that a CPU run never loads; the list is complete without them.
    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--requirement", REQUIREMENTS])
    run([python, "-c", "import torch"])
    stamp.write_text(wanted)
    return python


def cpu_busy(seconds=1.0):
    """The share of all cores that other programs use right now; None where the system does not tell."""
    def times():
        with open("/proc/stat") as file:
            ticks = [int(field) for field in file.readline().split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]  # idle, iowait

    try:
        total, idle = times()
        time.sleep(seconds)
        later_total, later_idle = times()
    except OSError:
        return None
    # The kernel may take iowait back, so that the share can come out a little below zero.
    return max(0.0, 1 - (later_idle - idle) / max(1, later_total - total))


def warn_if_busy(program):
    """Warns when other programs would spoil a measurement, and returns `cpu_busy`."""
    busy = cpu_busy()
    if busy is not None and busy > BUSY_LIMIT:
        print(f"{program}: warning: other programs use {busy:.0%} of the cores, the times will mislead",
              file=sys.stderr)
    return busy


def cpu_model():
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return output_of(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor() or platform.machine()


def git_commit():
    commit = output_of(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT)
    if commit is None:
        return None
    return commit + ("-dirty" if output_of(["git", "status", "--porcelain"], cwd=ROOT) else "")


def describe_machine(python):
    """What a reader needs to judge the figures. `python` is the environment's, None without PyTorch."""
    machine = {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": git_commit(),
        "rustc": output_of(["rustc", "--version"], cwd=ROOT),
    }
    if python is not None:
        code = "import platform, importlib.metadata as m; print(platform.python_version(), m.version('torch'))"
        machine["python"], machine["torch"] = (output_of([python, "-c", code]) or "unknown unknown").split()
    return machine


def machine_line(machine):
    parts = [machine["cpu"], f"{machine['cores']} cores"]
    if "torch" in machine:
        parts += [f"Python {machine['python']}", f"PyTorch {machine['torch']}"]
    return ", ".join([*parts, f"commit {machine['commit'] or 'unknown'}"])


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value
