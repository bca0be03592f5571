"""Checkpoints: crash-safe saving, verified loading, averaging. No pickle: tensors as safetensors, the rest as JSON.

A checkpoint is a folder. `model.safetensors` holds the weights that inference uses; `training.safetensors` and
`state.json` what resuming needs beside them; `manifest.json` the SHA-256 of each file, of the run's config and of its
tokenizer. It is written aside and renamed when complete, so a folder under its own name is always whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from s2s_cli.config import CHANGEABLE, Config, SourceConfig
from s2s_cli.data.tokenizer import Tokenizer, fingerprint
from s2s_cli.errors import Damaged, UserError
from s2s_cli.files import disk_error, json_sha256, sha256, sync_folder, write_synced
from s2s_cli.manifest import MANIFEST, MODEL, STATE, TRAINING, Manifest
from s2s_cli.model.seq2seq import Seq2Seq, build_model
from s2s_cli.run import FORMAT, RunDirectory, is_checkpoint, is_leftover

_BIAS_INSIDE = re.compile(r"\.rnn\.bias_[ih]h_l0$")
LATER: dict[str, Any] = {
    "data.temperature": None,
    "data.train.weight": None,
    "tokenizer.sampling.sides": "both",
    "model.embedding_dropout": None,
    "model.encoder_dropout": 0.0,
    "model.encoder.residual": False,
    "model.encoder.layer_norm": False,
    "model.decoder.conditional": False,
    "model.decoder.attend_after": "last",
    "model.decoder.lexical": False,
    "model.decoder.residual": False,
    "model.decoder.layer_norm": False,
    "model.attention_heads": 4,
    "model.attention_positions": 200,
    "model.attention_span": "global",
    "model.attention_window": 10,
    "model.coverage": "none",
    "model.coverage_size": 10,
    "model.recurrent_dropout": 0.0,
    "model.variational_dropout": False,
    "training.coverage_loss": 0.0,
    "training.r_drop": 0.0,
    "decoding.beam_groups": None,
    "decoding.coverage_penalty": 0.0,
    "decoding.diversity": 0.5,
    "decoding.ensemble": "probabilities",
    "decoding.mbr": False,
    "decoding.min_length": 0,
    "decoding.min_length_ratio": 0.0,
    "decoding.min_p": 0.0,
    "decoding.no_repeat_ngram": None,
    "decoding.normalization": "gnmt",
    "decoding.repetition_penalty": 1.0,
    "decoding.samples": None,
    "decoding.search": "beam",
    "decoding.seed": 1,
    "decoding.temperature": 1.0,
    "decoding.top_k": None,
    "decoding.top_p": 1.0,
    "evaluation.max": {},
    "source": SourceConfig().model_dump(mode="json"),
}


def identity(config: Config) -> str:
    """SHA-256 of what makes the config that of this run: all but the keys that may change when it goes on.

    Keys that came after runs of this format are left out where they change nothing, so that those runs stay readable.
    """
    data = config.model_dump(mode="json")
    for key in CHANGEABLE:
        for section, name in _sections(data, key):
            del section[name]
    for key, value in LATER.items():
        for section, name in _sections(data, key):
            if section[name] == value:
                del section[name]
    return sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode())


def _sections(data: dict[str, Any], key: str) -> list[tuple[dict[str, Any], str]]:
    """The innermost section of a dotted key, or each of a list of them, and the key's name there."""
    name, dot, rest = key.partition(".")
    if not dot:
        return [(data, name)]
    inner = data[name] if isinstance(data[name], list) else [data[name]]
    return [found for section in inner for found in _sections(section, rest)]


