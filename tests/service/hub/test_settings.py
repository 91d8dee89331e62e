"""One choice of hubs for both halves, also where a deployment still says it by its former names."""

from pathlib import Path

import pytest

from service.hub.choice import HubPair, choose_destination, choose_source
from service.hub.settings import HubSettings

PAIR = HubPair("folder", "remote")


def test_former_names_of_the_worker_are_read_by_both_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_SOURCE_HUB", "folder")
    monkeypatch.setenv("WORKER_DESTINATION_HUB", "huggingface")
    monkeypatch.setenv("WORKER_FOLDER_HUB_DIR", "/srv/hub")
    monkeypatch.setenv("WORKER_HUB_ENDPOINT", "https://mirror.example")

    settings = HubSettings()

    assert (settings.source_hub, settings.destination_hub) == ("folder", "huggingface")
    assert settings.resolved_folder_hub_dir(Path("/data")) == Path("/srv/hub")
    assert settings.endpoint == "https://mirror.example"


def test_the_name_of_today_and_the_former_one_may_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_HUB_URL", "https://mirror.example/")
    monkeypatch.setenv("WORKER_HUB_ENDPOINT", "https://mirror.example")

    assert HubSettings().endpoint == "https://mirror.example"


def test_names_that_contradict_each_other_are_refused_without_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_HUB_URL", "https://user:s3cret@one.example")
    monkeypatch.setenv("WORKER_HUB_ENDPOINT", "https://two.example")

    with pytest.raises(ValueError, match="WORKER_HUB_ENDPOINT contradicts SERVICE_HUB_URL: keep") as raised:
        HubSettings()

    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("source_hub", "has", "chosen"),
    [
        ("folder", False, "folder"),
        ("huggingface", True, "remote"),
        ("folder-then-huggingface", True, "folder"),
        ("folder-then-huggingface", False, "remote"),
    ],
)
def test_a_source_is_looked_for_where_the_settings_say(source_hub: str, has: bool, chosen: str) -> None:
    settings = HubSettings.model_validate({"source_hub": source_hub})

    assert choose_source(settings, "org/model", PAIR, has=lambda _: has) == chosen


@pytest.mark.parametrize(("destination_hub", "chosen"), [("folder", "folder"), ("huggingface", "remote")])
def test_artifacts_go_where_the_settings_say(destination_hub: str, chosen: str) -> None:
    assert choose_destination(HubSettings.model_validate({"destination_hub": destination_hub}), PAIR) == chosen
