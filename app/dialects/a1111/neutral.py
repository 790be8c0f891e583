"""Fields of the web UI that this service has no use for: ignored and named where they say nothing, else refused."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from jobs.errors import InvalidField

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "enable_hr": (False,),
    "restore_faces": (False,),
    "tiling": (False,),
    "script_name": ("", "None"),
    "subseed_strength": (0,),
    "seed_resize_from_h": (-1, 0),
    "seed_resize_from_w": (-1, 0),
    "refiner_checkpoint": ("", "None"),
    "styles": ([],),
    "initial_noise_multiplier": (1,),
    "latent_mask": ("",),
    "s_churn": (0,),
    "s_tmin": (0,),
    "s_min_uncond": (0,),
    "s_noise": (1,),
    "eta": (0, 1),
    "infotext": ("",),
    "disable_extra_networks": (False,),
    "firstphase_width": (0,),
    "firstphase_height": (0,),
}
"""Fields that change the picture -> values with which they do not, beside null."""

NEUTRAL_SETTINGS: dict[str, tuple[Any, ...]] = {
    "CLIP_stop_at_last_layers": (1,),
    "inpainting_mask_weight": (1,),
    "sd_vae": ("", "None", "Automatic", "automatic"),
    "samples_format": ("png",),
    "img2img_color_correction": (False,),
    "img2img_extra_noise": (0,),
    "initial_noise_multiplier": (1,),
    "eta_noise_seed_delta": (0,),
    "token_merging_ratio": (0,),
    "token_merging_ratio_img2img": (0,),
    "face_restoration": (False,),
    "tiling": (False,),
}
"""The same for ``override_settings``; others are ignored."""

SOFT_INPAINTING = "soft inpainting"
SWITCHED_OFF = (SOFT_INPAINTING, "controlnet", "adetailer")
"""Scripts that clients send always; others are named as ignored where they have nothing to do."""
MOST_NAMES, MOST_CHARACTERS = 40, 50


def check_honoured(body: Mapping[str, Any], used: Collection[str]) -> dict[str, str]:
    """Notes on what is ignored. ``used``: fields that are honoured.

    Raises InvalidField for what would change the picture and is not done here.
    """
    for name, values in NEUTRAL.items():
        if body.get(name) is not None and body[name] not in values:
            raise InvalidField(f"{name}: this service does not do that. Leave it out, or send {json.dumps(values[0])}.")
    settings = body.get("override_settings") or {}
    if not isinstance(settings, dict):
        raise InvalidField("override_settings: This must be a JSON object.")
    for name, values in NEUTRAL_SETTINGS.items():
        if settings.get(name) is not None and settings[name] not in values:
            raise InvalidField(f"override_settings.{name}: this service does not do that. Leave it out.")
    notes, unused = _scripts(body.get("alwayson_scripts") or {})
    known = {*used, *NEUTRAL, "alwayson_scripts"}
    unused += [name for name, value in body.items() if name not in known and value is not None]
    unused += [f"override_settings.{name}" for name in settings if name != "sd_model_checkpoint"]
    if unused:
        notes["Ignored"] = _listed(sorted(unused))
    return notes


def _listed(names: list[str]) -> str:
    shown = ", ".join(name[:MOST_CHARACTERS] for name in names[:MOST_NAMES])
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown


def _scripts(scripts: Any) -> tuple[dict[str, str], list[str]]:
    """Notes on scripts, and names of those that have nothing to do. Raises InvalidField."""
    if not isinstance(scripts, dict):
        raise InvalidField("alwayson_scripts: This must be a JSON object.")
    notes: dict[str, str] = {}
    unused = []
    for name, script in scripts.items():
        arguments = script.get("args") if isinstance(script, dict) else script
        if not _acts(arguments):
            unused += [f"alwayson_scripts.{name}"] if arguments and name.lower() not in SWITCHED_OFF else []
        elif name.lower() != SOFT_INPAINTING:
            raise InvalidField(f"alwayson_scripts: {name[:50]!r} is not done by this service. Leave it out.")
        else:
            notes[SOFT_INPAINTING.capitalize()] = "by the mask's own grey values"
    return notes, unused


def _acts(arguments: Any) -> bool:
    """Whether a script has anything to do: ADetailer says so by its first argument, ControlNet by each of its units."""
    if isinstance(arguments, dict):
        arguments = [arguments]
    if not isinstance(arguments, list) or not arguments:
        return bool(arguments)
    if arguments[0] is False:
        return False
    return any(not isinstance(unit, dict) or unit.get("enabled", True) for unit in arguments)
