"""Text in, text out: as many lines out as in whatever bytes they hold, early, and whatever stands beside them."""

from __future__ import annotations

import io
import os
import queue
import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s2s_cli.config import DecoderConfig, DecodingConfig, EncoderConfig, ModelConfig
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.device import share_threads
from s2s_cli.errors import RunFailed, S2SError, Stopped
from s2s_cli.model.seq2seq import Seq2Seq, build_model
from s2s_cli.packing import packed_by
from s2s_cli.translate import lines as lines_module
from s2s_cli.translate import translator as translator_module
from s2s_cli.translate.entry import MAX_LINE_BYTES, Entry
from s2s_cli.translate.lines import FIRST_WINDOW, LAST_WINDOW, WINDOW_BYTES, read_windows
from s2s_cli.translate.streams import translate_lines
from s2s_cli.translate.translator import Translator

MODEL = ModelConfig(
    encoder=EncoderConfig(cell="gru", hidden_size=8),
    decoder=DecoderConfig(cell="gru", hidden_size=16),
    embedding_size=12,
)
WAIT = 10.0  # seconds for another thread; far more than it needs


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Seq2Seq:
    """Untrained, and with an output layer so sharp that no two pieces are nearly equal."""
    torch.manual_seed(3)
    model = build_model(MODEL, tokenizer)
    with torch.no_grad():
        model.output.weight.mul_(6)
        model.output.bias.normal_()
    return model


@pytest.fixture
def make(model: Seq2Seq, tokenizer: Tokenizer) -> Callable[..., Translator]:
    """A translator; what is given goes into the decoding section."""

    def make(*, keep_attention: bool = False, **decoding: object) -> Translator:
        config = DecodingConfig.model_validate({"beam": 2, "max_length": 8, "max_source_length": 50, **decoding})
        return Translator(model, tokenizer, config, torch.device("cpu"), keep_attention=keep_attention)

    return make


@pytest.fixture
def stream(tmp_path: Path) -> Callable[[Translator, bytes], bytes]:
    """What a translator writes for some input."""

    def stream(translator: Translator, data: bytes) -> bytes:
        path, output = tmp_path / "input", io.BytesIO()
        path.write_bytes(data)
        with open(path, "rb") as file:
            translate_lines(translator, file, output)
        return output.getvalue()

    return stream


def sentences(count: int, seed: int = 1) -> list[str]:
    draw = random.Random(seed)
    return [
        "".join(draw.choice("abcdeinorstu   ") for _ in range(draw.randint(3, 25))).strip() + "a" for _ in range(count)
    ]


HOSTILE = {
    "plain": b"ab",
    "NUL": b"a\0b",
    "bad UTF-8": b"a\xff\xfeb \x80",
    "torn UTF-8": "aé".encode()[:-1],
    "overlong UTF-8": b"\xc0\xaf a",
    "surrogate": b"a \xed\xa0\x80 b",
    "CRLF": b"ab\r",
    "lone CR": b"ab\rcd",
    "CR alone": b"\r",
    "BOM inside": "a\ufeffb".encode(),
    "U+2028": "a\u2028b".encode(),
    "U+2029": "a\u2029b".encode(),
    "U+0085": "a\u0085b".encode(),
    "form feed": b"a\fb\vc\x1cd\x1de\x1ef",
    "control": b"a\x01\x1b[31mb\x7f",
    "blank": b"",
    "spaces": b"   \t ",
    "no-break space": "\u00a0\u3000".encode(),
    "emoji": "a 👩‍👩‍👧 b 🇨🇭".encode(),
    "RTL": "שלום \u202eab\u202c مرحبا".encode(),
    "combining": b"a" + "\u0301".encode() * 50,
    "zero width": "\u200b\u200d".encode(),
    "meta": "▁a▁ <s> </s> <unk> <pad> ⁇".encode(),
    "bars": b"a ||| b ||| -1.0",
    "unassigned": "\U000e0fff \uffff \ufffe".encode(),
}
BROKEN = {
    *("NUL", "bad UTF-8", "torn UTF-8", "overlong UTF-8", "surrogate", "lone CR", "U+2028", "U+2029"),
    *("U+0085", "form feed", "CRLF", "CR alone", "BOM inside"),
}


