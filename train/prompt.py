"""Train the network that segments one object from a box, clicks, scribbles or a mask to correct (``mpsams.prompts``).

One network learns all given data sets together, from their training parts, and from synthetic shapes and random structures in
the same images, so that it follows what is no lesion. Simulated users (``train.simulated_users``) mark an object and correct the
network's own answers; every turn is learnt from. The moving average of the weights is kept.

  python -m train.pack --data.name busi --data.root Dataset_BUSI_with_GT --data.size 192 --out packs/busi-192
  python -m train.prompt --config train/configs/prompt.toml --data.packs '["packs/busi-192", "packs/brats-192", "packs/hecktor-192"]'
  python -m train.evaluate_prompts --weights runs/prompt/weights.safetensors --data.name busi --data.root packs/busi-192
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from mpsams import checkpoint, distortions, inference, losses, packs, prompts, ranks, schedule, transforms
from mpsams.checkpoint import Checkpoint
from mpsams.datasets import Stack
from mpsams.inference import Network
from mpsams.prompts import Prompt
from mpsams.splits import Split
from mpsams.transforms import Augmentation, Box
from mpsams.unet import UNet
from train import distributed, loop, rehearsal, simulated_users, structures
from train.command_line import parse, run
from train.evaluate_prompts import measure, network_answer
from train.finetune import KINDS, Averaged, origin
from train.options import Data, Model, Run, at_least, describe, open_data, settled
from train.state import Position

SMALLEST = 16  # pixels of an object to learn from


@dataclass(frozen=True)
class Packs:
    """Which images.

    Args:
        packs: folders that train.pack made, all of one size and of one channel.
        phantoms: share of the draws that falls on the built-in ultrasound phantoms; 0 does without them.
        size: side of the images in pixels.
        split_seed: seed of each data set's 8:1:1 division.
        grouped: keep near-duplicate images in one part.
        every: use every n-th slice of a patient.
    """

    packs: tuple[str, ...] = ()
    phantoms: float = 0.05
    size: int = 192
    split_seed: int = 0
    grouped: bool = True
    every: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.phantoms <= 1 or not (self.packs or self.phantoms):
            raise ValueError(f"data.phantoms {self.phantoms} must lie in [0, 1], and above 0 without data.packs")


@dataclass(frozen=True)
class Learning:
    """How the network learns.

    Args:
        size: side of the crop that the network sees, in pixels; must divide by 16.
        epochs: passes over as many images as there are.
        batch: images per step.
        turns: most turns of a user with the network on each image; their number is drawn anew for each step.
        lr: highest learning rate, reached after the warm-up, then a cosine to zero.
        warmup: share of the training that is warm-up.
        weight_decay: of AdamW.
        average: decay of the moving average of the weights, which is what is kept; 0 keeps the last weights.
        box_jitter: largest share of a box by which its sides are moved.
        shapes: share of the images whose object is a shape painted into it.
        structures: share of the images whose object is a structure of similar brightness.
        root: power of the number of a data set's images with an object, in proportion to which it is drawn; 1 draws every image as often.
        augment: random changes of the images.
    """

    size: int = 96
    epochs: int = 10
    batch: int = 16
    turns: int = 3
    lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 1e-2
    average: float = 0.995
    box_jitter: float = 0.15
    shapes: float = 0.1
    structures: float = 0.15
    root: float = 0.1
    augment: Augmentation = Augmentation(
        flip=0.5, rotation=20, zoom=0.15, shift=0.03, contrast=0.3, brightness=0.15, gamma=0.4, elastic=0.02, bias=0.2, blur=1.0, speckle=0.1, noise=0.03
    )

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 16:
            raise ValueError(f"learning.size {self.size} must be a positive multiple of 16")
        for name in ("epochs", "batch", "turns"):
            at_least(f"learning.{name}", getattr(self, name), 1)
        if not (0 <= self.average < 1 and 0 <= self.box_jitter < 0.5 and min(self.shapes, self.structures) >= 0 and self.shapes + self.structures <= 1):
            raise ValueError("learning.average must lie in [0, 1), box_jitter in [0, 0.5), and shapes and structures be shares of at most 1 together")


@dataclass(frozen=True)
class Train:
    """Options of a training on prompts.

    Args:
        init: checkpoint of a pretraining or a segmentation to begin from; it then sets the U-Net's width and normalisation.
        validate_every: epochs between measurements on the validation parts (for the records only); 0 is never.
        validate: objects of each validation part to measure.
        out: run folder.
        resume: go on from the state saved in the run folder.
        overwrite: replace the run that is in the run folder.
        dry_run: only measure a few steps.
    """

    data: Packs = Packs()
    model: Model = Model(width=16)
    learning: Learning = Learning()
    run: Run = Run()
    init: str | None = None
    validate_every: int = 1
    validate: int = 40
    out: str = "runs/prompt"
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False


def main(argv: Sequence[str] | None = None) -> Path | None:
    """Parse, train, save; returns the file with the weights, None after a dry run."""
    options = parse(Train, "train.prompt", argv)
    with distributed.joined():
        return train(options)


def train(options: Train) -> Path | None:
    """Run a training as described by the options. Returns its weights, None after a dry run."""
    device = options.run.start()
    data = open_sets(options.data)
    start = checkpoint.load(options.init) if options.init else None
    torch.manual_seed(options.run.seed)
    network = begin(options.model, start, data)
    norm = start.metadata["model"]["norm"] if start else options.model.norm
    out = Path(options.out)
    options = replace(options, run=loop.with_precision(options.run, device, out, options.resume))
    config = asdict(options)
    fixed = settled(config, hashes(data), init=start and start.sha256)
    averaged = Averaged(options.run.prepare(network, device), options.learning.average)
    objects = Objects([each.labelled(options.data.every) for each in data], options.learning.root, options.data.phantoms)
    if not options.dry_run:
        if loop.finished(out, options.resume, loop.steps(len(objects), options.learning.batch, options.learning.epochs), fixed):
            return out / loop.WEIGHTS
        loop.begin(out, options.resume, options.overwrite, data[0].split, config=config, images=len(objects), splits=[each.split.sha256 for each in data])
    work = task(options, fixed, averaged, objects, data)
    if options.dry_run:
        rehearsal.tell(work)
        return None
    at = loop.fit(work, out, options.run.save_minutes, options.resume)
    model = {"channels": len(prompts.CHANNELS), "classes": 1, "width": network.head.in_channels, "norm": norm}
    about = describe_prompts(config, model, data, at, len(objects)) | {"init": start and origin(start)}
    about["bfloat16_dsc"] = distributed.of_first(partial(agreement, averaged.kept, objects, options.learning.size, device))
    distributed.of_first(partial(checkpoint.save, out / loop.WEIGHTS, averaged.kept.state_dict(), about))
    print(f"wrote {out / loop.WEIGHTS}")
    return out / loop.WEIGHTS


@dataclass(frozen=True)
class PartedSet:
    """A data set in memory or memory-mapped, and its split."""

    stack: Stack
    split: Split

    def labelled(self, every: int) -> Stack:
        """The images of the training part that have an object to learn from."""
        return with_objects(self.stack.of(self.split.train, every))


def open_sets(options: Packs) -> list[PartedSet]:
    """The data sets with their splits. ValueError when two are the same, none is labelled or one has several channels."""
    chosen = [Data(name=checked_name(root), root=root, size=options.size) for root in options.packs]
    chosen += [Data(name="phantom", size=options.size)] if options.phantoms else []
    found = []
    for each in chosen:
        each = replace(each, split_seed=options.split_seed, grouped=options.grouped)
        stack, split = open_data(each, partial(tqdm, desc=f"reading {each.name}", unit="img", disable=ranks.index() > 0))
        if stack.channels != 1 or not stack.target:
            raise ValueError(f"{each.root} has {stack.channels} channels and outlines {stack.target or 'nothing'}; expected one channel, and masks to learn from")
        found.append(PartedSet(stack, split))
    names = [each.stack.name for each in found]
    if len(set(names)) < len(names):
        raise ValueError(f"data.packs are of {', '.join(names)}; expected each data set once")
    return found


def checked_name(root: str) -> str:
    """The name of the data set that a pack was made from. ValueError when the folder is no pack."""
    if not packs.is_pack(root):
        raise ValueError(f"{root} is no pack; make it with train.pack")
    return packs.read(root).name


def with_objects(stack: Stack) -> Stack:
    """Only the images of a data set whose masks have at least ``SMALLEST`` pixels."""
    lots = torch.arange(len(stack)).split(256)
    chosen = torch.cat([lot[stack.take(lot)[1].flatten(1).sum(dim=1) >= SMALLEST] for lot in lots]) if len(stack) else torch.arange(0)
    cases, groups = (tuple(values[i] for i in chosen.tolist()) for values in (stack.cases, stack.groups))
    return replace(stack, cases=cases, groups=groups, rows=stack.rows[chosen])


class Objects:
    """The images to learn from, of all data sets, numbered through.

    root: power of a data set's number of images in proportion to which it is drawn. phantoms: share of the draws of phantoms.
    ``weights``: the share of the draws of each image, float64 (N,).
    """

    def __init__(self, stacks: Sequence[Stack], root: float, phantoms: float) -> None:
        self.stacks = [stack for stack in stacks if len(stack)]
        if not self.stacks:
            raise ValueError("none of the training images has an object to learn from")
        counts_s = torch.tensor([len(stack) for stack in self.stacks])
        self.ends_s = counts_s.cumsum(0)
        drawn_s = torch.tensor([stack.name == "phantom" for stack in self.stacks])
        shares_s = counts_s.double() ** root
        if drawn_s.any() and not drawn_s.all():
            shares_s[~drawn_s] *= (1 - phantoms) / shares_s[~drawn_s].sum()
            shares_s[drawn_s] = phantoms
        self.weights = (shares_s / shares_s.sum() / counts_s).repeat_interleave(counts_s)

    def __len__(self) -> int:
        return int(self.ends_s[-1])

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Some images by their number: float (B, 1, S, S) in [0, 1] and bool (B, 1, S, S)."""
        taken = []
        for index in indices.tolist():
            number = int(torch.searchsorted(self.ends_s, index, right=True))
            begin = int(self.ends_s[number - 1]) if number else 0
            taken.append(self.stacks[number].take(torch.tensor([index - begin])))
        images, masks = (torch.cat(parts) for parts in zip(*taken, strict=True))
        return images.float() / 255, masks


