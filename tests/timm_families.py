"""One model of each family of timm: does it train as a student, and is it the same when it was exported?

``python tests/timm_families.py`` tries them all in a few minutes and writes the table of docs/models.md.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from codistill import Batch, Cohort, Objective, Student, UserError, observe_shapes
from codistill.core.student import StudentShape
from codistill.export.network import Deployed, OneStudent
from codistill.export.plain import plain
from codistill.export.write import trace
from codistill.methods import METHODS
from codistill.models import make_backbone

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
TABLE = re.compile(r"(<!-- timm families -->\n).*?(<!-- end -->)", re.DOTALL)
HEADER = "| family | model | parameters | images | maps | trains | exports |\n|---|---|---|---|---|---|---|\n"
CLASSES = 100
LARGE = 30e6  # parameters: above it only weights are exported here, for programs of large models take minutes

# Family -> its smallest model, and a size of images. Where that is not 64 pixels, the model is made for larger ones.
FAMILIES = {
    "beit": ("beit_base_patch16_224", 64),
    "byoanet": ("sebotnet33ts_256", 64),
    "byobnet": ("mobileone_s1", 64),
    "cait": ("cait_xxs24_224", 64),
    "coat": ("coat_tiny", 64),
    "convit": ("convit_tiny", 64),
    "convmixer": ("convmixer_768_32", 64),
    "convnext": ("convnext_zepto_rms", 64),
    "cpubone": ("cpubone_nano", 64),
    "crossvit": ("crossvit_tiny_240", 240),
    "csatv2": ("csatv2", 64),
    "cspnet": ("cs3darknet_focus_s", 64),
    "cspnext": ("cspnext_tiny", 64),
    "davit": ("davit_tiny", 64),
    "deit": ("deit_tiny_patch16_224", 64),
    "densenet": ("densenet121", 64),
    "dla": ("dla46x_c", 64),
    "dpn": ("dpn48b", 64),
    "edgenext": ("edgenext_xx_small", 64),
    "efficientformer": ("efficientformer_l1", 224),
    "efficientformer_v2": ("efficientformerv2_s0", 64),
    "efficientnet": ("mobilenetv2_035", 64),
    "efficientvim": ("efficientvim_m1", 64),
    "efficientvit_mit": ("efficientvit_b0", 64),
    "efficientvit_msra": ("efficientvit_m0", 64),
    "eva": ("vit_tiny_patch16_dinov3_qkvb", 64),
    "fasternet": ("fasternet_t0", 64),
    "fastvit": ("fastvit_t8", 64),
    "focalnet": ("focalnet_tiny_srf", 64),
    "gcvit": ("gcvit_xxtiny", 64),
    "ghostnet": ("ghostnet_050", 64),
    "hardcorenas": ("hardcorenas_b", 64),
    "hgnet": ("hgnetv2_b0", 64),
    "hiera": ("hiera_tiny_224", 64),
    "hieradet_sam2": ("sam2_hiera_tiny", 64),
    "hrnet": ("hrnet_w18_small", 64),
    "iformer": ("iformer_t", 64),
    "inception_next": ("inception_next_atto", 64),
    "inception_resnet_v2": ("inception_resnet_v2", 96),
    "inception_v3": ("inception_v3", 96),
    "inception_v4": ("inception_v4", 96),
    "lcnetv2": ("lcnetv2_small", 64),
    "levit": ("levit_128s", 64),
    "lowformer": ("lowformer_b0", 64),
    "mambaout": ("mambaout_femto", 64),
    "maxxvit": ("maxvit_pico_rw_256", 64),
    "metaformer": ("poolformerv2_s12", 64),
    "mlp_mixer": ("gmlp_ti16_224", 64),
    "mobilenetv3": ("lcnet_035", 64),
    "mobilenetv5": ("mobilenetv5_base", 64),
    "mobilevit": ("mobilevit_xxs", 64),
    "mvitv2": ("mvitv2_tiny", 64),
    "naflexvit": ("naflexvit_base_patch16_parfac_gap", 64),
    "nasnet": ("nasnetalarge", 64),
    "nest": ("nest_tiny", 64),
    "nextvit": ("nextvit_small", 64),
    "nfnet": ("nf_regnet_b0", 64),
    "pit": ("pit_ti_224", 64),
    "pnasnet": ("pnasnet5large", 64),
    "pvt_v2": ("pvt_v2_b0", 64),
    "qwen3_vit": ("qwen3_vit_88m", 64),
    "rdnet": ("rdnet_tiny", 64),
    "regnet": ("regnetx_002", 64),
    "repghost": ("repghostnet_050", 64),
    "repvit": ("repvit_m1", 64),
    "res2net": ("res2next50", 64),
    "resnest": ("resnest14d", 64),
    "resnet": ("resnet10t", 64),
    "resnetv2": ("resnetv2_18", 64),
    "rexnet": ("rexnet_100", 64),
    "selecsls": ("selecsls42", 64),
    "senet": ("legacy_seresnet18", 64),
    "sequencer": ("sequencer2d_s", 64),
    "shvit": ("shvit_s1", 64),
    "sknet": ("skresnet18", 64),
    "starnet": ("starnet_s050", 64),
    "swiftformer": ("swiftformer_xs", 64),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 64),
    "swin_transformer_v2": ("swinv2_tiny_window16_256", 64),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 64),
    "tiny_vit": ("tiny_vit_5m_224", 64),
    "tnt": ("tnt_s_legacy_patch16_224", 64),
    "tresnet": ("tresnet_m", 64),
    "twins": ("twins_svt_small", 64),
    "vgg": ("vgg11", 64),
    "visformer": ("visformer_tiny", 64),
    "vision_transformer": ("vit_tiny_patch16_224", 64),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 64),
    "vision_transformer_relpos": ("vit_srelpos_small_patch16_224", 64),
    "vision_transformer_sam": ("samvit_base_patch16_224", 64),
    "vitamin": ("vitamin_small_224", 64),
    "volo": ("volo_d1_224", 64),
    "vovnet": ("ese_vovnet19b_slim_dw", 64),
    "xception": ("legacy_xception", 64),
    "xception_aligned": ("xception41p", 64),
    "xcit": ("xcit_nano_12_p8_224", 64),
}


class Tried(NamedTuple):
    """What became of one model."""

    shape: StudentShape
    parameters: int
    without_gradient: list[str]
    exports: str


def try_model(name: str, size: int) -> Tried:
    """One step of DML beside a ResNet-8, then the export of the student.

    Raises UserError if the model is none for such images.
    """
    torch.manual_seed(0)
    image = (3, size, size)
    students = {
        "own": Student(make_backbone(f"timm/{name}", (size, size)), CLASSES),
        "peer": Student(make_backbone("resnet8"), CLASSES),
    }
    try:
        shapes = {key: observe_shapes(student, image) for key, student in students.items()}
    except (RuntimeError, AssertionError) as error:
        raise UserError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    method = METHODS["dml"](shapes)
    cohort = Cohort(students, {key: {} for key in students}, method)
    images, labels = torch.randn(2, *image), torch.arange(2)
    losses = cohort(Batch(images, labels, (), labels))
    Objective(method.weights)(losses).backward()
    own = {key: parameter for key, parameter in students["own"].named_parameters() if parameter.requires_grad}
    bad = [key for key, p in own.items() if p.grad is None or not p.grad.isfinite().all()]
    count = sum(parameter.numel() for parameter in own.values())
    return Tried(shapes["own"], count, bad, exports(students["own"].eval(), f"timm/{name}", size, count))


@torch.no_grad()
def exports(student: Student, model: str, size: int, parameters: int) -> str:
    """Whether plain timm loads its weights, and PyTorch's program of it, for any batch, says the same."""
    import timm

    images = torch.rand(3, 3, size, size)
    expected = student((images - 0.5) / 0.25).logits
    made = plain(student, model, (size, size), [0.5] * 3, [0.25] * 3)
    weights = "weights"
    if made.model["library"] == "timm":
        network = timm.create_model(made.model["name"], num_classes=CLASSES, **made.model["settings"]).eval()
        network.load_state_dict(made.weights)
        torch.testing.assert_close(network((images - 0.5) / 0.25), expected, atol=1e-4, rtol=1e-4)
    else:
        network = Student(make_backbone(model, (size, size)), CLASSES).eval()
        network.load_state_dict(made.weights)
        torch.testing.assert_close(network((images - 0.5) / 0.25).logits, expected, atol=1e-4, rtol=1e-4)
        weights = "weights of codistill"
    if parameters > LARGE:
        return weights
    try:
        program = trace(Deployed(OneStudent(student), [0.5] * 3, [0.25] * 3).eval(), (size, size)).module()
    except UserError:
        return f"{weights}; PyTorch makes no program of it"
    torch.testing.assert_close(program(images), expected, atol=1e-4, rtol=1e-4)
    return f"{weights}, program"


def row(family: str) -> str:
    """A line of the table."""
    name, size = FAMILIES[family]
    try:
        tried = try_model(name, size)
    except UserError as error:
        return f"| {family} | `{name}` | | {size} | | no: {error} | |"
    maps = " ".join(f"{c}x{h}x{w}" for c, h, w in tried.shape.feature_maps)
    result = f"without gradient: {', '.join(tried.without_gradient)}" if tried.without_gradient else "yes"
    millions = f"{tried.parameters / 1e6:.2f} M"
    return f"| {family} | `{name}` | {millions} | {size} | {maps} | {result} | {tried.exports} |"


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import import_timm

    import_timm()
    rows = []
    for family in FAMILIES:
        rows.append(row(family))
        print(rows[-1], flush=True)
    page = PAGE.read_text(encoding="utf-8")
    table = HEADER + "".join(f"{line}\n" for line in rows)
    PAGE.write_text(TABLE.sub(lambda match: match[1] + table + match[2], page), encoding="utf-8")


if __name__ == "__main__":
    main()
