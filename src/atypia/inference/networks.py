"""Networks from bundles, ready to score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from atypia.backbones.weights import locate
from atypia.inference.bundle import Bundle
from atypia.inference.predict import check_weights
from atypia.methods.network import Network, NetworkSpec, build_network


def best_device() -> torch.device:
    """A GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_network(bundle: Bundle, weights_file: Path | None = None) -> Network:
    """Builds a bundle's network with its weights, adapters merged, in evaluation mode on the CPU.

    Args:
        bundle: Not a probe.
        weights_file: The backbone's weights, where they are in a file of the user's.

    Raises:
        AbsentError: The backbone's weights are not here, or are others than the bundle was made with.
        InputError: The bundle's tensors do not fit its architecture.
    """
    assert bundle.network is not None
    spec = NetworkSpec.from_dict(bundle.network)
    stands_on_weights = bundle.weights_sha256 is not None
    if stands_on_weights:
        check_weights(bundle, locate(bundle.backbone, weights_file).sha256)
    network = build_network(spec, weights_file, pretrained=stands_on_weights)
    network.load_trained({name: torch.from_numpy(np.array(value)) for name, value in bundle.tensors.items()})
    return network.merged().eval()
