"""Train the network of ``mpsams.inference.prompts``: one object from a box, clicks, scribbles or a mask to correct.

One network learns all given data sets together, from their training parts, and from synthetic shapes and random
structures in the same images, so that it follows what is no lesion. Simulated users (``train.simulated_users``) mark
an object and correct the network's own answers; every turn is learnt from. The moving average of the weights is kept.

  python -m train.pack --data.name busi --data.root Dataset_BUSI_with_GT --data.size 192 --out packs/busi-192
  python -m train.prompt --config train/configs/prompt.toml --data.packs \\
      '["packs/busi-192", "packs/brats-192", "packs/hecktor-192"]'
  python -m train.evaluate_prompts --weights runs/prompt/weights.safetensors --data.name busi --data.root packs/busi-192
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpsams import checkpoint, distributed, losses, schedule
from mpsams.checkpoint import Checkpoint
from mpsams.inference import prompts
from mpsams.inference.prompts import Prompt
from mpsams.transforms import Box
from mpsams.unet import UNet
from train import dry_run, launch, loop, run_files, simulated_users
from train.averaging import Averaged
from train.command_line import parse, peek_option, run
from train.options import Model, RunOptions
from train.prompt_card import describe_prompts
from train.prompt_data import Objects, Packs, PartedSet, augment, cropped_truth, hashes, moved_crop, open_sets
from train.prompt_objects import first_turn
from train.prompt_options import Learning
from train.prompt_validation import agreement, validate
from train.run_metadata import resume_fingerprint, run_folder
from train.starting_point import KINDS, origin


@dataclass(frozen=True)
class Train:
    """Options of a training on prompts.

    Args:
        init: checkpoint of a pretraining, a segmentation or a prompt network to begin from; it then sets the U-Net's
            width and normalisation, and a prompt network also the size of the crop.
        validate_every: epochs between measurements on the validation parts (for the records only); 0 is never.
        validate: objects of each validation part to measure.
        out: run folder; empty for one named after the options, in runs/.
        resume: go on from the state saved in the run folder.
        overwrite: replace the run that is in the run folder.
        dry_run: only measure a few steps.
    """

    data: Packs = Packs()
    model: Model = Model(width=16)
    learning: Learning = Learning()
    run: RunOptions = RunOptions()
    init: str | None = None
    validate_every: int = 1
    validate: int = 40
    out: str | None = None
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False


def main(argv: Sequence[str] | None = None) -> Path | float | None:
    """Parse the options, train and save; return the file with the weights, None after a dry run."""
    init = peek_option(argv, "init", None)
    about = checkpoint.metadata(init) if init else {}
    preset = {"learning.size": about["size"]} if about.get("kind") == "prompt" else {}
    options = parse(Train, "train.prompt", argv, defaults=preset)
    with launch.process_group():
        return train(options)


def train(options: Train) -> Path | float | None:
    """Run a training as described by the options. Returns its weights, or the seconds that a dry run expects."""
    device = options.run.start()
    start = checkpoint.load(options.init) if options.init else None
    data = open_sets(options.data)
    torch.manual_seed(options.run.seed)
    network = begin(options.model, start, data)
    norm = start.metadata["model"]["norm"] if start else options.model.norm
    init = start and start.sha256
    words = ("prompt", options.learning.size, f"w{network.head.in_channels}")
    fixed = resume_fingerprint(asdict(options), hashes(data), init=init)
    out = Path(options.out or run_folder(words, fixed, options.resume, "prompt"))
    options = replace(options, run=loop.resolve_precision(options.run, device, out, options.resume))
    config = asdict(options)
    fixed = resume_fingerprint(config, hashes(data), init=init)
    averaged = Averaged(options.run.prepare(network, device), options.learning.average)
    labelled = [each.labelled(options.data.slice_stride) for each in data]
    objects = Objects(labelled, options.learning.root, options.data.phantoms, [each.stack for each in data])
    if not options.dry_run:
        if run_files.is_finished(
            out, options.resume, loop.steps(len(objects), options.learning.batch, options.learning.epochs), fixed
        ):
            return out / run_files.WEIGHTS
        run_files.begin(
            out,
            options.resume,
            options.overwrite,
            data[0].split,
            config=config,
            images=len(objects),
            splits=[each.split.sha256 for each in data],
        )
    work = task(options, fixed, averaged, objects, data)
    if options.dry_run:
        return dry_run.measure_and_print(work)
    at = loop.fit(work, out, options.run.save_minutes, options.resume)
    model = {"channels": len(prompts.CHANNELS), "classes": 1, "width": network.head.in_channels, "norm": norm}
    about = describe_prompts(config, model, data, at, len(objects)) | {"init": start and origin(start)}
    about["bfloat16_dsc"] = launch.call_on_first(
        partial(agreement, averaged.averaged_network, objects, options.learning.size, device)  # type: ignore[arg-type]
    )
    launch.call_on_first(
        partial(checkpoint.save, out / run_files.WEIGHTS, averaged.averaged_network.state_dict(), about)
    )
    print(f"wrote {out / run_files.WEIGHTS}")
    return out / run_files.WEIGHTS


def begin(model: Model, start: Checkpoint | None, data: Sequence[PartedSet]) -> UNet:
    """Return the network to train: a new one, or one from a checkpoint with zeros for channels that its input lacks.

    ValueError when that checkpoint has seen images of the validation or test parts, or has several channels of images.
    """
    if start is None:
        return UNet(len(prompts.CHANNELS), 1, **asdict(model))
    kind, channels = start.metadata.get("kind"), start.metadata.get("model", {}).get("channels")
    if (kind, channels) not in {("prompt", len(prompts.CHANNELS)), *((each, 1) for each in KINDS)}:
        raise ValueError(
            f"--init is a {kind} checkpoint of {channels} channels; expected a prompt network, or one of 1 channel"
        )
    for each in data:
        held_out = set(each.split.test) | set(each.split.val)
        if leaked := held_out & checkpoint.training_patients(start).get(each.split.dataset, set()):
            raise ValueError(
                f"--init has seen {len(leaked)} images held out from {each.split.dataset}; use one of the same split"
            )
    network = UNet(len(prompts.CHANNELS), 1, **{name: start.metadata["model"][name] for name in ("width", "norm")})
    first = "encoder.blocks.0.0.weight"
    known = start.tensors[first]
    new = known.new_zeros(len(known), len(prompts.CHANNELS) - channels, *known.shape[2:])
    parts = {"transfers": checkpoint.PARTS} if kind == "prompt" else {}
    tensors = start.tensors | {first: torch.cat([known, new], dim=1)}
    checkpoint.transfer(replace(start, tensors=tensors, metadata=start.metadata | parts), network, checkpoint.PARTS)
    return network


def task(options: Train, config: dict, model: Averaged, objects: Objects, data: Sequence[PartedSet]) -> loop.Task:
    """Return the loop's task: in every step simulated users mark objects and correct the answers for some turns."""
    learning = options.learning
    device = next(model.parameters()).device
    network = launch.data_parallel(model.training_module)

    def loss(indices: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
        taken = objects.take_slices(indices, learning.slices, generator)
        images_bhw, masks_b2hw = augment(*taken, learning.augment, generator)
        turns, seed = (
            int(torch.randint(low, high, (), generator=generator))
            for low, high in ((1, learning.turns + 1), (0, 2**62))
        )
        rng = np.random.default_rng([seed, distributed.rank()])
        starts = [first_turn(*pair, learning, rng) for pair in zip(images_bhw, masks_b2hw, strict=True)]
        chosen, turn_prompts = [start[:2] for start in starts], [start[2] for start in starts]
        found = []
        for turn in range(turns):
            crops = [
                moved_crop(prompts.find_crop(prompt, image_hw.shape), prompt, rng)
                for prompt, (image_hw, _) in zip(turn_prompts, chosen, strict=True)
            ]
            seen = [
                prompts.encode(image_hw, prompt, crop, learning.size)
                for (image_hw, _), prompt, crop in zip(chosen, turn_prompts, crops, strict=True)
            ]
            pairs = zip(chosen, crops, strict=True)
            truth = [cropped_truth(truth_hw, crop, learning.size) for (_, truth_hw), crop in pairs]
            logits_b1ss = network(torch.stack(seen).to(device, non_blocking=True))
            truth_b1ss = torch.stack(truth).to(device, non_blocking=True)
            found.append(losses.segmentation(logits_b1ss, truth_b1ss, "image-dice-ce"))
            if turn + 1 < turns:
                turn_prompts = next_prompts(
                    turn_prompts, chosen, crops, torch.sigmoid(logits_b1ss.detach())[:, 0].cpu().numpy(), rng
                )
        return torch.stack(found).mean()

    def after_epoch(epoch: int) -> dict:
        if not options.validate_every or (epoch % options.validate_every and epoch != learning.epochs):
            return {}
        return validate(model.averaged_network, learning.size, data, options.validate)

    weights = [{"params": list(model.network.parameters()), "initial_lr": learning.lr}]
    return loop.Task(
        module=model,
        network=network,
        optimizer=torch.optim.AdamW(weights, lr=learning.lr, weight_decay=learning.weight_decay, fused=True),
        loss=loss,
        rate=partial(schedule.warmup_cosine, warmup=learning.warmup),
        after_step=model.update,
        after_epoch=after_epoch,
        images=len(objects),
        batch=learning.batch,
        epochs=learning.epochs,
        seed=options.run.seed,
        config=config,
        weights=objects.weights,
    )


def next_prompts(
    previous: Sequence[Prompt],
    chosen: Sequence[tuple[np.ndarray, np.ndarray]],
    crops: Sequence[Box],
    probabilities_bss: np.ndarray,
    rng: np.random.Generator,
) -> list[Prompt]:
    """Return the prompts of the next turn, after users have seen the answers to those they asked."""
    following = []
    for prompt, (image_hw, truth_hw), crop, probability_ss in zip(
        previous, chosen, crops, probabilities_bss, strict=True
    ):
        answer_hw = prompts.keep_marked_parts(
            prompts.paste(probability_ss, crop, image_hw.shape) >= prompts.THRESHOLD, prompt
        )
        following.append(simulated_users.next_prompt(prompt, answer_hw, truth_hw, rng))
    return following


if __name__ == "__main__":
    run(main, "train.prompt")
