"""What the machine has left: memory and disk. Imports no torch."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_memory() -> int | None:
    """Bytes that this process may still take: the machine's, or less where a control group allows less."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        pass
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = [
            int(line.split()[1])
            for line in (group / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        ]
        found.append(limit - used + sum(cached))
    except (OSError, ValueError):
        pass  # "max": no limit
    return min(found, default=None)


def free_disk(path: Path) -> int | None:
    """Free bytes on the disk of `path`, or of the nearest folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def show_bytes(count: float) -> str:
    """Bytes as a person reads them: 1.5 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:.3g} TB"
