"""`mmse cycle` on the command line: what it says of a bad day, and its exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cli.called import Call
from cycle.days import POISONS, write_shop
from mmse.serving.versions.publish import publish
from mmse.shop import Shop


def test_a_bad_day_is_named_and_the_exit_code_is_one(
    call: Call, small_run: Path, small_shop: Shop, tmp_path: Path
) -> None:
    shutil.copytree(small_run, tmp_path / "run")
    publish(tmp_path / "site", tmp_path / "run")
    shop_file = write_shop(tmp_path / "shop", small_shop, POISONS["prices"][0])
    done = call("cycle", tmp_path / "site", shop_file, "--out", tmp_path / "run")
    assert done.code == 1
    assert "refused 400 of 400 items (100%) cost more than 3 times" in " ".join(done.out.split())
    assert "refused: No version was published because of prices; version 0001 goes on being served." in done.out
    assert "--accept prices." in done.out
    assert (tmp_path / "site" / "cycles" / "0001" / "cycle.html").is_file()
    done = call("cycle", tmp_path / "site", shop_file, "--out", tmp_path / "run", "--json")
    assert (done.code, json.loads(done.out)["outcome"]) == (1, "refused")


def test_a_folder_that_is_no_site_is_named(call: Call, small_shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_text("cat", "utf-8")
    done = call("cycle", tmp_path, small_shop.path)
    assert done.code == 2
    assert "is neither a site nor a run folder" in done.err
