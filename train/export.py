"""Write a checkpoint as an ONNX file that a viewer or a C++ program can run without Python or this project.

What the file computes, of float32 images in [0, 1] with dynamic batch, height and width (sides divide by 16):

  segmentation   "image" (B, C, H, W) -> "probability" (B, 1, H, W) of lesion
  pretraining    "image" (B, C, H, W) and "hidden" (B, 1, H, W), bool, True = hidden -> "reconstruction" (B, C, H, W):
                 the image with its hidden pixels as the network predicts them

Each image is brought to mean 0 and deviation 1 inside the graph. What must come before it (window, square of a CT
slice, resizing) stands in the file's metadata under "preparation", beside the checkpoint's sha256, what it was trained
on and what it is for. The file is written only when ONNX Runtime gives the same answers as our own network.

  python -m train.export weights/busi-mps_ams-seg-10.safetensors
  python -m train.export weights/busi-mps_ams-seg-10.safetensors --out busi.onnx --opset 17
"""

# Over 250 lines because the graph, its metadata and the check of the written file are one command.

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mpsams import calibration, checkpoint, datasets, inference, masking, patches, transforms
from mpsams.arguments import Parser
from mpsams.calibration import Readout
from mpsams.checkpoint import Checkpoint
from mpsams.inference import Network
from mpsams.unet import UNet
from train.command_line import check_replace, run

OPSETS = range(13, 21)  # the exporter's last is 20; before 13 its graphs are other ones, which nobody tested
OPSET = 17
TOLERANCE = 1e-4
PURPOSE = "For research and teaching; not a medical device."
AXES = {0: "batch", 2: "height", 3: "width"}
WINDOWS = {
    "ultrasound": "Grey values as they are, white = 1.",
    "ct": (
        "Soft-tissue window: level {level:g}, width {width:g} HU, to [0, 1], clipped. Where the pixel spacing is known,"
        " then a square of {body:g} mm around the middle of the largest thing denser than {air:g} HU, 0 beyond the"
        " slice's edge."
    ),
    "mri": "1st and 99th percentile of the volume's non-zero voxels to 0 and 1, clipped.",
}


class Segmenting(nn.Module):
    """Images (B, C, H, W) in [0, 1] -> probabilities (B, 1, H, W), as ``inference.probabilities``: standardised in
    double precision, read as ``readout`` says.
    """

    output = "probability"

    def __init__(self, unet: UNet, readout: Readout) -> None:
        super().__init__()
        self.unet, self.readout = unet, readout

    def forward(self, image_bchw: Tensor) -> Tensor:
        return self.readout.probabilities(
            self.readout.logits(self.unet, transforms.standardise(image_bchw.double()).float())
        )


class Filling(nn.Module):
    """Images (B, C, H, W) in [0, 1] and hidden pixels, bool (B, 1, H, W) -> filled in images, in [0, 1]."""

    output = "reconstruction"

    def __init__(self, unet: UNet, patch: int, normalised_target: bool) -> None:
        super().__init__()
        self.unet, self.patch, self.normalised_target = unet, patch, normalised_target

    def forward(self, image_bchw: Tensor, hidden_b1hw: Tensor) -> Tensor:
        return inference.fill(self.unet, image_bchw, hidden_b1hw, self.patch, self.normalised_target)


