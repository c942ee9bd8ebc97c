"""What a written figure has to be at the least."""

import numpy as np
from PIL import Image


def assert_is_picture(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert len(np.unique(np.asarray(image.convert("L")))) > 10
