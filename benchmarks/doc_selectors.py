"""Tables of the selectors: rankings, parameters, orders, and the uncertainty of masks."""

from __future__ import annotations

from benchmarks import lesion_ranking
from benchmarks.doc_tables import ROOT, _round_text, _slashed, _with_quartiles, record, table
from mpsams import clusters

SETS = {"busi": "BUSI, ultrasound", "hecktor": "OpenKBP, CT", "brats": "TCGA-LGG, T1"}
SELECTORS = {"covariance-of-softmax": "covariance of softmax", "softmax-of-covariance": "softmax of covariance"}


def ranking() -> str:
    """Return AUC and lifts of the paper's selectors, of ours and of the references, on each data set."""
    found = {name: lesion_ranking.read_records()[name] for name in SETS}
    rows = []
    for selector in (*lesion_ranking.TITLES, lesion_ranking.CENTRE, lesion_ranking.RANDOM):
        measured = [found[name]["selectors"][selector] for name in SETS]
        rows.append(
            [
                _title(selector),
                *(f"{t['auc'][0]:.3f} / {t['lift_top'][0]:.2f} / {t['lift'][0] or '–'}" for t in _round_text(measured)),
            ]
        )
    rows.append(["images with a lesion patch", *(str(found[name]["images"]) for name in SETS)])
    return table(["AUC / lift of the first 15% / lift of the cluster", *SETS.values()], rows)


def ranking_table(name: str) -> str:
    """Return all measurements of all selectors on one data set, best first."""
    selectors = lesion_ranking.read_records()[name]["selectors"]
    rows = []
    for selector, measured in sorted(selectors.items(), key=lambda each: -each[1]["auc"][0]):
        intervals = [
            "{:.3f} ({:.3f}–{:.3f})".format(*measured["auc"]),
            f"{measured['auc_second']:.3f}",
            *("{:.2f} ({:.2f}–{:.2f})".format(*measured[key]) for key in ("lift_top", "lift")),
        ]
        rows.append(
            [
                _title(selector),
                *intervals,
                f"{measured['size'][1]:.0%}",
                *(f"{share:.0%}" for share in measured["cover"].values()),
                f"{measured['ms']:.1f}",
            ]
        )
    epochs = [f"hidden, epoch {epoch}" for epoch in lesion_ranking.EPOCHS]
    return table(
        [
            "",
            "AUC",
            "… of every second image",
            "lift of the first 15%",
            "lift of the cluster",
            "size of the cluster",
            *epochs,
            "ms per image",
        ],
        rows,
    )


def _title(selector: str) -> str:
    """Return the name of a selector; ours in bold."""
    title = lesion_ranking.TITLES.get(selector, selector)
    return f"**{title}**" if selector == clusters.GEODESIC else title


def selector_parameters() -> str:
    """Return the parameters chosen for the paper's selectors on the training parts, and AUC and pooled lift on the
    rest, beside the references.
    """
    rows = []
    for name, words in SETS.items():
        measured = record(ROOT / "benchmarks" / f"selector_parameters-{name}.json")["rest"]
        for each in measured["selectors"]:
            chosen = [f"{each[key]}" if key in each else "" for key in ("similarity", "normalise", "temperature")]
            numbers = [f"{each['auc']:.3f}", f"{each['lift']:.2f}", f"{each['size']:.0%}"]
            rows.append([words, each["selector"].replace("-", " "), *chosen, *numbers, str(measured["images"])])
    return table(
        ["", "selector", "similarity", "image", "temperature", "AUC", "pooled lift", "size of the cluster", "images"],
        rows,
    )


def mask_uncertainty() -> str:
    """Return the entropy of masks on each data set, at random and lesion first by both readings, and how often H3 <= H2
    <= H1 fails.
    """
    found = [record(ROOT / "benchmarks" / f"information-{name}.json") for name in SETS]

    def bits(ratio: str, epoch: int) -> list[str]:
        random, first = (("base", "base_mps"), ("base_ams", "mps_ams"))[ratio == "adaptive"]
        pairs = [("random", random), *((selector, first) for selector in SELECTORS)]
        return [
            _slashed(result["undecided"][order][name]["mean"][result["epochs"].index(epoch)] for order, name in pairs)
            for result in found
        ]

    def broken(key: str, form: str = "{}") -> list[str]:
        return [_slashed((result["ordering"][selector][key] for selector in SELECTORS), form) for result in found]

    sizes = [
        " / ".join(_with_quartiles(result["cluster_size"][selector]) for selector in SELECTORS) for result in found
    ]
    rows = [
        ["images", *(str(result["images"]) for result in found)],
        [f"patches of {found[0]['patches']} in the lesion cluster (quartiles)", *sizes],
        ["fixed 75%: random / lesion first", *bits("fixed", 1)],
        *([f"adaptive, epoch {epoch}: random / lesion first", *bits("adaptive", epoch)] for epoch in (1, 10, 100, 800)),
        ["images × epochs compared", *broken("compared")],
        ["… where H₂ > H₁", *broken("h2_above_h1")],
        ["… where H₃ > H₁", *broken("h3_above_h1")],
        ["… where H₃ > H₂", *broken("h3_above_h2")],
        ["images where H₃ > H₂ at some epoch", *broken("images_h3_above_h2")],
        ["their largest lesion cluster, patches", *broken("largest_cluster")],
        ["H₃ − H₂ at most, bits", *broken("most_bits", "{:.2f}")],
        ["masks drawn that are not among those counted", *broken("masks_not_counted")],
    ]
    return table(["", *SETS.values()], rows)


def shared_information() -> str:
    """Return the mutual information of hidden and visible patches on each data set: at random, lesion first by both
    readings, one block.
    """
    found = [record(ROOT / "benchmarks" / f"information-{name}.json") for name in SETS]
    orders = ("random", *SELECTORS, "block")

    def at(ratio: float, each: bool = False) -> list[str]:
        cells = []
        for result in found:
            bits = [result["shared"][order]["mean"][result["ratios"].index(ratio)] for order in orders]
            cells.append(
                _slashed((b / (ratio * result["patches"]) for b in bits), "{:.2f}") if each else _slashed(bits)
            )
        return cells

    def half(key: str) -> list[str]:
        return [f"{result[key][result['ratios'].index(0.5)]:.1f}" for result in found]

    def over(ratio: str) -> list[str]:
        return [_slashed(result["shared_over_epochs"][order][ratio]["bits"] for order in orders) for result in found]

    def more(ratio: float) -> list[str]:
        return [
            _slashed(
                (result["more_than_random"][selector][result["ratios"].index(ratio)] for selector in SELECTORS),
                "{:.0%}",
            )
            for result in found
        ]

    rows = [
        *([f"{ratio:.0%} hidden, bits", *at(ratio)] for ratio in (0.25, 0.5, 0.75)),
        *([f"{ratio:.0%} hidden, bits per hidden patch", *at(ratio, each=True)] for ratio in (0.25, 0.75)),
        ["mean over 800 epochs, fixed 75%, bits", *over("fixed")],
        ["mean over 800 epochs, adaptive, bits", *over("adaptive")],
        *(
            [f"images where lesion first shares more than random, {ratio:.0%} hidden", *more(ratio)]
            for ratio in (0.25, 0.5, 0.75)
        ),
        ["50% hidden at random, patches of different images mixed, bits", *half("random_mixed")],
        ["50% hidden at random, covariance from half the images, bits", *half("random_from_half")],
    ]
    return table(["", *SETS.values()], rows)
