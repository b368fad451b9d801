"""Uncertainty of masks (H1, H2, H3 of paper Eq. 1-3) and mutual information of hidden and visible patches, on a data
set.

  python -m benchmarks.information --data.name busi --data.root Dataset_BUSI_with_GT
  python -m benchmarks.information --data.name hecktor --data.root packs/hecktor-128 --data.size 128 --patch 8
  python -m benchmarks.information --draw docs/images   the figure of all records there are, as PNG and PDF
"""

# Over 250 lines because all measures of a mask are taken in one pass over the images and kept in one record.

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks import keep
from benchmarks.doc_selectors import SETS
from mpsams import clusters, masking, patches, plots, schedule, transforms, uncertainty
from mpsams.datasets import Stack
from mpsams.methods import mps_ams
from train.command_line import parse
from train.options import CHUNK, Data, at_least, read

HERE = Path(__file__).parent
EPOCHS = torch.arange(1, schedule.HORIZON + 1)
# the epochs of the curves, about evenly by logarithm
KEPT = sorted({10, 100} | {round(schedule.HORIZON ** (i / 32)) for i in range(33)})
RATIOS = [i / 32 for i in range(33)]
ALIKE = 1e-6  # bits that rounding may add


@dataclass(frozen=True)
class Information:
    """Options of the measurement.

    Args:
        patch: side of a patch in pixels.
        images: how many images masks are drawn for, at equal distances in the data set; the covariance is over all.
        seed: of the masks.
        quick: only print, and keep nothing.
        draw: a folder for the figure of the records there are; nothing is measured then.
    """

    data: Data = Data()
    patch: int = 16
    images: int = 1000
    seed: int = 0
    quick: bool = False
    draw: str | None = None

    def __post_init__(self) -> None:
        at_least("images", self.images, 2)


def spread(values_nk: Tensor) -> dict[str, list[float]]:
    """Return mean and quartiles over images of each column, rounded: float64 (N, K)."""
    low, high = values_nk.quantile(torch.tensor([0.25, 0.75], dtype=torch.float64), dim=0)
    columns = {"mean": values_nk.mean(dim=0), "low": low, "high": high}
    return {name: [round(value, 2) for value in values.tolist()] for name, values in columns.items()}


def means_of(stack: Stack, patch: int) -> Tensor:
    """Return the mean of each patch of each image, the image standardised as networks see it: float (N, 1, rows,
    columns).
    """
    patches.grid(stack.size, stack.size, patch)
    batches = (
        transforms.standardise(stack.take(part)[0].float() / 255) for part in torch.arange(len(stack)).split(CHUNK)
    )
    return torch.cat([F.avg_pool2d(batch_nchw.mean(dim=1, keepdim=True), patch) for batch_nchw in batches])


def lesions(stack: Stack, indices: Tensor, patch: int, selector: str) -> Tensor:
    """Return the patches that a selector calls lesion: bool (N, L)."""
    parts = tqdm(indices.split(32), desc=f"clustering, {selector}", unit="batch")
    return torch.cat([clusters.lesion_patches(stack.take(part)[0].float() / 255, patch, selector) for part in parts])


