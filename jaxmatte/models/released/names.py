"""Names of the tensors in released PyTorch checkpoints, translated to our paths and back.

A module of the originals is a module of ours. Where they count alike, a template with letters for
the numbers holds both names; where they do not, the modules are listed one by one.
"""

import functools
import re

# (released module, our module); numbers in braces are equal on both sides.
_Pairs = tuple[tuple[str, str], ...]

_DIM: _Pairs = (
    ("down{s}.conv{c}.cbr_unit.0", "encoder/stage{s}/conv{c}"),
    ("down{s}.conv{c}.cbr_unit.1", "encoder/stage{s}/bn{c}"),
    ("up{k}.conv.cbr_unit.0", "decoder/up{k}/conv"),
    ("up{k}.conv.cbr_unit.1", "decoder/up{k}/bn"),
)

_INVERTED_RESIDUAL = (
    (0, "expand_conv"),
    (1, "expand_bn"),
    (3, "depthwise_conv"),
    (4, "depthwise_bn"),
    (6, "project_conv"),
    (7, "project_bn"),
)
_SEPARABLE = ((0, "depthwise_conv"), (1, "depthwise_bn"), (3, "conv"), (4, "bn"))

_INDEXNET: _Pairs = (
    ("layer0.0", "encoder/layer0/conv"),
    ("layer0.1", "encoder/layer0/bn"),
    # The first stage does not expand, so its numbers start at the depthwise convolution.
    *(
        (f"layer1.{{b}}.conv.{number - 3}", f"encoder/layer1/block{{b}}/{name}")
        for number, name in _INVERTED_RESIDUAL[2:]
    ),
    *(
        (f"layer{stage}.{{b}}.conv.{number}", f"encoder/layer{stage}/block{{b}}/{name}")
        for stage in range(2, 8)
        for number, name in _INVERTED_RESIDUAL
    ),
    ("index{i}.indexnet{b}.0", "encoder/index{i}/branch{b}/conv1"),
    ("index{i}.indexnet{b}.1", "encoder/index{i}/branch{b}/bn"),
    ("index{i}.indexnet{b}.3", "encoder/index{i}/branch{b}/conv2"),
    ("dconv_pp.aspp1.atrous_conv.0", "aspp/branch1/conv"),
    ("dconv_pp.aspp1.atrous_conv.1", "aspp/branch1/bn"),
    *(
        (f"dconv_pp.aspp{branch}.atrous_conv.{number}", f"aspp/branch{branch}/{name}")
        for branch in (2, 3, 4)
        for number, name in _SEPARABLE
    ),
    ("dconv_pp.global_avg_pool.1", "aspp/pool/conv"),
    ("dconv_pp.global_avg_pool.2", "aspp/pool/bn"),
    ("dconv_pp.bottleneck_conv.0", "aspp/bottleneck/conv"),
    ("dconv_pp.bottleneck_conv.1", "aspp/bottleneck/bn"),
    ("decoder_layer{i}.dconv.0", "decoder/layer{i}/conv"),
    ("decoder_layer{i}.dconv.1", "decoder/layer{i}/bn"),
    ("pred.0.0", "decoder/pred/conv1"),
    ("pred.0.1", "decoder/pred/bn"),
    ("pred.1", "decoder/pred/conv2"),
)

# `.module` is the original's wrapper for spectral normalisation; a convolution whose norm is folded
# into its kernel goes without.
_WRAPPER = ".module"
_GCAM: _Pairs = (
    ("encoder.conv{c}.module", "encoder/conv{c}"),
    ("encoder.bn{c}", "encoder/bn{c}"),
    ("decoder.conv1.module", "decoder/conv1"),
    ("decoder.bn1", "decoder/bn1"),
    ("decoder.conv2", "decoder/conv2"),
    *(
        pair
        for part, resampling, layers in (
            ("encoder", "downsample", ("layer1", "layer2", "layer3", "layer_bottleneck")),
            ("decoder", "upsample", ("layer1", "layer2", "layer3", "layer4")),
        )
        for layer in layers
        for pair in (
            (f"{part}.{layer}.{{b}}.conv{{c}}.module", f"{part}/{layer}/block{{b}}/conv{{c}}"),
            (f"{part}.{layer}.{{b}}.bn{{c}}", f"{part}/{layer}/block{{b}}/bn{{c}}"),
            (
                f"{part}.{layer}.{{b}}.{resampling}.1.module",
                f"{part}/{layer}/block{{b}}/{resampling}_conv",
            ),
            (f"{part}.{layer}.{{b}}.{resampling}.2", f"{part}/{layer}/block{{b}}/{resampling}_bn"),
        )
    ),
    *(
        pair
        for part in ("encoder", "decoder")
        for pair in (
            (f"{part}.gca.guidance_conv", f"{part}/gca/guidance_conv"),
            (f"{part}.gca.W.0", f"{part}/gca/w_conv"),
            (f"{part}.gca.W.1", f"{part}/gca/w_bn"),
        )
    ),
    *(
        (f"encoder.shortcut.{index}.{released}", f"encoder/shortcut{index + 1}/{ours}")
        for index in range(5)
        for released, ours in (
            ("0.module", "conv1"),
            ("2", "bn1"),
            ("3.module", "conv2"),
            ("5", "bn2"),
        )
    ),
    *(
        (f"encoder.guidance_head.{released}", f"encoder/guidance_head/{ours}")
        for released, ours in (
            ("1.module", "conv1"),
            ("3", "bn1"),
            ("5.module", "conv2"),
            ("7", "bn2"),
            ("9.module", "conv3"),
            ("11", "bn3"),
        )
    ),
)

