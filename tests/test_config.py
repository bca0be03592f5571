"""Configs: defaults, refusals that name file, line and key, overrides, and the way back to YAML."""

from __future__ import annotations

import errno
import functools
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from s2s_cli import config as sections
from s2s_cli import config_decoding, config_model
from s2s_cli.config import (
    CHANGEABLE,
    Config,
    DecodingConfig,
    EvaluationConfig,
    ModelConfig,
    TokenizerConfig,
    TrainingConfig,
)
from s2s_cli.config_file import change, differences, dump_config, load_config, parse_config, schema
from s2s_cli.data.corpus import READERS
from s2s_cli.errors import UserError
from s2s_cli.evaluate import LOWER_IS_BETTER, METRICS
from s2s_cli.files import names_files
from s2s_cli.model.attention import ATTENTIONS
from s2s_cli.model.coverage import COVERAGES
from s2s_cli.model.decoder import INITIAL_STATES
from s2s_cli.model.ensemble import COMBINATIONS
from s2s_cli.model.recurrent import CELLS
from s2s_cli.model.seq2seq import SOURCES
from s2s_cli.model.span import SPANS
from s2s_cli.run import RunDirectory
from s2s_cli.search.ranking import NORMALIZATIONS
from s2s_cli.search.searches import SEARCHES
from s2s_cli.train.optim import OPTIMIZERS, SCHEDULES

ROOT = Path(__file__).parent.parent

MINIMAL = """\
data:
  train: [{source: train.src, target: train.tgt}]
  valid: {source: valid.src, target: valid.tgt}
training: {max_steps: 10}
"""

FEATURES = "source: {kind: features, size: 3}"

FULL = """\
# every section, over several lines
data:
  train:
    - {source: a.src, target: a.tgt}
    - {tsv: b.tsv}
  valid: {source: valid.src, target: valid.tgt}
  test:
    - name: news
      source: news.src
      target: news.tgt
    - {name: talks, tsv: talks.tsv.gz}
  max_ratio: 4
tokenizer:
  type: bpe
  vocab_size: 500
  shared: false
  user_symbols: [<sep>, "a b", "#"]
  sampling: {alpha: 0.1}
model:
  encoder: {cell: gru, layers: 2, hidden_size: 32}
  decoder:
    cell: lstm
    hidden_size: 64
  attention: bahdanau
  tie_embeddings: target
  embedding_size: 48
training:
  max_epochs: 3
  patience: 5
  monitor: chrf
  learning_rate: 1e-3
  betas: [0.9, 0.99]
  schedule: cosine
  schedule_steps: 100
  clip_norm: null
  validate_every: epoch
decoding: {beam: 4, n_best: 2, length_penalty: 0.6}
evaluation:
  metrics: [chrf, bleu]
  min: {bleu: 30, chrf: 50.5}
"""


def read(folder: Path, text: str, *overrides: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, text, *overrides)
    return str(caught.value).replace(str(folder / "config.yaml"), "FILE")


def line_of(text: str, piece: str) -> int:
    assert text.count(piece) == 1
    return text[: text.index(piece)].count("\n") + 1


