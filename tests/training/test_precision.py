"""The precision that ``auto`` takes: bf16 only where the hardware multiplies in it."""

import pytest
import torch

from atypia.training.epochs.precision import autocast_dtype, precision_on
from atypia.training.recipe import load_recipe
from atypia.training.schema import NetworkRecipe

CPU, GPU = torch.device("cpu"), torch.device("cuda")


INTEL, AMD = {"cpu_name": "Intel Xeon", "avx512_bf16": True}, {"cpu_name": "AMD EPYC", "avx512_bf16": True}


@pytest.mark.parametrize(
    ("told", "want"),
    [
        (INTEL, "fp32"),
        (INTEL | {"amx_bf16": True}, "bf16"),
        (AMD, "bf16"),
        (AMD | {"avx512_bf16": False}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_a_processor_is_asked(monkeypatch: pytest.MonkeyPatch, told: dict[str, object], want: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert precision_on("auto", CPU) == want
    assert autocast_dtype("auto", CPU) == (torch.bfloat16 if want == "bf16" else None)


def test_a_torch_that_does_not_tell_takes_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision_on("auto", CPU) == "fp32"


@pytest.mark.parametrize(
    ("capability", "hip", "want"),
    [
        ((9, 0), None, "bf16"),
        ((8, 0), None, "bf16"),
        ((7, 5), None, "fp32"),
        ((7, 0), None, "fp32"),
        ((7, 0), "6.2", "bf16"),
    ],
)
def test_a_gpu_that_emulates_bf16_takes_fp32(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], hip: str | None, want: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)  # as torch says of emulation too
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert precision_on("auto", GPU) == want


@pytest.mark.parametrize("device", [CPU, GPU])
def test_what_was_requested_is_taken(device: torch.device) -> None:
    assert autocast_dtype("bf16", device) is torch.bfloat16
    assert autocast_dtype("fp32", device) is None


@pytest.mark.parametrize("name", ["lora", "adapt", "atypia"])
def test_shipped_recipes_for_laptops_leave_it_to_the_hardware(name: str) -> None:
    recipe = load_recipe(name)[1]
    assert isinstance(recipe, NetworkRecipe) and recipe.precision == "auto"