def save(
    run: RunDirectory,
    name: str,
    config: Config,
    tokenizer: Tokenizer,
    model: Mapping[str, Tensor],
    training: Mapping[str, Tensor] | None = None,
    state: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a checkpoint; after a crash at any moment it is there whole, or not at all.

    Args:
        run: where to.
        name: the folder's name.
        config, tokenizer: what the weights belong to.
        model: the weights that inference uses.
        training: raw weights and optimizer; left out of a checkpoint that only inference uses.
        state: what resuming needs beside them, or how the weights were made.

    Raises:
        RunFailed: where the disk refuses; the older checkpoints stand.
    """
    final = run.checkpoints_path / name
    aside = run.checkpoints_path / f".{name}.{os.getpid()}.tmp"
    files = {MODEL: safetensors.torch.save(_contiguous(model))}
    if training is not None:
        files[TRAINING] = safetensors.torch.save(_contiguous(training))
    if state is not None:
        files[STATE] = json.dumps(state, indent=1).encode()
    content = {
        "format": FORMAT,
        "files": {file: sha256(data) for file, data in files.items()},
        "config": identity(config),
        "tokenizer": tokenizer.fingerprint,
    }
    files[MANIFEST] = json.dumps({**content, "sha256": json_sha256(content)}, indent=1).encode()
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for file, data in files.items():
            write_synced(aside / file, data)
        sync_folder(aside)
        replaced = run.replace(final, aside)
        sync_folder(run.checkpoints_path)
        if replaced:
            shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):
            run.restore(final)
        raise disk_error(error, f"cannot save {final}") from None
    return final


def prune(run: RunDirectory, keep: Sequence[Path]) -> None:
    """Removes checkpoints but those in `keep`, and what was being saved or removed at a crash."""
    kept = {path.name for path in keep}
    for path in sorted(run.checkpoints_path.iterdir()):
        if is_checkpoint(path) and path.name not in kept:
            gone = path.with_name(f".{path.name}.gone.tmp")  # under its own name it is always whole
            shutil.rmtree(gone, ignore_errors=True)
            with contextlib.suppress(OSError):
                shutil.rmtree(path.rename(gone), ignore_errors=True)
        elif is_leftover(path):
            shutil.rmtree(path, ignore_errors=True)


class Checkpoint(Manifest):
    """A checkpoint of a run: its manifest, held to the run's config and tokenizer, and its tensors.

    Raises:
        UserError: where it is damaged, of another format, or of another config or tokenizer.
    """

    def __init__(self, path: Path, config: Config, tokenizer_fingerprint: str) -> None:
        super().__init__(path)
        if self.config != identity(config):
            raise UserError(f"{path}: these weights belong to another config than the run's")
        if self.tokenizer != tokenizer_fingerprint:
            raise UserError(
                f"{path}: these weights belong to another tokenizer than the run's (tokenizer/ is another's, or "
                "damaged)"
            )

    def _tensors(self, name: str) -> dict[str, Tensor]:
        try:
            return safetensors.torch.load(self._read(name))
        except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
            raise Damaged(f"{self.path / name}: cannot be read: {' '.join(str(error).split())[:200]}") from None

    def model(self) -> dict[str, Tensor]:
        """The weights that inference uses."""
        return self._tensors(MODEL)

    def training(self) -> dict[str, Tensor]:
        """Raw weights and optimizer."""
        return self._tensors(TRAINING)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights by name, shared ones once, detached but not copied."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Copies weights into a model.

    Raises:
        UserError: where names or shapes are not the model's.
    """
    check_fits(model, tensors, name)
    with torch.no_grad():
        for key, tensor in weights(model).items():
            tensor.copy_(tensors[key])


def check_fits(model: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Refuses weights whose names or shapes are not the model's, which may be on the meta device.

    Raises:
        UserError: naming the first that differ.
    """
    mine = weights(model)
    if missing := sorted(mine.keys() ^ tensors.keys()):
        if all(_BIAS_INSIDE.search(name) for name in missing):
            raise UserError(f"{name}: its layer_norm had biases inside, as an earlier s2s made it: train it anew")
        raise UserError(f"{name}: its weights do not fit this model: {', '.join(missing[:3])} on one side only")
    for key, tensor in mine.items():
        if tensor.shape != tensors[key].shape:
            shapes = f"{tuple(tensors[key].shape)} instead of {tuple(tensor.shape)}"
            raise UserError(f"{name}: its weights do not fit this model: {key} is {shapes}")


def load_model(run: RunDirectory, path: Path) -> tuple[Config, Tokenizer, Seq2Seq]:
    """What inference needs from a run: config, tokenizer and the model with a checkpoint's weights.

    Raises:
        UserError: where anything is missing, damaged, or belongs to another run.
    """
    config, files = run.read_config(), run.read_tokenizer_files()
    with offering_others(run, path, config, fingerprint(files), "name it with --model"):
        tensors = Checkpoint(path, config, fingerprint(files)).model()
    tokenizer = Tokenizer.from_files(files, source=config.source)
    with torch.device("meta"), _Unfilled():  # a config may ask for more than any machine has
        model = build_model(config.model, tokenizer)
    check_fits(model, tensors, str(path))
    filled = {one: nn.Parameter(tensors[name].to(one.dtype, copy=True)) for name, one in model.named_parameters()}
    for module in model.modules():
        for name, one in list(module.named_parameters(recurse=False)):
            setattr(module, name, filled[one])  # a shared one by the same, and RNNs take note
    return config, tokenizer, model


class _Unfilled(TorchFunctionMode):
    """Inside, nothing is drawn at random: on the meta device there is nothing to fill, and PyTorch would take a second
    of imports to see it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if getattr(func, "__name__", "") == "normal_":
            return args[0] if args else named["tensor"]
        return func(*args, **named)


@contextlib.contextmanager
def offering_others(run: RunDirectory, path: Path, config: Config, tokenizer: str, how: str) -> Iterator[None]:
    """Where a checkpoint turns out damaged inside, the newest other one that is whole is offered.

    Args:
        run, path: the checkpoint and its run.
        config, tokenizer: as for `Checkpoint`.
        how: to use it, in words.
    """
    try:
        yield
    except Damaged as error:
        others = (other for other in reversed(run.checkpoints()) if other.name != path.name)
        whole = next((other for other in others if _is_whole(other, config, tokenizer)), None)
        offer = f"{whole} is whole: {how}" if whole else "no other checkpoint of the run is whole"
        raise UserError(f"{error}; {offer}") from None


def _is_whole(path: Path, config: Config, tokenizer: str) -> bool:
    try:
        Checkpoint(path, config, tokenizer).verify()
    except UserError:
        return False
    return True


def average(models: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the weights of several checkpoints."""
    return {
        name: torch.stack([model[name].double() for model in models]).mean(0).to(models[0][name].dtype)
        for name in models[0]
    }


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
