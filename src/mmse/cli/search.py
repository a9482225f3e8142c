"""The command that searches a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mmse.cli.options import Json, RunArgument, stdout


def search(
    folder: RunArgument,
    query: Annotated[str, typer.Argument(help="What a shopper would type.")],
    k: Annotated[int, typer.Option("-k", "--hits", help="How many hits.", min=1)] = 10,
    user: Annotated[str | None, typer.Option(help="A user_id of the log: its history counts.")] = None,
    user_salt_file: Annotated[
        Path | None, typer.Option(help="The salt with which the run's ids are hashed ([mine] user_salt_file).")
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="brand=Bosch, price=10..20, or JSON (docs/search.md); all of several must hold."),
    ] = None,
    min_probability: Annotated[float, typer.Option(help="Leave out hits less likely to be clicked.")] = 0.0,
    target_precision: Annotated[
        float | None, typer.Option(help="As many hits as are clicked that often on average.")
    ] = None,
    cap: Annotated[list[str] | None, typer.Option(help="brand=2: at most two hits of a brand.")] = None,
    boost: Annotated[
        list[str] | None, typer.Option(help="1.5:brand=Bosch: multiplies the odds of what the filter lets through.")
    ] = None,
    channel: Annotated[str, typer.Option(help="hybrid, vector, lexical or rrf.")] = "hybrid",
    offset: Annotated[int, typer.Option(help="So many hits are skipped: the next page.", min=0)] = 0,
    sort: Annotated[
        str | None, typer.Option(help="Orders the relevant hits by a number: price, or -rating from high to low.")
    ] = None,
    correct: Annotated[bool, typer.Option(help="Corrects misspelt words.")] = True,
    all_variants: Annotated[
        bool, typer.Option("--all-variants", help="Shows every item of an item_group, not the best one alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Searches a run: hits, how likely each is, and why it stands where it stands."""
    from mmse.cli import search_options as asking
    from mmse.cli.console import answer_table
    from mmse.ranking.calibration import NO_PROBABILITIES
    from mmse.retrieval.retriever import Retriever
    from mmse.schema.user_ids import UserSalt

    query, user = _as_text(query), _as_text(user) if user is not None else None
    if user_salt_file is not None:
        user = UserSalt.read(user_salt_file).hash_id(user)
    retriever = Retriever.open(folder)
    request = asking.search_of(
        retriever.kinds,
        query,
        k,
        user,
        filters=filters or [],
        caps=cap or [],
        boosts=boost or [],
        channel=channel,
        min_probability=min_probability,
        target_precision=target_precision,
        offset=offset,
        sort=sort,
        correct=correct,
        all_variants=all_variants,
    )
    answer = retriever.answer(request)
    if as_json:
        stdout.print_json(json.dumps({"query": query, "user_id": user} | asking.plain_answer(answer), default=str))
    else:
        stdout.print(answer_table(query, answer))
        if not retriever.ranking.calibration.is_learned:
            stdout.print(NO_PROBABILITIES, style="dim", soft_wrap=True)


def _as_text(argument: str) -> str:
    """`argument` with `?` for what is no text: a terminal may send any bytes, and JSON has no place for them."""
    return argument.encode("utf-8", "replace").decode("utf-8")