def changed(images_bchw: Tensor, masks_b1hw: Tensor, augment: Augmentation, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks after random changes: float32 (B, H, W) in [0, 1] and bool (B, H, W)."""
    size, batch = images_bchw.shape[-1], len(images_bchw)
    drawn = transforms.draw(batch, augment, generator)
    more = distortions.draw(batch, augment, size, generator)
    bent = distortions.offset(more, size)
    images_bchw = transforms.apply_intensity(transforms.apply_geometry(images_bchw, drawn, offset_bhw2=bent), drawn)
    images_bchw = distortions.apply_intensity(images_bchw, more)
    masks_b1hw = transforms.apply_geometry(masks_b1hw.float(), drawn, "nearest", bent) > 0.5
    return images_bchw[:, 0].numpy(), masks_b1hw[:, 0].numpy()


def choose_object(image_hw: np.ndarray, mask_hw: np.ndarray, how: Learning, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The image and one object in it, bool (H, W) and not empty: a part of its mask, or a structure, or a shape painted into it."""
    kind = rng.random()
    if kind < how.structures:
        found_hw = structures.find_structure(image_hw, rng)
        if found_hw is not None:
            return image_hw, found_hw
    labels_hw, _ = ndimage.label(mask_hw)
    large = 1 + np.flatnonzero(np.bincount(labels_hw.ravel())[1:] >= SMALLEST)
    if kind >= 1 - how.shapes or not len(large):
        return structures.paint_shape(image_hw, rng)
    return image_hw, labels_hw == rng.choice(large)


def moved_crop(crop: Box, prompt: Prompt, rng: np.random.Generator) -> Box:
    """The crop of a prompt a little moved and scaled; scaled by up to 1.8 around points alone, which tell nothing of the object's size."""
    reach = 0.15 if prompt.box is not None or prompt.mask is not None else 0.6
    side = max(prompts.LEAST_SIDE, round(crop.height * float(np.exp(rng.uniform(-reach, reach)))))
    shift = rng.uniform(-0.05, 0.05, 2) * crop.height
    top, left = (round(float(start + (crop.height - side) / 2 + move)) for start, move in zip(crop[:2], shift, strict=True))
    return Box(top, left, side, side)


def cropped_truth(truth_hw: np.ndarray, crop: Box, size: int) -> Tensor:
    """What of an object lies in a crop, as the network is to answer it: bool (1, S, S)."""
    return transforms.resize_mask(transforms.crop(truth_hw, crop), size, size)[0]


def begin(model: Model, start: Checkpoint | None, data: Sequence[PartedSet]) -> UNet:
    """The network to train: anew, or from a checkpoint whose first convolution gets zeros for the channels that it does not have.

    ValueError when that checkpoint has seen images of the validation or test parts, or has several channels.
    """
    if start is None:
        return UNet(len(prompts.CHANNELS), 1, **asdict(model))
    if start.metadata.get("kind") not in KINDS or start.metadata["model"]["channels"] != 1:
        raise ValueError("--init must be the weights of a pretraining or a segmentation of one channel")
    for each in data:
        if leaked := (set(each.split.test) | set(each.split.val)) & checkpoint.seen(start).get(each.split.dataset, set()):
            raise ValueError(f"--init has seen {len(leaked)} images of the test and validation parts of {each.split.dataset}; use one of the same split")
    network = UNet(len(prompts.CHANNELS), 1, **{name: start.metadata["model"][name] for name in ("width", "norm")})
    first = "encoder.blocks.0.0.weight"
    known = start.tensors[first]
    widened = torch.cat([known, known.new_zeros(len(known), len(prompts.CHANNELS) - 1, *known.shape[2:])], dim=1)
    checkpoint.transfer(replace(start, tensors=start.tensors | {first: widened}), network)
    return network


def task(options: Train, config: dict, model: Averaged, objects: Objects, data: Sequence[PartedSet]) -> loop.Task:
    """The loop's task: in every step simulated users mark objects, and correct the answers, for some turns."""
    how = options.learning
    device = next(model.parameters()).device
    network = distributed.parallel(model.trained)

    def loss(indices: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        images_bhw, masks_bhw = changed(*objects.take(indices), how.augment, generator)
        turns, seed = (int(torch.randint(low, high, (), generator=generator)) for low, high in ((1, how.turns + 1), (0, 2**62)))
        rng = np.random.default_rng([seed, ranks.index()])
        chosen = [choose_object(*pair, how, rng) for pair in zip(images_bhw, masks_bhw, strict=True)]
        asked, found = [simulated_users.first_prompt(truth_hw, how.box_jitter, rng) for _, truth_hw in chosen], []
        for turn in range(turns):
            crops = [moved_crop(prompts.crop_of(prompt, image_hw.shape), prompt, rng) for prompt, (image_hw, _) in zip(asked, chosen, strict=True)]
            seen = [prompts.encode(image_hw, prompt, crop, how.size) for (image_hw, _), prompt, crop in zip(chosen, asked, crops, strict=True)]
            truth = [cropped_truth(truth_hw, crop, how.size) for (_, truth_hw), crop in zip(chosen, crops, strict=True)]
            logits_b1ss = network(torch.stack(seen).to(device))
            found.append(losses.segmentation(logits_b1ss, torch.stack(truth).to(device), "image-dice-ce"))
            if turn + 1 < turns:
                asked = go_on(asked, chosen, crops, torch.sigmoid(logits_b1ss.detach())[:, 0].cpu().numpy(), rng)
        return torch.stack(found).mean()

    def after_epoch(epoch: int) -> dict:
        if not options.validate_every or (epoch % options.validate_every and epoch != how.epochs):
            return {}
        return validate(model.kept, how.size, data, options.validate)

    weights = [{"params": list(model.network.parameters()), "initial_lr": how.lr}]
    return loop.Task(
        module=model,
        network=network,
        optimizer=torch.optim.AdamW(weights, lr=how.lr, weight_decay=how.weight_decay, fused=True),
        loss=loss,
        rate=partial(schedule.warmup_cosine, warmup=how.warmup),
        after_step=model.update,
        after_epoch=after_epoch,
        images=len(objects),
        batch=how.batch,
        epochs=how.epochs,
        seed=options.run.seed,
        config=config,
        weights=objects.weights,
    )


def go_on(
    asked: Sequence[Prompt], chosen: Sequence[tuple[np.ndarray, np.ndarray]], crops: Sequence[Box], probabilities_bss: np.ndarray, rng: np.random.Generator
) -> list[Prompt]:
    """The prompts of the next turn, after users have seen the answers to those they asked."""
    following = []
    for prompt, (image_hw, truth_hw), crop, probability_ss in zip(asked, chosen, crops, probabilities_bss, strict=True):
        answer_hw = prompts.marked_parts(prompts.paste(probability_ss, crop, image_hw.shape) >= prompts.THRESHOLD, prompt)
        following.append(simulated_users.next_prompt(prompt, answer_hw, truth_hw, rng))
    return following


def validate(network: UNet, size: int, data: Sequence[PartedSet], count: int) -> dict[str, float]:
    """Mean DSC from one box and from one click, over some objects of each validation part, spread evenly."""
    found: dict[str, float] = {}
    wrapped = Network(network, {"kind": "prompt", "size": size}, "", None)
    for each in data:
        val = with_objects(each.stack.of(each.split.val))
        chosen = torch.linspace(0, len(val) - 1, min(count, len(val))).round().long() if len(val) else torch.arange(0)
        rows = [measure(network_answer(wrapped), *pair, np.random.default_rng([0, number]), 1) for number, pair in enumerate(objects_of(val, chosen))]
        if rows:
            found |= {f"val_{each.stack.name}_box": float(np.mean([row["box"] for row in rows]))}
            found |= {f"val_{each.stack.name}_click": float(np.mean([row["clicks"][0] for row in rows]))}
    return found


def objects_of(stack: Stack, indices: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and their largest objects: float32 (H, W) in [0, 1] and bool (H, W)."""
    for index in indices:
        image_1chw, mask_11hw = stack.take(index[None])
        yield image_1chw[0, 0].float().div(255).numpy(), simulated_users.largest_part(mask_11hw[0, 0].numpy())


def describe_prompts(config: dict, model: dict, data: Sequence[PartedSet], at: Position, images: int) -> dict:
    """What the checkpoint says of where it came from: as of other trainings, but of several data sets."""
    each = [describe("prompt", "prompt", config, part.stack, part.split, at) for part in data]
    first = {name: value for name, value in each[0].items() if name not in ("data", "split")}
    sets = {"sha256": hashes(data), "sets": [about["data"] for about in each]}
    return first | {"size": config["learning"]["size"], "model": model, "data": sets, "splits": [about["split"] for about in each], "seen": images}


def hashes(data: Sequence[PartedSet]) -> str:
    """The hashes of the pixels and masks of all data sets, one after the other."""
    return " ".join(each.stack.sha256 for each in data)


def agreement(network: UNet, objects: Objects, size: int, device: torch.device) -> float:
    """``inference.agreement_in_bfloat16`` on crops around boxes in some images of the training parts."""
    indices = torch.linspace(0, len(objects) - 1, min(64, len(objects))).round().long()
    rng, crops = np.random.default_rng(0), []
    for image_hw, mask_hw in zip(*(taken[:, 0].numpy() for taken in objects.take(indices)), strict=True):
        prompt = simulated_users.Prompt(box=simulated_users.jittered_box(simulated_users.largest_part(mask_hw), 0.08, rng))
        crops.append(prompts.encode(image_hw, prompt, prompts.crop_of(prompt, image_hw.shape), size))
    return inference.agreement_in_bfloat16(network.eval(), torch.stack(crops).to(device).split(16))


if __name__ == "__main__":
    run(main, "train.prompt")
