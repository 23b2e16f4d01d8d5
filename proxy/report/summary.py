"""One sentence for a person: who, what, for how long, and the statement that leads to the code."""

from typing import Final

from proxy.attribution.classify import OLD_TRANSACTION
from proxy.report.events import Client, Leak
from proxy.settings import duration_text

# What a client has done, behind "has" or "had".
_done: Final = {
    "idle_in_transaction": "been idle for {held} in a transaction",
    "idle_in_failed_transaction": "been idle for {held} in a failed transaction",
    "stalled_pipeline": "sent no Sync for {held} in a transaction",
    "stalled_copy": "sent no COPY data for {held} in a transaction",
    "unread_results": "not read its results for {held} in a transaction",
}
_kept_open: Final = "had a transaction open for {age}"


def who(client: Client) -> str:
    """The client as people call it."""
    where = client.address or "local"
    account = f"{client.user}@{client.database}"
    return f"{client.application_name} ({account}, {where})" if client.application_name else f"{account} ({where})"


def seconds(length: float) -> str:
    """A length of time with as many digits as matter."""
    return f"{length:.1f} s" if length < 100 else f"{length:.0f} s"  # noqa: PLR2004 - three digits say enough


def _what(leak: Leak) -> str:
    template = _kept_open if leak.leak_class == OLD_TRANSACTION else _done[leak.hold]
    done = template.format(held=seconds(leak.held_s), age=seconds(leak.transaction.age_s))
    opener = leak.transaction.opener
    return f"{done} opened by {opener}" if opener else done


def flagged(leak: Leak) -> str:
    """A limit passed."""
    return f"{who(leak.client)} has {_what(leak)}"


def terminated(leak: Leak, *, rolled_back: bool) -> str:
    """The session was ended, perhaps after its transaction had been rolled back."""
    before = ", rolled back before" if rolled_back else ""
    return f"terminated the session of {who(leak.client)}, which had {_what(leak)}{before}"


def rolled_back(leak: Leak) -> str:
    """The transaction was rolled back."""
    return f"rolled back the transaction of {who(leak.client)}, which had {_what(leak)}; its connection stays"


_due: Final = {
    "rollback": ("its transaction", "rolled back"),
    "terminate": ("its session", "ended"),
}
_spared: Final = {
    "observe": "{whose} would have been {done} (mode is observe)",
    "budget": "{whose} was to be {done}, but actions_per_minute is spent",
    "unsafe": "{whose} was to be {done}, but that is not safe: {detail}",
}


def spared(leak: Leak, action: str, reason: str, detail: str) -> str:
    """An action was due and was not carried out."""
    whose, done = _due[action]
    return f"{who(leak.client)} has {_what(leak)}; {_spared[reason].format(whose=whose, done=done, detail=detail)}"


def resolved(leak: Leak, outcome: str, resumed_with: str) -> str:
    """The transaction ended by itself."""
    resumed = f", going on with {resumed_with}" if resumed_with else ""
    did = {"commit": "committed", "rollback": "rolled back"}.get(outcome, "ended its transaction")
    return f"{who(leak.client)} {did} after it had {_what(leak)}{resumed}"


def abandoned(leak: Leak, how: str, running: str) -> str:
    """The client went away."""
    went = {"terminate": "said goodbye", "reset": "broke the connection", "timeout": "was lost"}
    opener = f", opened by {leak.transaction.opener}" if leak.transaction.opener else ""
    busy = f", while running {running}" if running else ""
    age = seconds(leak.transaction.age_s)
    return f"{who(leak.client)} {went.get(how, 'went away')} with a transaction of {age} open{opener}{busy}"


def limit(length: float | None) -> str:
    """A limit as it is written in the configuration."""
    return duration_text(length) if length is not None else "none"
