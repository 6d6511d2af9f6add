"""The model card of an export: what it is, how it was trained, how good the file is, how to load it. No torch in here.

The code in a card is run by tests, in the export's folder.
"""

from collections.abc import Mapping
from typing import Any

from codistill.errors.counted import counted
from codistill.errors.printable import printable, printable_list

_READ_IMAGE = """\
facts = json.load(open("export.json", encoding="utf-8"))
height, width = facts["image_size"]
image = ImageOps.exif_transpose(Image.open("image.png"))  # upright, as cameras mean it
if image.mode.startswith("I;16"):  # of 16 bits the upper 8
    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
white = Image.new("RGBA", image.size, "white")  # transparent parts show white
image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
image = {resized}
pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)[None] / 255  # (1, 3, height, width) in [0, 1]
"""
_RESIZED = {
    "squash": "image.resize((width, height), Image.Resampling.BOX)",
    "crop": "ImageOps.fit(image, (width, height), Image.Resampling.BOX)  # the central square",
    "pad": "ImageOps.pad(image, (width, height), Image.Resampling.BOX)  # all of it, black beside it",
}

_NORMALISE = """\
mean, std = (torch.tensor(facts["preprocessing"][key]).view(1, 3, 1, 1) for key in ("mean", "std"))
"""

_ANSWER = """\
print(facts["class_names"][int(logits.argmax())])
"""

_CODE = {
    "onnx": (
        "import json\n\nimport numpy as np\nimport onnxruntime\nfrom PIL import Image, ImageOps\n\n",
        'session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])\n'
        'logits = session.run(["logits"], {"images": pixels})[0][0]\n',
    ),
    "torch": (
        "import json\n\nimport numpy as np\nimport torch\nfrom PIL import Image, ImageOps\n\n",
        'network = torch.export.load("model.pt2").module()  # a program: load only what you trust\n'
        "logits = network(torch.from_numpy(pixels))[0]\n",
    ),
    "codistill": (
        "import json\n\nimport numpy as np\nimport torch\nfrom PIL import Image, ImageOps\n\n"
        "from codistill import load_student\n\n",
        'student, _ = load_student("model.safetensors")\n'
        + _NORMALISE
        + "logits = student((torch.from_numpy(pixels) - mean) / std).logits[0]\n",
    ),
    "timm": (
        "import json\n\nimport numpy as np\nimport timm\nimport torch\nfrom PIL import Image, ImageOps\n"
        "from safetensors.torch import load_file\n\n",
        'model = json.load(open("model.json", encoding="utf-8"))\n'
        'network = timm.create_model(model["name"], num_classes=model["num_classes"], **model["settings"]).eval()\n'
        'network.load_state_dict(load_file("model.safetensors"))\n'
        + _NORMALISE
        + "logits = network((torch.from_numpy(pixels) - mean) / std)[0]\n",
    ),
}

_CODE["own"] = (
    _CODE["codistill"][0],
    _CODE["codistill"][1].replace(
        'load_student("model.safetensors")',
        'load_student("model.safetensors", run_factory=True)  # runs your factory',
    ),
)
_SHOWN_CLASSES = 20


def card(facts: Mapping[str, Any]) -> str:
    """README.md, from what is in export.json."""
    run, accuracy = facts["run"], facts["test_accuracy"]
    classes, (height, width) = facts["class_names"], facts["image_size"]
    named = printable_list(classes[:_SHOWN_CLASSES]) + (", ..." if len(classes) > _SHOWN_CLASSES else "")
    sections = [
        f"# {printable(run['name'])}: {facts['student']}\n\n"
        f"A classifier of {width}x{height} images into {len(classes)} classes ({named}), "
        f"{facts['parameters']:,} parameters, exported from a run of codistill as {_format(facts)}. "
        f"It is {_which(facts)}: {facts['chosen']}. "
        f"Its weights are those {facts['weights']}.",
        f"## Accuracy\n\n"
        f"Measured again on this file, on all {accuracy['images']:,} test images: **{accuracy['exported']:.2f} %**. "
        f"The same network in PyTorch: {accuracy['pytorch']:.2f} %. The run's own test of that epoch: "
        f"{accuracy['run']:.2f} %.\n\n{_parity(facts)}",
        f"## How it was trained\n\n{_training(run)}",
        f"## How to use it\n\n{_input(facts)}\n\n"
        f"```python\n{code(facts)}```\n\n"
        "`codistill predict FOLDER IMAGE...` does the same, and also resizes exactly as training and evaluation did. "
        "Pillow's resizing, as above, differs from that by a level where sides shrink by whole numbers, and by more "
        "elsewhere.",
        "## Limits\n\n"
        "- It knows the classes above and no others, and gives every image one of them.\n"
        "- Its accuracy is that on images like those it was trained on. Nothing is known of others.\n"
        "- Its probabilities were not calibrated.",
        "## License\n\nNot set. Whoever publishes this says here under which license; that of the data may bind it.",
    ]
    return "\n\n".join(sections) + "\n"


