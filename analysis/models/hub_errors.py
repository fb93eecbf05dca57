"""Why the hub does not give a model, told apart: each case has one sentence and one advice."""

from __future__ import annotations

import re
from typing import Any

from analysis.errors import ModelError, first_line
from analysis.models.packaged import NAME as PACKAGED

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@|(?<![\w/])[^\s/:@'\"(]+:[^\s/'\"]+@")
"""User and password before a host, after a scheme or, where that was forgotten, without one."""
_TOKEN = re.compile(r"(?<![A-Za-z0-9])hf_(oauth_|jwt_)?[A-Za-z0-9]{20,}[\w.-]*")
"""An access token, told by its many letters and digits: folders are called hf_… too."""


def masked(text: str) -> str:
    """Text without the user and password of an address, and without access tokens."""
    return _TOKEN.sub("hf_***", _CREDENTIALS.sub("***@", text))


def endpoint() -> str:
    """The hub's address as it may be shown."""
    from huggingface_hub import constants

    return masked(constants.ENDPOINT)


class HubError(ModelError):
    """The hub does not give the model: it is out of reach, or does not have it, or not for us.

    Attributes:
        reason: what is wrong, as a clause.
        advice: what to do about it, as a clause.
        of_the_hub: of the reason, what is wrong with the hub, whatever the cache lacks.
    """

    def __init__(self, reason: str, advice: str) -> None:
        reason, advice = masked(reason), masked(advice)
        super().__init__(reason, advice)
        self.reason, self.advice, self.of_the_hub = reason, advice, reason

    def __str__(self) -> str:
        return f"{self.reason}: {self.advice.rstrip('.')}" + ("" if self.advice[-1] == "?" else ".")


class HubUnreachableError(HubError):
    """No hub answered: no connection, no answer in time, or a server's own failure."""


class HubBusyError(HubError):
    """What answered lets nobody through for now: too many requests, a proxy, a login page."""


def hub_error(repo: str, revision: str | None, error: Exception) -> HubError:
    """The package's own error for what huggingface_hub or its HTTP client raised."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    if isinstance(error, HubError):
        return error
    if isinstance(error, HFValidationError):
        return HubError(
            f"{repo!r:.200} is neither a folder nor a possible hub id", "check the name"
        )
    if isinstance(error, HfHubHTTPError):
        return status_error(repo, revision, error.response)
    if isinstance(error, OfflineModeIsEnabled):
        return _unreachable(repo, "offline mode is set by HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE")
    text = first_line(error)
    if type(error).__name__ == "ProxyError" and text.startswith("407"):
        return _proxy()
    if type(error).__name__ in ("UnsupportedProtocol", "InvalidURL", "LocalProtocolError"):
        return HubError(
            f"the hub's address {endpoint()!r} cannot be used ({text})",
            "set HF_ENDPOINT to an address such as https://huggingface.co, or unset it",
        )
    if isinstance(error, UnicodeEncodeError):  # of what is sent, only this may be no ASCII
        return HubError(
            "the access token holds a character that no token has, as where it was copied "
            "shortened (hf_…)",
            "log in again with `hf auth login`, or correct or unset HF_TOKEN",
        )
    if isinstance(error, (ValueError, TypeError, KeyError, AttributeError)):  # no JSON, or another
        return not_a_hub()
    return _unreachable(repo, text)


def status_error(repo: str, revision: str | None, response: Any) -> HubError:
    """The error for an answer with an HTTP status that is none of success."""
    status, code = response.status_code, response.headers.get("X-Error-Code")
    said = str(response.headers.get("X-Error-Message") or "")
    if code == "GatedRepo":
        return HubError(
            f"the hub gives {repo} only to those who have accepted its terms",
            "accept them on the model's page and log in with `hf auth login`",
        )
    if status == 401 and re.search(r"credential|token|expired", said, re.IGNORECASE):
        return HubError(
            f"the hub ({endpoint()}) does not accept your access token ({said.rstrip('.')})",
            "it is wrong or has expired; log in again with `hf auth login`, or unset HF_TOKEN to "
            "load public models without one",
        )
    if code == "RevisionNotFound":
        return HubError(
            f"{repo} has no revision {revision!r:.200}", "check the branch, tag or commit"
        )
    if code == "RepoNotFound" or status == 404:
        return HubError(
            f"{repo!r:.200} is no folder here, and the hub ({endpoint()}) knows no model of "
            "that name",
            "check the name, or log in with `hf auth login` if the model is private",
        )
    if status == 401:
        return HubError(
            f"the hub ({endpoint()}) wants a login for {repo} (HTTP status 401)",
            "log in with `hf auth login`, or set HF_TOKEN",
        )
    if status == 403:
        why = f": {said.rstrip('.')}" if said else ""
        return HubError(
            f"the hub ({endpoint()}) forbids access to {repo} (HTTP status 403{why})",
            "use an access token that may read it, or ask the owner of the model",
        )
    if status == 407:
        return _proxy()
    if status == 429:
        after = str(response.headers.get("Retry-After") or "")
        wait = f"{int(after):,} seconds" if after.isdecimal() and len(after) < 9 else "a while"
        return HubBusyError(
            f"the hub ({endpoint()}) takes no more requests from here for now (HTTP status 429)",
            f"wait {wait} and try again, or log in with `hf auth login`, which allows more",
        )
    if status >= 500 or status == 408:
        return _unreachable(repo, f"it answered with HTTP status {status}")
    if 300 <= status < 400 or status == 511:
        return not_a_hub()
    return HubError(
        f"the hub ({endpoint()}) refused the request for {repo} (HTTP status {status})",
        "check HF_ENDPOINT and the name",
    )


def not_a_hub() -> HubError:
    """Something answered, and not as a hub does: a login page, another server."""
    return HubBusyError(
        f"what answered at {endpoint()} is no hub, but may be the login page of a network or proxy",
        "open a page in a browser and log in, or correct HF_ENDPOINT, then try again",
    )


def _proxy() -> HubError:
    return HubBusyError(
        f"the proxy before the hub ({endpoint()}) wants a login (HTTP status 407)",
        "put a user and password into HTTPS_PROXY, or unset it",
    )


def _unreachable(repo: str, why: str) -> HubUnreachableError:
    of_the_hub = masked(f"the hub ({endpoint()}) cannot be reached ({why})")
    error = HubUnreachableError(
        f"{of_the_hub} and {repo} is not in the local cache",
        f"connect to the hub, or use load_model({PACKAGED!r}), which needs none",
    )
    error.of_the_hub = of_the_hub
    return error
