"""The demo corpus: it comes out of its generator unchanged, and its Korean keeps the rules of Korean."""

from __future__ import annotations

import importlib
import importlib.util
import re
import unicodedata
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"
SIZES = {"train": 10_000, "valid": 500, "test": 500, "test_long": 200}
LENGTHS = {"train": (4, 28), "valid": (4, 28), "test": (4, 14), "test_long": (20, 40)}
SIDES = ("en", "ko")
Corpus = dict[str, list[tuple[str, str]]]


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_generate", DEMO / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = load_generator()
korean = importlib.import_module("korean")  # the generator has put its folder on the path
lexicon = importlib.import_module("lexicon")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """The committed files."""
    read = {}
    for name in SIZES:
        sides = [(DEMO / f"{name}.{side}").read_text(encoding="utf-8").split("\n") for side in SIDES]
        assert [lines.pop() for lines in sides] == ["", ""], "every line ends in a line feed"
        read[name] = list(zip(*sides, strict=True))
    return read


@pytest.fixture(scope="module")
def pairs(corpus: Corpus) -> list[tuple[str, str]]:
    return [pair for name in SIZES for pair in corpus[name]]


@pytest.fixture(scope="module")
def tokens(pairs: list[tuple[str, str]]) -> Counter[str]:
    """Korean words without their punctuation."""
    return Counter(word.strip(".,?") for _, ko in pairs for word in ko.split())


def test_regenerates_byte_for_byte(tmp_path: Path) -> None:
    GENERATOR.write(tmp_path / "out")
    for name in SIZES:
        for side in SIDES:
            file = f"{name}.{side}"
            assert (tmp_path / "out" / file).read_bytes() == (DEMO / file).read_bytes(), file


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_lengths(corpus: Corpus, name: str) -> None:
    lengths = [len(en.split()) for en, _ in corpus[name]]
    assert len(lengths) == SIZES[name]
    assert LENGTHS[name][0] <= min(lengths)
    assert max(lengths) <= LENGTHS[name][1]


def test_long_sentences_are_longer_than_usual_ones(corpus: Corpus) -> None:
    mean = {name: sum(len(en.split()) for en, _ in corpus[name]) / SIZES[name] for name in SIZES}
    assert mean["test_long"] > 2 * mean["train"]
    assert 0.15 < sum(len(en.split()) > 14 for en, _ in corpus["train"]) / SIZES["train"] < 0.35


def test_no_source_sentence_stands_twice(pairs: list[tuple[str, str]]) -> None:
    assert len({en for en, _ in pairs}) == len(pairs)


def test_characters(pairs: list[tuple[str, str]]) -> None:
    english, hangul = re.compile(r"[A-Z][A-Za-z' ,]*[.?]"), re.compile(r"[가-힣]+(,? [가-힣]+)*[.?]")
    for en, ko in pairs:
        assert english.fullmatch(en), en
        assert hangul.fullmatch(ko), ko
        assert "  " not in en
        assert unicodedata.is_normalized("NFC", en + ko)


def test_vocabulary(corpus: Corpus) -> None:
    def types(names: list[str]) -> Counter[str]:
        lines = (en.lower() for name in names for en, _ in corpus[name])
        return Counter(word for line in lines for word in re.findall(r"[a-z]+(?:'[a-z]+)?", line))

    trained = types(["train"])
    assert 300 <= len(trained) <= 800
    assert min(trained.values()) >= 8
    assert types(["valid", "test", "test_long"]).keys() <= trained.keys()


# -- particles, by a rule of the test's own


def final(syllable: str) -> int:
    """The number of the final consonant in its syllable block: 0 for none, 8 for ㄹ."""
    return (ord(syllable) - 0xAC00) % 28


PARTICLES = [("이", "가"), ("을", "를"), ("은", "는"), ("과", "와"), ("이에요", "예요"), ("이었어요", "였어요")]


