"""Put finished runs into weights/ under their proper names, each with a model card written from its records.

Runs are named, or chosen from the records of train.reproduce: of each method the one that is best on the validation
part. Convolution kernels are rounded to half precision. So what is measured is the shipped file, and its card written
after. A shipped file is only replaced with --overwrite:

  python -m train.publish runs/hecktor-mps_ams-seg
  python -m train.evaluate --weights weights/hecktor-mps_ams-seg-10.safetensors --data.root hecktor_nii \\
      --json weights/hecktor-mps_ams-seg-10.json
  python -m train.publish
  python -m train.publish --best runs/busi-cpu/records.jsonl --labels 0.1 --recipe strong
  python -m train.publish --assist runs/busi-assist      # as busi-assist, which the app proposes with
  python -m train.publish runs/prompt   # as prompt; train.evaluate_prompts --json weights/prompt-busi.json measures it
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mpsams import checkpoint, jsonl
from mpsams.arguments import Parser
from train import prompt_card
from train.card import card
from train.command_line import run

LARGEST = 16 * 2**20  # bytes of a shipped file


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Parse the options, copy the checkpoints and write all cards; return the checkpoints of the runs."""
    parser = Parser(prog="python -m train.publish", description=__doc__)
    parser.add_argument(
        "runs", nargs="*", type=Path, help="run folders with weights.safetensors; none only writes the cards anew"
    )
    parser.add_argument("--weights", type=Path, default=Path("weights"), help="where to put them (default: weights)")
    parser.add_argument(
        "--assist",
        nargs="*",
        type=Path,
        default=[],
        metavar="RUN",
        help="run folders to ship as DATA-assist, which the app proposes with",
    )
    parser.add_argument(
        "--best", type=Path, metavar="RECORDS", help="records.jsonl of train.reproduce: ship each method's best run"
    )
    parser.add_argument(
        "--labels", type=float, default=0.1, help="share of labels of the runs to choose from (default: 0.1)"
    )
    parser.add_argument("--recipe", default="strong", help="recipe of the runs to choose from (default: strong)")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace shipped checkpoints of the same name, and drop what was measured of them",
    )
    options = parser.parse_args(argv)
    chosen = best(options.best, options.labels, options.recipe) if options.best else {}
    runs = dict.fromkeys(options.runs) | chosen
    assistants = [folder.resolve() for folder in options.assist]
    if both := sorted({str(folder) for folder in runs if folder.resolve() in assistants}):
        raise ValueError(f"{', '.join(both)} is to be shipped twice; name it as a run or with --assist")
    runs |= dict.fromkeys(options.assist)
    names = {
        folder: name_of(checkpoint.metadata(folder / "weights.safetensors"), folder.resolve() in assistants)
        for folder in runs
    }
    refuse_replacing(list(names.values()), options.weights, options.overwrite)
    written = [publish(folder, options.weights / f"{names[folder]}.safetensors", why) for folder, why in runs.items()]
    for path in sorted(options.weights.glob("*.safetensors")):
        checkpoint.write(path.with_suffix(".md"), card_of(path).encode())
    print("\n".join(map(str, written)))
    return written


def card_of(path: Path) -> str:
    """Return the model card of a shipped checkpoint. ValueError when an evaluation beside it measured another file."""
    found = checkpoint.load(path)
    if found.metadata["kind"] == "prompt":
        return prompt_card.card(path.stem, found, prompt_card.evaluations(path, found.sha256))
    return card(path.stem, found, evaluation(path))


def best(path: Path, labels: float, recipe: str) -> dict[Path, str]:
    """Return for each method the run folder of the fine-tuning with the highest DSC on the validation part, and a
    sentence that says so.

    The test part has no say. ValueError when there is no such run.
    """
    rows = [row for row in jsonl.read(path, "result") if (row["labels"], row["recipe"]) == (labels, recipe)]
    if not rows:
        raise ValueError(f"{path} has no run with labels {labels:g} and recipe {recipe!r}")
    found = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        top = max(own, key=lambda row: row["val_dsc"])
        found[path.parent / top["run"]] = (
            f"best on the validation part of {len(own)} runs" if len(own) > 1 else "the only run"
        )
    return found


def refuse_replacing(names: Sequence[str], folder: Path, overwrite: bool) -> None:
    """Raise ValueError with the shipped files that runs would replace, unless that is wanted, and with names that
    several runs would have.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"several of these runs would be shipped as {', '.join(twice)}; give one run of each kind")
    held = [name for name in names if (folder / f"{name}.safetensors").exists()]
    if held and not overwrite:
        raise ValueError(
            "; ".join(
                f"{folder / name}.safetensors exists already ({describe_file(folder / f'{name}.safetensors')})"
                for name in held
            )
            + "; --overwrite replaces it"
        )


def describe_file(path: Path) -> str:
    """Describe a shipped checkpoint: its hash, the time of its training, and whether an evaluation is there."""
    try:
        about = checkpoint.metadata(path)
    except ValueError:
        return "no checkpoint that can be read"
    sentence = (
        f"trained until {about.get('training', {}).get('finished', 'an unknown time')}, rounded from"
        f" {about.get('rounded_from', 'itself')[:16]}"
    )
    return sentence + (", with its evaluation" if path.with_suffix(".json").exists() else "")


def publish(source: Path, path: Path, why: str | None = None) -> Path:
    """Copy a run's checkpoint, rounded, with its reason; drop the old one's evaluations. ValueError if too large."""
    found = checkpoint.load(source / "weights.safetensors")
    about, tensors = (
        {"rounded_from": found.sha256} | ({"chosen": why} if why else {}),
        checkpoint.to_half(found.tensors),
    )
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size > LARGEST:
        raise ValueError(
            f"{source} would be {size / 2**20:.1f} MiB in half precision; expected at most {LARGEST / 2**20:.0f}, so a"
            " smaller model.width"
        )
    checkpoint.save(path, tensors, found.metadata | about)
    for record in (path.with_suffix(".json"), *path.parent.glob(f"{path.stem}-*.json")):
        record.unlink(missing_ok=True)
    return path


def evaluation(path: Path) -> dict | None:
    """Return the results of train.evaluate beside a shipped checkpoint. ValueError when they are of another file."""
    record = path.with_suffix(".json")
    if not record.exists():
        return None
    measured = json.loads(record.read_text(encoding="utf-8"))
    if measured["sha256"] != checkpoint.load(path).sha256:
        raise ValueError(f"{record} measured another checkpoint than {path}; run train.evaluate again")
    return measured


def name_of(metadata: dict, assistant: bool = False) -> str:
    """Return the name of a checkpoint: "busi-mps_ams-pretrain" or "busi-mps_ams-seg-10" of data set, method, and share
    of labels in percent; "busi-assist" of an assistant; "prompt".

    ValueError when an assistant is no segmentation.
    """
    if assistant:
        if metadata["kind"] != "segmentation":
            raise ValueError(f"an assistant is a segmentation; this is a {metadata['kind']} checkpoint")
        return f"{metadata['data']['name']}-assist"
    if metadata["kind"] == "prompt":
        return "prompt"
    stage = "pretrain" if metadata["kind"] == "pretrain" else f"seg-{100 * metadata['labels']:g}"
    return f"{metadata['data']['name']}-{metadata['method']}-{stage}"


if __name__ == "__main__":
    run(main, "train.publish")
