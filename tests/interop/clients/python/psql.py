"""psql on a terminal, as a person uses it: only there Ctrl-C cancels a statement and not the program."""

import os
import pty
import shutil
import signal
import subprocess
import tty

from proxy.demo import binaries
from tests.interop.clients.python.script import COPIED, LARGE_ROWS, ROLLED_BACK, Script, environment, main

DONE = "this was all"


def program(name: str) -> str:
    """The embedded one, which is the newest; the machine's where TLS is asked for, which that has not."""
    plain = environment("PGSSLMODE") == "disable"
    return str(binaries.program(name)) if plain else shutil.which(name) or name


class Said(Exception):  # noqa: N818 — psql has no exceptions
    """What psql said on its terminal."""


class Psql(Script):
    driver = "psql"
    version = subprocess.check_output([program("psql"), "--version"], text=True).split()[2]

    def connect(self) -> object:
        ours, its = pty.openpty()
        tty.setraw(its)  # no echo, and lines of any length
        command = [program("psql"), "-XAtnq", "-F,", "-Ppager=off", *(f"-vPROMPT{number}=" for number in (1, 2, 3))]
        self.process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its)
        os.close(its)
        self.terminal = os.fdopen(ours, "r+b", buffering=0)
        return self._say("SELECT current_setting('application_name');")

    def _say(self, text: str) -> str:
        """What psql prints in answer."""
        self.terminal.write(f"{text}\n".encode())
        return self._heard()

    def _heard(self) -> str:
        self.terminal.write(f"\\echo {DONE}\n".encode())
        said = b""
        while not said.endswith(f"{DONE}\n".encode()):
            said += self.terminal.read(65_536)
        return said.decode().removesuffix(f"{DONE}\n").strip()

    def _error(self) -> str:
        return self._say("\\echo :LAST_ERROR_SQLSTATE")

    def _count(self, step: str) -> object:
        return int(self._say(f"\\set step {step}\nSELECT count(*) FROM items WHERE step = :'step';"))

    def parameters(self) -> object:
        self._say("\\set number 41\n\\set text 'naïve ''quoted'''")
        number, text = self._say("SELECT :number + 1, :'text';").split(",")
        return [int(number), text]

    def prepared(self) -> object:
        self._say("PREPARE double (int) AS SELECT $1 * 2;")
        return [int(self._say(f"EXECUTE double ({number});")) for number in (21, 4)]

    def commit(self) -> object:
        self._say("BEGIN;\nINSERT INTO items VALUES ('commit');\nCOMMIT;")
        return self._count("commit")

    def rollback(self) -> object:
        self._say("BEGIN;\nINSERT INTO items VALUES ('rollback');\nSELECT 1 / 0;")
        sqlstate = self._error()
        self._say("ROLLBACK;")
        return [sqlstate, self._count("rollback")]

    def savepoint(self) -> object:
        self._say("BEGIN;\nINSERT INTO items VALUES ('savepoint');\nSAVEPOINT here;")
        self._say("INSERT INTO items VALUES ('savepoint');\nSELECT 1 / 0;\nROLLBACK TO here;\nCOMMIT;")
        return self._count("savepoint")

    def copy(self) -> object:
        self._say(f"\\copy copied FROM PROGRAM 'seq {COPIED} | sed s/$/,copied/' CSV")
        return int(self._say("\\copy copied TO PROGRAM 'wc -l' CSV"))

    def large(self) -> object:
        return int(self._say(f"{LARGE_ROWS} \\g | wc -l"))

    def cancel(self) -> object:
        self.terminal.write(b"SELECT pg_sleep(60);\n")
        subprocess.run([program("psql"), "-Xqc", "SELECT wait_for_sleeper()"], check=True, capture_output=True)
        self.process.send_signal(signal.SIGINT)
        self._heard()
        assert self._error() == "57014"
        return int(self._say("SELECT 1;"))

    def notify(self) -> object:
        self._say("LISTEN news;")
        subprocess.run([program("psql"), "-Xqc", "NOTIFY news, 'hello'"], check=True)
        told = self._say("SELECT 1;")
        return told.partition('with payload "')[2].partition('"')[0]

    def begin_leak(self) -> None:
        self._say("BEGIN;\nINSERT INTO items VALUES ('leak');")

    def use_leaked(self) -> None:
        told = self._say("SELECT 1;")
        if told != "1":
            raise Said(told)

    def commit_leaked(self) -> None:
        told = self._say("COMMIT;")
        if told:
            raise Said(told)

    def sqlstate(self, error: BaseException) -> str | None:
        return self._error() or None if isinstance(error, Said) else None

    def name_of(self, error: BaseException) -> str:
        return (
            "messages" + ("" if ROLLED_BACK else ", and a new connection")
            if isinstance(error, Said)
            else super().name_of(error)
        )

    def again(self) -> object:
        return int(self._say("SELECT 1;"))

    def go_on(self) -> object:
        return int(self._say("BEGIN;\nINSERT INTO items VALUES ('after');\nSELECT pg_backend_pid();\nCOMMIT;"))

    def close(self) -> None:
        self.terminal.write(b"\\q\n")
        self.process.wait(10)


if __name__ == "__main__":
    main(Psql())
