"""What a worker process may use, and how long it lives."""

import os
import threading
import time

import cv2
import torch


def few_threads(number: int = 1) -> None:
    """Keep torch and OpenCV in this process to so many threads."""
    torch.set_num_threads(number)
    cv2.setNumThreads(number)


def end_with(parent: int) -> None:
    """End this process when its parent is gone, be it by kill -9; works in the background."""
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
