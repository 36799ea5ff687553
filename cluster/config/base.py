"""What every section of the configuration file shares: strictness, and the form of names.

What must not live here: any section.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""Cluster and pool names become Kubernetes names, Serve application names and metric labels, so they are DNS labels."""

ModelId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]


class Section(BaseModel):
    """A part of the file: unknown keys are mistakes, values are never coerced across types, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
