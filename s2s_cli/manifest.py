"""What a checkpoint holds, read without torch: hashes are checked before any parser sees a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from s2s_cli.errors import Damaged, UserError
from s2s_cli.files import json_sha256, read_beginning, read_regular, sha256
from s2s_cli.run import FORMAT

MOST_MANIFEST_BYTES, MOST_HEAD_BYTES = 100_000, 1 << 20
MODEL, TRAINING, STATE, MANIFEST = "model.safetensors", "training.safetensors", "state.json", "manifest.json"


class Manifest:
    """The manifest of a checkpoint, and the files that it vouches for.

    Raises:
        UserError: where it is damaged, or of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest = self._read_manifest()
        self.config: str = self._manifest["config"]
        """The identity of the config that the weights belong to..."""
        self.tokenizer: str = self._manifest["tokenizer"]
        """... and the fingerprint of their tokenizer."""

    def _read_manifest(self) -> dict[str, Any]:
        damaged = Damaged(f"{self.path / MANIFEST}: missing or damaged")
        try:
            content = json.loads(read_regular(self.path / MANIFEST, MOST_MANIFEST_BYTES))
            if isinstance(content, dict) and content.get("format", FORMAT) != FORMAT:
                found = " ".join(str(content["format"]).split())[:40]
                raise UserError(f"{self.path}: a checkpoint of format {found}; this s2s reads {FORMAT}")
            digest = content.pop("sha256")
            names = content["config"], content["tokenizer"]
            if digest != json_sha256(content) or not isinstance(content["files"], dict) or {*map(type, names)} != {str}:
                raise damaged
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise damaged from None
        manifest: dict[str, Any] = content
        return manifest

    def _read(self, name: str) -> bytes:
        path = self.path / name
        try:
            data = read_regular(path)
        except OSError as error:
            raise Damaged(f"{path}: cannot read it: {error.strerror}") from None
        if sha256(data) != self._manifest["files"].get(name):
            raise Damaged(f"{path}: damaged (its hash is not the manifest's)")
        return data

    def verify(self) -> None:
        """Reads every file.

        Raises:
            Damaged: where one is not what it was.
        """
        for name in self._manifest["files"]:
            self._read(name)

    def holds(self, name: str) -> bool:
        """Whether it vouches for such a file, and the file is there."""
        return name in self._manifest["files"] and (self.path / name).exists()

    @property
    def resumable(self) -> bool:
        """Whether training can go on from here."""
        return TRAINING in self._manifest["files"]

    @property
    def told_sha256(self) -> str:
        """The SHA-256 of the weights that inference uses, as the manifest tells it."""
        return str(self._manifest["files"][MODEL])

    def model_sha256(self) -> str:
        """The same, of the file as it is.

        Raises:
            UserError: where it is not the manifest's.
        """
        self._read(MODEL)
        return self.told_sha256

    def state(self) -> dict[str, Any]:
        """Counters, positions, random states."""
        try:
            state: dict[str, Any] = json.loads(self._read(STATE))
        except (ValueError, RecursionError):
            raise Damaged(f"{self.path / STATE}: cannot be read") from None
        return state

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the weights that inference uses, by name, as the head of their file tells them: it is not hashed for that.

        Raises:
            Damaged: where the head cannot be read, or the file has not the size that it tells.
        """
        path = self.path / MODEL
        try:
            data, size = read_beginning(path, MOST_HEAD_BYTES)
            length = int.from_bytes(data[:8], "little")
            head = json.loads(data[8 : 8 + length])
            head.pop("__metadata__", None)
            shapes = {name: tuple(map(int, tensor["shape"])) for name, tensor in head.items()}
            end = max((int(tensor["data_offsets"][1]) for tensor in head.values()), default=0)
        except OSError as error:
            raise Damaged(f"{path}: cannot read it: {error.strerror}") from None
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise Damaged(f"{path}: damaged (its head cannot be read)") from None
        if 8 + length + end != size:
            raise Damaged(f"{path}: damaged (it has not the size that its head tells)")
        return shapes
