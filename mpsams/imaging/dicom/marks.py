"""Attributes of a header that distinguish frames at one position: phase, echo, b-value, kind of image, time."""

from __future__ import annotations

from typing import Any

from .elements import Steps, items, numbers, raw, text

# Names and DICOM keywords, of which the first that is there counts; what explains repeated places best stands first.
_NUMBERS = {
    "temporal position": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "echo number": ("EchoNumbers",),
    "echo time": ("EffectiveEchoTime", "EchoTime"),
    "b-value": ("DiffusionBValue",),
    "inversion time": ("InversionTimes", "InversionTime"),
    "cardiac phase": ("NominalPercentageOfCardiacPhase",),
    "trigger time": ("NominalCardiacTriggerDelayTime", "TriggerTime"),
    "respiratory phase": ("NominalPercentageOfRespiratoryPhase",),
    "flip angle": ("FlipAngle",),
    "tube voltage": ("KVP",),
    "acquisition number": ("FrameAcquisitionNumber", "AcquisitionNumber"),
    "time offset": ("TemporalPositionTimeOffset",),
    "frame reference time": ("FrameReferenceTime",),
}
_MOMENTS = {
    "acquisition time": ("FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime"),
    "reference time": ("FrameReferenceDateTime",),
    "content time": ("ContentTime",),
}
_TEXTS = {
    "stack": ("StackID",),
    "kind of image": ("FrameType", "ImageType"),
    "complex component": ("ComplexImageComponent",),
    "reconstruction kernel": ("ConvolutionKernel",),
}
_DIRECTION, _INDICES, _MOST_INDICES = "DiffusionGradientOrientation", "DimensionIndexValues", 8
_GRADIENTS = "DiffusionGradientDirectionSequence"
ORDER = (
    "stack",
    "temporal position",
    "echo number",
    "echo time",
    "b-value",
    "diffusion direction",
    "inversion time",
    "cardiac phase",
    "trigger time",
    "respiratory phase",
    "kind of image",
    "complex component",
    "flip angle",
    "tube voltage",
    "reconstruction kernel",
    "acquisition number",
    "acquisition time",
    "reference time",
    "time offset",
    "frame reference time",
    *(f"dimension index {k + 1}" for k in range(_MOST_INDICES)),
    "content time",
    "series",
    "image number",
    "file",
)
SEQUENCES = {  # of which each slice may have its own number, larger ones in later phases
    "trigger time", "acquisition number", "acquisition time", "reference time", "time offset", "frame reference time",
    "content time", "image number",
}  # fmt: skip
GROUPS = (  # functional groups of an enhanced image that hold them
    "FrameContentSequence",
    "MREchoSequence",
    "MRDiffusionSequence",
    "MRModifierSequence",
    "CardiacSynchronizationSequence",
    "RespiratorySynchronizationSequence",
    "TemporalPositionSequence",
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "MRTimingAndRelatedParametersSequence",
    "CTReconstructionSequence",
    "CTXRayDetailsSequence",
)
TAGS = (
    *(keyword for kind in (_NUMBERS, _MOMENTS, _TEXTS) for keywords in kind.values() for keyword in keywords),
    _DIRECTION, _INDICES, _GRADIENTS,
)  # fmt: skip


def read(data: Any, file: Steps) -> dict[str, Any]:
    """Return the attributes of ``ORDER`` that a header has, by name: numbers, words, or tuples of numbers."""
    marks: dict[str, Any] = {}
    for names, parse in ((_NUMBERS, _number), (_MOMENTS, _moment), (_TEXTS, text)):
        for name, keywords in names.items():
            stated = (parse(data, keyword) for keyword in keywords if raw(data, keyword) is not None)
            found = next((value for value in stated if value not in (None, "")), None)
            if found is not None:
                marks[name] = found
    gradient = items(data, _GRADIENTS, file)[:1] or [data]
    if direction := numbers(gradient[0], _DIRECTION, 3):
        marks["diffusion direction"] = direction
    if raw(data, _INDICES) is not None:
        for k in range(_MOST_INDICES):
            if (indices := numbers(data, _INDICES, k + 1)) is None:
                break
            marks[f"dimension index {k + 1}"] = indices[k]
    return marks


def _number(data: Any, keyword: str) -> float | None:
    found = numbers(data, keyword, 1)
    return found[0] if found else None


def _moment(data: Any, keyword: str) -> float | None:
    """Return a date and time, or a time of day, in seconds, larger for later ones of one month; None for neither."""
    stated = text(data, keyword).split("+")[0].split("-")[0]
    day, time = (stated[6:8], stated[8:]) if keyword.endswith("DateTime") else ("0", stated)
    whole, _, fraction = time.partition(".")
    whole = whole.ljust(6, "0")
    if not time or not all(part.isdecimal() for part in (day, whole, fraction or "0")):
        return None
    return (
        int(day) * 86400 + int(whole[:2]) * 3600 + int(whole[2:4]) * 60 + int(whole[4:6]) + float(f"0.{fraction or 0}")
    )
