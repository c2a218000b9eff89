"""Miniatures of published sets in their exact layouts, of pictures of some 20 pixels."""

from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 26, 24
BACKGROUNDS_EACH = 20
TEST_NAMES = ("retriever-348572_1920 (1)", "cobweb")


def distance(height=HEIGHT, width=WIDTH):
    rows, columns = np.indices((height, width))
    return np.hypot(rows - height / 2 + 0.5, columns - width / 2 + 0.5)


def alpha(height=HEIGHT, width=WIDTH, radius=6.0):
    """A disc whose border fades over four pixels."""
    shares = np.clip((radius - distance(height, width)) / 4 + 0.5, 0, 1)
    return np.rint(255 * shares).astype(np.uint8)


def trimap(height=HEIGHT, width=WIDTH, radius=6.0):
    """Known one pixel beyond what fades, on either side."""
    away = distance(height, width) - radius
    return np.where(away < -3, 255, np.where(away > 3, 0, 128)).astype(np.uint8)


def photograph(seed, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_lines(path, names):
    """As the sets' own lists: line ends of Windows, none after the last name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\r\n".join(names).encode())


def write_voc(root, count):
    names = [f"2007_{number:06d}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        # Some smaller than the foregrounds, some larger, in either direction.
        height, width = 14 + 5 * (number % 5), 40 - 6 * (number % 4)
        save(root / "VOCdevkit/VOC2012/JPEGImages" / name, photograph(number, height, width))
    return names


def write_composition_1k(root):
    training = root / "Training_set"
    parts = {"Adobe-licensed images": ("035A4301", "GT01"), "Other": ("cat-111793_1920", "woman1")}
    for part, stems in parts.items():
        for number, stem in enumerate(stems):
            save(training / part / "fg" / f"{stem}.jpg", photograph(number))
            save(training / part / "alpha" / f"{stem}.jpg", alpha())
    listed = sorted(f"{stem}.jpg" for stems in parts.values() for stem in stems)
    write_lines(training / "training_fg_names.txt", listed)
    images = root / "Test_set/Adobe-licensed images"
    for number, stem in enumerate(TEST_NAMES):
        save(images / "fg" / f"{stem}.png", photograph(100 + number))
        save(images / "alpha" / f"{stem}.png", alpha(radius=6 + number))
        for turn in range(BACKGROUNDS_EACH):
            save(images / "trimaps" / f"{stem}_{turn}.png", trimap(radius=6 + number))
    write_lines(root / "Test_set/test_fg_names.txt", [f"{stem}.png" for stem in TEST_NAMES])
    names = write_voc(root, len(TEST_NAMES) * BACKGROUNDS_EACH)
    # Not the order of the names: the list decides.
    write_lines(root / "Test_set/test_bg_names.txt", names[::-1])


def write_merged(folder, stems):
    for stem in stems:
        for turn in range(BACKGROUNDS_EACH):
            save(folder / f"{stem}_{turn}.png", photograph(turn))


def write_distinctions_646(root):
    for part, count in (("Train", 3), ("Test", 2)):
        for number in range(count):
            save(root / part / "FG" / f"{number:03d}.png", photograph(number))
            save(root / part / "GT" / f"{number:03d}.png", alpha(radius=5 + number))
    names = write_voc(root, 2 * BACKGROUNDS_EACH)
    write_lines(root / "Test/bg_test.txt", names)


def write_aim_500(root, count=3):
    for number in range(count):
        stem = f"o_{number:08x}"
        save(root / "original" / f"{stem}.jpg", photograph(number))
        save(root / "mask" / f"{stem}.png", alpha(radius=5 + number % 3))
        save(root / "trimap" / f"{stem}.png", trimap(radius=5 + number % 3))
        save(root / "usr" / f"{stem}.png", trimap())


def write_ppm_100(root, image="image", matte="matte", suffix="jpg"):
    for number in range(3):
        save(root / image / f"{number}_3588101233_f91aa5e3a3.jpg", photograph(number))
        save(root / matte / f"{number}_3588101233_f91aa5e3a3.{suffix}", alpha(radius=5 + number))


def write_alphamatting(root):
    for number in range(1, 4):
        stem = f"GT{number:02d}.png"
        save(root / "input_training_lowres" / stem, photograph(number))
        save(root / "gt_training_lowres" / stem, alpha())
        for folder in ("Trimap1", "Trimap2"):
            save(root / "trimap_training_lowres" / folder / stem, trimap())
    for stem in ("doll.png", "net.png"):
        save(root / "input_lowres" / stem, photograph(9))
        for folder in ("Trimap1", "Trimap2", "Trimap3"):
            save(root / "trimap_lowres" / folder / stem, trimap())


def write_alphamatting_short(root):
    for number in range(1, 4):
        stem = f"GT{number:02d}.png"
        for folder, pixels in (
            ("input", photograph(number)),
            ("alpha", alpha()),
            ("trimap1", trimap()),
            ("trimap2", trimap()),
        ):
            save(root / folder / stem, pixels)


def stamp(seed, height=80, width=90):
    """A cut-out photograph: nearly every pixel of it has a colour of its own."""
    return np.dstack([photograph(seed, height, width), alpha(height, width, radius=38)])


def drawing(height=400, width=400):
    """A cut-out drawing, shaded: many colours, in flat areas of three pixels by three."""
    large = np.repeat(np.repeat(photograph(3, height // 3, width // 3), 3, axis=0), 3, axis=1)
    return np.dstack([large, alpha(*large.shape[:2], radius=180)])


def write_tuxpaint_stamps(root):
    stamps = root / "tuxpaint/stamps"
    save(stamps / "animals/birds/owl.png", stamp(1))
    save(stamps / "animals/birds/owl_mirror.png", stamp(1)[:, ::-1])
    save(stamps / "plants/fern.png", stamp(2))
    save(stamps / "town/house.png", drawing())
    save(stamps / "town/opaque.png", photograph(5, 80, 90))
    for suffix in (".txt", ".dat", ".ogg"):
        (stamps / f"animals/birds/owl{suffix}").write_bytes(b"Owl.")
    save(root / "backgrounds/mate/nature/Dune.jpg", photograph(7, 40, 50))
    plasma = root / "wallpapers/Kite/contents"
    save(plasma / "screenshot.jpg", photograph(8))
    save(plasma / "images/1024x768.jpg", photograph(8, 30, 40))
    save(plasma / "images/5120x2880.jpg", photograph(8, 54, 96))


def write_backgrounds(root):
    for number in range(3):
        save(root / "train2017" / f"{number:012d}.jpg", photograph(number))


def write_folder(root):
    for stem in ("a", "b"):
        save(root / "image" / f"{stem}.jpg", photograph(1))
        save(root / "alpha" / f"{stem}.png", alpha())
        save(root / "trimap" / f"{stem}.png", trimap())


def write_folder_of_parts(root, *, cutouts):
    for number, stem in enumerate(("x", "y")):
        if cutouts:
            colors = np.dstack([photograph(number), alpha()])
            save(root / "foreground" / f"{stem}.png", colors)
        else:
            save(root / "foreground" / f"{stem}.jpg", photograph(number))
            save(root / "alpha" / f"{stem}.png", alpha())
    save(root / "background/deep/sky.jpg", photograph(4, 30, 40))


def pixels_of(path: Path):
    return np.asarray(Image.open(path))
