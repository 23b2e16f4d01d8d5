"""pgbench with scripts; what they have found is read from a table."""

import subprocess
import tempfile
from pathlib import Path

import psycopg

from tests.interop.clients.python.psql import program
from tests.interop.clients.python.script import LARGE_ROWS, Script, Unsupported, main

LEAK = r"""
BEGIN;
INSERT INTO items VALUES ('leak');
\shell echo leaking
\setshell commits read answer && echo $answer
\if :commits = 0
SELECT 1;
\endif
END;
"""
ENDED = "an error ends its client"


class Ended(Exception):  # noqa: N818 — pgbench has no exceptions
    """What pgbench said when it ended with an error."""


class Pgbench(Script):
    driver = "pgbench"
    version = subprocess.check_output([program("pgbench"), "--version"], text=True).split()[2]

    def _start(self, script: str, *options: str) -> "subprocess.Popen[str]":
        file = Path(self.directory.name, "script")
        file.write_text(script)
        command = [program("pgbench"), "-n", "-f", str(file), *(options or ["-t1"])]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def _run(self, script: str, *options: str) -> None:
        with self._start(script, *options) as process:
            _, errors = process.communicate()
        if process.returncode:
            raise Ended(errors)

    def _found(self) -> list[str]:
        """The rows of items, which are none afterwards."""
        with psycopg.connect("") as connection:
            query = "WITH found AS (DELETE FROM items RETURNING id, step) SELECT step FROM found ORDER BY id"
            return [step for (step,) in connection.execute(query)]

    def connect(self) -> object:
        self.directory = tempfile.TemporaryDirectory()
        self._run("INSERT INTO items VALUES (current_setting('application_name'));")
        (name,) = self._found()
        return name

    def parameters(self) -> object:
        options = ("-t1", "-Mextended", "-Dnumber=41", "-Dtext=naïve 'quoted'")
        self._run("INSERT INTO items VALUES (:number::int + 1), (:text::text);", *options)
        number, text = self._found()
        return [int(number), text]

    def prepared(self) -> object:
        script = "\\set number 25 - :number\nINSERT INTO items VALUES (:number::int * 2);"
        self._run(script, "-t2", "-Mprepared", "-Dnumber=4")
        return [int(number) for number in self._found()]

    def commit(self) -> object:
        self._run("BEGIN;\nINSERT INTO items VALUES ('commit');\nCOMMIT;")
        return len(self._found())

    def rollback(self) -> object:
        raise Unsupported(ENDED)

    def savepoint(self) -> object:
        second = "SAVEPOINT here;\nINSERT INTO items VALUES ('savepoint');\nROLLBACK TO here;"
        self._run(f"BEGIN;\nINSERT INTO items VALUES ('savepoint');\n{second}\nCOMMIT;")
        return len(self._found())

    def copy(self) -> object:
        """Initializing copies a hundred thousand rows."""
        for steps in ("dtgvp", "d"):
            if steps == "d":
                with psycopg.connect("") as connection:
                    rows = connection.execute("SELECT count(*) FROM pgbench_accounts").fetchone()
            subprocess.run([program("pgbench"), "-i", "-I", steps], check=True, capture_output=True)
        return rows[0] if rows else None

    def large(self) -> object:
        """The first column of the last row is their number."""
        self._run(f"{LARGE_ROWS} \\aset\nINSERT INTO items VALUES (:g::int);")
        (number,) = self._found()
        return int(number)

    def begin_leak(self) -> None:
        self.leak = self._start(LEAK)
        assert self.leak.stdout
        while self.leak.stdout.readline() != "leaking\n":
            pass

    def use_leaked(self) -> None:
        self._answer("0\n")

    def commit_leaked(self) -> None:
        self._answer("1\n")

    def _answer(self, answer: str) -> None:
        if self.leak.returncode is not None:
            raise Unsupported(ENDED)
        _, errors = self.leak.communicate(answer)
        if self.leak.returncode:
            raise Ended(errors.strip())

    def name_of(self, error: BaseException) -> str:
        return f"exit status {self.leak.returncode}" if isinstance(error, Ended) else super().name_of(error)

    def again(self) -> object:
        self._found()
        self._run("INSERT INTO items VALUES (1);")
        (number,) = self._found()
        return int(number)

    def go_on(self) -> object:
        raise Unsupported(ENDED)

    def close(self) -> None:
        self.directory.cleanup()


if __name__ == "__main__":
    main(Pgbench())