def code(facts: Mapping[str, Any]) -> str:
    """Plain code that prints the class of image.png, to be run in the export's folder."""
    kind = facts["format"]
    if kind == "safetensors":
        kind = "own" if ":" in facts["network"]["name"] else facts["network"]["library"]
    imports, answer = _CODE[kind]
    read = _READ_IMAGE.replace("{resized}", _RESIZED[facts["preprocessing"]["resize"]])
    return imports + read + answer + _ANSWER


def eight_bits(facts: Mapping[str, Any]) -> str:
    """What 8 bits cost or bring, in accuracy on test images and in time on the CPU that exported."""
    accuracy = facts["test_accuracy"]
    points = round(accuracy["exported"] - accuracy["pytorch"], 2)
    change = f"{abs(points):.2f} points {'higher' if points > 0 else 'lower'} than" if points else "the same as"
    told = f"In 8 bits test accuracy is {change} in full precision."
    if (latency := facts.get("latency")) is None:  # exports of earlier versions
        return told
    if latency["least_ratio"] > 1:
        speed = "slower than full precision"
    else:
        speed = "faster than full precision" if latency["largest_ratio"] < 1 else "about as fast as full precision"
    return (
        f"{told} On the CPU that exported it, 8 bits are {speed}: {latency['median_ms']:.3g} ms for one image, "
        f"{latency['other_median_ms']:.3g} ms in full precision."
    )


def _format(facts: Mapping[str, Any]) -> str:
    names = {
        "safetensors": "plain weights (safetensors)",
        "torch": "a program of torch.export",
        "onnx": "ONNX",
    }
    return names[facts["format"]] + (" in 8 bits" if facts["quantized"] else "")


def _which(facts: Mapping[str, Any]) -> str:
    students = facts["run"]["students"]
    name = facts["student"]
    return f"the student `{name}` ({_model(students[name])})" if name in students else f"the {name}"


def _model(model: str | Mapping[str, Any]) -> str:
    if isinstance(model, str):
        return model
    settings = ", ".join(f"{key} {value}" for key, value in model.items() if key not in ("name", "sha256"))
    return f"{model['name']} with {settings}" if settings else str(model["name"])


def _parity(facts: Mapping[str, Any]) -> str:
    parity = facts["parity"]
    same = f"{parity['equal_answers']:.2f} % of the answers are those of the network in PyTorch"
    if facts["quantized"]:
        return (
            f"Quantised to 8 bits (static, weights per channel, calibrated on {facts['calibration_images']:,} training "
            f"images). {eight_bits(facts)} {same[0].upper()}{same[1:]}. `codistill latency FOLDER` times it on another "
            "device."
        )
    return (
        f"{same}; logits differ by {parity['largest_difference']:.1e} at most ({parity['allowed_difference']:.1e} is "
        "allowed)."
    )


def _training(run: Mapping[str, Any]) -> str:
    optimizer = run["optimizer"]
    lines = [
        f"- Method: {run['method']['name']}. {'Peers' if len(run['students']) > 1 else 'Student'}: "
        + "; ".join(
            f"`{name}` ({_model(model)}; tasks: {', '.join(run['tasks'][name]) or 'none'})"
            for name, model in run["students"].items()
        ),
        f"- Data: {run['told']}",
        f"- {counted(run['epochs'], 'epoch')}{_replanned(run)}, batches of {run['batch_size']}, "
        f"{optimizer['name']} with learning rate {optimizer['lr']:g}, seed {run['seed']}, {run['precision']}",
    ]
    return "\n".join(lines)


def _replanned(run: Mapping[str, Any]) -> str:
    plans = run.get("replanned", [])
    return f" ({plans[0]['epochs']} were planned at first)" if plans else ""


def _input(facts: Mapping[str, Any]) -> str:
    text = f"Input: {facts['input']}. Output: {facts['output']}."
    if facts["preprocessing"]["normalised_in_file"]:
        return f"{text} The normalisation is part of the network: give it pixels as they are, divided by 255."
    return f"{text} These are weights only: normalise by `mean` and `std` of export.json, as below."
