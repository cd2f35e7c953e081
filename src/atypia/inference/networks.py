"""Networks from bundles, ready to score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from atypia.backbones.weights import locate
from atypia.base.errors import InputError, must
from atypia.base.process.cores import DEVICES
from atypia.inference.bundles.bundle import FULL, Bundle, check_weights
from atypia.inference.bundles.packing import unpack
from atypia.methods.network import Network, NetworkSpec, build_network


def best_device() -> torch.device:
    """A GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(name: str) -> torch.device:
    """The device that an option ``--device`` names.

    Args:
        name: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: It is none of these, or this machine has no GPU.
    """
    if name not in DEVICES:
        raise InputError(must("device", f"one of {', '.join(DEVICES)}", name, "leave it out for the best there is"))
    if name == "cuda" and best_device().type != name:
        raise InputError(must("device", "one that this machine has", name, "leave it out, or pass --device cpu"))
    return best_device() if name == "auto" else torch.device(name)


def load_network(bundle: Bundle, weights_file: Path | None = None) -> Network:
    """Builds a bundle's network with its weights, adapters merged, in evaluation mode on the CPU.

    Args:
        bundle: Not a probe.
        weights_file: A file of the user with the backbone's weights.

    Raises:
        AbsentError: The backbone's weights are not on this machine, or are others than the bundle was made with.
        InputError: The bundle is a probe, or its tensors do not fit its architecture.
    """
    if bundle.network is None:
        raise InputError(must("bundle", "a network's, with its architecture", bundle.adaptation, "score its features"))
    spec = NetworkSpec.from_dict(bundle.network)
    # The bundle of a fully fine-tuned network contains every weight. Others need the catalogue's weights, which for a
    # backbone without a weights file are the same random ones wherever it is built.
    stands_on_weights = bundle.adaptation != FULL
    if stands_on_weights:
        check_weights(bundle, locate(bundle.backbone, weights_file).sha256)
    network = build_network(spec, weights_file, pretrained=stands_on_weights)
    network.load_trained({name: torch.from_numpy(np.array(value)) for name, value in unpack(bundle.tensors).items()})
    return network.merged().eval()