def nouns() -> set[str]:
    """Whatever a particle can follow: nouns, their plurals, counters and pronouns."""
    found = {noun.korean for noun in lexicon.NOUNS if "elder" not in noun.tags}
    found |= {f"{noun.korean}들" for noun in lexicon.NOUNS if noun.tags & {"person", "animal"}}
    found |= {noun.counter for noun in lexicon.NOUNS if noun.plural and noun.counter}
    found |= {counter for _, counter in lexicon.MEASURES.values()}
    found |= {tool for tools in lexicon.TOOLS.values() for _, tool in tools}
    return found | {"그", "그녀", "그들", "우리", "무엇"}


@pytest.mark.parametrize(("closed", "opened"), PARTICLES)
def test_particles_follow_the_final_sound(tokens: Counter[str], closed: str, opened: str) -> None:
    known = nouns()
    seen: Counter[str] = Counter()
    for token, count in tokens.items():
        for particle, wanted in ((closed, True), (opened, False)):
            noun = token.removesuffix(particle)
            if noun != token and noun in known:
                assert (final(noun[-1]) != 0) == wanted, token
                seen[particle] += count
    assert seen[closed] > 10
    assert seen[opened] > 10


def test_direction_particle_knows_rieul(tokens: Counter[str]) -> None:
    known = nouns()
    seen: Counter[str] = Counter()
    for token, count in tokens.items():
        noun = token.removesuffix("로").removesuffix("으")
        if token.endswith("로") and noun in known:
            assert token.endswith("으로") == (final(noun[-1]) not in (0, 8)), token
            seen["ㄹ" if final(noun[-1]) == 8 else token[len(noun) :]] += count
    assert min(seen["으로"], seen["로"], seen["ㄹ"]) > 10


def test_vocative_follows_the_final_sound(pairs: list[tuple[str, str]]) -> None:
    seen: Counter[str] = Counter()
    for en, ko in pairs:
        if en.startswith(("Hey ", "My friend, ")):
            called = ko.split(",")[0]
            assert called[-1] == ("아" if final(called[-2]) else "야"), ko
            seen[called[-1]] += 1
    assert min(seen.values()) > 100


def test_elders_take_honorific_particles(tokens: Counter[str]) -> None:
    elders = [noun.korean for noun in lexicon.NOUNS if "elder" in noun.tags]
    for elder in elders:
        assert tokens[f"{elder}께서는"] > 10
        for particle in ("이", "가", "은", "는", "에게"):
            assert f"{elder}{particle}" not in tokens


# -- other phenomena


def test_register_follows_the_address(pairs: list[tuple[str, str]]) -> None:
    for en, ko in pairs:
        end = ko[:-1]
        if re.search(r"^(Sir|Ma'am),|, (sir|ma'am)[.?]$", en):
            assert ko.startswith("선생님, "), ko
            assert end.endswith(("니다", "니까", "시오")), ko
        elif en.startswith(("Hey ", "My friend, ")):
            assert not end.endswith(("요", "니다", "니까", "시오")), ko
        else:
            assert end.endswith("요"), ko


def test_questions_stay_questions(pairs: list[tuple[str, str]]) -> None:
    assert all(en[-1] == ko[-1] for en, ko in pairs)


COUNTED = {"책": "권", "편지": "통", "개": "마리", "소년": "명", "사과": "개", "자동차": "대", "꽃": "송이"}
NUMERALS = {"two": "두", "three": "세", "four": "네", "five": "다섯", "nine": "아홉", "ten": "열"}


def test_numbers_have_their_counter(pairs: list[tuple[str, str]]) -> None:
    figures = "한|두|세|네|다섯|여섯|일곱|여덟|아홉|열|몇"
    phrase = re.compile(rf"(?:^| )({'|'.join(COUNTED)}) (?:{figures}) (\S+)")
    seen: Counter[str] = Counter()
    for _, ko in pairs:
        for noun, counter in phrase.findall(ko):
            assert counter.startswith(COUNTED[noun]), ko
            seen[noun] += 1
    assert min(seen[noun] for noun in COUNTED) > 10
    for english, figure in NUMERALS.items():
        with_number = [ko for en, ko in pairs if re.search(rf"\b{english}\b", en, re.IGNORECASE)]
        assert with_number
        assert all(f" {figure} " in ko for ko in with_number), english


