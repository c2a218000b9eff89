"""Places in a network where every pixel of a large image may matter to every other one."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Station:
    """A module that sees the whole image, so that what follows it can be computed in parts.

    Networks list theirs in the order of the computation. Between two stations everything is local.

    Attributes:
        path: the module's place in the network, e.g. `encoder/gca`.
        remember: modules whose outputs are kept besides, for `from_image` of later stations.
        from_image: whether the way from the last station to this one reads the image in full; if
            not, all it takes has been kept, at a size so small that it is computed at once.
    """

    path: str
    remember: tuple[str, ...] = ()
    from_image: bool = True
