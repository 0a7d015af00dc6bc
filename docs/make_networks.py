"""Write docs/networks.md: which networks of torchvision and timm spike, how, and why not.

    python docs/make_networks.py                     # all of them, each in a process of its own
    python docs/make_networks.py ROWS.jsonl          # those that the file lacks, which it is told
    python docs/make_networks.py timm:resnet10t ...  # these alone, a line of JSON for each

A network converts when four things hold, with random weights and two timesteps: ``spike`` proves
that it computes what the ANN does; step by step it is the whole sequence; every weight is in the
energy; saved and loaded it is the same. A refusal whose message says ``activations=...`` or
``ops=...`` is followed to the letter, once.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from examine_network import apart

HEAD = """# Real networks

Which networks of timm and torchvision spike, how, and why not. `python docs/make_networks.py` made
this page, with {versions} and timm {timm}. Of timm it is the smallest model of each of its model
modules, of torchvision all classifiers, of images and of videos.

A network *converts* if four things hold, with random weights and two timesteps. `spike` proves that
it computes what the ANN does. Step by step it is the whole sequence. Every weight is in the energy.
Saved and loaded it answers the same. "As it is" is `spike(ann, example_input=x)`. "By advice" is
the same call with the arguments that its refusal spells out. An activation that becomes a neuron is
another function, so train afterwards. The side, in pixels, is that of the smallest image that the
network takes.
"""
LIBRARIES = {"timm": "timm", "torchvision": "torchvision"}
PAGE = Path(__file__).parent / "networks.md"
TIMM = """
beit_base_patch16_224 cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 cpubone_nano
crossvit_tiny_240 cs3darknet_focus_s csatv2 cspnext_tiny davit_tiny deepseek_vit_412m
deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small efficientformer_l1
efficientformerv2_s0 efficientvim_m1 efficientvit_b0 efficientvit_m0 ese_vovnet19b_slim_dw
fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m ghostnet_050 gmlp_ti16_224
halonet_h1 hardcorenas_b hgnetv2_b0 hiera_tiny_224 hrnet_w18_small iformer_t inception_next_atto
inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small legacy_seresnet18 legacy_xception
levit_128s lowformer_b0 mobilenetv3_small_050 mobilenetv5_base mobilevit_xxs mvitv2_tiny
naflexvit_base_patch16_parfac_gap nasnetalarge nest_tiny nextvit_small pit_ti_224 pnasnet5large
poolformerv2_s12 pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002 repghostnet_050 repvit_m1
res2next50 resnest14d resnetv2_18 rexnet_100 sam2_hiera_tiny samvit_base_patch16_224 selecsls42
sequencer2d_s shvit_s1 skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224
swinv2_cr_tiny_224 swinv2_tiny_window16_256 test_byobnet test_coatnet test_convnext
test_efficientnet test_mambaout test_nfnet test_resnet test_vit test_vit_relpos tiny_vit_5m_224
tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny
vit_tiny_patch16_dinov3_qkvb vit_tiny_r_s16_p8_224 vitamin_small_224 volo_d1_224 xception41p
xcit_nano_12_p8_224
"""
"""The smallest model, by parameters, of each model module of timm 1.0.31."""


def networks() -> list[str]:
    """All that are surveyed: timm's smallest of each module, torchvision's classifiers."""
    models = torchvision.models
    theirs = models.list_models(module=models) + models.list_models(module=models.video)
    return [f"timm:{name}" for name in TIMM.split()] + [f"torchvision:{name}" for name in theirs]


def survey(known: Path | None = None) -> list[dict[str, Any]]:
    """What becomes of each network; ``known`` has a line for each that was examined before."""
    lines = known.read_text().splitlines() if known is not None and known.is_file() else []
    rows = {row["name"]: row for row in map(json.loads, lines)}
    for name in networks():
        if name not in rows:
            rows[name] = apart(name)
            if known is not None:
                with known.open("a") as file:
                    file.write(json.dumps(rows[name]) + "\n")
    return [rows[name] for name in networks()]


def page(rows: list[dict[str, Any]]) -> str:
    """The page of the documentation."""
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    parts = [HEAD.format(versions=versions.replace("+cpu", ""), timm=timm.__version__)]
    for library, title in LIBRARIES.items():
        own = [row for row in rows if row["name"].startswith(f"{library}:")]
        counts = Counter(row["verdict"] for row in own)
        parts += [f"## {title}", "", totals(counts), ""]
        parts += ["| network | million parameters | side | converts | how, or why not |"]
        parts += ["|---|---|---|---|---|", *map(line, own), ""]
    return "\n".join(parts)


def totals(counts: Counter[str]) -> str:
    """How many convert, in a sentence."""
    whole, converts = counts.total(), counts["as it is"] + counts["by advice"]
    return (
        f"{converts} of {whole} convert ({100 * converts / whole:.0f} %): {counts['as it is']} as "
        f"they are, {counts['by advice']} by one piece of advice. {counts['refused']} are refused, "
        f"{counts['fails']} fail."
    )


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    name, verdict = row["name"].partition(":")[2], row["verdict"]
    told = f"`{row['advice']}`" if verdict == "by advice" else short(row.get("why", ""))
    if verdict == "as it is":
        told = ""
    size = f"{row['parameters'] / 1e6:.1f}" if "parameters" in row else ""
    return f"| {name} | {size} | {row.get('side', '')} | {verdict} | {told} |"


def short(why: str) -> str:
    """The reason of a refusal, without the place and the way out."""
    reason = why.partition("; ")[0].replace("|", "/")
    return reason if len(reason) <= 160 else f"{reason[:157]} ..."


def main(arguments: list[str]) -> None:
    """Examine the named networks, or all of them for the page."""
    if any(":" in name for name in arguments):
        for name in arguments:
            print(json.dumps(apart(name)), flush=True)
        return
    PAGE.write_text(page(survey(Path(arguments[0]) if arguments else None)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