def test_time_agrees_with_tense(pairs: list[tuple[str, str]]) -> None:
    for en, ko in pairs:
        if len(en.split()) > 9 or en.endswith("?") or re.search(r" (that|when|because|must|can|cannot|want)", en):
            continue
        if re.search("yesterday|last (night|week)", en, re.IGNORECASE):
            assert re.search("[았었했갔왔샀봤났썼렸녔셨웠췄줬쳤잤켰됐졌펐컸쌌뻤탔]", ko), ko
        if re.search("tomorrow|tonight", en, re.IGNORECASE):
            assert re.search(" (거예요|것입니다|거야)", ko), ko


FORMS = [
    # stem, infinitive, base, then: polite, formal, past, future, present and past modifier, because, if, quoted
    ("먹", "먹어", "", "먹어요 먹습니다 먹었어요 먹을 먹는 먹은 먹어서 먹으면 먹는다고"),
    ("가", "가", "", "가요 갑니다 갔어요 갈 가는 간 가서 가면 간다고"),
    ("마시", "마셔", "", "마셔요 마십니다 마셨어요 마실 마시는 마신 마셔서 마시면 마신다고"),
    ("만들", "만들어", "", "만들어요 만듭니다 만들었어요 만들 만드는 만든 만들어서 만들면 만든다고"),
    ("듣", "들어", "들으", "들어요 듣습니다 들었어요 들을 듣는 들은 들어서 들으면 듣는다고"),
    ("돕", "도와", "도우", "도와요 돕습니다 도왔어요 도울 돕는 도운 도와서 도우면 돕는다고"),
    ("쓰", "써", "", "써요 씁니다 썼어요 쓸 쓰는 쓴 써서 쓰면 쓴다고"),
    ("오", "와", "", "와요 옵니다 왔어요 올 오는 온 와서 오면 온다고"),
    ("청소+하", "해", "", "청소해요 청소합니다 청소했어요 청소할 청소하는 청소한 청소해서 청소하면 청소한다고"),
]


@pytest.mark.parametrize(("stem", "infinitive", "base", "forms"), FORMS)
def test_conjugation(stem: str, infinitive: str, base: str, forms: str) -> None:
    word = korean.predicate(stem, infinitive, base)
    built = [
        word.final("present", "polite"),
        word.final("present", "formal"),
        word.final("past", "polite"),
        word.final("future", "polite").removesuffix(" 거예요"),
        word.modifier("present"),
        word.modifier("past"),
        word.because(),
        word.provided(),
        word.quoted("present"),
    ]
    assert built == forms.split()


def test_verb_groups() -> None:
    read, sleep = korean.predicate("읽", "읽어"), next(v for v in lexicon.VERBS if v.base == "sleep").predicate
    clean = korean.predicate("청소+하", "해")

    def polite(word: object, manner: str, elder: bool = False) -> str:
        return str(korean.compose(word, manner, elder).final("present", "polite"))

    assert polite(read, "not") == "읽지 않아요"
    assert polite(clean, "short") == "청소 안 해요"
    assert polite(read, "progressive") == "읽고 있어요"
    assert polite(read, "want") == "읽고 싶어 해요"
    assert polite(sleep, "plain", True) == "주무세요"
    assert polite(sleep, "progressive", True) == "주무시고 계세요"
    assert polite(read, "must", True) == "읽으셔야 해요"
    assert read.asked("polite", True) == "읽어 주세요"
    assert korean.predicate("돕", "도와", "도우").asked("polite", True) == "도와주세요"
    assert korean.copula("학생").final("present", "polite") == "학생이에요"
    assert korean.copula("의사").final("past", "polite") == "의사였어요"
    red = korean.predicate("빨갛", "빨개", "빨가", "adjective")
    assert (red.modifier("present"), red.final("past", "casual")) == ("빨간", "빨갰어")
