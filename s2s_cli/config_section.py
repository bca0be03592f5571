"""What the sections of the configuration are made of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["auto", "fp32", "bf16"]
Positive = Annotated[int, Field(gt=0, le=10**12)]
Width = Annotated[int, Field(gt=0, le=65_536)]
Beam = Annotated[int, Field(ge=1, le=1000)]
Layers = Annotated[int, Field(gt=0, le=100)]
File = Annotated[Path, Field(strict=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of the config: frozen, strict about types, with no unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def without_use(self, keys: Collection[str]) -> str:
        """Which of some keys that were just given, whatever their value, nothing looks at, in words; empty where none.
        A config may list all keys, and is not held to this."""
        return ""

    def _idle(self, section: str, needs: Mapping[str, tuple[bool, str]]) -> Iterator[str]:
        """Which keys have another value than their default and do nothing, in words.

        Args:
            section: this one's name.
            needs: by key, whether anything looks at it, and the settings without which nothing does.
        """
        for key, (used, need) in needs.items():
            if not used and self._is_set(key):
                yield f"{section}.{key} {str(getattr(self, key)).lower()} has no effect without {section}.{need}"

    def _is_set(self, key: str) -> bool:
        """Whether a key has another value than its default."""
        return bool(getattr(self, key) != type(self).model_fields[key].default)