def keys_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    """Every key of the config: its dotted path, the section that holds it, its name there."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", section, name
        for inner in sections_in(field.annotation):
            yield from keys_of(inner, f"{prefix}{name}.")


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from sections_in(argument)


def same(config: Config, comments: bool) -> bool:
    text = dump_config(config, comments=comments)
    if not comments:
        return parse_config(text, "dump", Path("/nowhere")) == config
    with tempfile.TemporaryDirectory() as folder:  # what is shown is given to `s2s train` again
        return read(Path(folder), text) == config


# What is there without being asked for


def test_an_option_may_stand_for_a_variable_that_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("S2S_TEST_DATA", raising=False)
    path = tmp_path / "c.yaml"
    side = "{source: '${S2S_TEST_DATA}/a', target: b}"
    path.write_text(f"data: {{train: {side}, valid: {side}}}\ntraining: {{max_steps: 1}}\n")
    with pytest.raises(UserError, match=r"c\.yaml:1: data\.train\.source: .*S2S_TEST_DATA"):
        load_config(path)
    with pytest.raises(UserError, match=r"c\.yaml:1: data\.valid\.source: .*S2S_TEST_DATA"):
        load_config(path, ["data.train.source=/a"])
    found = load_config(path, ["data.train.source=/a", "data.valid={source: /c, target: /d}"])
    assert found.data.train[0].source == Path("/a")


def test_missing_files_are_named_with_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "data:\n  train: {source: c.yaml, target: gone}\n  valid: {source: c.yaml, target: c.yaml}\n"
        "training: {max_steps: 1, init_from: nowhere}\n"
    )
    with pytest.raises(UserError) as caught:
        load_config(path, files_exist=True)
    assert str(caught.value) == f"{path}:2: data.train.target: no such file: {tmp_path / 'gone'}"
    (tmp_path / "gone-1").touch()
    with pytest.raises(UserError, match=r"data\.train\.target: no such file: .*/gon\[a-d\]-\*$"):
        load_config(path, ["data.train.target=gon[a-d]-*"], files_exist=True)
    load_config(path, [f"data.train.target={tmp_path}/gon[d-f]-*"], files_exist=True)


def test_a_folder_is_no_missing_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data: {train: {tsv: c.yaml}, valid: {tsv: .}}\ntraining: {max_steps: 1}\n")
    with pytest.raises(UserError, match=r"data\.valid\.tsv: a folder, not a file"):
        load_config(tmp_path / "c.yaml", files_exist=True)


def test_one_wrong_key_of_a_text_is_one_line(tmp_path: Path) -> None:
    text = "data: {train: {tsv: a, weigth: 2}, valid: {tsv: b}}\ntraining: {max_steps: 1}\n"
    (told,) = refusal(tmp_path, text).splitlines()
    assert "unknown key data.train.0.weigth: did you mean 'weight'?" in told
    assert "data.train" in refusal(tmp_path, text.replace("{tsv: a, weigth: 2}", "[]"))


def test_the_first_of_one_text_may_be_counted(tmp_path: Path) -> None:
    text = "data: {train: {tsv: a}, valid: {tsv: b}, test: {tsv: c}}\ntraining: {max_steps: 1}\n"
    found = read(tmp_path, text, "data.train.0.tsv=/x", "data.test.0.name=y").data
    assert (found.train[0].tsv, found.test[0].name) == (Path("/x"), "y")
    assert "'data.train' is not a section that has '1'" in refusal(tmp_path, text, "data.train.1.tsv=/x")


def test_of_many_problems_the_first_are_told(tmp_path: Path) -> None:
    numbers = ",".join("1" * 20_000)
    path = tmp_path / "config.yaml"
    path.write_text(f"tokenizer:\n  user_symbols: [{numbers}]\n")
    with pytest.raises(UserError) as caught:
        load_config(path)
    lines = str(caught.value).splitlines()
    assert len(lines) < 30
    assert "problems more" in lines[-1]


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL)
    assert config.tokenizer == TokenizerConfig()
    assert config.model == ModelConfig()
    assert config.decoding == DecodingConfig()
    assert config.evaluation == EvaluationConfig()
    assert config.data.test == ()
    assert config.training.model_dump(exclude_defaults=True) == {"max_steps": 10}
    assert config.monitor == config.evaluation.metrics[0]


def test_a_full_config_is_read_as_written(tmp_path: Path) -> None:
    config = read(tmp_path, FULL)
    assert [text.files for text in config.data.train] == [
        (tmp_path / "a.src", tmp_path / "a.tgt"),
        (tmp_path / "b.tsv",),
    ]
    assert [text.name for text in config.data.test] == ["news", "talks"]
    assert config.tokenizer.user_symbols == ("<sep>", "a b", "#")
    assert config.training.learning_rate == 0.001
    assert config.training.betas == (0.9, 0.99)
    assert config.training.clip_norm is None
    assert config.monitor == "chrf"
    assert config.evaluation.min == {"bleu": 30, "chrf": 50.5}


def test_one_mapping_stands_for_a_list_of_one(tmp_path: Path) -> None:
    alone = MINIMAL.replace("[{source: train.src, target: train.tgt}]", "{source: train.src, target: train.tgt}")
    assert alone != MINIMAL
    assert read(tmp_path, alone) == read(tmp_path, MINIMAL)


def test_derived_sizes() -> None:
    model = ModelConfig()
    assert model.encoder.output_size == 2 * model.encoder.hidden_size
    assert model.readout == model.decoder.hidden_size
    assert ModelConfig(tie_embeddings="target").readout == model.embedding_size


def test_every_key_is_documented_here_and_in_the_schema() -> None:
    whole = schema()
    keys = list(keys_of(Config))
    assert len(keys) > 80
    for path, section, name in keys:
        meaning = section.model_fields[name].description
        assert meaning and meaning.strip(), path
        place = whole if section is Config else whole["$defs"][section.__name__]
        assert place["properties"][name]["description"] == meaning, path


def test_a_commented_dump_explains_every_key_of_every_section(tmp_path: Path) -> None:
    text = dump_config(read(tmp_path, FULL), comments=True)
    for path, section, name in keys_of(Config):
        if path.startswith(("data.train.", "data.test.")):
            continue  # a list stands in one line
        meaning = " ".join(str(section.model_fields[name].description).split())
        assert re.search(rf"(?m)^ *{name}:.*  # {re.escape(meaning)}$", text), path


# Refusals


@pytest.mark.parametrize(
    ("old", "new", "key", "nearest"),
    [
        ("  max_ratio: 4", "  max_ration: 4", "data.max_ration", "max_ratio"),
        ("    cell: lstm", "    cel: lstm", "model.decoder.cel", "cell"),
        ("  patience: 5", "  patiense: 5", "training.patiense", "patience"),
        ("  vocab_size: 500", "  vocabsize: 500", "tokenizer.vocabsize", "vocab_size"),
        ("decoding: {beam", "decodin: {beam", "decodin", "decoding"),
        ("      source: news.src", "      sorce: news.src", "data.test.0.sorce", "source"),
        ("    - {name: talks, tsv", "    - {nam: talks, tsv", "data.test.1.nam", "name"),
    ],
)
def test_an_unknown_key_is_refused_with_its_line_and_the_nearest(
    tmp_path: Path, old: str, new: str, key: str, nearest: str
) -> None:
    text = FULL.replace(old, new)
    message = refusal(tmp_path, text)
    assert f"FILE:{line_of(text, new)}: unknown key {key}: did you mean '{nearest}'?" in message


def test_an_unknown_key_in_a_single_text_is_refused_with_its_own_line(tmp_path: Path) -> None:
    text = MINIMAL.replace("[{source: train.src, target: train.tgt}]", "\n    source: a\n    target: b\n    sorce: c")
    assert f"FILE:{line_of(text, 'sorce')}: unknown key data.train" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "key", "allowed"),
    [
        ("  vocab_size: 500", "  vocab_size: many", "tokenizer.vocab_size", "integer"),
        ("  vocab_size: 500", "  vocab_size: 500.0", "tokenizer.vocab_size", "integer"),
        ("  vocab_size: 500", "  vocab_size: '500'", "tokenizer.vocab_size", "integer"),
        ("  vocab_size: 500", "  vocab_size: true", "tokenizer.vocab_size", "integer"),
        ("  vocab_size: 500", "  vocab_size: null", "tokenizer.vocab_size", "integer"),
        ("  vocab_size: 500", "  vocab_size: 7", "tokenizer.vocab_size", "8"),
        ("  shared: false", "  shared: no", "tokenizer.shared", "boolean"),
        ("  shared: false", "  shared: 0", "tokenizer.shared", "boolean"),
        ("  learning_rate: 1e-3", "  learning_rate: 0", "training.learning_rate", "greater than 0"),
        ("  learning_rate: 1e-3", "  learning_rate: fast", "training.learning_rate", "number"),
        ("  learning_rate: 1e-3", "  learning_rate: .inf", "training.learning_rate", "finite"),
        ("  learning_rate: 1e-3", "  learning_rate: 1e999", "training.learning_rate", "finite"),
        ("  learning_rate: 1e-3", "  learning_rate: .nan", "training.learning_rate", "finite"),
        ("  betas: [0.9, 0.99]", "  betas: [0.9, 1.0]", "training.betas.1", "less than 1"),
        ("  betas: [0.9, 0.99]", "  betas: [0.9]", "training.betas", "missing"),
        ("  betas: [0.9, 0.99]", "  betas: [0.9, 0.9, 0.9]", "training.betas", "2"),
        ("  betas: [0.9, 0.99]", "  betas: 0.9", "training.betas", "array"),
        ("  schedule: cosine", "  schedule: cosin", "training.schedule", "did you mean 'cosine'"),
        ("    cell: lstm", "    cell: LSTM2", "model.decoder.cell", "lstm"),
        ("  metrics: [chrf, bleu]", "  metrics: [chrf, bleau]", "evaluation.metrics.1", "did you mean 'bleu'"),
        ("  metrics: [chrf, bleu]", "  metrics: []", "evaluation.metrics", "at least 1"),
        ("  min: {bleu: 30, chrf: 50.5}", "  min: {blue: 30}", "evaluation.min.blue", "did you mean 'bleu'"),
        ("  min: {bleu: 30, chrf: 50.5}", "  min: {bleu: high}", "evaluation.min.bleu", "number"),
        ("    - {tsv: b.tsv}", "    - b.tsv", "data.train.1", "object"),
        ("    - {tsv: b.tsv}", "    - {tsv: 5}", "data.train.1.tsv", "string"),
        ("    - {tsv: b.tsv}", "    - {tsv: b.tsv, source: c}", "data.train.1", "either source and target, or tsv"),
        ("    - {tsv: b.tsv}", "    - {source: c}", "data.train.1", "either source and target, or tsv"),
        ("    - {tsv: b.tsv}", "    - {tsv: b.tsv, weight: 0}", "data.train.1.weight", "greater than 0"),
        ("    - {tsv: b.tsv}", "    - {}", "data.train.1", "either source and target, or tsv"),
        ("  clip_norm: null", "  clip_norm: 0", "training.clip_norm", "greater than 0"),
        (
            "  validate_every: epoch",
            "  validation_beam: 1001",
            "training.validation_beam",
            "less than or equal to 1000",
        ),
        ("  validate_every: epoch", "  validate_every: 0", "training.validate_every", "greater than 0"),
        ("  validate_every: epoch", "  validate_every: epochs", "training.validate_every", "'epoch'"),
        ("decoding: {beam: 4, n_best: 2, length_penalty: 0.6}", "decoding: 5", "decoding", "object"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_line_key_and_what_is(
    tmp_path: Path, old: str, new: str, key: str, allowed: str
) -> None:
    text = FULL.replace(old, new)
    assert text != FULL
    message = refusal(tmp_path, text)
    assert f"FILE:{line_of(text, new)}: {key}" in message
    assert allowed in message


@pytest.mark.parametrize("value", ["0", "later"])
def test_a_refusal_names_keys_only_as_they_are_written(tmp_path: Path, value: str) -> None:
    text = FULL.replace("validate_every: epoch", f"validate_every: {value}").replace("{bleu: 30", "{blue: 30")
    keys = re.findall(r"(?m)^FILE:\d+: ([^ ]*?):? ", refusal(tmp_path, text))
    assert set(keys) == {"training.validate_every", "evaluation.min.blue"}


def test_texts_are_mixed_by_weights_or_by_a_temperature(tmp_path: Path) -> None:
    text = FULL.replace("{tsv: b.tsv}", "{tsv: b.tsv, weight: 2}")
    assert "give every text a weight, or none (train.0 has none)" in refusal(tmp_path, text)
    assert read(tmp_path, text, "data.train.0.weight=0.5").data.weights == (0.5, 2)
    assert "have weights" in refusal(tmp_path, text, "data.train.0.weight=0.5", "data.temperature=5")
    assert read(tmp_path, FULL, "data.temperature=5").data.weights is None
    assert "unknown key data.valid.weight" in refusal(tmp_path, FULL, "data.valid.weight=1")


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    message = refusal(tmp_path, "tokenizer: {vocab_size: 100}\n")
    assert "data is missing" in message
    assert "training is missing" in message
    assert "data.valid is missing" in refusal(tmp_path, "data: {train: {tsv: a}}\ntraining: {max_steps: 1}\n")


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    text = FULL
    wrong = ["vocab_size: none", "max_epochs: -1", "beam: 0", "metrics: [rouge]"]
    for old, new in zip(["vocab_size: 500", "max_epochs: 3", "beam: 4", "metrics: [chrf, bleu]"], wrong, strict=True):
        text = text.replace(old, new)
    lines = refusal(tmp_path, text).splitlines()
    for new in wrong:
        assert any(line.startswith(f"FILE:{line_of(text, new)}: ") and new.split(":")[0] in line for line in lines), new


@pytest.mark.parametrize("text", ["", "[]\n", "5\n", "text\n", "null\n"])
def test_what_is_no_mapping_is_refused_with_the_sections(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, text)
    assert all(section in message for section in Config.model_fields)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("# caf\u00e9\n".encode("latin-1") + MINIMAL.encode())
    for name, word in (("none.yaml", "No such file"), (".", "directory"), ("latin.yaml", "UTF-8")):
        with pytest.raises(UserError, match=word):
            load_config(tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_a_config(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + MINIMAL) == read(tmp_path, MINIMAL)


def test_half_of_a_surrogate_pair_is_refused_with_its_key(tmp_path: Path) -> None:
    text = MINIMAL + 'tokenizer: {user_symbols: ["\\uD800"]}\n'
    assert refusal(tmp_path, text).startswith("FILE:5: tokenizer.user_symbols")


@pytest.mark.parametrize(
    ("addition", "words"),
    [
        (
            "model: {attention: luong-dot, encoder: {hidden_size: 100}, decoder: {hidden_size: 256}}",
            ["luong-dot", "200", "256", "decoder.hidden_size"],
        ),
        ("model: {attention: bahdanau, decoder: {input_feeding: false}}", ["bahdanau", "decoder.input_feeding"]),
        ("model: {decoder: {initial_state: last, hidden_size: 256}}", ["last", "512", "bridge"]),
        ("model: {decoder: {initial_state: last, cell: gru}}", ["last", "decoder.cell"]),
        ("model: {decoder: {initial_state: last, layers: 2}}", ["last", "decoder.layers"]),
        ("model: {decoder: {attend_after: first}}", ["attend_after", "decoder.layers"]),
        ("model: {attention: none, decoder: {lexical: true}}", ["decoder.lexical", "luong-general"]),
        (
            "model: {attention: bahdanau, decoder: {attend_after: first, layers: 2}}",
            ["bahdanau", "attend_after to last", "luong-general"],
        ),
        (
            "model: {decoder: {attend_after: first, layers: 2, conditional: true}}",
            ["conditional", "attend_after to last", "conditional to false"],
        ),
        ("model: {decoder: {conditional: true, input_feeding: false}}", ["conditional", "decoder.input_feeding"]),
        (
            "model: {encoder: {bidirectional: bottom, layers: 2}, decoder: {layers: 2, initial_state: last}}",
            ["last", "bidirectional", "bottom", "bridge"],
        ),
        ("model: {attention: multi-head, attention_heads: 3, attention_size: 100}", ["attention_size", "100", "3"]),
        ("model: {attention: luong-location, attention_span: local-p}", ["attention_span", "global", "luong-general"]),
        ("model: {attention: none, attention_span: local-m}", ["attention_span", "global", "luong-general"]),
        ("model: {coverage: sum}", ["coverage", "bahdanau", "luong-concat", "none"]),
        (
            "model: {attention: none}\ntraining: {max_steps: 1, coverage_loss: 1}",
            ["training.coverage_loss", "0", "model.attention", "luong-general"],
        ),
        ("model: {attention: none}\ndecoding: {coverage_penalty: 1}", ["decoding.coverage_penalty", "model.attention"]),
        ("model: {tie_embeddings: target, readout_size: 100}", ["tie_embeddings", "readout_size", "100", "256"]),
        ("model: {tie_embeddings: all}\ntokenizer: {shared: false}", ["model.tie_embeddings", "tokenizer.shared"]),
        ("decoding: {beam: 2, n_best: 3}", ["n_best", "3", "beam", "2"]),
        ("evaluation: {metrics: [chrf]}\ntraining: {max_steps: 1, monitor: bleu}", ["monitor", "evaluation.metrics"]),
        ("training: {}", ["max_steps", "max_epochs", "max_minutes", "patience"]),
        ("training: {max_epochs: 2, schedule: cosine}", ["cosine", "schedule_steps", "max_steps"]),
        ("training: {max_minutes: 2, schedule: linear}", ["linear", "schedule_steps", "max_steps"]),
        ("training: {max_steps: 2, schedule: inverse-sqrt}", ["inverse-sqrt", "warmup_steps"]),
        ("tokenizer: {source_model: a.model}", ["source_model", "target_model"]),
        ("tokenizer: {source_model: a.model, target_model: b.model}", ["shared"]),
        ("tokenizer: {model: a.model, shared: false}", ["model", "shared"]),
        ("tokenizer: {type: char, sampling: {alpha: 0.1}}", ["sampling.alpha", "char"]),
        ("tokenizer: {type: bpe, sampling: {alpha: 1}}", ["sampling.alpha", "bpe"]),
        ("source: {kind: features}", ["kind features", "size"]),
        ("source: {size: 3}", ["size", "kind text", "features"]),
        (f"{FEATURES}\nmodel: {{tie_embeddings: all}}", ["model.tie_embeddings", "features", "target"]),
        (f"{FEATURES}\ntokenizer: {{shared: false}}", ["tokenizer.shared", "features", "tokenizer.model"]),
        (
            f"{FEATURES}\ntokenizer: {{shared: false, source_model: a.model, target_model: b.model}}",
            ["tokenizer.shared", "features", "tokenizer.model"],
        ),
    ],
)
def test_sections_that_do_not_go_together_are_refused_with_the_keys_to_change(
    tmp_path: Path, addition: str, words: list[str]
) -> None:
    base = MINIMAL.replace("training: {max_steps: 10}\n", "") if "training:" in addition else MINIMAL
    message = refusal(tmp_path, base + addition + "\n")
    assert message.startswith("FILE:")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "addition",
    [
        "model: {attention: luong-dot, encoder: {hidden_size: 128}, decoder: {hidden_size: 256}}",
        "model: {attention: luong-dot, encoder: {hidden_size: 256, bidirectional: false}, decoder: {hidden_size: 256}}",
        "model: {decoder: {initial_state: last}}",
        "model: {tie_embeddings: all}",
        "model: {tie_embeddings: target, readout_size: 256}\ntokenizer: {shared: false}",
        "decoding: {beam: 3, n_best: 3}",
        "training: {max_epochs: 2, schedule: cosine, schedule_steps: 100}",
        "training: {patience: 2}",
        "training: {max_steps: 1, monitor: perplexity}",
        "tokenizer: {source_model: a.model, target_model: b.model, shared: false}",
        "tokenizer: {type: unigram, sampling: {alpha: 1}}",
        f"{FEATURES}\nmodel: {{tie_embeddings: target}}\ntokenizer: {{model: a.model}}",
    ],
)
def test_sections_that_go_together_are_accepted(tmp_path: Path, addition: str) -> None:
    base = MINIMAL.replace("training: {max_steps: 10}\n", "") if "training:" in addition else MINIMAL
    config = read(tmp_path, base + addition + "\n")
    assert same(config, comments=False)


@pytest.mark.parametrize("line", ["train: [{tsv: a}]", "valid: {tsv: a}", "test: {tsv: a}"])
def test_features_do_not_stand_in_a_tsv(tmp_path: Path, line: str) -> None:
    data = {"train": "{source: a.npy, target: a}", "valid": "{source: b.npy, target: b}"}
    name, _, value = line.partition(": ")
    text = "".join(f"  {key}: {given}\n" for key, given in (data | {name: value}).items())
    message = refusal(tmp_path, f"data:\n{text}training: {{max_steps: 10}}\n{FEATURES}\n")
    assert "a tsv holds text only" in message
    assert "give source and target" in message


def test_test_sets_need_names_of_their_own(tmp_path: Path) -> None:
    two = "  test: [{tsv: a}, {tsv: b}]\n"
    message = refusal(tmp_path, MINIMAL.replace("training:", two + "training:"))
    assert "data.test" in message
    assert "name" in message
    named = two.replace("{tsv: b}", "{name: other, tsv: b}")
    assert len(read(tmp_path, MINIMAL.replace("training:", named + "training:")).data.test) == 2


@pytest.mark.parametrize("nbest", [0, 1, 513])
def test_sampling_from_a_number_of_segmentations_that_sentencepiece_refuses_is_refused(
    tmp_path: Path, nbest: int
) -> None:
    assert "nbest" in refusal(tmp_path, MINIMAL + f"tokenizer: {{sampling: {{alpha: 0.1, nbest: {nbest}}}}}\n")


# Paths


def test_paths_are_relative_to_the_config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, elsewhere = tmp_path / "configs", tmp_path / "elsewhere"
    inside.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    absolute = tmp_path / "absolute.tgt"
    text = MINIMAL.replace("valid.src", "../up.src").replace("valid.tgt", str(absolute))
    text += "tokenizer: {model: pieces/m.model}\n"
    config = read(inside, text)
    assert config.data.train[0].source == inside / "train.src"
    assert config.data.valid.source is not None
    assert config.data.valid.source.resolve() == tmp_path / "up.src"
    assert config.data.valid.target == absolute
    assert config.tokenizer.model == inside / "pieces/m.model"
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("configs/config.yaml")) == config


@pytest.mark.parametrize(
    ("as_list", "option"),
    [
        (True, "data.train=[{source: new.src, target: new.tgt}]"),
        (True, "data.train.0.source=new.src"),
        (False, "data.train={source: new.src, target: new.tgt}"),
        (False, "data.train.source=new.src"),
    ],
)
def test_paths_in_options_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_list: bool, option: str
) -> None:
    inside, here = tmp_path / "configs", tmp_path / "here"
    inside.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    text = MINIMAL if as_list else MINIMAL.replace("[", "").replace("]", "")
    config = read(inside, text, option)
    assert config.data.train[0].source == here / "new.src"
    assert config.data.train[0].target in (here / "new.tgt", inside / "train.tgt")
    assert config.data.valid.source == inside / "valid.src"


def test_a_variable_fills_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2S_TEST_DATA", str(tmp_path / "far away"))
    config = read(tmp_path, MINIMAL.replace("valid.src", '"${S2S_TEST_DATA}/valid.src"'))
    assert config.data.valid.source == tmp_path / "far away" / "valid.src"


DROPPED = ["dropout", "embedding_dropout", "encoder_dropout", "word_dropout", "recurrent_dropout"]


@pytest.mark.parametrize("dropped", DROPPED)
def test_r_drop_needs_something_that_differs_between_two_passes(tmp_path: Path, dropped: str) -> None:
    text = f"{MINIMAL}model: {{dropout: 0}}\n"
    assert "training.r_drop compares two passes" in refusal(
        tmp_path, text.replace("training: {", "training: {r_drop: 5, ")
    )
    assert read(tmp_path, text, "training.r_drop=5", f"model.{dropped}=0.1").training.r_drop == 5
    blind = ModelConfig.model_validate({"dropout": 0, dropped: 0.1, "attention": "none"})
    assert blind.is_random == (dropped != "encoder_dropout")


# --set


def test_options_override_the_file(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        FULL,
        "training.max_steps=200",
        "training.learning_rate=5e-4",
        "model.encoder.cell=rnn",
        "training.patience=null",
        "evaluation.min={}",
        "decoding.beam=1",
        "decoding.n_best=1",
        "tokenizer.user_symbols=[x=y]",
        "data.test.1.name=speech",
        "decoding.beam=7",
    )
    assert config.training.max_steps == 200
    assert config.training.learning_rate == 0.0005
    assert config.model.encoder.cell == "rnn"
    assert config.model.encoder.layers == 2
    assert config.training.patience is None
    assert config.evaluation.min == {}
    assert config.decoding.beam == 7
    assert config.tokenizer.user_symbols == ("x=y",)
    assert [text.name for text in config.data.test] == ["news", "speech"]


def test_options_can_make_sections_that_the_file_has_not(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL, "model.decoder.layers=2", "evaluation.min.chrf++=40")
    assert config.model.decoder.layers == 2
    assert config.evaluation.min == {"chrf++": 40}


@pytest.mark.parametrize(
    "option",
    [
        "training.max_steps",
        "=5",
        "training..max_steps=5",
        ".max_steps=5",
        "training.=5",
        "training.max_steps.x=5",
        "data.test.7.name=x",
        "data.test.name=x",
        "data.test.7=x",
        "data.valid.source.x=y",
        "training.max_step=5",
        "training.max_steps=many",
        "training=5",
        "training.max_steps=[",
        "training.max_steps={a: 1, a: 2}",
        "training.max_steps=${S2S_TEST_UNSET}",
        "5=5",
        "data.test.\u00b2.name=x",
        pytest.param(f"data.test.{'9' * 5000}.name=x", id="index of 5000 digits"),
    ],
)
def test_a_bad_option_is_refused_and_shown(tmp_path: Path, option: str) -> None:
    message = refusal(tmp_path, FULL, option)
    assert "--set" in message
    assert option.split("=")[0].split(".")[-1] in message


def test_an_error_in_an_option_does_not_blame_the_file(tmp_path: Path) -> None:
    message = refusal(tmp_path, FULL, "training.max_epochs=-3", "model.dropout=2")
    assert [line.split(":")[0] for line in message.splitlines()] == ["--set", "--set"]


def test_an_error_of_a_whole_section_names_the_file_and_the_option(tmp_path: Path) -> None:
    """What is missing in the file is not the option's fault alone."""
    endless = MINIMAL.replace("max_steps: 10", "learning_rate: 0.1")
    assert endless != MINIMAL
    message = refusal(tmp_path, endless, "training.seed=2")
    assert re.match(r"FILE:\d+ and --set: training: nothing ends", message), message


