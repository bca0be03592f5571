"""The words of the demo language, and what goes with what.

Every table is one entry a line. Tags tell the grammar which nouns suit which verb or adjective,
so that no dog reads a book.
"""

from __future__ import annotations

from typing import NamedTuple

from korean import HAS, LACKS, Kind, Predicate, predicate


class Noun(NamedTuple):
    """A noun in both languages."""

    english: str
    plural: str  # "" if it is never counted
    korean: str
    counter: str  # Korean counter, or the English measure for what is not counted itself
    tags: frozenset[str]


class Adjective(NamedTuple):
    """An adjective in both languages."""

    english: str
    predicate: Predicate
    group: int  # in a pair, the lower group comes first; 0 stands alone
    tags: frozenset[str]
    attributive: str = ""  # set for words that only stand before a noun


class Verb(NamedTuple):
    """A verb in both languages, and what it asks for and allows beside it."""

    base: str
    third: str
    past: str
    gerund: str
    predicate: Predicate
    subjects: frozenset[str]
    objects: frozenset[str]
    preposition: str
    particle: str
    flags: tuple[str, ...]

    @property
    def opposite(self) -> Predicate | None:
        """What denies it, where that is not 않다: 없다 for 있다."""
        return LACKS if self.predicate == HAS else None

    def place_tag(self) -> str:
        """Where it is done: a tag of places, or ""."""
        return next((flag[3:] for flag in self.flags if flag.startswith("at=")), "")


# english, plural, korean, counter, tags
_NOUNS = """
boy boys 소년 명 person male youth
girl girls 소녀 명 person female youth
man men 남자 명 person male adult
woman women 여자 명 person female adult
child children 아이 명 person youth cute
student students 학생 명 person youth role
doctor doctors 의사 명 person adult role star
nurse nurses 간호사 명 person adult role
farmer farmers 농부 명 person adult role
singer singers 가수 명 person adult role star
soldier soldiers 군인 명 person adult role
friend friends 친구 명 person owned
neighbor neighbors 이웃 명 person owned
Minsu - 민수 - name male
Minjun - 민준 - name male
Jiho - 지호 - name male
Sujin - 수진 - name female
Jihyun - 지현 - name female
Yuna - 유나 - name female
brother - 남동생 - family male
sister - 여동생 - family female
son - 아들 - family male
daughter - 딸 - family female
mother - 어머니 - elder female
father - 아버지 - elder male
grandmother - 할머니 - elder female
grandfather - 할아버지 - elder male
teacher - 선생님 - elder male female
dog dogs 개 마리 animal pet cute monochrome
cat cats 고양이 마리 animal pet cute monochrome
bird birds 새 마리 animal pet cute monochrome
horse horses 말 마리 animal ride monochrome
rabbit rabbits 토끼 마리 animal pet cute monochrome
bear bears 곰 마리 animal monochrome
puppy puppies 강아지 마리 animal pet cute monochrome
apple apples 사과 개 food fresh produce fodder portable
orange oranges 오렌지 개 food fresh produce portable
egg eggs 달걀 개 food fresh cookable portable
potato potatoes 감자 개 food fresh produce cookable fodder
cookie cookies 과자 개 food tasty makeable portable
bread - 빵 piece food tasty makeable portable
cake - 케이크 piece food tasty makeable portable
rice - 밥 bowl food tasty bowl
soup - 국 bowl food tasty hot makeable bowl
noodles - 국수 bowl plural food tasty cookable bowl
meat - 고기 - food tasty fresh cookable
fish - 생선 - food tasty fresh cookable
water - 물 glass drink hot
milk - 우유 glass drink hot fresh
coffee - 커피 cup drink hot tasty
tea - 차 cup drink hot tasty
juice - 주스 glass drink tasty fresh
book books 책 권 text written thing portable old
letter letters 편지 통 text written long portable
bag bags 가방 개 thing goods portable opening coloured heavy
hat hats 모자 개 thing goods portable coloured
key keys 열쇠 개 thing portable old
umbrella umbrellas 우산 개 thing goods portable coloured
ball balls 공 개 thing goods portable coloured
box boxes 상자 개 thing opening container heavy coloured
computer computers 컴퓨터 대 thing goods machine old heavy
picture pictures 그림 장 goods portable drawn shown pretty
flower flowers 꽃 송이 goods portable drawn coloured pretty
tree - 나무 - drawn shape surface
shirt shirts 셔츠 벌 goods garment coloured portable
coat coats 외투 벌 goods garment coloured portable
shoes - 신발 - plural goods footwear coloured portable
door doors 문 개 opening coloured shape
window windows 창문 개 opening shape
table - 탁자 - goods surface shape
chair - 의자 - goods surface seat shape
bed - 침대 - goods surface shape
car cars 자동차 대 goods drive vehicle machine coloured by shape
bus - 버스 - drive ride transit by shape
bicycle bicycles 자전거 대 goods ride vehicle machine coloured by shape
train - 기차 - ride transit by shape
subway - 지하철 - by
school - 학교 - place in=at work study visit quiet public
park - 공원 - place in=in outdoors visit quiet public
market - 시장 - place in=at shop visit public
library - 도서관 - place in=in study work visit quiet public
hospital - 병원 - place in=at work visit quiet public
house - 집 - place in=in home indoors sleeping study shape sights
kitchen - 부엌 - place in=in indoors room
garden - 정원 - place in=in outdoors public
restaurant - 식당 - place in=at dining work visit quiet public
office - 사무실 - place in=in work room quiet
station - 역 - place in=at public
store - 가게 - place in=at shop work public
village - 마을 - place in=in home visit quiet sights
city - 도시 - place in=in home visit sights
river - 강 - in=in water beautiful
sea - 바다 - in=in water beautiful
room - 방 - place in=in indoors sleeping room study quiet
hotel - 호텔 - place in=at sleeping visit work public
music - 음악 - bare subject music
Korean - 한국어 - bare subject
English - 영어 - bare subject
soccer - 축구 - bare sport
piano - 피아노 - definite instrument
guitar - 기타 - definite instrument
song songs 노래 곡 music pretty
story - 이야기 - music story long
"""

