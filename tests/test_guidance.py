"""What a user wants in translations or not: promises over a random model, the words of a source, the real command."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import toy

from s2s_cli.config import DecoderConfig, DecodingConfig, EncoderConfig, ModelConfig, TokenizerConfig
from s2s_cli.data.spelling import Spelling, Surface, source_words, stands
from s2s_cli.data.tokenizer import Tokenizer, Vocabulary, train_vocabulary
from s2s_cli.data.words import words_of
from s2s_cli.errors import UserError
from s2s_cli.model.seq2seq import build_model
from s2s_cli.search.constraints import Forced
from s2s_cli.search.rules import MinimumLength, NoRepeatedNgrams, RepetitionPenalty
from s2s_cli.search.wording import Forbidden, Prefix
from s2s_cli.translate import guidance
from s2s_cli.translate.alignment import align
from s2s_cli.translate.entry import Entry
from s2s_cli.translate.translator import Translator
from s2s_cli.translate.wishes import KINDS, MOST_SEARCHED, Term, Wishes, patterns, read_terms

WORDS = ["abe", "in", "ortu", "sun", "ton", "abc", "de", "rust", "nord", "a"]
KINDS_OF_TOKENIZER = {
    "unigram": {"vocab_size": 60},
    "bytes": {"vocab_size": 300, "byte_fallback": True},
    "word": {"type": "word", "vocab_size": 40},
    "folded": {"vocab_size": 60, "normalization": "nmt_nfkc_cf"},
}


@pytest.fixture(scope="module", params=KINDS_OF_TOKENIZER)
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    draw = random.Random(7)
    made = ["".join(draw.choice("abcdeinorstu") for _ in range(draw.randint(2, 6))) for _ in range(60)]
    lines = [" ".join(draw.choices(made + WORDS, k=draw.randint(3, 8))) for _ in range(200)]
    return train_vocabulary(lines, TokenizerConfig(**KINDS_OF_TOKENIZER[request.param]), "shared")


@pytest.fixture(scope="module")
def make(vocabulary: Vocabulary) -> Callable[..., Translator]:
    """A random model's translator."""
    torch.manual_seed(3)
    tokenizer = Tokenizer(vocabulary, vocabulary)
    sizes = {"encoder": EncoderConfig(cell="gru", hidden_size=8), "decoder": DecoderConfig(cell="gru", hidden_size=16)}
    model = build_model(ModelConfig(**sizes, embedding_size=12), tokenizer)
    with torch.no_grad():
        model.output.weight.mul_(6)
        model.output.bias.normal_()

    def make(wishes: Wishes | None = None, **decoding: object) -> Translator:
        config = DecodingConfig.model_validate({"beam": 2, "max_length": 12, **decoding})
        translator = Translator(model, tokenizer, config, torch.device("cpu"))
        translator.wish(wishes or Wishes())
        return translator

    return make


def test_spelled_text_is_decoded_text(vocabulary: Vocabulary) -> None:
    draw = random.Random(1)
    for _ in range(300):
        ids = [draw.randrange(len(vocabulary)) for _ in range(draw.randint(0, 9))]
        whole = vocabulary.decode(ids)
        text, spans = vocabulary.spelling.spoken(ids)
        assert text == whole or "\ufffd" in whole or len(whole.split()) != len(whole.split(" "))
        if text == whole and "\ufffd" not in text:
            assert words_of(text, spans) == words_of(*vocabulary.spoken(ids))


def test_surfaces_stand_for_pieces() -> None:
    words = Spelling([b"", b" a", b"b", b" \xe2\x81\x87 ", b"\xc3", b"\xa9"], 3)
    assert words.spoken([1, 3, 2], [Surface(1, 2, "X")]) == ("a X b", [(0, 1), (2, 3), (4, 5)])
    assert words.spoken([3, 1], [Surface(0, 1, "X")]) == ("X a", [(0, 1), (1, 3)])
    assert words.spoken([1, 1, 2], [Surface(0, 1, "  Q", apart=False)]) == ("  Q ab", [(0, 3), (3, 5), (5, 6)])
    assert words.spoken([1, 3, 2, 1], [Surface(1, 3, "X Y")]) == ("a X Y a", [(0, 1), (2, 5), (2, 5), (5, 7)])
    assert words.spoken([1, 4, 5, 4]) == ("aé\ufffd", [(0, 1), (1, 2), (1, 2), (2, 3)])


