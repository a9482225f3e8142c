"""A session of Spark for one piece of work, and errors that say what to install or to start."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmse.core.errors import MmseError, UsageError
from mmse.core.extras import require_extra

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

OLDEST_JAVA = 17
CONNECT_S = 10.0
_DEFAULTS = {
    "spark.app.name": "mmse",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    "spark.python.worker.reuse": "true",
}
"""Settings of the application, which `[mine.spark]` may change."""
_RULES = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.parser.escapedStringLiterals": "true",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "65536",
    "spark.sql.caseSensitive": "true",
}
"""Settings on which the meaning of the rules depends."""


@contextlib.contextmanager
def open_spark(master: str, settings: Mapping[str, str], work: str = "mine the log") -> Iterator[SparkSession]:
    """A session on `master` with `settings` of Spark; its application ends with it, unless it ran before.

    `work` says for the message of a failure what the session is for.
    Raises `UsageError` where pyspark or Java is missing, or where the master does not answer.
    """
    require_extra("spark")
    _check_java()
    check_master(master)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a pandas that pyspark does not know; no pandas is used
        from pyspark.sql import SparkSession

        former = SparkSession.getActiveSession()
        application = former or _start(master, settings)
        try:
            session = application.newSession()
            for name, value in _RULES.items():
                session.conf.set(name, value)
            with explain_failures(work):
                yield session
        finally:
            if former is None:
                application.stop()


def _start(master: str, settings: Mapping[str, str]) -> SparkSession:
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", settings.get("spark.pyspark.python", sys.executable))
    builder = SparkSession.builder.master(master)
    for name, value in (_DEFAULTS | dict(settings)).items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except Exception as error:
        raise UsageError(
            f"Spark does not start on the master {master!r}: {first_line(error)}.",
            "Look at master and [mine.spark] below [mine] of shop.toml (what Java wrote before this may say more); "
            'master = "local[2]" needs no cluster.',
        ) from error


@contextlib.contextmanager
def explain_failures(work: str) -> Iterator[None]:
    """Turns what Spark raises into a `UsageError` with the line that tells why."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except MmseError:
        raise
    except (PySparkException, Py4JError) as error:
        raise UsageError(
            f"Spark could not {work}: {first_line(error)}.",
            "The log of Spark says more; a partition that needs more memory gets it from memory_limit in [mine] and "
            "spark.executor.memory in [mine.spark] of shop.toml.",
        ) from error


def first_line(error: Exception) -> str:
    """What went wrong, in a line: what Python raised in a task, or else what Spark says first."""
    java_error = getattr(error, "java_exception", None)
    text = str(error if java_error is None else java_error.toString())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    in_python = [line for line in lines if re.match(r"([\w.]+\.)?\w*(Error|Exception|Exit)\b.*: ", line)]
    causes = [line for line in in_python if not re.match(r"(org\.apache|java\.|py4j\.|net\.)", line)]
    return (causes[-1] if causes else (lines or [type(error).__name__])[0]).removesuffix(".")[:500]


def _check_java() -> None:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java")) if home else shutil.which("java")
    cure = (
        f"Install Java {OLDEST_JAVA} or later (Debian and Ubuntu: apt install openjdk-17-jre-headless), and let "
        "JAVA_HOME name its folder if there are several."
    )
    if java is None:
        raise UsageError(
            f"Spark needs Java {OLDEST_JAVA} or later: {f'JAVA_HOME is {home}' if home else 'none'}.", cure
        )
    text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    version = re.search(r'version "(?:1\.)?(\d+)', text)
    if version is None or int(version[1]) < OLDEST_JAVA:
        found = version[1] if version else text.strip()[:100]
        raise UsageError(f"Spark needs Java {OLDEST_JAVA} or later, and {java} is {found}.", cure)


def check_master(master: str) -> None:
    """Asks the ports of a standalone master, for which Spark itself would wait a minute and more."""
    if not master.startswith("spark://"):
        return
    faults = []
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S):
                return
        except (OSError, ValueError) as error:
            faults.append(f"{address} ({error})")
    raise UsageError(
        f"The master of Spark does not answer: {', '.join(faults)}.",
        'Start it, or correct master below [mine] of shop.toml; master = "local[2]" needs no cluster.',
    )
