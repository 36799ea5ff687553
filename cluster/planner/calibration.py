"""A calibration as a file: what was measured, and the cost that explains it. The planner and the simulator read it.

What must not live here: measuring (measure.py), fitting (fit.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.core.capacity.step import StepCost
from cluster.core.errors import SetupError
from cluster.gpus import find_gpu
from cluster.planner.fit import Fit, Observation
from cluster.planner.shapes import MeasuredCost

FORMAT = 2
FILE_BYTES_MAX = 4 << 20
"""A calibration has some twenty observations of 200 bytes."""
REMEDY = "write it with `longreach plan calibrate --output FILE`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Of one model on one shape of replica."""

    model: str
    gpu: str
    ranks: int
    batch_tokens: int
    cost: StepCost
    overhead_s: float
    median_error_ratio: float
    worst_error_ratio: float
    observations: tuple[Observation, ...] = ()

    @property
    def measured(self) -> MeasuredCost:
        """For a plan."""
        return MeasuredCost(gpu=self.gpu, ranks=self.ranks, cost=self.cost)


def calibration_of(
    fit: Fit, observations: tuple[Observation, ...], *, model: str, gpu: str, ranks: int, batch_tokens: int
) -> Calibration:
    """The calibration that a fit is."""
    return Calibration(
        model=model,
        gpu=gpu,
        ranks=ranks,
        batch_tokens=batch_tokens,
        cost=fit.cost,
        overhead_s=fit.overhead_s,
        median_error_ratio=fit.median_error_ratio,
        worst_error_ratio=fit.worst_error_ratio,
        observations=observations,
    )


def calibration_to_dict(calibration: Calibration) -> dict[str, Any]:
    """As the file has it."""
    return {"format": FORMAT, **asdict(calibration)}


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write it.

    Raises:
        SetupError: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(calibration_to_dict(calibration), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}", "name another --output") from error


def read_calibration(path: Path) -> Calibration:
    """What `write_calibration` wrote.

    Raises:
        SetupError: it cannot be read, or is none.
    """
    try:
        with path.open(encoding="utf-8") as file:
            row = json.loads(file.read(FILE_BYTES_MAX))
        if row["format"] != FORMAT:
            raise SetupError(f"{path} has format {row['format']}, this program reads {FORMAT}", REMEDY)
        return Calibration(
            model=str(row["model"]),
            gpu=find_gpu(row["gpu"]).name,
            ranks=int(row["ranks"]),
            batch_tokens=int(row["batch_tokens"]),
            cost=StepCost(**{name: _seconds(value) for name, value in row["cost"].items()}),
            overhead_s=_seconds(row["overhead_s"]),
            median_error_ratio=float(row["median_error_ratio"]),
            worst_error_ratio=float(row["worst_error_ratio"]),
            observations=tuple(_observation(one) for one in row["observations"]),
        )
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}", REMEDY) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError(f"{path} is no calibration: {error!r}", REMEDY) from error


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{value!r} is no number of seconds")
    return seconds


def _observation(row: dict[str, Any]) -> Observation:
    return Observation(**{**row, "steps": tuple((float(count), int(tokens)) for count, tokens in row["steps"])})