@pytest.mark.parametrize("block", range(4))
def test_promises_are_kept(block: int, make: Callable[..., Translator]) -> None:
    """Prefixes, forced and forbidden words, kept spans; one line alone gives what many together give."""
    for seed in range(block * 6, block * 6 + 6):
        draw = random.Random(seed)
        strange = ["☃ Ünï", "Haus", "12,5", "東京", "ABE", "a.b", "x-y"]
        entries = []
        for _ in range(8):
            source = " ".join(
                draw.choices([*WORDS, "http://x.org/Ä?q=1", "12,5", "ab@c.de", "<b>"], k=draw.randint(1, 6))
            )
            force = tuple({draw.choice(WORDS + strange) for _ in range(draw.randint(0, 2))})
            banned = {draw.choice([*WORDS, "in abe", "e", "sun ton"]) for _ in range(draw.randint(0, 2))}
            prefix = draw.choice(["", "", "abe i", "Ünï ☃ ton a", "in ", "  sun", "東"])
            asked = (*force, prefix, *source.split())
            forbid = tuple(one for one in sorted(banned) if not any(stands(one, text) for text in asked))
            entries.append(Entry(source, prefix=prefix, force=force, forbid=forbid))
        wishes = Wishes(keep=patterns(sorted(KINDS), []))
        changes = {"beam": draw.randint(1, 5), "n_best": 1}
        together = make(wishes, **changes, batch_size=draw.randint(1, 9)).translate(entries)
        alone = [make(wishes, **changes).translate([entry])[0] for entry in entries]
        for entry, (found, *_), (other, *_) in zip(entries, together, alone, strict=True):
            assert found.text == other.text
            assert found.text.startswith(entry.prefix), (seed, entry, found.text)
            for text in entry.force:
                assert stands(text, found.text), (seed, entry, found.text)
            for text in wishes.kept(str(entry.source)):
                assert found.text.count(text) >= wishes.kept(str(entry.source)).count(text), (seed, entry, found.text)
            for text in entry.forbid:
                assert not stands(text, found.text), (seed, entry, found.text)


def test_kept_tags_stand_in_the_order_of_the_source(make: Callable[..., Translator]) -> None:
    tags = ["<b>", "</b>", "<i>", "</i>", "<br/>", "<a href='☃'>", "</a>", "<東>"]
    wishes = Wishes(keep=patterns(sorted(KINDS), []))
    for seed in range(10):
        draw = random.Random(seed)
        sources = ["".join(draw.choices([*tags, *tags, "abe ", " in", " 12 "], k=draw.randint(2, 8))) for _ in range(8)]
        entries = [Entry(source, force=("sun ton",) * (seed % 2), prefix="de" * (seed % 3)) for source in sources]
        for entry, (found, *_) in zip(entries, make(wishes, beam=draw.randint(1, 4)).translate(entries), strict=True):
            at = 0
            for tag in (span for span in wishes.kept(str(entry.source)) if span in tags):
                at = found.text.find(tag, at) + len(tag)
                assert at >= len(tag), (entry, found.text)


