"""What the hub lists of a repository, asked once and answered at once.

huggingface_hub tries again and again for some 23 seconds when the hub is out of reach. Here one
request under a hard deadline settles whether there is a hub and what it has.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from analysis.errors import ModelError
from analysis.models.checkpoint import first_line
from analysis.models.packaged import NAME as PACKAGED

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

DEADLINE = 3.0
"""Seconds within which the hub must have answered, name look-up and connection included."""


class HubError(ModelError):
    """The hub does not give the model: it is out of reach, or does not have it, or not for us.

    Attributes:
        reason: what is wrong, as a clause.
        advice: what to do about it, as a clause.
    """

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason, advice)
        self.reason, self.advice = reason, advice

    def __str__(self) -> str:
        return f"{self.reason}: {self.advice.rstrip('.')}" + ("" if self.advice[-1] == "?" else ".")


class HubUnreachableError(HubError):
    """The hub gave no answer."""


def ask_hub(repo: str, revision: str | None) -> ModelInfo:
    """What the hub lists of a repository: its commit, its files, their sizes and checksums.

    The request runs in a thread of its own: a look-up or a connection that hangs keeps neither
    this call nor the end of the process waiting.

    Raises:
        HubUnreachableError: no answer within the deadline, or offline mode.
        HubError: the hub refuses.
    """
    from huggingface_hub import HfApi

    answer: list[ModelInfo | Exception] = []

    def ask() -> None:
        try:
            answer.append(
                HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=DEADLINE)
            )
        except Exception as error:  # every one is told apart below
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True, name="ask-hub")
    thread.start()
    thread.join(DEADLINE)
    reply = answer[0] if answer else TimeoutError(f"no answer within {DEADLINE:.0f} seconds")
    if isinstance(reply, Exception):
        raise refusal_of(repo, revision, reply) from reply
    return reply


def refusal_of(repo: str, revision: str | None, error: Exception) -> HubError:
    """The package's own error for what huggingface_hub raised."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, HFValidationError):
        return HubError(f"{repo!r} is neither a folder nor a possible hub id", "check the name")
    if isinstance(error, GatedRepoError):
        return HubError(
            f"the hub gives {repo} only to those who have accepted its terms",
            "accept them on the model's page and log in with `hf auth login`",
        )
    if isinstance(error, RepositoryNotFoundError):
        return HubError(
            f"{repo!r} is no folder here, and the hub knows no model of that name",
            "check the name, or log in with `hf auth login` if the model is private",
        )
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{repo} has no revision {revision!r}", "check the branch, tag or commit")
    if isinstance(error, OfflineModeIsEnabled):
        why = "offline mode is set by HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE"
    elif isinstance(error, HfHubHTTPError):
        why = f"it answered with HTTP status {error.response.status_code}"
    else:
        why = first_line(error)
    return HubUnreachableError(
        f"the hub ({constants.ENDPOINT}) cannot be reached ({why}) "
        f"and {repo} is not in the local cache",
        f"connect to the hub, or use load_model({PACKAGED!r}), which needs none",
    )