def test_an_option_fills_a_blank_section(tmp_path: Path) -> None:
    assert read(tmp_path, MINIMAL + "model:\n", "model.dropout=0.25").model.dropout == 0.25


def test_a_file_that_cannot_be_looked_at_is_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text(MINIMAL)
    with pytest.raises(UserError, match="no such file"):
        load_config(tmp_path / "c.yaml", [f"data.train.0.source={'x' * 300}"], files_exist=True)

    def forbidden(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", forbidden)
        found = names_files(tmp_path / "c.yaml"), RunDirectory(tmp_path).exists
    assert found == (False, False)


# Back to YAML, and compared


@pytest.mark.parametrize("comments", [False, True])
def test_a_placeholder_is_none_of_the_environments(
    tmp_path: Path, comments: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S2S_TEST_USER", "somebody")
    monkeypatch.delenv("S2S_TEST_COUNT", raising=False)
    symbols = "tokenizer: {user_symbols: ['$${S2S_TEST_USER}', '<$${S2S_TEST_COUNT}>', '${S2S_TEST_USER}', '$${}']}\n"
    config = read(tmp_path, MINIMAL + symbols)
    assert config.tokenizer.user_symbols == ("${S2S_TEST_USER}", "<${S2S_TEST_COUNT}>", "somebody", "$${}")
    assert same(config, comments)
    with pytest.raises(UserError, match=r"not set.*\$\$\{S2S_TEST_COUNT\} stands for \$\{S2S_TEST_COUNT\}"):
        read(tmp_path, MINIMAL + "tokenizer: {user_symbols: ['${S2S_TEST_COUNT}']}\n")


@pytest.mark.parametrize("comments", [False, True])
@pytest.mark.parametrize("text", [MINIMAL, FULL])
def test_a_dump_reads_back_equal(tmp_path: Path, text: str, comments: bool) -> None:
    assert same(read(tmp_path, text), comments)


@pytest.mark.parametrize("comments", [False, True])
@pytest.mark.parametrize(
    "word", ["1e3", "08", "0o17", "1.e5", "no", "12", "null", "~", "", "# x", "a: b", "- a", "'", '"']
)
def test_words_that_look_like_other_types_survive_a_dump(tmp_path: Path, word: str, comments: bool) -> None:
    config = read(tmp_path, FULL)
    symbols = config.tokenizer.model_copy(update={"user_symbols": (word,)})
    named = config.data.model_copy(update={"test": (config.data.test[0].model_copy(update={"name": word}),)})
    assert same(config.model_copy(update={"tokenizer": symbols, "data": named}), comments)


@pytest.mark.parametrize("comments", [False, True])
def test_what_looks_like_a_variable_survives_a_dump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comments: bool
) -> None:
    monkeypatch.setenv("S2S_TEST_A", "${S2S_TEST_UNSET}")
    assert same(read(tmp_path, MINIMAL + 'tokenizer: {user_symbols: ["${S2S_TEST_A}"]}\n'), comments)


@settings(max_examples=60)
@given(
    words=st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=12), max_size=4), comments=st.booleans()
)
@example(words=["two\nlines", "three\n\n\nlines ", " x "], comments=True)
@example(words=["\x85", "\u2028", "\ufeff", "\x00", "\U0001f600"], comments=False)
@example(words=["word " * 300], comments=False)
def test_any_text_survives_a_dump(words: list[str], comments: bool) -> None:
    config = parse_config(FULL, "c.yaml", Path("/nowhere"))
    words = [word for word in words if "${" not in word]
    symbols = config.tokenizer.model_copy(update={"user_symbols": tuple(words)})
    assert same(config.model_copy(update={"tokenizer": symbols}), comments)


