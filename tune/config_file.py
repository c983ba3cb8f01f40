"""A search as a file: JSON or YAML, such as the `search.json` that a search has written."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from keras_ddnn.files.checks import expect
from tune.space import SearchConfig

ENDINGS = (".json", ".yaml", ".yml")


def read_config(path: str | Path) -> SearchConfig:
    """Read the choices of a search; those that are not named have their defaults.

    Args:
        path: A mapping from fields of `SearchConfig` to what they are.

    Raises:
        ValueError: If it is no such file, or names a field that there is not; a choice is checked
            as `SearchConfig` checks it.
    """
    path = Path(path)
    expect(
        path.suffix in ENDINGS, f"--config {path}", f"a file {' or '.join(ENDINGS)}", path.suffix
    )
    try:
        content = _parsed(path)
    except OSError as error:
        raise ValueError(f"--config {path}: {error.strerror}: name a file of a search") from None
    known = [field.name for field in fields(SearchConfig)]
    mapping = isinstance(content, dict)
    expect(mapping, f"--config {path}", "a mapping of choices", type(content).__name__)
    unknown = [name for name in content if name not in known]
    expect(not unknown, f"--config {path}", f"fields of {', '.join(known)}", unknown)
    given = {name: tuple(x) if isinstance(x, list) else x for name, x in content.items()}
    return SearchConfig(**given)


def _parsed(path: Path) -> Any:
    import yaml

    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--config {path}: {reason}: mend the file") from None