# english | stem infinitive base kind | group | tags
_ADJECTIVES = """
kind | 친절하 친절해 | 1 | person elder
smart | 똑똑하 똑똑해 | 1 | person pet
famous | 유명하 유명해 | 1 | star sights
happy | 행복하 행복해 | 0 | person state elder
tired | 피곤하 피곤해 | 0 | person state elder
busy | 바쁘 바빠 | 0 | person adult state elder
hungry | 배고프 배고파 | 0 | person animal state
sick | 아프 아파 | 0 | person animal
cute | 귀엽 귀여워 귀여우 | 1 | cute
pretty | 예쁘 예뻐 | 1 | pretty garment pet
beautiful | 아름답 아름다워 아름다우 | 1 | outdoors beautiful pretty sights
cheap | 싸 싸 | 1 | goods
expensive | 비싸 비싸 | 1 | goods
heavy | 무겁 무거워 무거우 | 1 | heavy
delicious | 맛있 맛있어 - existence | 1 | food tasty
fresh | 신선하 신선해 | 1 | fresh
hot | 뜨겁 뜨거워 뜨거우 | 1 | hot
cold | 차갑 차가워 차가우 | 1 | drink
quiet | 조용하 조용해 | 1 | quiet
dirty | 더럽 더러워 더러우 | 1 | room garment footwear
interesting | 재미있 재미있어 - existence | 1 | text story subject sport
difficult | 어렵 어려워 어려우 | 1 | text subject
long | 길 길어 | 1 | long
big | 크 커 | 2 | thing animal shape sights
small | 작 작아 | 2 | thing animal shape sights
tall | 키가_+크 커 | 2 | person
young | 젊 젊어 | 3 | adult
old | 오래되 오래돼 | 3 | old vehicle sights
new | - | 3 | thing text vehicle garment footwear
red | 빨갛 빨개 빨가 | 4 | coloured
blue | 파랗 파래 파라 | 4 | coloured
yellow | 노랗 노래 노라 | 4 | coloured
white | 하얗 하얘 하야 | 4 | coloured monochrome
black | 까맣 까매 까마 | 4 | coloured monochrome
"""