@pytest.mark.parametrize("block", range(3))
def test_the_targets_of_terms_in_a_file_stand_in_the_translation(
    block: int, make: Callable[..., Translator], tmp_path: Path
) -> None:
    """As they are called by words of the source, in whatever capitals."""
    called = 0
    for seed in range(block * 5, block * 5 + 5):
        draw = random.Random(seed)
        targets = [*WORDS, "sun ton", "☃ Ünï", "Haus", "12,5", "東京", "in-ab"]
        terms = {source: draw.choice(targets) for source in draw.sample([*WORDS, "Österreich", "x y"], 6)}
        (tmp_path / "terms").write_text("".join(f"{source}\t{target}\n" for source, target in terms.items()))
        translator = make(Wishes(terms=read_terms(tmp_path / "terms")), beam=draw.randint(1, 4))
        sources = [draw.choices([*WORDS, "Österreich", "x y", "rusty", "z"], k=draw.randint(1, 4)) for _ in range(8)]
        cased = [[draw.choice([str.upper, str.title, str])(word) for word in words] for words in sources]
        found = translator.translate([" ".join(words) for words in cased])
        for words, (best, *_) in zip(sources, found, strict=True):
            wanted = [terms[word] for word in words if word in terms]
            assert all(stands(target, best.text) for target in wanted), (seed, words, terms, best.text)
            called += len(wanted)
    assert called > 30


def test_the_source_word_that_attention_looks_at_most_is_copied(make: Callable[..., Translator]) -> None:
    """Without the punctuation around it, once for each unknown piece, and other pieces as they are."""
    translator = make(Wishes(copy_unknown=True), beam=1, allow_unknown=True)
    translator.look("--attention")
    source, target = translator.tokenizer.source, translator.tokenizer.target
    sources = [" ".join(random.Random(seed).sample([*WORDS, "(Zürich),", "Ünï!"], 4)) for seed in range(30)]
    forbidding = make(Wishes(copy_unknown=True, forbid=("Zürich",)), beam=1, allow_unknown=True)
    bias = translator.model.output.bias
    with torch.no_grad():
        before = bias.clone()
        bias[target.specials.unk] += 12
        translations = translator.translate(sources)
        free = forbidding.translate(sources)
        bias.copy_(before)  # others share the model
    assert any("Zürich" in found.text for (found,) in translations)
    assert not any("Zürich" in found.text for (found,) in free)
    assert any("Ünï" in found.text for (found,) in free)
    copied = 0
    for text, (found,) in zip(sources, translations, strict=True):
        assert found.attention is not None
        words = text.split()
        expected: list[Surface] = []
        for at, piece in enumerate(found.ids):
            if piece == target.specials.unk:
                looked = max(range(len(source.encode([text])[0])), key=found.attention[at].tolist().__getitem__)
                word = " ".join(words[number] for number in found.source_words[looked])  # a piece may hold several
                expected.append(Surface(at, at + 1, word.strip("(),!")))
        assert found.text == target.spelling.text(found.ids, expected)
        copied += len(expected)
    assert copied


@pytest.mark.parametrize("beam", [1, 4])
def test_forced_words_count_in_the_least_length(beam: int, make: Callable[..., Translator]) -> None:
    """The limit leaves room for whichever is more, and no more than that."""
    entries = [Entry(source, prefix="de", force=("sun ton", "abe"), forbid=("in",)) for source in WORDS]
    for least in (2, 16, 25):
        translator = make(beam=beam, min_length=least, max_length=40, max_length_ratio=0.1)
        for (found,) in translator.translate(entries):
            assert found.text.startswith("de") and stands("sun ton", found.text) and stands("abe", found.text)
            assert found.length == least + 1 or (least == 2 and found.length > 4)


def test_alignments_count_the_words_that_are_written(make: Callable[..., Translator]) -> None:
    draw = random.Random(4)
    kept = ["http://x.org/Ä?q=1", "12,5", "<b i>", "☃Ü"]
    entries = []
    for _ in range(40):
        source = " ".join(draw.choices([*WORDS, *kept], k=draw.randint(1, 6)))
        force = (draw.choice(["☃ Ünï ☃", "東京", "x - y", "abe"]),) if draw.random() < 0.5 else ()
        entries.append(Entry(source, force=force, prefix=draw.choice(["", "Ünï ☃ ton a"])))
    wishes = Wishes(keep=patterns(sorted(KINDS), []), copy_unknown=True)
    translator = make(wishes, allow_unknown=True)
    translator.look("--alignments")
    for (found,) in translator.translate(entries):
        assert [word for _, word in align(found)] == list(range(len(found.text.split()))), found.text