def block_order(batch: int, rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Draw an order that hides one square of growing size around a random patch: int64 (batch, rows * columns)."""
    y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    middle_b1 = torch.randint(rows * columns, (batch, 1), generator=generator)
    far_bl = torch.maximum((y - y[middle_b1]).abs(), (x - x[middle_b1]).abs())
    return torch.argsort(far_bl + torch.rand(far_bl.shape, generator=generator), dim=1)


def hidden_by_epoch(length: int, ratio: str) -> Tensor:
    """Return patches hidden at epochs 1 to 800, adaptive or fixed: int64 (E,)."""
    config = mps_ams.Config()
    shares = [
        schedule.mask_ratio(epoch, config.start, config.tau) if ratio == "adaptive" else config.fixed_ratio
        for epoch in EPOCHS.tolist()
    ]
    return torch.tensor([masking.hidden_count(length, share) for share in shares])


def mask_uncertainty(length: int, lesion_n: Tensor, order: str) -> dict[str, dict[str, list[float]]]:
    """Return the bits on the kept epochs of the two variants of the method that hide in this order."""
    bits = bits_of(length)["h1" if order == "random" else "h3"]
    at = torch.tensor(KEPT) - 1
    ratios = {name: ratio for (kind, ratio), name in mps_ams.VARIANTS.items() if kind == order}
    return {
        name: spread(uncertainty.course(bits, lesion_n, hidden_by_epoch(length, ratio)[at]))
        for name, ratio in ratios.items()
    }


def bits_of(length: int) -> dict[str, Callable[[int, int], float]]:
    """Return H1, H2 and H3 of images of ``length`` patches, as functions of the cluster's size and the number of hidden
    patches.
    """
    return {
        "h1": lambda lesion, hidden: uncertainty.random_bits(length, hidden),
        "h2": partial(uncertainty.classified_bits, length),
        "h3": partial(uncertainty.lesion_first_bits, length),
    }


def ordering(lesion_nl: Tensor, order_nl: Tensor) -> dict[str, float]:
    """Return the share of cases in which H3 <= H2 <= H1 fails, over all images and all epochs of MPS-AMS, and number of
    masks that are none of those counted.

    largest_cluster, first_epoch: of the images and epochs where H3 > H2, and most_bits by how much at most; 0 without
    any.
    """
    length, lesion_n, hidden_e = (
        lesion_nl.shape[1],
        lesion_nl.sum(dim=1),
        hidden_by_epoch(lesion_nl.shape[1], "adaptive"),
    )
    h1_ne, h2_ne, h3_ne = (uncertainty.course(bits, lesion_n, hidden_e) for bits in bits_of(length).values())
    failed_ne = h3_ne > h2_ne + ALIKE
    counts, epochs = hidden_e.unique(return_counts=True)
    foreign = [
        ((masking.hide_first(order_nl, n) & lesion_nl).sum(dim=1) != lesion_n.clamp(max=n)).sum()
        for n in counts.tolist()
    ]
    return {
        "compared": failed_ne.numel(),
        "h2_above_h1": int((h2_ne > h1_ne + ALIKE).sum()),
        "h3_above_h1": int((h3_ne > h1_ne + ALIKE).sum()),
        "h3_above_h2": int(failed_ne.sum()),
        "images_h3_above_h2": int(failed_ne.any(dim=1).sum()),
        "largest_cluster": max(lesion_n[failed_ne.any(dim=1)].tolist(), default=0),
        "first_epoch": min(EPOCHS[failed_ne.any(dim=0)].tolist(), default=0),
        "most_bits": round(max(float((h3_ne - h2_ne).max()), 0.0), 3),
        "masks_not_counted": int(torch.stack(foreign) @ epochs),
    }


def shared_information(covariance_ll: Tensor, order_nl: Tensor) -> Tensor:
    """Return the mutual information of hidden and visible, with 0 to L patches hidden: float64 (N, L + 1) in bits."""
    return torch.cat([uncertainty.information_curve(covariance_ll, part) for part in order_nl.split(64)])


def at_ratios(length: int) -> Tensor:
    """Return patches hidden at each of ``RATIOS``: int64 (R,)."""
    return torch.tensor([masking.hidden_count(length, ratio) for ratio in RATIOS])


def mean_shared(means_n1hw: Tensor, order_nl: Tensor) -> list[float]:
    """Return the mean over orders of what is shared at each of ``RATIOS``, when the covariance is that of these patch
    means.
    """
    covariance_ll = uncertainty.patch_covariance(means_n1hw, 1)
    return spread(shared_information(covariance_ll, order_nl[:200])[:, at_ratios(len(covariance_ll))])["mean"]


def over_epochs(shared_nk: Tensor) -> dict[str, dict[str, float]]:
    """Return the mutual information, also per hidden patch, on average over images and the 800 epochs, with a fixed and
    an adaptive ratio.
    """
    mean_k = shared_nk.mean(dim=0)
    found = {}
    for ratio in mps_ams.RATIOS:
        hidden_e = hidden_by_epoch(len(mean_k) - 1, ratio)
        bits_e = mean_k[hidden_e]
        found[ratio] = {
            "bits": round(float(bits_e.mean()), 2),
            "per_hidden": round(float((bits_e / hidden_e).mean()), 4),
        }
    return found


def mixed_mask_share(means_n1hw: Tensor, generator: torch.Generator) -> Tensor:
    """Mix the patches of different images, so that those of one image share nothing: (N, 1, rows, columns) likewise."""
    flat_nl = means_n1hw.flatten(1)
    return flat_nl.gather(0, torch.rand(flat_nl.shape, generator=generator).argsort(dim=0)).view_as(means_n1hw)


def measure(stack: Stack, patch: int = 16, images: int = 1000, seed: int = 0) -> dict:
    """Measure curves, checks and marks of a data set; the same seed gives the same."""
    generator = torch.Generator().manual_seed(seed)
    means_n1hw = means_of(stack, patch)
    covariance_ll = uncertainty.patch_covariance(means_n1hw, 1)
    indices = torch.linspace(0, len(stack) - 1, min(images, len(stack))).round().long()
    count, length = len(indices), len(covariance_ll)
    lesion = {selector: lesions(stack, indices, patch, selector) for selector in clusters.PAPER_SELECTORS}
    orders = {selector: masking.order(lesion_nl, generator) for selector, lesion_nl in lesion.items()}
    random_nl, block_nl = (
        masking.random_order(count, length, generator),
        block_order(count, *means_n1hw.shape[2:], generator),
    )
    bits = {
        name: shared_information(covariance_ll, order_nl)
        for name, order_nl in {"random": random_nl, **orders, "block": block_nl}.items()
    }
    at = at_ratios(length)
    more = {selector: (bits[selector] > bits["random"])[:, at].double().mean(dim=0).tolist() for selector in lesion}
    return {
        "images": count,
        "patients": len({stack.groups[i] for i in indices}),
        "covariance_over": len(stack),
        "size": stack.size,
        "patch": patch,
        "patches": length,
        "epochs": KEPT,
        "adaptive": [round(schedule.mask_ratio(epoch), 4) for epoch in (1, schedule.HORIZON)],
        "undecided": (
            {"random": mask_uncertainty(length, torch.zeros(1, dtype=torch.int64), "random")}
            | {
                selector: mask_uncertainty(length, lesion_nl.sum(dim=1), "lesion-first")
                for selector, lesion_nl in lesion.items()
            }
        ),
        "cluster_size": {
            selector: spread(lesion_nl.sum(dim=1, keepdim=True).double()) for selector, lesion_nl in lesion.items()
        },
        "ordering": {selector: ordering(lesion[selector], orders[selector]) for selector in lesion},
        "ratios": RATIOS,
        "shared": {name: spread(values_nk[:, at]) for name, values_nk in bits.items()},
        "shared_over_epochs": {name: over_epochs(values_nk) for name, values_nk in bits.items()},
        "random_mixed": mean_shared(mixed_mask_share(means_n1hw, generator), random_nl),
        "random_from_half": mean_shared(means_n1hw[::2], random_nl),
        "more_than_random": {selector: [round(share, 3) for share in shares] for selector, shares in more.items()},
    }


def records() -> dict[str, dict]:
    """Return the records there are, by the words for their data sets."""
    found = {
        path.stem.removeprefix("information-"): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(HERE.glob("information-*.json"))
    }
    names = [*(name for name in SETS if name in found), *(name for name in found if name not in SETS)]
    return {SETS.get(name, name): found[name] for name in names}


def draw(folder: Path) -> None:
    """Draw the figure of the records there are."""
    figure = plots.information(records())
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("png", "pdf"):
        (folder / f"information.{suffix}").write_bytes(plots.as_bytes(figure, suffix))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and keep, or draw."""
    options = parse(Information, "benchmarks.information", argv)
    if options.draw is not None:
        return draw(Path(options.draw))
    stack = read(options.data, partial(tqdm, desc="reading", unit="img"))
    stack = stack.of(tuple(dict.fromkeys(stack.groups)), options.data.slice_stride)
    found = measure(stack, options.patch, options.images, options.seed)
    keep(
        f"information-{stack.name}",
        found | {"seed": options.seed, "source": stack.source, "target": stack.target},
        options.quick,
    )


if __name__ == "__main__":
    main()
