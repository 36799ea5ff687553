"""`python3 -m cluster.bootstrap`: look at the machine, then make or complete `.venv`.

What must not live here: checks (preflight.py) and installing (install.py). The version check comes before every
other import, because those modules need the Python they ask for.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this is what tells people with an older one
    sys.exit(
        "Longreach needs Python 3.11 or later; this is {}.{}.\n  remedy: make up PYTHON=/path/to/python3.11".format(
            *sys.version_info[:2]
        )
    )

import argparse
import os
import signal
import subprocess
import time
from pathlib import Path

from cluster.bootstrap.install import Installer
from cluster.bootstrap.pip_progress import PipFailedError
from cluster.bootstrap.preflight import DEFAULT_PORTS, Finding, Verdict, run_preflight
from cluster.bootstrap.stamp import read_stamp, wanted_stamp
from cluster.exclusive import HeldError, hold

ROOT = Path(__file__).resolve().parents[2]
EXIT_REFUSED = 1


def main(arguments: list[str] | None = None) -> int:
    """Bootstrap; the exit status is 0 when the environment is complete."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    environment = ROOT / ".venv"
    accelerator = detect_accelerator() if options.accelerator == "auto" else options.accelerator
    stamp = wanted_stamp(ROOT, accelerator)
    complete = read_stamp(environment) == stamp
    if not _preflight(options, accelerator=accelerator, environment=environment, installs=not complete):
        return EXIT_REFUSED
    if options.check or complete:
        return 0
    installer = Installer(
        root=ROOT, environment=environment, stamp=stamp, pip_arguments=os.environ.get("LONGREACH_PIP_ARGS", "")
    )
    problem = _install(installer)
    if problem:
        print(problem, file=sys.stderr)
        return EXIT_REFUSED
    return 0


def _install(installer: Installer) -> str:
    """Install; what is returned is what went wrong, for people, and empty when nothing did."""
    try:
        with hold(installer.environment.with_name(".venv.lock"), purpose="an installation"):
            installer.run()
    except HeldError as held:
        return f"{held}\n  remedy: wait for it, or end that process"
    except PipFailedError as failure:
        return (
            f"\n{failure}\n\npip failed; everything it said is in {installer.log}\n"
            "  remedy: check that a package index can be reached (`pip config list`), give pip what it needs with\n"
            '  LONGREACH_PIP_ARGS="--extra-index-url URL", and run the same command again: it goes on from here'
        )
    except (OSError, subprocess.CalledProcessError) as error:
        return f"the environment cannot be made: {error}"
    except KeyboardInterrupt:
        return "\ninterrupted; the same command goes on from here"
    return ""


def detect_accelerator() -> str:
    """`gpu` where an NVIDIA driver is loaded, else `cpu`."""
    return "gpu" if Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia/version").exists() else "cpu"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m cluster.bootstrap", description="Prepare .venv for Longreach.")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="which lock to install")
    parser.add_argument("--check", action="store_true", help="only look at the machine")
    parser.add_argument("--no-cluster", action="store_true", help="no cluster is about to start: skip memory and ports")
    parser.add_argument("--own-ports", action="store_true", help="the cluster has its own configuration: skip ports")
    return parser.parse_args(arguments)


def _preflight(options: argparse.Namespace, *, accelerator: str, environment: Path, installs: bool) -> bool:
    started = time.monotonic()
    skips_ports = options.no_cluster or options.own_ports
    findings = run_preflight(
        accelerator=accelerator,
        environment=environment,
        cache=_cache_home(),
        installs=installs,
        ports={} if skips_ports else DEFAULT_PORTS,
    )
    if options.no_cluster:
        findings = tuple(finding for finding in findings if finding.check != "memory")
    failed = [finding for finding in findings if finding.verdict is Verdict.FAILURE]
    if options.check or failed or installs:
        _show(findings, time.monotonic() - started)
    if failed:
        print(f"{len(failed)} of {len(findings)} checks failed: nothing was changed", file=sys.stderr)
    return not failed


def _show(findings: tuple[Finding, ...], took_s: float) -> None:
    print(f"Preflight ({took_s:.1f} s)")
    for finding in findings:
        print(finding.line(), flush=True)


def _cache_home() -> Path:
    """Where models will be kept; cluster/environment.py says the same with a library that is not installed yet."""
    named = os.environ.get("LONGREACH_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longreach"


def _interrupt() -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