@pytest.mark.parametrize("ending", [b"\n", b""])
def test_hostile_lines_give_one_line_each(ending: bytes, make: Callable, stream: Callable) -> None:
    translator = make()
    output = stream(translator, b"\n".join(HOSTILE.values()) + ending)
    assert output.count(b"\n") == len(HOSTILE)
    text = output.decode("utf-8")  # strict
    # Nor does anyone else who reads it see more lines.
    assert len(text.splitlines()) == len(HOSTILE)
    assert translator.notices.lines == len(HOSTILE)
    assert translator.notices.repaired == len(BROKEN)
    assert translator.notices.cut == 0


@pytest.mark.parametrize("name", HOSTILE)
def test_each_hostile_line_is_one_line_and_counted(name: str, make: Callable, stream: Callable) -> None:
    translator = make()
    lines = stream(translator, b"ab\n" + HOSTILE[name] + b"\nba\n").decode("utf-8").split("\n")
    clean = [make().translate([line])[0][0].text for line in ("ab", "ba")]
    assert len(lines) == 4
    assert [lines[0], lines[2], lines[3]] == [*clean, ""]
    assert (translator.notices.lines, translator.notices.repaired) == (3, int(name in BROKEN))


def test_the_decoder_may_say_nothing_that_ends_a_line(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = make()
    monkeypatch.setattr(
        type(translator.tokenizer.target), "decode", lambda self, ids: "a\nb\rc\u2028d\u2029e\x85f\vg\fh\x1ci\x00j"
    )
    ((translation,),) = translator.translate(["ab"])
    assert translation.text == "a b c d e f g h i j"


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n\n", b"a", b"a\n", b"a\n\n", b"\n\na", b"\r\n\r\n", b"\0", b"\xff"])
def test_lines_are_counted_by_line_feeds(data: bytes, make: Callable, stream: Callable) -> None:
    expected = data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    assert stream(make(), data).count(b"\n") == expected


BYTES = st.binary(max_size=60).filter(lambda data: packed_by(data) is None)  # what is packed is refused


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BYTES)
def test_any_bytes_give_as_many_lines(make: Callable, stream: Callable, data: bytes) -> None:
    expected = data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    text = stream(make(beam=1), data).decode("utf-8")
    assert len(text.splitlines()) == text.count("\n") == expected


def test_blank_lines_stay_blank(make: Callable, stream: Callable) -> None:
    lines = stream(make(), b"\nab\n  \n\t\nba\n\r\n\n").split(b"\n")
    assert [bool(line) for line in lines] == [False, True, False, False, True, False, False, False]


def test_crlf_and_lf_input_give_the_same(make: Callable, stream: Callable) -> None:
    text = "\n".join(sentences(5)) + "\n"
    translator = make()
    assert stream(translator, text.replace("\n", "\r\n").encode()) == stream(make(), text.encode())
    assert translator.notices.repaired == 5


@pytest.mark.parametrize("given", [b"\xef\xbb\xbfabe\nin\n", b"abe\n\xef\xbb\xbfin\n", b"abe\nin\xef\xbb\xbf\n"])
def test_a_bom_is_no_text_wherever_files_were_joined(given: bytes, make: Callable, stream: Callable) -> None:
    translator = make()
    assert stream(translator, given) == stream(make(), b"abe\nin\n")
    assert translator.notices.repaired == 1


def test_a_replacement_character_that_was_given_is_not_broken(make: Callable, stream: Callable) -> None:
    translator = make()
    stream(translator, "a \ufffd b\n".encode())
    assert translator.notices.repaired == 0


