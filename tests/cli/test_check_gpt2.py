"""The comparison with what is published of GPT-2, on a small GPT-2 on loopback.

Its heads are planted at the published places, and a table of numbers is made for it. A table that
fits passes; each kind of miss has its own exit status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from analysis.cli import check_gpt2
from analysis.cli.check_gpt2 import main
from analysis.ioi.head_classes import HeadClass, published_classes
from analysis.models.load import PINNED, load_model
from analysis.provenance import GPT2_SMALL, model_identity
from analysis.report.published_numbers import published_numbers
from tests import checkpoints, ioi_models
from tests.loopback_hub import LoopbackHub, Repository, point_at

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

    from analysis.heads import HeadPair

PUBLISHED = published_classes("gpt2")["class"]
MOVERS = [*PUBLISHED.index[PUBLISHED == HeadClass.NAME_MOVER]]
NEGATIVES = [*PUBLISHED.index[PUBLISHED == HeadClass.NEGATIVE_NAME_MOVER]]
RANKED = [*MOVERS, *NEGATIVES]
N_PROMPTS = 16
Change = Callable[[pd.DataFrame], None]


def planted(movers: list[tuple[int, int]]) -> PreTrainedModel:
    return ioi_models.planted_gpt2(
        ioi_models.make_tokenizer(),
        movers=movers,
        negatives=NEGATIVES,
        backups=[(11, 2)],
        n_layers=12,
        n_heads=12,
    )


def serve(model: PreTrainedModel, folder: Path) -> LoopbackHub:
    checkpoints.save_checkpoint(model, ioi_models.make_tokenizer(), folder)
    return LoopbackHub({GPT2_SMALL: Repository(folder, commit=PINNED[GPT2_SMALL])})


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> check_gpt2.SmallNumbers:
    """What is measured of the small GPT-2, once for all comparisons."""
    folder = tmp_path_factory.mktemp("numbers")
    with serve(planted(MOVERS), folder / "gpt2") as hub, pytest.MonkeyPatch.context() as patch:
        point_at(hub.url, folder / "cache", patch)
        model = load_model("gpt2")
    return check_gpt2.measure_small(model, N_PROMPTS, 0, RANKED)


@pytest.fixture
def table(numbers: check_gpt2.SmallNumbers) -> pd.DataFrame:
    """A table of published numbers that it fits."""
    found = dict(
        zip(
            check_gpt2.QUANTITIES,
            (numbers.mean_rank, numbers.attribution, numbers.eigenvalue_score),
            strict=True,
        )
    )
    rows = [
        (quantity, layer, head, values[(layer, head)])
        for layer, head in RANKED
        for quantity, values in found.items()
    ]
    return pd.DataFrame(rows, columns=["quantity", "layer", "head", "value"])


@pytest.fixture(scope="module", params=["fits", "missed", "extra"])
def hub(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Path]]:
    movers = {"fits": MOVERS, "missed": MOVERS[1:], "extra": [*MOVERS, (8, 3)]}[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    with serve(planted(movers), folder / "gpt2") as served:
        yield request.param, served.url, folder / "cache"


@pytest.mark.slow
def test_heads_that_are_all_found_missed_or_extra(
    hub: tuple[str, str, Path],
    numbers: check_gpt2.SmallNumbers,
    table: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the hub to the exit status."""
    point_at(hub[1], hub[2], monkeypatch)
    table.to_csv(tmp_path / "published.csv", index=False)
    made = ["--published", str(tmp_path / "published.csv")]
    made += ["--published-difference", str(numbers.difference)]
    if hub[0] == "fits":  # the same weights, so the same numbers: they are not measured again

        def measured(
            model: TransformerBridge, n_prompts: int, seed: int, ranked: Sequence[HeadPair]
        ) -> check_gpt2.SmallNumbers:
            assert model_identity(model) == numbers.measured.model
            assert (n_prompts, seed, sorted(ranked)) == (N_PROMPTS, 0, sorted(RANKED))
            return numbers

        monkeypatch.setattr(check_gpt2, "measure_small", measured)
    status = main(["--prompts", str(N_PROMPTS), *made])
    said = capsys.readouterr().out
    expected = {"fits": check_gpt2.FOUND, "missed": check_gpt2.MISSED, "extra": check_gpt2.EXTRA}
    assert status == expected[hub[0]], said
    if hub[0] == "fits":
        assert "GPT-2 has what is published of it." in said
        assert said.count("All within tolerance.") == 5
    if hub[0] == "missed":
        assert "9.6 is published as a name mover and measured as nothing." in said
    if hub[0] == "extra":
        assert "8.3 is measured as a name mover and published as none of these." in said


