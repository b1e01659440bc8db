"""What a session does as the stock evaluation does it, on demand."""

from typing import Any

import numpy as np

from fdrn_adapter.model.inference import check_crop


class AsStock:
    """What InteractiveSession takes over from the stock evaluation, for comparisons with it."""

    pipeline: Any

    def click_like_stock_evaluation(self) -> None:
        """Give results that equal the stock evaluation's to the last bit, from the next click on.

        The stock zoom-in computes where a click lies on the crop in the precision of the click:
        single for Python's integers, which the stock GUI hands it, double for NumPy's, which the
        stock click simulation does. Probabilities differ by up to 1e-3.
        """
        self.pipeline.numbers = np.int64

    def zoom_in_like_stock(self, longest_side: int = 400) -> None:
        """Zoom in as the stock evaluation does (`--eval-mode cvpr`), instead of the fixed crop.

        From the second click on, the object's surroundings are cut out and resized to a longest
        side of so many pixels. Takes effect with the next image or object.

        Raises:
            ValueError: not a side of a crop.
        """
        check_crop(longest_side)
        self.pipeline.zoom_in_like_stock(longest_side)