def test_nothing_asked_changes_nothing(make: Callable[..., Translator]) -> None:
    lines = [" ".join(random.Random(seed).choices(WORDS, k=4)) for seed in range(10)]
    for beam in (1, 4):
        free = make(beam=beam).translate(lines)
        neighbours = make(beam=beam).translate([*lines, Entry("abe in", force=("sun ton",))])
        assert [one[0].text for one in neighbours[:-1]] == [one[0].text for one in free]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Entry("a", force=("sun ton",), forbid=("ton",)), "'ton' in it is forbidden"),
        (Entry("a", prefix="abe in de", forbid=("in",)), "the prefix 'abe in de' holds 'in'"),
        (Entry("a", force=(" ",)), "blank"),
        (Entry("a", forbid=("",)), "blank"),
        (Entry("a", force=tuple(f"ab{number}" for number in range(600))), "500 are allowed"),
    ],
)
def test_contradictions_are_refused(entry: Entry, words: str, make: Callable[..., Translator]) -> None:
    with pytest.raises(UserError, match=words):
        make().translate(["abe", entry])


def test_terms_the_longest_first_as_words() -> None:
    terms = (
        Term("new york", "NY"),
        Term("york", "Y"),
        Term("New York City", "NYC"),
        Term("USA", "US"),
        Term("ab", "x"),
    )
    wishes = Wishes(terms=terms)
    assert wishes.called("In New york and Yorks, York.") == ["NY", "Y"]
    assert wishes.called("new york city, New York City") == ["NY", "NYC"]
    assert wishes.called("usa") == [] and wishes.called("the USA's") == ["US"]
    assert wishes.called("abc cab ab ab") == ["x"]
    assert Wishes(terms=terms, keep=patterns([], ["<.*?>"])).called("<ab> ab") == ["x"]
    assert Wishes(terms=terms, keep=patterns([], ["<.*?>"])).called("<ab>") == []
    assert Wishes(terms=(Term("Boeing 747", "B"),), keep=patterns(["numbers"], [])).called("a Boeing 747") == ["B"]
    assert wishes.called("a new\u00a0york") == ["NY"], "a no-break space is a space"


def test_what_stands_behind_the_part_that_is_read_asks_for_nothing(make: Callable[..., Translator]) -> None:
    wishes = Wishes(terms=(Term("rust", "Haus"),), keep=patterns(["numbers"], []))
    source = f"rust 12,5 {'abe in ' * 20} rust 77"
    ((whole,),) = make(wishes, max_length=60).translate([source])
    assert whole.text.count("Haus") >= 1 and stands("12,5", whole.text) and stands("77", whole.text)
    ((cut,),) = make(wishes, max_length=60, max_source_length=30).translate([source])
    assert stands("Haus", cut.text) and stands("12,5", cut.text) and not stands("77", cut.text)
    assert wishes.kept(source, 6) == wishes.called(source, 3) == [], "nor what is cut in its midst"
    assert wishes.kept(source, 9) == ["12,5"] and wishes.called(source, 4) == ["Haus"]


@pytest.mark.parametrize("prefix", [" sun", "  sun", " a", " "])
def test_a_prefix_that_begins_with_a_space_keeps_it(prefix: str, make: Callable[..., Translator]) -> None:
    ((found,),) = make().translate([Entry("abe in", prefix=prefix)])
    assert found.text.startswith(prefix) or not prefix.strip()


def test_what_is_forbidden_is_prepared_once(make: Callable[..., Translator], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, ...]] = []

    class Counted(Forbidden):
        def __init__(self, phrases: tuple[str, ...], spelling: Spelling) -> None:
            made.append(phrases)
            super().__init__(phrases, spelling)

    monkeypatch.setattr(guidance, "Forbidden", Counted)
    monkeypatch.setattr(guidance, "MOST_PREPARED", 2)
    translator = make()
    for number in range(3):
        translator.translate([Entry(f"abe {'in ' * number}", forbid=("sun ton",))])
    assert made == [("sun ton",)]
    translator.translate([Entry("abe", forbid=(word,)) for word in WORDS[:4]])
    assert len(translator._guide._forbidden) <= 2


