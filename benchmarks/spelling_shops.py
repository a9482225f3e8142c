"""Catalogues for `spelling.py` that nobody's log is needed for, and what is asked of them, all made by rule.

German titles are of compounds (`Holzschrauben`), Chinese ones without a blank; both are put together from the lists
below. The phones are a shop's own export, whose queries are the runs of words that most titles have.
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
from no_log import PHONES, build

from mmse.core.run_folder import RunFolder
from mmse.dataset.folder import DatasetFolder
from mmse.shop import read_shop
from mmse.text.normalise import words

GERMAN_HEADS = (
    ("schraube", "schrauben", "Holz Terrassen Spanplatten Blech Maschinen", "Eisenwaren > Verbinder"),
    ("schuh", "schuhe", "Damen Herren Wander Haus Sport Kinder", "Schuhe"),
    ("stuhl", "stühle", "Büro Garten Klapp Küchen Schaukel", "Möbel"),
    ("jacke", "jacken", "Regen Winter Leder Jeans Ski", "Kleidung"),
    ("mühle", "mühlen", "Kaffee Pfeffer Gewürz Getreide Salz", "Küche"),
    ("lampe", "lampen", "Tisch Steh Wand Decken Taschen", "Leuchten"),
    ("tasche", "taschen", "Hand Sport Reise Einkaufs Laptop", "Gepäck"),
    ("bürste", "bürsten", "Zahn Haar Schuh Draht Spül", "Drogerie"),
    ("messer", "messer", "Taschen Brot Küchen Teppich Fleisch", "Küche"),
    ("säge", "sägen", "Kreis Stich Ketten Hand Laub", "Werkzeug"),
    ("fräse", "fräsen", "Ober Garten Boden Kanten", "Werkzeug"),
    ("decke", "decken", "Bett Woll Tisch Pferde Kuschel", "Textil"),
    ("gefäß", "gefäße", "Pflanz Vorrats Trink Glas", "Haushalt"),
)
GERMAN_BRANDS = ("Lindner", "Walz", "Berghof", "Kranich", "Südhang", "Eichler")
GERMAN_COLOURS = ("schwarz", "weiß", "grün", "rot", "blau", "braun")
CHINESE_KINDS = {
    "手机配件": "手机壳",
    "数码": "蓝牙耳机 充电宝",
    "鞋": "运动鞋 高跟鞋",
    "女装": "连衣裙 羽绒服",
    "箱包": "双肩包 行李箱",
    "厨房": "电饭煲 保温杯",
    "个护": "洗发水",
    "母婴": "儿童玩具 婴儿车",
    "家具": "办公椅 书桌",
    "家纺": "床上用品 窗帘",
    "灯具": "台灯",
    "电脑": "显示器 机械键盘",
}
CHINESE_BRANDS = ("华美", "青松", "海蓝", "金鹿", "云朵", "长风")
CHINESE_TRAITS = ("黑色", "白色", "红色", "大容量", "轻便", "防水", "家用", "新款", "加厚", "便携")
MIN_TITLES = 10
"""The queries of a catalogue without a log are runs of words that so many titles have."""


class MadeShop(NamedTuple):
    """A run and the queries that it is asked."""

    run: Path
    queries: list[str]


def logged(run: Path, n: int) -> MadeShop:
    """A run as it is, with the `n` queries that its log has most."""
    table = pq.read_table(DatasetFolder(RunFolder(run).dataset).queries).slice(0, n)
    queries = [query for query in table["query"].to_pylist() if query.isascii() and any(map(str.isalpha, query))]
    return MadeShop(run, queries)


def make_shop(name: str, folder: Path, n: int, phones: Path | None) -> MadeShop:
    """The shop `name` in `folder`, where it stays, with at most `n` queries; `phones` is the export of the phones."""
    run = folder / "run"
    if name == "phones":
        assert phones is not None, "the export of the phones is needed: --phones FILE"
        write_toml(folder, phones, PHONES)
        queries = popular_runs(read_column(phones, "name"), n)
    else:
        items, queries = {"german": german, "chinese": chinese}[name]()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(items[0]))
            writer.writeheader()
            writer.writerows(items)
        write_toml(folder, folder / "items.csv", "")
        random.Random(name).shuffle(queries)
    build(read_shop(folder / "shop.toml"), run)
    return MadeShop(run, queries[:n])


def write_toml(folder: Path, items: Path, columns: str) -> None:
    """A shop.toml of items alone; its language is found."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shop.toml").write_text(f"[items]\nsource = {json.dumps(str(items.resolve()))}\n{columns}\n", "utf-8")