def change(quantity: str, head: tuple[int, int], new: Callable[[float], float]) -> Change:
    def apply(table: pd.DataFrame) -> None:
        row = (table["quantity"] == quantity) & (table["layer"] == head[0])
        row &= table["head"] == head[1]
        table.loc[row, "value"] = new(float(table.loc[row, "value"].iloc[0]))

    return apply


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "status", "word"),
    [
        (change("mean_rank", (10, 7), lambda v: v + 9), check_gpt2.RANK_OFF, "mean rank"),
        (
            change("direct_logit_attribution", (9, 9), lambda v: -v),
            check_gpt2.ATTRIBUTION_OFF,
            "sign of the attribution",
        ),
        (
            change("eigenvalue_score", (10, 0), lambda v: v - 0.05),
            check_gpt2.EIGENVALUE_OFF,
            "eigenvalue copying score",
        ),
    ],
)
def test_each_kind_of_number_that_is_off_has_its_status(
    numbers: check_gpt2.SmallNumbers,
    table: pd.DataFrame,
    changed: Change,
    status: int,
    word: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for off in (False, True):
        if off:
            changed(table)
        table.to_csv(tmp_path / "published.csv", index=False)
        published = {
            name: published_numbers(name, tmp_path / "published.csv")
            for name in check_gpt2.QUANTITIES
        }
        found = check_gpt2.compare_small(numbers, published, numbers.difference)
        assert check_gpt2.verdict(found) == (status if off else check_gpt2.FOUND)
        said = capsys.readouterr().out
        assert said.count("Fails (") == off
        assert (f"published {word} " in " ".join(found[status].misses)) == off


def test_without_gpt2_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopbackHub({}) as hub:
        url = hub.url
    point_at(url, tmp_path / "cache", monkeypatch)
    assert main([]) == check_gpt2.OUT_OF_REACH == 3
    assert capsys.readouterr().err.startswith("GPT-2 is not in reach, so nothing was compared: ")


@pytest.mark.slow
def test_a_model_that_cannot_be_measured_is_another_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = checkpoints.make_tokenizer()  # knows no word of the prompts
    folder = tmp_path / "gpt2"
    checkpoints.save_checkpoint(checkpoints.gpt2_model(len(tokenizer)), tokenizer, folder)
    with LoopbackHub({GPT2_SMALL: Repository(folder, commit=PINNED[GPT2_SMALL])}) as hub:
        point_at(hub.url, tmp_path / "cache", monkeypatch)
        assert main(["--prompts", "8"]) == check_gpt2.FAILED
    assert "error: no places for the prompts" in capsys.readouterr().err


def test_wrong_options_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--prompts", "0"], ["--seed", "-1"], ["--published", "nowhere.csv"]):
        with pytest.raises(SystemExit):
            main(options)
        assert options[0] in capsys.readouterr().err


def test_a_table_that_is_none_is_said_before_gpt2_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.csv").write_text("quantity,layer\nmean_rank,9\n")
    monkeypatch.setattr(check_gpt2, "load_model", lambda _: pytest.fail("loaded first"))
    assert main(["--published", str(tmp_path / "bad.csv")]) == check_gpt2.FAILED
    assert "bad.csv lacks the columns head, value" in capsys.readouterr().err
