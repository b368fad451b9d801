"""The app's look: a gradio theme in system fonts and the style sheets in app/static."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors
from gradio.themes.utils.fonts import Font

SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "monospace")
INK = colors.Color(
    "#f5f8f9",
    "#eaf0f2",
    "#d8e2e6",
    "#b9c8ce",
    "#8ea2ab",
    "#6a808a",
    "#4f646e",
    "#374a53",
    "#22323a",
    "#14222a",
    "#0d181e",
    "ink",
)
TEAL = colors.Color(
    "#eefaf8",
    "#d3f2ed",
    "#a8e4db",
    "#74cfc4",
    "#43b3a8",
    "#24958b",
    "#0f766e",
    "#0e5f5a",
    "#104c49",
    "#113f3d",
    "#042524",
    "teal",
)


def look() -> dict:
    """Return the arguments of ``gr.mount_gradio_app`` that dress the page."""
    theme = gr.themes.Base(
        primary_hue=TEAL,
        secondary_hue=TEAL,
        neutral_hue=INK,
        radius_size=gr.themes.sizes.radius_md,
        font=[Font(name) for name in SANS],
        font_mono=[Font(name) for name in MONO],
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_subdued="#56696f",
        body_text_color_subdued_dark="#9fb1b9",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="#56696f",
        block_info_text_color_dark="#9fb1b9",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_title_text_weight="600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_border_color="*neutral_200",
        button_border_width="1px",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        input_background_fill="white",
        input_background_fill_dark="*neutral_800",
    )
    return {
        "theme": theme,
        "css_paths": [str(path) for path in sorted((Path(__file__).parents[1] / "static").glob("*.css"))],
    }