# base third past gerund | stem infinitive base kind | subjects | objects | preposition | particle | flags
_VERBS = """
eat eats ate eating | 먹 먹어 | person | food | - | 을/를 | act at=dining with tool slowly quickly
eat eats ate eating | 먹 먹어 | animal | fodder | - | 을/를 | act at=outdoors slowly quickly
drink drinks drank drinking | 마시 마셔 | person | drink | - | 을/를 | act at=dining with slowly
read reads read reading | 읽 읽어 | person | text story | - | 을/를 | act ask at=study slowly quietly
write writes wrote writing | 쓰 써 | person | written | - | 을/를 | act at=study tool slowly
buy buys bought - | 사 사 | person | goods food drink text | - | 을/를 | act ask at=shop with
see sees saw - | 보 봐 | person | person animal thing | - | 을/를 | at=outdoors
see sees saw - | 보 봐 | animal | person animal | - | 을/를 | at=outdoors
like likes liked - | 좋아하 좋아해 | person | person animal food drink subject sport music text | - | 을/를 | state
like likes liked - | 좋아하 좋아해 | animal | person animal fodder | - | 을/를 | state
meet meets met - | 만나 만나 | person | person | - | 을/를 | act at=public then
help helps helped - | 돕 도와 도우 | person | person | - | 을/를 | act ask at=work
learn learns learned - | 배우 배워 | person | subject instrument sport | - | 을/를 | act at=study with
make makes made making | 만들 만들어 | person | makeable | - | 을/를 | act ask at=indoors with
draw draws drew drawing | 그리 그려 | person | drawn animal | - | 을/를 | act ask at=outdoors tool slowly well
open opens opened - | 열 열어 | person | opening | - | 을/를 | act ask slowly quickly
close closes closed - | 닫 닫아 | person | opening | - | 을/를 | act ask quietly quickly
clean cleans cleaned cleaning | 청소+하 해 | person | room | - | 을/를 | act ask with
wash washes washed - | 씻 씻어 | person | produce | - | 을/를 | act ask at=indoors
cook cooks cooked cooking | 요리+하 해 | person | cookable | - | 을/를 | act ask at=indoors with
drive drives drove driving | 운전+하 해 | adult | drive | - | 을/를 | act slowly one
ride rides rode riding | 타 타 | person | ride | - | 을/를 | act with one
fix fixes fixed - | 고치 고쳐 | person | machine | - | 을/를 | act ask
listen listens listened listening | 듣 들어 들으 | person | music | to | 을/를 | act at=study with quietly
play plays played playing | 치 쳐 | person | instrument | - | 을/를 | act at=outdoors well
play plays played playing | 하 해 | person | sport | - | 을/를 | act with at=outdoors
wear wears wore wearing | 입 입어 | person | garment | - | 을/를 | act one
wear wears wore wearing | 신 신어 | person | footwear | - | 을/를 | act one
wait waits waited waiting | 기다리 기다려 | person | person transit | for | 을/를 | act ask at=public quietly
visit visits visited - | 방문+하 해 | person | visit | - | 을/를 | act with
call calls called - | 전화+하 해 | person | person | - | 에게 | act ask
give gives gave - | 주 줘 | person | portable | - | 을/를 | act ask person
show shows showed - | 보여_주 보여_줘 | person | shown thing | - | 을/를 | act ask person
teach teaches taught - | 가르치 가르쳐 | person | subject instrument sport | - | 을/를 | act person well
need needs needed - | 필요하 필요해 - adjective | person | thing machine | - | 이/가 | main state
have has had - | 있 있어 - existence | person | pet thing vehicle | - | 이/가 | main state
sleep sleeps slept sleeping | 자 자 | person | - | - | - | act at=sleeping well quietly
sleep sleeps slept sleeping | 자 자 | animal | - | - | - | act at=outdoors well quietly
run runs ran running | 달리 달려 | person animal | - | - | - | act at=outdoors path quickly
walk walks walked walking | 걷 걸어 걸으 | person | - | - | - | act at=outdoors path with slowly quickly
swim swims swam swimming | 수영+하 해 | person | - | - | - | act at=water with
sing sings sang singing | 노래+하 해 | person | - | - | - | act at=public with quietly
dance dances danced dancing | 춤을_+추 춰 | person | - | - | - | act at=public with
play plays played playing | 놀 놀아 | youth animal | - | - | - | act at=outdoors with
work works worked working | 일+하 해 | adult | - | - | - | act at=work with quietly
rest rests rested - | 쉬 쉬어 | person animal | - | - | - | act at=public quietly
live lives lived - | 살 살아 | person | home | in | 에 | with state
go goes went going | 가 가 | person | place water | to | 에 | act with by then
come comes came coming | 오 와 | person | place water | to | 에 | act with by then
arrive arrives arrived - | 도착+하 해 | person | place water | at | 에 | with by
return returns returned - | 돌아오 돌아와 | person | home place water | to | 으로/로 | act with then
sit sits sat sitting | 앉 앉아 | person pet | seat | on | 에 | result quietly
"""