def main(argv: Sequence[str] | None = None) -> Path:
    """Parse, build, check, write, print; returns the file."""
    parser = Parser(prog="python -m train.export", description=__doc__)
    parser.add_argument(
        "weights", type=Path, help="a checkpoint: a segmentation, or a pretraining that hands on its decoder too"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.onnx", help="where to write (default: beside the checkpoint, by its name)"
    )
    parser.add_argument(
        "--opset",
        type=int,
        default=OPSET,
        help=f"version of ONNX's operators, {OPSETS[0]} to {OPSETS[-1]} (default: {OPSET})",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file when there is one")
    options = parser.parse_args(argv)
    path = options.out or options.weights.with_suffix(".onnx")
    if path.suffix != ".onnx":
        raise ValueError(f"--out {path} must end in .onnx")
    check_replace(path, options.overwrite)
    found, network = checkpoint.load(options.weights), inference.open_network(options.weights, "float32")
    batches = trials(network)
    data = graph(module(found, checkpoint.unet(found)), batches[0], options.opset, properties(options.weights, found))
    gap = difference(data, ours(found, network), batches)
    if not gap < TOLERANCE:
        raise ValueError(
            f"ONNX Runtime differs from our network by {gap:.2g}; expected less than {TOLERANCE:g}, so {path} was not"
            " written"
        )
    checkpoint.write(path, data)
    print(f"{path}: {len(data) / 1e6:.1f} MB, opset {options.opset}\n" + "\n".join(ends(data)))
    print(
        f"largest difference to our network over {sum(len(batch[0]) for batch in batches)} images: {gap:.1e}, allowed"
        f" {TOLERANCE:g}"
    )
    return path


def module(found: Checkpoint, unet: UNet) -> Segmenting | Filling:
    """Return the module that is exported of this checkpoint, with ``unet`` as its network.

    ValueError for a checkpoint that cannot be exported.
    """
    kind, method = found.metadata.get("kind"), found.metadata.get("config", {}).get("method") or {}
    if kind == "segmentation":
        return Segmenting(unet, calibration.readout(found.metadata)).eval()
    if kind != "pretrain" or "decoder" not in found.metadata.get("transfers", ()):
        raise ValueError(
            f"a {kind!r} checkpoint of method {found.metadata.get('method')!r} whose decoder was not trained gives no"
            " picture; expected a segmentation, or a pretraining that hands on encoder and decoder"
        )
    return Filling(unet, method.get("patch", 16), method.get("normalise_target", False)).eval()


def ours(found: Checkpoint, network: Network) -> Callable[..., Tensor]:
    """Return the function by which the app and the evaluation use a checkpoint, to compare the exported graph with."""
    return (
        partial(inference.probabilities, network)
        if found.metadata["kind"] == "segmentation"
        else module(found, network.unet)
    )


def trials(network: Network) -> list[tuple[Tensor, ...]]:
    """Return batches to compare on: phantoms at the network's size, noise at several sizes, darkness but a corner.

    Each with patches to hide.
    """
    size, generator = network.size, torch.Generator().manual_seed(0)
    phantom = datasets.open_dataset("phantom")
    pictures = datasets.stack(phantom.select(phantom.cases[:2]), size).stored_nchw.float() / 255
    noise = [
        torch.rand(shape, generator=generator)
        for shape in ((1, network.channels, size, size), (3, network.channels, 48, 64))
    ]
    dark = noise[0].clone()
    dark[..., 16:, :] = 0
    images = [
        pictures.expand(-1, network.channels, -1, -1),
        pictures[:1].expand(-1, network.channels, -1, -1),
        *noise,
        dark,
    ]
    return [
        (x_bchw, hide_rows(x_bchw, ratio, generator))
        for x_bchw, ratio in zip(images, (0.5, 1.0, 0.25, 0.75, 0.5), strict=True)
    ]


def hide_rows(x_bchw: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """Hide patches of 16 pixels at random: bool (B, 1, H, W)."""
    batch, _, height, width = x_bchw.shape
    rows, columns = patches.grid(height, width, 16)
    return patches.to_pixels(
        masking.cut(masking.random_order(batch, rows * columns, generator), ratio), 16, height, width
    )


def graph(computes: Segmenting | Filling, example: tuple[Tensor, ...], opset: int, about: dict[str, str]) -> bytes:
    """Return the bytes of the ONNX file. ValueError names an opset that does not exist."""
    import onnx

    if opset not in OPSETS:
        raise ValueError(f"opset {opset} is not available; expected {OPSETS[0]} to {OPSETS[-1]}")
    names, data = ["image", "hidden"] if isinstance(computes, Filling) else ["image"], BytesIO()
    with warnings.catch_warnings():
        # that this exporter is the old one, and that checks of sizes are not carried over
        warnings.simplefilter("ignore")
        torch.onnx.export(
            computes,
            example[: len(names)],
            data,  # type: ignore[arg-type]
            dynamo=False,  # the newer one takes ten times as long, another package, and prints much
            opset_version=opset,
            input_names=names,
            output_names=[computes.output],
            dynamic_axes=dict.fromkeys((*names, computes.output), AXES),
        )
    model = onnx.load_from_string(data.getvalue())
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = computes.unet.head.out_channels
    onnx.helper.set_model_props(model, about)
    model.doc_string = about["intended_use"]
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def session(data: bytes, threads: int):
    """Return an ``onnxruntime.InferenceSession`` on the CPU of a file's bytes; its threads sleep between calls."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@torch.inference_mode()
def difference(data: bytes, own: Callable[..., Tensor], batches: Sequence[tuple[Tensor, ...]]) -> float:
    """Return the largest absolute difference between ONNX Runtime on a file's bytes and ``own``; NaN if any is."""
    theirs = session(data, torch.get_num_threads())
    names = [node.name for node in theirs.get_inputs()]
    gaps = []
    for batch in batches:
        given = batch[: len(names)]
        (answer,) = theirs.run(None, {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)})
        gaps.append(np.abs(answer - own(*given).numpy()).max())
    return float(np.max(gaps))


def properties(path: Path, found: Checkpoint) -> dict[str, str]:
    """Return the metadata of the exported file, by name; entries that the checkpoint does not state are left out."""
    about, data = found.metadata, found.metadata.get("data", {})
    entries = {
        "kind": about.get("kind"),
        "method": about.get("method"),
        "size": about.get("size"),
        "width": about.get("model", {}).get("width"),
        "data": data.get("name"),
        "modality": data.get("modality"),
        "target": data.get("target"),
        "sequences": ", ".join(data.get("sequences", ())),
        "terms": (
            data.get("source") or (datasets.source(data["name"]) if data.get("name") in datasets.available() else None)
        ),
        "checkpoint": path.name,
        "sha256": found.sha256,
        "rule": rule_in_words(found.metadata),
        "preparation": preparation(data.get("modality"), about["size"]),
        "intended_use": purpose(path.with_suffix(".md")),
    }
    return {name: str(value) for name, value in entries.items() if value}


def rule_in_words(metadata: dict) -> str | None:
    """Describe the rule for "no lesion here" that a program must apply to the mask; None without a rule."""
    rule = calibration.readout(metadata).rule
    return (
        None
        if rule is None
        else (f"Of the mask at probability 0.5, {calibration.describe(rule)} (8 neighbours); others are left out.")
    )


def preparation(modality: str | None, size: int) -> str:
    """Describe the preparation of the file's input, as ``transforms`` does it."""
    level, width = transforms.CT_WINDOWS["soft tissue"]
    first = WINDOWS.get(modality or "", "Intensities in [0, 1].").format(
        level=level, width=width, body=transforms.BODY, air=transforms.AIR
    )
    return (
        f"{first} Resized to {size} x {size}, bilinear with antialiasing, as in training; other sides that divide by 16"
        " run, untried."
    )


def purpose(card: Path) -> str:
    """Return the first sentences of the model card, which end with the network's purpose; without a card, only that."""
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    return next((line for line in lines if line and not line.startswith("#")), PURPOSE)


def ends(data: bytes) -> list[str]:
    """Return the file's inputs and outputs, a line each."""
    opened = session(data, 1)
    return [
        f"  {end:6s} {node.name:14s} {node.type} ({', '.join(map(str, node.shape))})"
        for end, nodes in (("input", opened.get_inputs()), ("output", opened.get_outputs()))
        for node in nodes
    ]


if __name__ == "__main__":
    run(main, "train.export")
