"""What an image shows in one sentence, by an image-to-text model of the hub or of a local folder (paper: ClipCap)."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from admodels.context import ContextUnavailableError


class Captions:
    """RGB image → a caption. name_or_folder: a transformers image-to-text model such as BLIP, GIT or ViT-GPT2.

    Raises ContextUnavailableError when it can't be loaded.
    """

    def __init__(self, name_or_folder: str | Path, *, max_tokens: int = 24) -> None:
        disable_progress_bar()
        local = isinstance(name_or_folder, Path)
        try:
            self._processor = AutoImageProcessor.from_pretrained(name_or_folder, local_files_only=local)
            self._tokenizer = AutoTokenizer.from_pretrained(name_or_folder, local_files_only=local)
            self._model = AutoModelForImageTextToText.from_pretrained(name_or_folder, local_files_only=local).eval()
        except (OSError, ValueError) as error:
            raise ContextUnavailableError(
                f"captions by {name_or_folder} can't be had ({type(error).__name__}): the model hub can't be reached "
                "from here and its cache doesn't hold it, or it is no image-to-text model; pass a local folder, or "
                "leave captions out (their segment is then empty)"
            ) from error
        self.identity = f"captions {name_or_folder} {max_tokens}"
        self._max_tokens = max_tokens

    def __call__(self, rgb: Image.Image) -> str:
        pixels = self._processor(images=rgb, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            ids = self._model.generate(pixel_values=pixels, max_new_tokens=self._max_tokens, do_sample=False)
        return str(self._tokenizer.decode(ids[0], skip_special_tokens=True)).strip()