def test_differences_name_the_keys_that_differ(tmp_path: Path) -> None:
    before = read(tmp_path, FULL)
    after = read(tmp_path, FULL, "model.encoder.layers=3", "training.seed=5", "tokenizer.user_symbols=[]")
    assert differences(before, before) == {}
    assert differences(before, after) == {
        "model.encoder.layers": (2, 3),
        "training.seed": (1, 5),
        "tokenizer.user_symbols": (["<sep>", "a b", "#"], []),
    }
    other_floor = read(tmp_path, FULL, "evaluation.min.bleu=31")
    assert differences(before, other_floor) == {"evaluation.min.bleu": (30, 31)}


def test_differences_leave_out_how_long_to_go_on_and_what_to_keep(tmp_path: Path) -> None:
    other = ["max_steps=7", "max_epochs=8", "max_minutes=9", "patience=10", "keep_last=11", "log_every=12", "samples=0"]
    before, after = read(tmp_path, FULL), read(tmp_path, FULL, *(f"training.{option}" for option in other))
    assert before != after
    assert differences(before, after) == {}
    assert {f"training.{option.split('=')[0]}" for option in other} <= CHANGEABLE
    assert {path for path, *_ in keys_of(Config)} >= CHANGEABLE


def test_change_checks_as_reading_does() -> None:
    section = DecodingConfig(beam=4)
    assert change(section, {"n_best": 3}, "decoding") == DecodingConfig(beam=4, n_best=3)
    assert change(section, {}, "decoding") == section
    for changes, words in (
        ({"n_best": 5}, r"^decoding: n_best \(5\) is more than beam"),
        ({"beam": 0}, r"^decoding\.beam: should be"),
        ({"precision": "fp8"}, "fp32"),
        ({"bean": 1}, r"^unknown key decoding\.bean: did you mean 'beam'"),
    ):
        with pytest.raises(UserError, match=words):
            change(section, changes, "decoding")