_RESPECTFUL = {"먹": "드", "마시": "드", "자": "주무"}

NUMBERS = [
    ("one", "한"), ("two", "두"), ("three", "세"), ("four", "네"), ("five", "다섯"),
    ("six", "여섯"), ("seven", "일곱"), ("eight", "여덟"), ("nine", "아홉"), ("ten", "열"),
]  # fmt: skip
MEASURES = {
    "cup": ("cups", "잔"),
    "glass": ("glasses", "잔"),
    "bowl": ("bowls", "그릇"),
    "piece": ("pieces", "조각"),
}
# what an act on such an object is done with
TOOLS = {
    "written": [("a pen", "펜"), ("a pencil", "연필")],
    "drawn": [("a pencil", "연필")],
    "bowl": [("a spoon", "숟가락")],
}
MANNERS = {"slowly": "천천히", "quickly": "빨리", "quietly": "조용히", "well": "잘"}
FREQUENCIES = [("always", "항상"), ("often", "자주"), ("sometimes", "가끔")]
POSITIONS = [("on", "위"), ("under", "아래"), ("behind", "뒤"), ("next to", "옆"), ("in front of", "앞")]
TIMES = {
    "past": [("yesterday", "어제"), ("last night", "어젯밤에"), ("last week", "지난주에"), ("on Sunday", "일요일에")],
    "present": [("every day", "매일"), ("every morning", "매일 아침"), ("in the evening", "저녁에")],
    "future": [("tomorrow", "내일"), ("next week", "다음 주에"), ("tonight", "오늘 밤에"), ("on Saturday", "토요일에")],
    "now": [("now", "지금")],
    "today": [("today", "오늘"), ("tomorrow", "내일")],
}
WEATHER = [  # English present and past, Korean predicate and its subject
    ("it rains", "it rained", predicate("오", "와"), "비가"),
    ("it snows", "it snowed", predicate("오", "와"), "눈이"),
    ("it is cold", "it was cold", predicate("춥", "추워", "추우", "adjective"), "날씨가"),
    ("it is hot", "it was hot", predicate("덥", "더워", "더우", "adjective"), "날씨가"),
]
SPEECH = [
    ("say", "says", "said", predicate("말+하", "해")._replace(respectful="말씀하")),
    ("think", "thinks", "thought", predicate("생각+하", "해")),
]


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def _tags(cell: str) -> frozenset[str]:
    return frozenset(cell.replace("-", "").split())


def _predicate(cell: str, kind: Kind) -> Predicate:
    """Read "stem infinitive base kind"; "_" is a space, "+" sets a leading noun apart."""
    stem, infinitive, *rest = (part.replace("_", " ") for part in cell.split())
    base = rest[0] if rest and rest[0] != "-" else ""
    if len(rest) > 1:
        kind = "adjective" if rest[1] == "adjective" else "existence"
    word = predicate(stem, infinitive, base, kind)
    return word._replace(respectful=_RESPECTFUL.get(word.stem, ""))


def _read_nouns() -> list[Noun]:
    nouns = []
    for [line] in _rows(_NOUNS):
        english, plural, korean, counter, *tags = line.split()
        nouns.append(Noun(english, plural.strip("-"), korean, counter.strip("-"), frozenset(tags)))
    return nouns


def _read_adjectives() -> list[Adjective]:
    adjectives = []
    for english, word, group, tags in _rows(_ADJECTIVES):
        if english == "new":  # 새 is no predicate at all
            entry = Adjective(english, HAS, int(group), _tags(tags), "새")
        else:
            form = _predicate(word, "adjective")
            fixed = "오래된" if english == "old" else ""  # 오래되다 is a verb: its past modifies
            entry = Adjective(english, form, int(group), _tags(tags), fixed)
        adjectives.append(entry)
    return adjectives


def _read_verbs() -> list[Verb]:
    verbs = []
    for forms, word, subjects, objects, preposition, particle, flags in _rows(_VERBS):
        base, third, past, gerund = forms.split()
        verbs.append(
            Verb(
                base,
                third,
                past,
                gerund.strip("-"),
                _predicate(word, "verb"),
                _tags(subjects),
                _tags(objects),
                preposition.strip("-"),
                particle.strip("-"),
                tuple(flags.strip("-").split()),
            )
        )
    return verbs


NOUNS = _read_nouns()
ADJECTIVES = _read_adjectives()
VERBS = _read_verbs()
