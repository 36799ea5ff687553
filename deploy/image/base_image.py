"""`python3 deploy/image/base_image.py`: a stand-in for debian:bookworm-slim, for machines that reach no registry.

What lives here: Debian's own debootstrap, the trimming that the published slim image has, and the import under the name
the Containerfile asks for. What must not: anything of Longreach's. It needs root, debootstrap, and podman or docker.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from engines import EngineMissingError, find_engine

BASE_IMAGE = "docker.io/library/debian:bookworm-slim"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"
DEBOOTSTRAP_TIMEOUT_S = 900
"""Half a minute on a near mirror; a far one may take minutes."""
IMPORT_TIMEOUT_S = 300

# What the published slim image leaves out, in dpkg's words: later packages of the image leave it out as well.
DPKG_EXCLUDES = """\
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/groff/*
path-exclude /usr/share/lintian/*
path-exclude /usr/share/linda/*
path-exclude /usr/share/locale/*
path-include /usr/share/locale/locale.alias
"""
EMPTIED = ("usr/share/man", "usr/share/info", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists", "var/log")


def main() -> int:
    """Make and import the image; the exit status is 0 when it is there."""
    parser = argparse.ArgumentParser(description="Make a base image for deploy/image/Containerfile with debootstrap.")
    parser.add_argument("--name", default=BASE_IMAGE, help="what the image is called; default: %(default)s")
    parser.add_argument("--mirror", default=MIRROR, help="where Debian's packages come from; default: %(default)s")
    parser.add_argument("--security-mirror", default=SECURITY_MIRROR, help="default: %(default)s")
    options = parser.parse_args()
    try:
        engine = find_engine()
    except EngineMissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        print("base image: this needs root and debootstrap\n  remedy: apt-get install debootstrap", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="longreach-base-") as folder:
        root = Path(folder) / "root"
        command = ["debootstrap", "--variant=minbase", SUITE, str(root), options.mirror]
        subprocess.run(command, check=True, timeout=DEBOOTSTRAP_TIMEOUT_S, stdout=subprocess.DEVNULL)
        slim(root, mirror=options.mirror, security_mirror=options.security_mirror)
        archive = Path(folder) / "root.tar"
        subprocess.run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(archive), "."], check=True)
        command = [engine, "import", "--change", 'CMD ["bash"]', str(archive), options.name]
        subprocess.run(command, check=True, timeout=IMPORT_TIMEOUT_S)
    return 0


def slim(root: Path, *, mirror: str, security_mirror: str) -> None:
    """Trim a fresh system to what the published slim image holds."""
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(DPKG_EXCLUDES, encoding="ascii")
    sources = [
        f"deb {mirror} {SUITE} main",
        f"deb {mirror} {SUITE}-updates main",
        f"deb {security_mirror} {SUITE}-security main",
    ]
    (root / "etc/apt/sources.list").write_text("\n".join(sources) + "\n", encoding="ascii")
    for name in ("etc/hostname", "etc/resolv.conf"):
        (root / name).unlink(missing_ok=True)  # this machine's, not the image's
    for name in EMPTIED:
        for path in (root / name).iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in (root / "usr/share/doc").glob("*/*"):
        if path.name != "copyright":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


if __name__ == "__main__":
    sys.exit(main())