# One list of choices


@pytest.mark.parametrize(
    ("literal", "choices"),
    [
        ("CellName", CELLS),
        ("AttentionName", ATTENTIONS),
        ("SpanName", SPANS),
        ("CoverageName", COVERAGES),
        ("SearchName", SEARCHES),
        ("NormalizationName", NORMALIZATIONS),
        ("EnsembleName", COMBINATIONS),
        ("BridgeName", INITIAL_STATES),
        ("OptimizerName", OPTIMIZERS),
        ("ScheduleName", SCHEDULES),
        ("MetricName", METRICS),
        ("SourceKind", SOURCES),
        ("SourceKind", READERS),
    ],
)
def test_the_config_allows_exactly_what_is_implemented(literal: str, choices: dict[str, Any]) -> None:
    names = {**vars(config_model), **vars(config_decoding), **vars(sections)}
    assert list(get_args(names[literal])) == list(choices)


def test_monitors_are_the_losses_and_the_metrics() -> None:
    monitors = get_args(sections.MonitorName)
    assert set(monitors) == {"loss", "perplexity", *METRICS}
    assert set(monitors) > LOWER_IS_BETTER


# The schema


def valid(value: Any, rule: dict[str, Any], definitions: dict[str, Any]) -> bool:
    """As much of JSON Schema (2020-12) as the config's schema uses."""
    if "$ref" in rule:
        return valid(value, definitions[rule["$ref"].removeprefix("#/$defs/")], definitions)
    if "anyOf" in rule and not any(valid(value, choice, definitions) for choice in rule["anyOf"]):
        return False
    if ("enum" in rule and value not in rule["enum"]) or ("const" in rule and value != rule["const"]):
        return False
    number = isinstance(value, int | float) and not isinstance(value, bool)
    kinds = {"object": isinstance(value, dict), "array": isinstance(value, list), "string": isinstance(value, str)}
    kinds |= {"boolean": isinstance(value, bool), "null": value is None, "number": number}
    kinds["integer"] = number and value == int(value)
    if "type" in rule and not kinds[rule["type"]]:
        return False
    if number:
        return (
            rule.get("minimum", value) <= value <= rule.get("maximum", value)
            and not value <= rule.get("exclusiveMinimum", value - 1)
            and not value >= rule.get("exclusiveMaximum", value + 1)
        )
    if isinstance(value, list):
        if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
            return False
        first = rule.get("prefixItems", [])
        rules = [*first, *([rule.get("items", {})] * (len(value) - len(first)))]
        return all(valid(item, item_rule, definitions) for item, item_rule in zip(value, rules, strict=False))
    if isinstance(value, dict):
        known, other = rule.get("properties", {}), rule.get("additionalProperties", {})
        if not set(rule.get("required", ())) <= set(value) or (other is False and not set(value) <= set(known)):
            return False
        if not all(valid(key, rule.get("propertyNames", {}), definitions) for key in value):
            return False
        return all(valid(item, known.get(key, other or {}), definitions) for key, item in value.items())
    return True


