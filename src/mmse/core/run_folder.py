"""A run folder: where each step keeps what it makes, what it is made from, and whether the folders fit one another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mmse.core import artifact, locks
from mmse.core.artifact import MANIFEST, Manifest
from mmse.core.errors import ArtifactError, OutputError

DATASET, MODEL, VECTORS, INDEX, RANKING = "dataset", "model", "vectors", "index", "ranking"
SERVING, MAP, REPORT = "serving", "map", "report"

INPUTS: Mapping[str, tuple[str, ...]] = {
    DATASET: (),
    MODEL: (DATASET,),
    VECTORS: (DATASET, MODEL),
    INDEX: (DATASET, MODEL, VECTORS),
    RANKING: (DATASET, MODEL),
    SERVING: (DATASET,),
    MAP: (DATASET, VECTORS),
    REPORT: (DATASET, VECTORS, INDEX, RANKING),
}
"""The folders of a run in the order in which they are made, each with the folders that it is made from."""

COMMANDS: Mapping[str, str] = {
    DATASET: "mmse mine",
    MODEL: "mmse train",
    VECTORS: "mmse embed",
    INDEX: "mmse index",
    RANKING: "mmse rank",
    SERVING: "mmse mine",
    MAP: "mmse map",
    REPORT: "mmse evaluate",
}
"""The command that makes each folder."""

SEARCH = (MODEL, VECTORS, INDEX, RANKING, SERVING)
"""The folders that a search needs."""


@dataclass(frozen=True)
class RunFolder:
    """The folders of one run below `path`."""

    path: Path

    @property
    def dataset(self) -> Path:
        """What mining made of the two tables."""
        return self.path / DATASET

    @property
    def model(self) -> Path:
        """The trained towers."""
        return self.path / MODEL

    @property
    def vectors(self) -> Path:
        """The vectors of the catalogue."""
        return self.path / VECTORS

    @property
    def vector_parts(self) -> Path:
        """Parts of the vectors that several processes make, before they are merged."""
        return self.path / f"{VECTORS}.parts"

    @property
    def index(self) -> Path:
        """The vector index, the lexical index and the columns to filter by."""
        return self.path / INDEX

    @property
    def ranking(self) -> Path:
        """What makes one list of the channels."""
        return self.path / RANKING

    @property
    def serving(self) -> Path:
        """What a search needs of the dataset: items, their counts, histories, popular queries."""
        return self.path / SERVING

    @property
    def map(self) -> Path:
        """The catalogue as a map."""
        return self.path / MAP

    @property
    def report(self) -> Path:
        """The offline evaluation."""
        return self.path / REPORT

    @property
    def baselines(self) -> Path:
        """Models of other recipes, by name."""
        return self.path / "baselines"

    @property
    def rules(self) -> Path:
        """The versions of the merchandiser's rules."""
        return self.path / "rules"

    @property
    def edits(self) -> Path:
        """The live catalogue: its log of edits, and the bases that edits were folded into."""
        return self.path / "live"

    @property
    def shop(self) -> Path:
        """The file that names the shop.toml of the run."""
        return self.path / "shop.json"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """The right to make folders of the run; raises `OutputError` where another process has it.

        Where the run may not be written, nobody can make a folder, and there is nothing to hold.
        """
        with locks.try_lock_folder(self.path) as has_lock:
            if not has_lock:
                raise OutputError(
                    f"Another process is making folders of {self.path} at this moment.",
                    f"Wait until it has ended (`fuser -v {self.path}` names it), or choose another run folder.",
                )
            yield

    def manifest(self, kind: str) -> Manifest:
        """The manifest of the folder `kind`; raises `ArtifactError` where it is missing or damaged."""
        return artifact.read_manifest(self.path / kind, kind)

    def fingerprints(self, kind: str) -> dict[str, str]:
        """The fingerprint of each folder that `kind` is made from, as they are now."""
        return {name: self.manifest(name).fingerprint for name in INPUTS[kind]}

    def verify(self, kinds: Iterable[str], *, content: bool = False) -> dict[str, Manifest]:
        """The manifests of `kinds`; raises `ArtifactError` where a folder is not whole or does not fit the others.

        With `content` every file is read and compared with its digest, otherwise its size alone.
        """
        manifests = {kind: artifact.verify(self.path / kind, kind, content=content) for kind in kinds}
        require_lineage(manifests, self.path)
        return manifests

    def name_damage(self, kinds: Iterable[str]) -> AbstractContextManager[None]:
        """As `artifact.name_damage`, of the folders `kinds`."""
        return artifact.name_damage({self.path / kind: kind for kind in kinds})

    def has(self, kind: str) -> bool:
        """Whether the folder `kind` is there."""
        return (self.path / kind / MANIFEST).is_file()


def require_lineage(manifests: Mapping[str, Manifest], path: Path) -> None:
    """Raises `ArtifactError` where two folders of `path` were made from different versions of a third one.

    A folder that is not among `manifests` is judged by what the others say of it.
    """
    fingerprints = {kind: manifest.fingerprint for kind, manifest in manifests.items()}
    witness = {kind: path / kind for kind in manifests}
    for kind in (kind for kind in INPUTS if kind in manifests):
        for name in INPUTS[kind]:
            fingerprint = manifests[kind].inputs.get(name, "")
            if fingerprints.setdefault(name, fingerprint) != fingerprint:
                raise ArtifactError(
                    f"{path / kind} was made from another {name} folder (fingerprint {fingerprint}) than "
                    f"{witness[name]} (fingerprint {fingerprints[name]}): the two do not fit.",
                    f"Run `{COMMANDS[kind]}` and the steps after it again; `mmse run` finds out which they are.",
                )
            witness.setdefault(name, path / kind)
