"""The speller: what it corrects, what it leaves alone, and the same after it was saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import tantivy

from mmse.core.errors import ArtifactError
from mmse.index import near_words
from mmse.index.documents import prepare_text
from mmse.index.speller import Speller

TITLES = [
    *["Dog food for puppies", "Wireless headphones black", "Leather backpack bag", "Sleeping bag", "Bosch drill"] * 50,
    *["Café table", "Red screwdriver", "Blue ford model car", "Coach bag", "Hair dryer"] * 5,
]
QUERIES = {
    "dog food": 50,
    "mug": 40,
    "t-shirt": 30,
    "couch": 9,
    "wireless headphones": 20,
    "bakpack": 2,
    "hair dryer": 8,
}
ENGLISH = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).filter(tantivy.Filter.stemmer("english")).build()


def stem(text: str) -> list[str]:
    stems: list[str] = ENGLISH.analyze(prepare_text(text))
    return stems


def unknown(word: str) -> bool:
    return False


def build(folder: Path, titles: Sequence[str] = TITLES, queries: Mapping[str, int] = QUERIES) -> Speller:
    Speller.write(folder, titles, queries, stem)
    return Speller.open(folder, {query: n for query, n in queries.items() if n >= 30}, stem)


def requests_of(queries: Sequence[str]) -> list[int]:
    return [QUERIES.get(query, 0) for query in queries]


@pytest.fixture(scope="module")
def speller(tmp_path_factory: pytest.TempPathFactory) -> Speller:
    return build(tmp_path_factory.mktemp("words"))


@pytest.mark.parametrize(
    ("typed", "correction"),
    [
        ("dog fod", "dog food"),
        ("dgo food", "dog food"),
        ("ddog food", "dog food"),
        ("eather bag", "leather bag"),
        ("wireles hedphones", "wireless headphones"),
        ("WIRELES, headphnoes!", "wireless, headphones!"),
        ("leather bacpack", "leather backpack"),
        ("bakpack", "backpack"),
        ("dogfood", "dog food"),
        ("leather bac", None),
        ("leather backpac", "leather backpack"),
        ("hairdryer", "hair dryer"),
        ("cfae", "café"),
        ("bosch 18v drll", "bosch 18v drill"),
    ],
)
def test_typos_are_corrected(speller: Speller, typed: str, correction: str | None) -> None:
    assert speller.correct(typed, unknown) == correction


@pytest.mark.parametrize(
    "query",
    [
        "dog food",
        "bosch free drill",
        "couch",
        "DCD771C2",
        "55in tv",
        "xy",
        "zzyzzx",
        "",
        "?!",
        "🎧",
        "運動鞋",
        "a b c d e f g h i j k l m fod",
    ],
)
def test_what_is_left_alone(speller: Speller, query: str) -> None:
    assert speller.correct(query, unknown) is None


def test_a_word_of_items_is_corrected_where_another_is_at_home(tmp_path: Path) -> None:
    titles = [*["Wall paint white", "Front door handle", "Wireless mouse"] * 60, "Wal mart card", "Odor remover"]
    speller = build(tmp_path, titles, {})
    assert speller.correct("wal paint", unknown) == "wall paint"
    assert speller.correct("front odor handle", unknown) == "front door handle"
    for query in ("wal mart", "wal", "odor remover", "odor", "wall papers", "wireless mice", "white wal"):
        assert speller.correct(query, unknown) is None, query


def test_a_last_word_that_longer_ones_begin_with(tmp_path: Path) -> None:
    speller = build(tmp_path, [*["Front door"] * 60, *["Dory fish"] * 3, *["Libra chart"] * 20, *["Line"] * 30], {})
    assert speller.correct("front dor", unknown) == "front door", "far more frequent than what begins so"
    assert speller.correct("libr", unknown) == "libra"
    assert speller.correct("libe line", unknown) == "line line"


def test_a_last_word_is_finished_or_what_goes_with_the_others(tmp_path: Path) -> None:
    speller = build(tmp_path, [*["Sheet mask"] * 20, *["Make up"] * 30], {})
    assert speller.correct("sheet mak", unknown) == "sheet mask"
    assert speller.correct("mak", unknown) == "make"


def test_a_short_word_with_another_first_letter_is_another_word(tmp_path: Path) -> None:
    speller = build(tmp_path, [*["Oak wood board"] * 20, *["Wheel barrow"] * 20], {})
    assert speller.correct("dog food", unknown) is None
    assert speller.correct("oak food", unknown) == "oak wood", "what stands beside it goes with the right word"
    assert speller.correct("owod", unknown) == "wood", "two letters in the wrong order"
    assert speller.correct("bheel", unknown) == "wheel", "a longer word"


def test_a_word_that_says_nothing_replaces_one_only_beside_its_neighbours(tmp_path: Path) -> None:
    Speller.write(tmp_path, [*["Toy for kids"] * 50, *["Dog food"] * 5], {}, stem)
    speller = Speller.open(tmp_path, {}, stem, lambda word: word != "for")
    assert speller.correct("fod", unknown) == "food"
    assert speller.correct("toy fro kids", unknown) == "toy for kids"


def test_a_word_that_is_corrected_tells_what_its_neighbour_was_meant_to_be(tmp_path: Path) -> None:
    speller = build(tmp_path, [*["Jump starter"] * 20, *["Pump"] * 60], {})
    assert speller.correct("ump starteer", unknown) == "jump starter"


def test_two_words_are_one_that_is_far_more_frequent(tmp_path: Path) -> None:
    titles = [*["Screwdriver red"] * 40, "Wood screw", "Truck driver", *["Hair dryer"] * 2, *["Hairdryer blue"] * 60]
    speller = build(tmp_path, titles, {})
    assert speller.correct("screw driver", unknown) == "screwdriver"
    assert speller.correct("hair dryer", unknown) is None, "items say so, too"


def test_a_word_seen_once_corrects_long_ones_with_one_fault(tmp_path: Path) -> None:
    speller = build(tmp_path, ["Bluetooth headset", "Fish bowl"], {})
    assert speller.correct("bluetoth headset", unknown) == "bluetooth headset"
    assert speller.correct("bluttoth headset", unknown) is None, "two faults"
    assert speller.correct("fis bowl", unknown) is None, "a short word"


def test_the_end_of_a_compound_is_a_word_unless_a_far_more_frequent_one_is_near(tmp_path: Path) -> None:
    speller = build(tmp_path, [*["Holzschrauben verzinkt"] * 3, *["Black shelf"] * 50, "Playback unit"], {})
    assert speller.correct("schrauben", unknown) is None
    assert speller.correct("lback shelf", unknown) == "black shelf"


def test_a_compound_that_no_item_has_is_its_parts(tmp_path: Path) -> None:
    speller = build(tmp_path, ["Terrassenschrauben Edelstahl", "Holzschrauben verzinkt"] * 3, {})
    assert set(speller.parts("edelstahlschrauben")) == {"edelstahl terrassenschrauben", "edelstahl holzschrauben"}
    assert speller.parts("plastikschrauben") == speller.parts("edelstahl") == ()


def test_the_words_near_one_by_its_length(speller: Speller) -> None:
    assert speller.near("bsch") == ("bosch",)
    assert speller.near("bsh") == speller.near("18vv") == speller.near("bsckk") == ()
    assert speller.near("hedphoness") == ("headphones",)


def test_both_numbers_of_a_word_are_one_query(tmp_path: Path) -> None:
    speller = build(tmp_path, [*["Phone case"] * 3, *["Phones"] * 2, *["Heater"] * 3, *["Heating"] * 4], {})
    assert speller.canonical("phones", requests_of) == speller.canonical("phone", requests_of) == "phone"
    assert speller.canonical("heater", requests_of) == "heater"


def test_what_shoppers_corrected_is_corrected_so(speller: Speller, tmp_path: Path) -> None:
    corrections = {"hedfones": "headphones", "coach": "bag", "cofe": "café", "dog fud": "dog food", "bosh": "nonesuch"}
    Speller.write(tmp_path, TITLES, QUERIES, stem, corrections)
    taught = Speller.open(tmp_path, {}, stem)
    assert speller.correct("black hedfones", unknown) is None, "too far for the number of faults alone"
    assert taught.correct("black Hedfones!", unknown) == "black headphones!"
    assert speller.correct("bakpack bag", unknown) != speller.correct("leather cofe", unknown)
    assert taught.correct("leather cofe", unknown) == "leather café"
    assert taught.correct("dog fud", unknown, as_shoppers=True) == "dog food"
    assert taught.correct("dog fod", unknown, as_shoppers=True) is None, "shoppers said nothing of it"
    assert taught.correct("coach", unknown) == "bag", "a word of items, but the other is far more frequent"
    assert taught.correct("bosh drill", unknown) == "bosch drill", "what is meant must be a word of items or of the log"


def test_an_index_without_corrections_is_opened(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "corrections.parquet").unlink()
    assert Speller.open(tmp_path, {}, stem).corrections == {}


def test_a_word_that_an_item_has_now_is_right(speller: Speller) -> None:
    assert speller.correct("fod", lambda word: word == "fod") is None


def test_forms_of_a_query_are_one(speller: Speller) -> None:
    for query in ("Mugs", "mug!", " MUG. ", "ｍｕｇ"):
        assert speller.canonical(query, requests_of) == "mug"
    for query in ("t shirt", "tshirts", "T-Shirts", "tshirt"):
        assert speller.canonical(query, requests_of) == "t-shirt"
    assert speller.canonical("leather backpacks", requests_of) == "leather backpack"
    assert speller.canonical("red 1/2 in. nonesuch", requests_of) == "red 1/2 in. nonesuch"
    assert speller.canonical("food, dog", requests_of) == "dog food"
    assert speller.canonical("food dog", requests_of) == "food dog"
    assert speller.variant("leather backpacks") is None


def test_a_form_that_the_log_has_is_found_without_its_text(speller: Speller) -> None:
    assert speller.canonical("hair dryers!", requests_of) == "hair dryer"
    assert speller.canonical("couch.", requests_of) == "couch"
    assert "couch" not in speller.counts
    assert speller.knows("couch")
    assert not speller.knows("settee")


def test_many_words_are_searched_by_their_beginning(
    speller: Speller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_words, "SMALL", 3)
    large = build(tmp_path)
    for typed in ("dog fod", "eather bag", "leather bacpack", "xleather bag", "weather bag"):
        assert large.correct(typed, unknown) == speller.correct(typed, unknown) is not None


def test_no_text_of_a_query_is_written(speller: Speller, tmp_path: Path) -> None:
    build(tmp_path, queries={"secret wish": 500})
    assert all(b"secret" not in file.read_bytes() and b"wish" not in file.read_bytes() for file in tmp_path.iterdir())


def test_damage_is_named(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "words.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(ArtifactError, match=r"(?s)Cannot read the words.*Build the index again"):
        Speller.open(tmp_path, {}, stem)


def test_a_catalogue_without_words(tmp_path: Path) -> None:
    empty = build(tmp_path, [], {})
    assert empty.correct("dog fod", unknown) is None
    assert empty.canonical("Dogs", requests_of) == "dogs"


def test_texts_that_come_again_count_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmse.index.speller.MAX_PAIR_TEXTS", 4)
    speller = build(tmp_path, ["red mug", "blue mug", "red mug", "red cup", "red mug"], {})
    assert {word: speller.counts[word] for word in ("red", "mug", "blue", "cup")} == dict(red=4, mug=4, blue=1, cup=1)
    assert speller.pairs.get("red mug", 0) == 2, "the fifth text has no pairs any more"