@functools.cache
def whole_schema() -> dict[str, Any]:
    return schema()


def by_schema(text: str) -> bool:
    whole = whole_schema()
    plain = yaml.safe_load(text.replace("1e-3", "0.001"))  # PyYAML reads YAML 1.1
    return valid(plain, whole, whole["$defs"])


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"attention_size": 8}, {"attention": "luong-concat"}),
        ({"attention_heads": 8}, {"attention": "multi-head"}),
        ({"attention_positions": 50}, {"attention": "luong-location"}),
        ({"attention_window": 5}, {"attention_span": "local-p"}),
        ({"coverage_size": 20}, {"attention": "bahdanau", "coverage": "gru"}),
        ({"attention": "none", "encoder_dropout": 0.3}, {"attention": "luong-general"}),
        ({"dropout": 0.0, "variational_dropout": True}, {"embedding_dropout": 0.1}),
        ({"dropout": 0.0, "word_dropout": 0.1, "variational_dropout": True}, {"encoder_dropout": 0.1}),
    ],
)
def test_settings_of_the_model_that_do_nothing_are_told(settings: dict[str, Any], needed: dict[str, Any]) -> None:
    key = next(key for key in reversed(settings))
    (told,) = ModelConfig(**settings).idle_settings()
    assert f"model.{key}" in told
    assert not [*ModelConfig(**(settings | needed)).idle_settings()]


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"momentum": 0.9}, {"optimizer": "sgd"}),
        ({"optimizer": "sgd", "betas": (0.9, 0.99)}, {"optimizer": "adamw"}),
        ({"final_rate": 0.1}, {"schedule": "cosine"}),
        ({"schedule": "plateau", "schedule_steps": 50}, {"schedule": "linear"}),
        ({"plateau_factor": 0.25}, {"schedule": "plateau"}),
        ({"schedule": "cosine", "plateau_patience": 1}, {"schedule": "plateau"}),
    ],
)
def test_settings_of_the_training_that_do_nothing_are_told(settings: dict[str, Any], needed: dict[str, Any]) -> None:
    key = next(key for key in reversed(settings))
    (told,) = TrainingConfig(max_steps=9, **settings).idle_settings()
    assert f"training.{key}" in told
    assert not [*TrainingConfig(max_steps=9, **(settings | needed)).idle_settings()]