# (released tensor, our collection, our tensor) by the kind of module.
_Leaves = tuple[tuple[str, str, str], ...]
_CONVOLUTION: _Leaves = (("weight", "params", "kernel"), ("bias", "params", "bias"))
_SPECTRAL: _Leaves = (
    ("weight_u", "spectral", "u"),
    ("weight_v", "spectral", "v"),
    ("weight_bar", "params", "kernel"),
)
_NORMALISATION: _Leaves = (
    ("weight", "params", "scale"),
    ("bias", "params", "bias"),
    ("running_mean", "batch_stats", "mean"),
    ("running_var", "batch_stats", "var"),
)
COUNTER = "num_batches_tracked"


def our_path(network: str, name: str) -> str | None:
    """Our path of a tensor of a released network.

    Args:
        network: `dim`, `indexnet` or `gcam`.
        name: PyTorch's name, e.g. `down1.conv1.cbr_unit.0.weight`.

    Returns:
        The path with its collection, e.g. `params/encoder/stage1/conv1/kernel`; None for the
        counter `num_batches_tracked` of a batch normalisation, which nothing here needs.

    Raises:
        KeyError: the released network has no tensor of this name.
    """
    theirs, _, released = name.rpartition(".")
    for released_module in (theirs, theirs + _WRAPPER):
        module = _translate(_tables(network)[0], released_module)
        if module is None:
            continue
        if released == COUNTER and is_normalisation(module):
            return None
        for own, collection, ours in _leaves(module, theirs):
            if own == released:
                return f"{collection}/{module}/{ours}"
    raise KeyError(name)


def released_name(network: str, path: str, *, folded: bool = False) -> str:
    """PyTorch's name of a tensor of ours; undoes `our_path`.

    Args:
        network: `dim`, `indexnet` or `gcam`.
        path: ours, with its collection.
        folded: whether spectral norms are folded into the kernels, which are then named as those
            of plain convolutions.

    Raises:
        KeyError: the released network has no such tensor.
    """
    collection, _, rest = path.partition("/")
    module, _, leaf = rest.rpartition("/")
    released_module = _translate(_tables(network)[1], module)
    if released_module is None:
        raise KeyError(path)
    if folded:
        released_module = released_module.removesuffix(_WRAPPER)
    for own, home, ours in _leaves(module, released_module):
        if (home, ours) == (collection, leaf):
            return f"{released_module}.{own}"
    raise KeyError(path)


def is_normalisation(module: str) -> bool:
    """Whether the last part of a path of ours names a batch normalisation."""
    return re.fullmatch(r"(.*_)?bn\d*", module.rpartition("/")[2]) is not None


def _leaves(module: str, released_module: str) -> _Leaves:
    if is_normalisation(module):
        return _NORMALISATION
    return _SPECTRAL if released_module.endswith(_WRAPPER) else _CONVOLUTION


_Table = tuple[tuple[re.Pattern[str], str], ...]


@functools.cache
def _tables(network: str) -> tuple[_Table, _Table]:
    """Patterns and templates of a network, from the released names and from ours."""
    match network:
        case "dim":
            pairs = _DIM
        case "indexnet":
            pairs = _INDEXNET
        case "gcam":
            pairs = _GCAM
        case _:
            raise ValueError(f"no released network {network!r}: dim, indexnet or gcam")
    forth = tuple((_pattern(theirs), ours) for theirs, ours in pairs)
    back = tuple((_pattern(ours), theirs) for theirs, ours in pairs)
    return forth, back


def _pattern(template: str) -> re.Pattern[str]:
    """What a template matches: its letters in braces stand for numbers."""
    # Splitting on groups leaves literal text at even places and the letters at odd ones.
    parts = re.split(r"\{(\w)\}", template)
    parts[::2] = map(re.escape, parts[::2])
    parts[1::2] = [rf"(?P<{letter}>\d+)" for letter in parts[1::2]]
    return re.compile("".join(parts))


def _translate(table: _Table, name: str) -> str | None:
    for pattern, template in table:
        if found := pattern.fullmatch(name):
            return template.format(**found.groupdict())
    return None