def test_controls_stand_in_the_order_that_is_documented(make: Callable[..., Translator]) -> None:
    """An earlier one goes before a later one."""
    translator = make(min_length=3, no_repeat_ngram=2, repetition_penalty=1.5)
    translator.translate(["abe"])
    found = translator._guide.guidance(Entry("abe", prefix="de", force=("sun",), forbid=("in",)), [5, 6])
    order = [Prefix, Forbidden, Forced, MinimumLength, NoRepeatedNgrams, RepetitionPenalty]
    assert [type(control) for control in found.controls] == order


def test_kinds_of_spans() -> None:
    text = "See https://a.b/c?d=1. Or www.x.org, mail a.b@c-d.org: 1,234.5 or 7% of 3rd <b>x</b> v1.2."
    kept = Wishes(keep=patterns(sorted(KINDS), [])).kept(text)
    assert kept == ["https://a.b/c?d=1", "www.x.org", "a.b@c-d.org", "1,234.5", "7", "<b>", "</b>"]


@pytest.mark.parametrize(
    ("kind", "text", "kept"),
    [
        ("urls", "https://en.wikipedia.org/wiki/Foo_(bar).", "https://en.wikipedia.org/wiki/Foo_(bar)"),
        ("urls", "(https://a.b/Foo_(bar)), (see http://a.b/c)!", "https://a.b/Foo_(bar) http://a.b/c"),
        ("urls", "www.x.org/(a(b)c)/d, http://a.b/f(oo and", "www.x.org/(a(b)c)/d http://a.b/f(oo"),
        ("urls", "HTTP://A.B/C, Www.x.org", "HTTP://A.B/C Www.x.org"),
        ("urls", "看http://x.org/a，（http://y.z/）。http:// www.", "http://x.org/a http://y.z/"),
        ("numbers", "2024-01-02 1/2 10:30 1,000.50 1'000", "2024-01-02 1/2 10:30 1,000.50 1'000"),
        ("numbers", "1\u202f000 3–5", "1\u202f000 3 5"),
        ("numbers", "-3 +5 (−7) $-8 .5 1.5e-3", "-3 +5 −7 -8 .5 1.5e-3"),
        ("numbers", "3.14% $5, No.6 wait...7. 24-hour 4/day", "3.14 5 6 7 24 4"),
        ("numbers", "COVID-19, x-7, 10%-20%", "19 7 10 20"),
        ("numbers", "价格是500元, 2024年1月5日", "500 2024 1 5"),
        ("emails", "请联系info@x.org谢谢 メールはö@x.orgまで", "info@x.org ö@x.org"),
        ("numbers", "1.5kg 2,000m 10:30am 10-20kg 3rd 1990s v1.2 5² 1_000 0x1F 2024-01-02T10:30:15Z", ""),
        ("tags", "copy <b>a</b> c <br/> 1 < 2 > 1", "<b> </b> <br/>"),
    ],
)
def test_what_is_kept_is_whole(kind: str, text: str, kept: str) -> None:
    assert Wishes(keep=patterns([kind], [])).kept(text) == kept.split(" ") * bool(kept)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_is_whole_where_the_search_ends(kind: str) -> None:
    span = {"urls": "www.x.org", "emails": "a@b.org", "numbers": "12.50", "tags": "<b>"}[kind]
    wishes = Wishes(keep=patterns([kind], []))
    for before in range(MOST_SEARCHED - len(span) - 2, MOST_SEARCHED + 2):
        found = [span] * (before + len(span) <= MOST_SEARCHED)
        assert wishes.kept(" " * before + span) == wishes.kept(" " * before + f"{span} a") == found
    assert wishes.kept(f"{span} {'東' * MOST_SEARCHED}") == [span]