def test_the_schema_is_whole_and_plain_json() -> None:
    whole = schema()
    assert set(re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(whole))) == set(whole["$defs"])
    assert whole["$schema"].startswith("https://json-schema.org/")
    assert whole["title"] == "s2s config"


def test_the_schema_accepts_what_the_reader_accepts(tmp_path: Path) -> None:
    single = FULL.replace("    - {source: a.src, target: a.tgt}\n    - {tsv: b.tsv}", "    tsv: b.tsv")
    one_test = MINIMAL.replace("training:", "  test: {source: a, target: b}\ntraining:")
    for text in (MINIMAL, FULL, single, one_test, dump_config(read(tmp_path, FULL))):
        assert read(tmp_path, text)
        assert by_schema(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("beam: 4", "beem: 4"),
        ("beam: 4", "beam: 0"),
        ("beam: 4", "beam: 4.5"),
        ("beam: 4", "beam: many"),
        ("schedule: cosine", "schedule: cosinus"),
        ("metrics: [chrf, bleu]", "metrics: []"),
        ("metrics: [chrf, bleu]", "metrics: [rouge]"),
        ("{bleu: 30, chrf: 50.5}", "{rouge: 30}"),
        ("betas: [0.9, 0.99]", "betas: [0.9]"),
        ("    - {source: a.src, target: a.tgt}\n    - {tsv: b.tsv}", "    []"),
        ("    - {source: a.src, target: a.tgt}\n    - {tsv: b.tsv}", "    a.tsv"),
        ("validate_every: epoch", "validate_every: never"),
        ("evaluation:", "evaluations:"),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(tmp_path: Path, old: str, new: str) -> None:
    text = FULL.replace(old, new)
    assert text != FULL
    assert refusal(tmp_path, text)
    assert not by_schema(text)


# Robustness, and the configs that ship


PIECES = [
    *"[]{}:,-?&*!|>'\"%@`#~$\n\t\r\0\\ ",
    "\n  ",
    ": ",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    ".nan",
    "9" * 350,
    "${",
]
PIECES += ["${S2S_TEST_UNSET}", "é", "\x85", "\u2028", "\ufeff", "\\uD800", "!!int x", "[[]]", "{}", "<<: ", "data: "]


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice([0, 1, 5, 20]))
        text = text[:start] + rng.choice(["", rng.choice(PIECES), text[start:end] * 2]) + text[end:]
    words = re.findall(r"\w+", text)
    if words and rng.random() < 0.5:
        text = re.sub(rf"\b{rng.choice(words)}\b", rng.choice([*words, "x", "5", ".5"]), text, count=1)
    return text


def test_broken_configs_are_refused_or_read_and_nothing_else(tmp_path: Path) -> None:
    rng = random.Random(11)
    path = tmp_path / "config.yaml"
    read_back = refused = 0
    for number in range(250):
        data = mutated(FULL if number % 2 else MINIMAL, rng).encode()
        if number % 20 == 0:
            data = data.replace(rng.choice([b"a", b"e", b"\n"]), bytes([rng.randrange(128, 256)]), 1)
        path.write_bytes(data)
        began = time.process_time()
        try:
            config = load_config(path)
        except UserError as error:
            refused += 1
            assert str(path) in str(error), data
        else:
            read_back += 1
            assert isinstance(config, Config)
        assert time.process_time() - began < 1, data
    assert read_back > 10
    assert refused > 100


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_load_and_dump(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in set(re.findall(r"\$\{(\w+)\}", path.read_text(encoding="utf-8"))):
        monkeypatch.setenv(variable, str(tmp_path))
    config = load_config(path)
    assert same(config, comments=False)
    assert same(config, comments=True)