def test_a_line_of_a_megabyte_and_more_is_cut_and_counted_once(make: Callable, stream: Callable) -> None:
    translator = make()
    long = b"ab " * ((MAX_LINE_BYTES + 500_000) // 3)
    output = stream(translator, b"ba\n" + long + b"\nba\n").split(b"\n")
    assert len(output) == 4
    assert output[0] == output[2] != b""
    assert translator.notices.cut == 1
    message, *_ = translator.notices.messages(translator.config)
    assert message.startswith("1 of 3 sources were longer")


def test_a_megabyte_of_broken_bytes_takes_no_time(make: Callable, stream: Callable) -> None:
    translator, began = make(beam=1), time.monotonic()
    output = stream(translator, b"\x80" * (MAX_LINE_BYTES + 9) + b"\nba\n").split(b"\n")
    assert len(output) == 3
    assert (translator.notices.cut, translator.notices.repaired) == (1, 1)
    assert time.monotonic() - began < 20


def test_translations_ended_at_the_limit_are_counted(make: Callable, stream: Callable) -> None:
    translator = make(max_length=1)
    stream(translator, b"ba\nab\n\nba\n")
    assert translator.notices.ended == 3
    assert translator.notices.messages(translator.config) == [
        "the translations of 3 of 4 sources were ended at 1 pieces (decoding.max_length)"
    ]


def test_translations_ended_by_the_ratio_are_counted_too(make: Callable, stream: Callable) -> None:
    translator = make(max_length=11, max_length_ratio=0.01, min_length=10)
    stream(translator, b"ba\nab\n\nba\n")
    assert (translator.notices.ended, translator.notices.ended_by_ratio) == (3, 0)
    translator = make(max_length=50, max_length_ratio=0.01, min_length=9)
    stream(translator, b"ba\nab\n\nba\n")
    assert (translator.notices.ended, translator.notices.ended_by_ratio) == (0, 3)
    assert translator.notices.messages(translator.config) == [
        "the translations of 3 of 4 sources were ended at what decoding.max_length_ratio (0.01) allows for their length"
    ]


def test_a_given_translation_is_not_called_ended(make: Callable) -> None:
    translator = make()
    translator.translate([Entry("ba", target=(4, 5))])
    assert (translator.notices.ended, translator.notices.ended_by_ratio) == (0, 0)


def test_a_line_cut_by_bytes_is_not_called_broken(
    make: Callable, stream: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 5)
    translator = make()
    stream(translator, "ééé\n".encode())  # the cut is inside the third
    assert (translator.notices.cut, translator.notices.repaired) == (1, 0)


def test_a_source_of_too_many_pieces_is_cut_and_each_such_line_counted(make: Callable, stream: Callable) -> None:
    translator = make(max_source_length=4)
    long, pieces = "a b c d e i n o", translator.tokenizer.source
    output = stream(translator, f"{long}\nab\n{long}\n".encode()).decode().split("\n")
    assert translator.notices.cut == 2
    assert output[0] == output[2]
    beginning = pieces.decode(pieces.encode([long])[0][:4])
    assert pieces.encode([beginning])[0] == pieces.encode([long])[0][:4]
    assert make().translate([beginning])[0][0].text == output[0]


def test_notices_are_silent_where_nothing_happened(make: Callable, stream: Callable) -> None:
    translator = make(beam=5, search="sampling", temperature=100, max_length=1000, max_length_ratio=300)
    stream(translator, b"ab\nba\n")
    assert translator.notices.messages(translator.config) == []
    stream(translator, b"a\0b\n")
    (message,) = translator.notices.messages(translator.config)
    assert message.startswith("1 of 3 lines held broken UTF-8")


@pytest.mark.parametrize("beam", [1, 3])
def test_output_depends_on_neither_batch_size_nor_order_nor_neighbours(beam: int, make: Callable) -> None:
    lines = sentences(30)
    texts = {size: [best.text for best, *_ in make(beam=beam, batch_size=size).translate(lines)] for size in (1, 4, 64)}
    assert texts[1] == texts[4] == texts[64]
    assert len(set(texts[1])) > 10
    order = random.Random(1).sample(range(len(lines)), len(lines))
    shuffled = make(beam=beam, batch_size=7).translate([lines[i] for i in order])
    assert [best.text for best, *_ in shuffled] == [texts[1][i] for i in order]
    assert [make(beam=beam).translate([line])[0][0].text for line in lines[:5]] == texts[1][:5]


@toy.needs_bf16
@pytest.mark.parametrize("beam", [1, 3])
def test_bf16_gives_what_fp32_gives(beam: int, make: Callable) -> None:
    """Nearly always, of a model whose pieces are not nearly equal; `make bench` measures it on a trained one."""
    lines = sentences(40)
    exact, rough = (make(beam=beam, precision=precision).translate(lines) for precision in ("fp32", "bf16"))
    same = [a[0].text == b[0].text for a, b in zip(exact, rough, strict=True)]
    assert sum(same) >= 38
    gaps = [abs(a[0].score - b[0].score) for a, b, equal in zip(exact, rough, same, strict=True) if equal]
    assert 0 < max(gaps) < 0.1


def test_duplicates_get_the_same_and_are_decoded_once(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    whole = translator_module.decode
    monkeypatch.setattr(
        translator_module, "decode", lambda *rest, **names: (decoded.extend(x := whole(*rest, **names)), x)[1]
    )
    found = make().translate(["ab", "", "ba", "ab", "ab", "", "ba"])
    assert len(decoded) == 2
    assert found[0] == found[3] == found[4]
    assert found[2] == found[6]
    assert found[1][0].text == ""


def test_no_lines_give_no_translations(make: Callable) -> None:
    assert make().translate([]) == []
    assert make().translate(["", " "])[1][0].text == ""


@pytest.mark.parametrize("n_best", [2, 5])
def test_n_best_gives_that_many_lines_for_each(n_best: int, make: Callable, stream: Callable) -> None:
    lines = ["abe in", "", "no ||| bar", "sa\u2028t", *sentences(100)]
    text = stream(make(beam=5, n_best=n_best, batch_size=9), "\n".join(lines).encode()).decode()
    rows = text.split("\n")
    assert rows.pop() == ""
    assert len(rows) == n_best * len(lines)
    for position, row in enumerate(rows):
        index, rest = row.split(" ||| ", 1)
        translation, score = rest.rsplit(" ||| ", 1)
        assert int(index) == position // n_best
        assert float(score) <= 0
        assert (translation == "") == (lines[int(index)] == "")
    scores = [float(row.rsplit(" ||| ", 1)[1]) for row in rows]
    for start in range(0, len(rows), n_best):
        group = scores[start : start + n_best]
        assert group == sorted(group, reverse=True)


def test_the_first_of_the_n_best_is_the_translation(make: Callable) -> None:
    lines = sentences(10)
    several = make(beam=4, n_best=3).translate(lines)
    assert all(len(group) == 3 for group in several)
    assert [len({translation.score for translation in group}) for group in several] == [3] * 10


def test_there_are_n_best_lines_even_where_search_finds_fewer(make: Callable, stream: Callable) -> None:
    """With one piece at most, the end of sentence is all that there is to find."""
    rows = stream(make(beam=4, n_best=4, max_length=1), b"ab\nba\n").decode().split("\n")
    assert [row.split(" ||| ")[0] for row in rows[:-1]] == ["0"] * 4 + ["1"] * 4


def test_attention_lies_between_the_pieces_of_both_sides(make: Callable, tokenizer: Tokenizer) -> None:
    eos = tokenizer.source.pieces([tokenizer.source.specials.eos])[0]
    lines = ["abe in ortu", "a", "sun ton in abc de"]
    for line, (translation,) in zip(lines, make(keep_attention=True).translate(lines), strict=True):
        assert translation.source_pieces == (*tokenizer.source.pieces(tokenizer.source.encode([line])[0]), eos)
        assert translation.target_pieces[-1] == eos
        assert translation.attention is not None
        assert translation.attention.shape == (len(translation.target_pieces), len(translation.source_pieces))
        torch.testing.assert_close(translation.attention.sum(1), torch.ones(len(translation.target_pieces)))


def test_limits_are_each_sentence_own(make: Callable, model: Seq2Seq, tokenizer: Tokenizer) -> None:
    """A model that never wants to end goes on to each limit: the source's pieces times the ratio, plus ten."""
    lines = ["ab", "abe in ortu sun", "ta"]
    bias = model.output.bias.data
    kept = bias.clone()
    try:
        bias[tokenizer.target.specials.eos] = -1e4
        found = make(beam=1, max_length=40, max_length_ratio=1.5, keep_attention=True).translate(lines)
    finally:
        bias.copy_(kept)
    lengths = [len(ids) for ids in tokenizer.source.encode(lines)]
    assert [len(group[0].target_pieces) for group in found] == [min(40, int(1.5 * length) + 10) for length in lengths]


@pytest.mark.parametrize("allowed", [False, True])
def test_the_unknown_piece_stands_in_a_translation_only_where_allowed(
    allowed: bool, make: Callable, model: Seq2Seq, tokenizer: Tokenizer
) -> None:
    unk = tokenizer.target.specials.unk
    bias = model.output.bias.data
    kept = bias.clone()
    try:
        bias[unk] = 1e4
        ((found,),) = make(beam=2, allow_unknown=allowed, keep_attention=True).translate(["abe in"])
    finally:
        bias.copy_(kept)
    assert (tokenizer.target.pieces([unk])[0] in found.target_pieces) == allowed


@pytest.mark.parametrize("piece", ["pad", "bos"])
def test_pieces_that_are_no_text_never_stand_in_a_translation(
    piece: str, make: Callable, model: Seq2Seq, tokenizer: Tokenizer
) -> None:
    special = getattr(tokenizer.target.specials, piece)
    bias = model.output.bias.data
    kept = bias.clone()
    try:
        bias[special] = 1e4
        ((found,),) = make(beam=2, keep_attention=True).translate(["abe in"])
    finally:
        bias.copy_(kept)
    assert tokenizer.target.pieces([special])[0] not in found.target_pieces


@pytest.mark.parametrize("training", [False, True])
def test_translating_leaves_the_mode_of_the_model_and_uses_no_dropout(
    training: bool, make: Callable, model: Seq2Seq
) -> None:
    model.train(training)
    lines = sentences(3)
    before = torch.get_rng_state()
    first, second = make().translate(lines), make().translate(lines)
    assert first == second
    assert model.training == training
    assert torch.equal(torch.get_rng_state(), before)
    model.eval()


def test_between_batches_a_stop_goes_through(make: Callable, model: Seq2Seq) -> None:
    translator, calls = make(batch_size=2), []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Stopped("stopped", 15)

    translator.between_batches = stop
    model.train()
    with pytest.raises(Stopped):
        translator.translate(sentences(20))
    assert model.training
    model.eval()


@pytest.mark.parametrize("beam", [1, 2])
def test_a_model_that_gives_no_numbers_ends_with_a_clear_error(
    beam: int, make: Callable, model: Seq2Seq, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, step = [], model.step

    def counted(*arguments: object) -> object:
        steps.append(1)
        assert len(steps) < 100, "decoding goes on for ever"
        return step(*arguments)

    monkeypatch.setattr(model, "step", counted)
    kept = model.output.bias.data.clone()
    model.output.bias.data.fill_(float("nan"))
    try:
        with pytest.raises(S2SError):
            make(beam=beam).translate(["ab", "ba"])
    finally:
        model.output.bias.data.copy_(kept)


# --- windows


class Pipe:
    """A pipe whose windows another thread reads."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        self.windows: queue.Queue[list[bytes] | None] = queue.Queue()
        self.source = os.fdopen(reading, "rb")
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        for window in read_windows(self.source):
            self.windows.put(window)
        self.windows.put(None)

    def write(self, data: bytes) -> None:
        os.write(self.writing, data)

    def close(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
        self.writing = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()
    pipe.thread.join(WAIT)
    pipe.source.close()


def test_lines_come_out_when_the_input_pauses(pipe: Pipe) -> None:
    pipe.write(b"one\n")
    assert pipe.windows.get(timeout=WAIT) == [b"one"]
    pipe.write(b"two\nthree\nfo")
    assert pipe.windows.get(timeout=WAIT) == [b"two", b"three"]
    pipe.write(b"ur\n")
    assert pipe.windows.get(timeout=WAIT) == [b"four"]
    pipe.write(b"no end")
    pipe.close()
    assert pipe.windows.get(timeout=WAIT) == [b"no end"]
    assert pipe.windows.get(timeout=WAIT) is None


def test_a_line_without_its_end_waits(pipe: Pipe) -> None:
    pipe.write(b"half a li")
    with pytest.raises(queue.Empty):
        pipe.windows.get(timeout=0.15)
    pipe.write(b"ne\n")
    assert pipe.windows.get(timeout=WAIT) == [b"half a line"]


def test_translations_come_out_before_the_input_ends(make: Callable) -> None:
    reading, writing = os.pipe()
    out_reading, out_writing = os.pipe()
    source, output = os.fdopen(reading, "rb"), os.fdopen(out_writing, "wb")
    translator = make()
    thread = threading.Thread(target=translate_lines, args=(translator, source, output), daemon=True)
    thread.start()
    with os.fdopen(out_reading, "rb") as found:
        for line in ("abe in", "", "ton"):
            os.write(writing, f"{line}\n".encode())
            assert found.readline() == f"{make().translate([line])[0][0].text}\n".encode()
        os.close(writing)
        thread.join(WAIT)
        source.close()
        output.close()
        assert found.read() == b""


def windows_of(path: Path, data: bytes) -> list[list[bytes]]:
    path.write_bytes(data)
    with open(path, "rb") as file:
        return list(read_windows(file))


def test_windows_grow_and_are_bounded(tmp_path: Path) -> None:
    windows = windows_of(tmp_path / "many", b"a\n" * 70_000)
    sizes = [len(window) for window in windows]
    assert sum(sizes) == 70_000
    assert sizes[0] == FIRST_WINDOW
    assert max(sizes) == LAST_WINDOW
    growing = sizes[: sizes.index(LAST_WINDOW)]
    assert growing == [FIRST_WINDOW * 2**i for i in range(len(growing))]
    assert sizes.count(LAST_WINDOW) >= 70_000 // LAST_WINDOW - 5


def test_windows_of_long_lines_are_bounded_in_bytes(tmp_path: Path) -> None:
    line = b"x" * (MAX_LINE_BYTES // 2)
    windows = windows_of(tmp_path / "long", (line + b"\n") * 30)
    assert [found for window in windows for found in window] == [line] * 30
    assert max(sum(map(len, window)) for window in windows) < WINDOW_BYTES + 2 * len(line)


def expected_lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.binary(max_size=30) | st.just(b"\n") | st.just(b"\n" * 70) | st.just(b"ab\r\n"), max_size=20),
    chunk=st.integers(1, 40),
)
def test_windows_put_together_are_the_lines(tmp_path: Path, pieces: list[bytes], chunk: int) -> None:
    data = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "READ_BYTES", chunk)
        patch.setattr(lines_module, "FIRST_WINDOW", 2)
        patch.setattr(lines_module, "LAST_WINDOW", 8)
        windows = windows_of(tmp_path / "data", data)
    assert [line for window in windows for line in window] == expected_lines(data)
    assert all(1 <= len(window) <= 8 for window in windows)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(0, 40), max_size=10), chunk=st.integers(1, 15))
def test_long_lines_keep_their_beginning_and_do_not_disturb_the_next(
    tmp_path: Path, lengths: list[int], chunk: int
) -> None:
    lines = [bytes([97 + i]) * length for i, length in enumerate(lengths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "READ_BYTES", chunk)
        patch.setattr(lines_module, "MAX_LINE_BYTES", 20)
        found = [
            line
            for window in windows_of(tmp_path / "data", b"".join(b"%b\n" % line for line in lines))
            for line in window
        ]
    assert len(found) == len(lines)
    for line, original in zip(found, lines, strict=True):
        assert original.startswith(line)
        assert line[:20] == original[:20]
        assert (len(line) > 20) == (len(original) > 20)


@pytest.mark.parametrize("ending", [b"", b"\nnext\n"])
def test_memory_is_bounded_however_long_a_line_is(
    ending: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * 20_000_000 + ending)
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 200_000)
    with open(path, "rb") as file:
        tracemalloc.start()
        lines = [line for window in read_windows(file) for line in window]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1_500_000
    assert [len(line) for line in lines] == [200_001, 4][: len(lines)]
    assert len(lines) == 1 + (ending != b"")


# Workers, and what is computed ahead


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("table", [0, 1 << 28])
def test_neither_workers_nor_a_table_of_inputs_change_a_translation(
    workers: int, table: int, make: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [*sentences(60), *(line[:6] for line in sentences(20, seed=2))]
    monkeypatch.setattr(translator_module, "MOST_WORKERS", 1)
    monkeypatch.setattr(translator_module, "TABLE_BYTES", 0)
    expected = make(keep_attention=True).translate(lines)
    monkeypatch.setattr(translator_module, "MOST_WORKERS", workers)
    monkeypatch.setattr(translator_module, "WORKER_SENTENCES", 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(translator_module, "TABLE_BYTES", table)
    translator = make(keep_attention=True, batch_size=7)
    found = translator.translate(lines)
    assert (translator._ready.table_VG is not None) == bool(table)
    for mine, theirs in zip(found, expected, strict=True):
        assert [each.text for each in mine] == [each.text for each in theirs]
        assert mine[0].score == pytest.approx(theirs[0].score, abs=1e-4)
        torch.testing.assert_close(mine[0].attention, theirs[0].attention, atol=1e-4, rtol=1e-4)


def test_few_lines_need_no_table_and_no_workers(make: Callable) -> None:
    translator = make()
    translator.translate(["ab"])
    assert translator._ready.table_VG is None
    assert translator._workers(1) == translator._workers(31) == 1


def test_threads_are_given_back_after_work_and_after_a_fault() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        stop = threading.Event()
        assert share_threads(lambda item: (item, torch.get_num_threads()), [1, 2], stop) == [(1, 1), (2, 1)]
        assert not stop.is_set()
        assert torch.get_num_threads() == 2

        for bad in (1, 2):
            stop.clear()

            def fail(item: int, bad: int = bad) -> None:
                if item == bad:
                    raise KeyError(item)
                assert stop.wait(WAIT)  # the other one hears of it

            with pytest.raises(KeyError):
                share_threads(fail, [1, 2], stop)
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_a_stop_reaches_the_workers(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translator_module, "WORKER_SENTENCES", 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    translator = make(batch_size=7)

    def stop() -> None:
        raise Stopped("enough", 2)

    translator.between_batches = stop
    with pytest.raises(Stopped):
        translator.translate(sentences(40))


# Memory


@pytest.mark.parametrize(("keys", "word"), [({"beam": 2}, "beam"), ({"search": "sampling", "samples": 2}, "samples")])
def test_full_memory_says_what_to_lower(
    keys: dict[str, object], word: str, model: Seq2Seq, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(model, "step", step)
    config = DecodingConfig.model_validate({"max_length": 8, **keys})
    with pytest.raises(RunFailed, match=rf"batch_size or decoding\.{word}"):
        Translator(model, tokenizer, config, torch.device("cpu")).translate(["ab"])