def read_column(path: Path, column: str) -> list[str]:
    """The texts of a column of a gzip CSV."""
    import gzip

    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [row[column] for row in csv.DictReader(file)]


def popular_runs(titles: Iterable[str], n: int) -> list[str]:
    """The `n` runs of one to three words that most titles have, longer runs first where as many have them."""
    counts = Counter[str]()
    for title in titles:
        text = [word for word in words(re.sub(r"\(.*?\)", "", title)) if word.isascii()]
        counts.update({" ".join(text[i : i + size]) for size in (1, 2, 3) for i in range(len(text) - size + 1)})
    runs = [run for run, count in counts.items() if count >= MIN_TITLES and all(len(w) >= 4 for w in run.split())]
    return sorted(runs, key=lambda run: (-counts[run], -len(run), run))[:n]


def german() -> tuple[list[dict[str, str]], list[str]]:
    """Items whose titles are brand, compound and colour; the queries are compounds, with and without colour."""
    items: list[dict[str, str]] = []
    queries: list[str] = []
    for _, plural, modifiers, category in GERMAN_HEADS:
        for modifier in modifiers.split():
            compound = modifier + plural
            queries += [compound.lower(), f"{compound} {GERMAN_COLOURS[len(queries) % 6]}".lower()]
            for brand in GERMAN_BRANDS:
                for colour in GERMAN_COLOURS[:4]:
                    title = f"{brand} {compound} {colour}"
                    items.append(
                        {"item_id": f"DE{len(items):05d}", "title": title, "category": category, "brand": brand}
                    )
    return items, queries


def chinese() -> tuple[list[dict[str, str]], list[str]]:
    """Items whose titles are brand, two traits and a kind without a blank; the queries are a trait and a kind."""
    items: list[dict[str, str]] = []
    rng = random.Random(3)
    kinds = {kind: category for category, names in CHINESE_KINDS.items() for kind in names.split()}
    for kind, category in kinds.items():
        for brand in CHINESE_BRANDS:
            for _ in range(6):
                title = brand + "".join(rng.sample(CHINESE_TRAITS, 2)) + kind
                items.append({"item_id": f"ZH{len(items):05d}", "title": title, "category": category, "brand": brand})
    return items, [*kinds, *(trait + kind for kind in kinds for trait in CHINESE_TRAITS[::3])]


def ending(query: str) -> str | None:
    """The last part of a German compound: `holzschrauben` ends with `schrauben`."""
    first = query.split()[0]
    ends = (plural for _, plural, _, _ in GERMAN_HEADS if first.endswith(plural))
    return next(ends, None)


def german_number(query: str) -> str | None:
    """A compound in the singular."""
    first, *rest = query.split()
    pair = next(((one, many) for one, many, _, _ in GERMAN_HEADS if first.endswith(many) and one != many), None)
    return " ".join([first.removesuffix(pair[1]) + pair[0], *rest]) if pair else None


def compound_apart(query: str) -> str | None:
    """A compound in two words."""
    first, *rest = query.split()
    end = ending(query)
    return " ".join([first.removesuffix(end), end, *rest]) if end else None


def umlauts(spelling: dict[str, str]) -> Callable[[str], str | None]:
    """A change that writes umlauts as `spelling` does."""

    def change(query: str) -> str | None:
        text = "".join(spelling.get(letter, letter) for letter in query)
        return text if text != query else None

    return change


PLAIN_VOWELS = {"ä": "a", "ö": "o", "ü": "u", "ß": "ss"}
TWO_VOWELS = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"}