@pytest.mark.parametrize(
    ("kind", "given", "words"), [("url", "a", "did you mean 'urls'"), ("urls", "(", "regular"), ("urls", "a*", "empty")]
)
def test_bad_patterns_are_refused(kind: str, given: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        patterns([kind], [given])


def test_damaged_terminology_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "terms.tsv"
    path.write_text("# comment\n\nabe\tX  y\nUSA\tus\n")
    assert read_terms(path) == (Term("abe", "X y"), Term("USA", "us"))
    for line in ("abe", "abe\t", "\tx", "a\tb\tc", "Abe\tZ"):
        path.write_text(f"abe\tX\n\n{line}\n")
        with pytest.raises(UserError, match="line 3"):
            read_terms(path)


def test_terminology_of_several_files_holds_good_together(tmp_path: Path) -> None:
    one, two, other = tmp_path / "one", tmp_path / "two", tmp_path / "other"
    one.write_text("abe\tX\nUSA\tus\n")
    two.write_text("in\tY\n# again\nAbe\tX\n")
    other.write_text("\nAbe\tZ\n")
    assert read_terms() == ()
    assert read_terms(one, two) == (Term("abe", "X"), Term("USA", "us"), Term("in", "Y"))
    with pytest.raises(UserError, match=f"{other}: line 2 calls 'Abe' 'Z', but line 1 of {one} 'X': keep one"):
        read_terms(one, two, other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  (Ünï), a", {"a", "Ünï"}),
        ("☃ a “...”", {"☃", "a", "“...”"}),
        ("ab\u200bin ½ a", {"ab\u200bin", "½", "a"}),  # normalization parts the one, and writes the other with three
        ("ＡＢ ab", {"ＡＢ", "ab"}),
        (" abe ", {"abe"}),
    ],
)
def test_words_of_a_source_are_those_that_were_given(text: str, words: set[str], vocabulary: Vocabulary) -> None:
    found = source_words(text, vocabulary.spans(text))
    assert {one for several in found for one in several.split()} == words
    assert len(found) == len(vocabulary.encode([text])[0])
    numbered = vocabulary.words(text, vocabulary.encode([text])[0])[:-1]
    for copied, held in zip(found, numbered, strict=True):
        assert copied in " ".join(text.split()[word] for word in held)


def test_of_a_script_without_spaces_a_piece_is_what_it_stands_for() -> None:
    assert source_words("東京に ab", [(0, 0), (0, 2), (2, 3), (3, 5), (5, 6)]) == ["東京", "東京", "に", "ab", "ab"]
    assert source_words("東京", [(0, 0), (0, 0), (0, 1), (1, 1), (1, 2)]) == ["東", "東", "東", "京", "京"]
    assert source_words("", []) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guidance")
    done = toy.s2s("train", "--config", toy.write_config(folder, training__max_steps=150), cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return folder


def lines_of(run: Path, *arguments: object, stdin: str = "copy a b c\n\nreverse d e\n") -> list[str]:
    done = toy.s2s("translate", *arguments, cwd=run, stdin=stdin.encode())
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split("\n")[:-1]


def test_the_command(run: Path) -> None:
    (run / "prefix").write_text("h\n\ne d☃ \n")
    (run / "terms").write_text("a\tf g\n")
    (run / "more").write_text("c\te e\n")
    first, blank, last = lines_of(
        run, "--prefix", "prefix", "--force", "h", "--forbid", "b", "--terminology", "terms", "--terminology", "more",
        "--keep", "urls",
        stdin="copy a b c\n\nreverse d http://Ä.org\n",
    )  # fmt: skip
    assert blank == ""
    assert first.startswith("h") and "f g" in first and "e e" in first and "b" not in first
    assert last.startswith("e d☃ ") and "http://Ä.org" in last.split() and "h" in last.split()
    (copied,) = lines_of(run, "--copy-unknown", stdin="copy Zürich\n")
    assert "⁇" not in copied
    assert lines_of(run, "--force", "\udce9", "--forbid", "a\udce8", stdin="copy a\n")  # no UTF-8
    (run / "other").write_text("d\n")
    line = '{"source": "copy a b", "force": "h", "prefix": "c"}\n'
    (found,) = lines_of(run, "--format", "jsonl", "--prefix", "other", stdin=line)
    assert json.loads(found)["translation"].startswith("c") and "h" in json.loads(found)["translation"].split()


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (("--force", "a b", "--forbid", "b"), "copy a\n", "'b' in it is forbidden"),
        (("--force", ""), "copy a\n", "blank"),
        (("--prefix", "short"), "copy a\ncopy b\n", "has 1 line, and the input has more"),
        (("--prefix", "short"), "", "and the input has 0"),
        (("--prefix", "short", "--split"), "copy a\n", "leave one out"),
        (("--keep-pattern", "x*"), "copy a\n", "empty text"),
        (("--terminology", "nowhere"), "copy a\n", "cannot read it"),
        (("--terminology", "latin"), "copy a\n", "latin:2: not UTF-8"),
        (("--format", "jsonl"), '{"source": "a"}\n{"source": "a", "force": "a", "forbid": "a"}\n', "(line 2: 'a' is"),
    ],
)
def test_the_command_refuses(arguments: tuple[str, ...], stdin: str, words: str, run: Path) -> None:
    (run / "short").write_text("a\n")
    (run / "latin").write_bytes(b"a\tb\nb\t\xe9\n")
    done = toy.s2s("translate", *arguments, cwd=run, stdin=stdin.encode())
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert words in line


