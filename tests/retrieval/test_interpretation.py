"""What a search makes of what is typed: corrections, forms, codes, exclusions, and how it says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mmse.catalogue import Upsert
from mmse.dataset.folder import DatasetFolder
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import parse_filter
from mmse.schema.search import Answer, Search

ITEMS = {
    "NOR.0707-60": "Vintage zorbel lamp",
    "z-1": "Paint without quixol",
    "z-2": "Paint white quixol",
    "z-3": "Paint grey quixol",
    "z-4": "Paint plain",
    "z-5": "Zorbel ISD-TN450 toner",
    "z-6": "Zorbel ISD-TN451 toner",
    "z-7": 'Frobnik pipe 1/2"',
    "z-8": 'Frobnik pipe 1-1/2"',
    "z-9": "Frobnik juice 1.5 L",
    "z-10": "Frobnik juice 15 L",
    "z-11": "Frobnik Käse Brötchen",
    "z-12": "Screwdriver wibble set",
    "z-13": "Spare 0017 quorble part",
}


@pytest.fixture(scope="module")
def retriever(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    """The small run with items whose words no other item has."""
    run = tmp_path_factory.mktemp("words") / "run"
    shutil.copytree(small_run, run)
    retriever = Retriever.open(run, writable=True)
    assert retriever.catalogue is not None
    assert retriever.rulebook is not None
    retriever.catalogue.apply([Upsert({"item_id": i, "title": t, "category": "Things"}) for i, t in ITEMS.items()])
    retriever.rulebook.publish(
        '[[boost]]\nname = "all"\nquery = "*"\nwhere = {available = true}\nfactor = 1.1\n'
        '[[redirect]]\nname = "r"\nquery = "tetn"\nto = "stove"\n'
    )
    retriever.catalogue.close()
    return Retriever.open(run)


def ask(retriever: Retriever, query: str, k: int = 10, **fields: Any) -> Answer:
    return retriever.answer(Search(query, k, **fields))


def ids(answer: Answer) -> list[str]:
    return [hit.item_id for hit in answer.hits]


def frequent_query(retriever: Retriever, run: Path) -> str:
    queries: list[str] = pq.read_table(DatasetFolder(run / "dataset").queries)["query"].to_pylist()
    return next(query for query in queries if len(query) > 6 and query.isalpha())


def test_a_typo_is_corrected_and_said(retriever: Retriever, small_run: Path) -> None:
    query = frequent_query(retriever, small_run)
    typo = query[:2] + query[3] + query[2] + query[4:] if query[2] != query[3] else query[:2] + query[3:]
    answer, right = ask(retriever, typo), ask(retriever, query)
    assert (answer.query, answer.corrected_from) == (query, typo)
    assert ids(answer) == ids(right)
    assert right.corrected_from is None
    as_written = ask(retriever, typo, correct=False)
    assert (as_written.query, as_written.corrected_from) == (typo, None)
    assert "all" in answer.rules, "a rule for every query does not keep a query from being corrected"


@pytest.mark.parametrize("form", ["{}.", " {} ", "{}s", "{}!", "'{}'"])
def test_forms_of_a_query_have_one_answer(retriever: Retriever, small_run: Path, form: str) -> None:
    query = frequent_query(retriever, small_run).rstrip("s")
    answer = ask(retriever, form.format(query.upper()))
    assert ids(answer) == ids(ask(retriever, query))
    assert answer.corrected_from is None


def test_a_rule_for_a_misspelling_is_obeyed(retriever: Retriever) -> None:
    assert (ask(retriever, "tetn").query, ask(retriever, "tetn").corrected_from) == ("stove", None)


def test_a_word_of_a_new_item_is_no_typo(retriever: Retriever) -> None:
    answer = ask(retriever, "zorbel", 3)
    assert answer.corrected_from is None
    assert set(ids(answer)) == {"NOR.0707-60", "z-5", "z-6"}


@pytest.mark.parametrize("code", ["NOR.0707-60", "nor070760", "NOR 0707 60", "nor-0707.60"])
@pytest.mark.parametrize("channel", ["hybrid", "lexical"])
def test_an_id_leads_to_its_item(retriever: Retriever, code: str, channel: str) -> None:
    assert ids(ask(retriever, code, channel=channel))[:1] == ["NOR.0707-60"]


def test_codes_in_titles_whole_by_their_beginning_and_unknown(retriever: Retriever) -> None:
    assert ids(ask(retriever, "ISDTN450"))[:1] == ["z-5"]
    assert set(ids(ask(retriever, "isd-tn45"))) == {"z-5", "z-6"}, "and no others"
    assert ids(ask(retriever, "17"))[:1] == ids(ask(retriever, "0017"))[:1] == ["z-13"]
    unknown = ask(retriever, "ZZ99-XX77")
    assert (unknown.hits, unknown.no_good_match) == ([], True)
    assert unknown.notes == ("No item has the code 'ZZ99-XX77'.",)
    cheap = parse_filter({"price": {"to": -1}}, retriever.kinds)
    assert ask(retriever, "NOR.0707-60", filter=cheap).notes == (), "there is one, which the filter leaves out"


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("frobnik pipe 1/2 inch", "z-7"),
        ("frobnik pipe ½ in", "z-7"),
        ('frobnik pipe 1 1/2"', "z-8"),
        ("frobnik juice 1,5 l", "z-9"),
        ("frobnik juice 1.5 litre", "z-9"),
        ("frobnik juice 15l", "z-10"),
        ("frobnik kase brotchen", "z-11"),
        ("FROBNIK KA\u0308SE", "z-11"),
        ("screw driver wibble", "z-12"),
    ],
)
def test_measures_and_accents_in_any_spelling(retriever: Retriever, query: str, first: str) -> None:
    assert ids(ask(retriever, query, channel="lexical"))[0] == first


def test_what_is_excluded_comes_last(retriever: Retriever) -> None:
    minus, without = ask(retriever, "paint -quixol", 2_000), ask(retriever, "paint without quixol", 2_000)
    assert not {"z-2", "z-3"} & set(ids(minus)[:3])
    assert ids(without)[0] == "z-1"
    for answer in (minus, without):
        (hit,) = [hit for hit in answer.hits if hit.item_id == "z-2"]
        assert hit.moved_by[-1] == "has 'quixol', which the query excludes"


def test_a_phrase_in_quotation_marks_comes_first(retriever: Retriever) -> None:
    assert ids(ask(retriever, '"grey quixol" paint'))[0] == "z-3"


def test_a_brand_and_a_category_that_the_query_names_are_told(retriever: Retriever) -> None:
    hit = ask(retriever, "tent", 1).hits[0]
    brand, leaf = str(hit.item["brand"]), str(hit.item["category"]).split(" > ")[-1]
    answer = ask(retriever, f"{leaf.upper()} {brand.lower()}", 50)
    by_id = {named.item_id: named for named in answer.hits}
    assert by_id[hit.item_id].named == (f"brand '{brand}'", f"category '{leaf}'")
    assert f"brand '{brand}' and category '{leaf}' named" in by_id[hit.item_id].reason
    assert any(f"brand '{brand}'" not in other.named for other in answer.hits), "a weight, and no filter"
    assert {other.named for other in ask(retriever, f"{brand} {leaf}", 5, explain=False).hits} == {()}


def test_what_matched_is_told_by_stems(retriever: Retriever) -> None:
    (hit,) = [hit for hit in ask(retriever, "wibbles").hits if hit.item_id == "z-12"]
    assert hit.matched == ("wibble",)


@pytest.mark.parametrize("query", ["zzqqx vvkkj", "zzqqx 15 vvkkj", "the zzqqx", "the", "?"])
def test_numbers_and_small_words_do_not_make_a_query_known(retriever: Retriever, query: str) -> None:
    answer = ask(retriever, query, min_probability=0.001)
    assert (answer.no_good_match, answer.hits) == (True, [])
    assert answer.notes[0].startswith("No item and no known query has any of these words")


@pytest.mark.parametrize("query", ["quixol", "quixol 15 the zzqqx"])
def test_a_word_that_says_something_makes_a_query_known(retriever: Retriever, query: str) -> None:
    assert not ask(retriever, query, min_probability=0.001).no_good_match


@pytest.mark.parametrize("code", ["QQ-15", "AB-12345"])
def test_a_short_part_of_a_code_that_no_item_has_leads_to_nothing(retriever: Retriever, code: str) -> None:
    answer = ask(retriever, code)
    assert (ids(answer), answer.notes) == ([], (f"No item has the code '{code}'.",))


def test_a_word_beside_a_number_that_no_item_has_is_searched_for(retriever: Retriever) -> None:
    assert ids(ask(retriever, "zorbel-s99"))[0] == "z-6"


def test_what_loosened_a_search_is_said(retriever: Retriever, small_run: Path) -> None:
    query = frequent_query(retriever, small_run)
    typo = f"{query[:3]}{query[4:]}"
    (note,) = ask(retriever, " ".join([query] * 12 + [typo])).notes
    assert note.startswith(f"Nobody knows '{typo}': the search was for words near it, such as {query}")
    assert ask(retriever, query).notes == ()


def test_hits_near_in_meaning_alone_are_said_to_be_so(retriever: Retriever) -> None:
    answer = ask(retriever, "zzqqx", correct=False)
    assert answer.hits
    assert answer.notes == ("No item has any of these words: the hits are near in meaning.",)
    assert ask(retriever, "zzqqx", correct=False, channel="vector").notes == ()


@pytest.mark.parametrize(
    "query", ['"', "-", "- -", "a -", "''", "½", "🎧 -x", "no no no", "without", '""', "1/", "x" * 2_000]
)
def test_odd_queries_have_an_answer(retriever: Retriever, query: str) -> None:
    assert isinstance(ask(retriever, query), Answer)