@pytest.mark.parametrize("name", ["text", "tsv", "jsonl"])
@pytest.mark.parametrize("options", [(), ("--output",), ("--workers", 2, "--output")], ids=str)
def test_a_line_that_contradicts_loses_no_other(
    options: tuple[object, ...], name: str, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lines = ["copy a", "copy 5", "copy b", "reverse 5 a", "reverse a b"] * 20
    given = [json.dumps({"source": line}) if name == "jsonl" else line for line in lines]
    (run / "in").write_text("".join(f"{line}\n" for line in given))
    (run / "good").write_text("".join(f"{line}\n" for line in given if "5" not in line))
    command = ("translate", "--format", name, "--input")
    good = toy.s2s(*command, "good", cwd=run).stdout.decode().splitlines()
    wishes = ("--keep", "numbers", "--forbid", "5")
    done = toy.s2s(*command, "in", *wishes, *options, *([out] if options else []), cwd=run)
    found = (out.read_bytes() if options else done.stdout).decode().splitlines()
    assert len(found) == len(lines)
    assert [one for one, line in zip(found, lines, strict=True) if "5" not in line] == good
    why = "'5' is forced (or kept), but '5' in it is forbidden: drop one of them"
    for number, (one, line) in enumerate(zip(found, lines, strict=True), 1):
        if "5" in line:
            error = {"source": line, "error": f"line {number}: {why}"}
            assert one == {"text": "", "tsv": f"{line}\terror: line {number}: {why}", "jsonl": json.dumps(error)}[name]
    assert done.returncode == 2
    (told,) = [line for line in done.stderr.decode().splitlines() if "error" in line]
    assert f"40 of 100 lines could not be translated, all others were: mend them (line 2: {why})" in told
    assert list(tmp_path.iterdir()) == ([out] if options else [])


@pytest.mark.parametrize("name", ["in", "in.gz"])
@pytest.mark.parametrize("options", [(), ("--output", "out"), ("--output", "out", "--workers", 2)], ids=str)
def test_a_file_longer_or_shorter_than_the_prefixes_is_refused_before_its_first_line(
    options: tuple[object, ...], name: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    text = b"copy a\n" * 100
    (run / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    command = "translate", "--model", "runs/toy", "--input", name, "--prefix", "prefixes"
    for lines in (99, 101):
        (run / "prefixes").write_text("\n" * lines)
        error = toy.invoke(*command, *options)
        assert isinstance(error, UserError)
        assert f"it has {lines} lines, and the input has 100: give a line for each" in str(error)
        assert not list(run.glob("out*"))
    (run / "prefixes").write_text("b\n" * 100)
    assert toy.invoke(*command, "--output", "whole") is None
    assert all(line.startswith("b") for line in (run / "whole").read_text().splitlines())
    (run / "whole").unlink()
