"""What is installed: three packages with their data, and one command."""

from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("keras_ddnn", "tune", "figures")


@pytest.fixture(scope="module")
def found(setup):
    """Return the packages that a wheel is made of."""
    find_packages = pytest.importorskip("setuptools").find_packages
    return find_packages(ROOT, include=setup["options.packages.find"]["include"].split())


def test_three_packages_are_installed_and_nothing_beside_them(found):
    assert {package.partition(".")[0] for package in found} == set(PACKAGES)


def test_every_file_of_the_packages_is_installed(setup, found):
    data = setup["options.package_data"]
    for top in PACKAGES:
        for path in (ROOT / top).rglob("*"):
            package = ".".join(path.parent.relative_to(ROOT).parts)
            if path.is_dir() or "__pycache__" in path.parts:
                continue
            assert package in found, path
            is_data = any(fnmatch(path.name, name) for name in data.get(package, "").split())
            assert path.suffix == ".py" or is_data, path


def test_no_command_is_installed_under_a_name_of_another_package(setup):
    # Ray installs one that is called `tune`.
    scripts = setup["options.entry_points"]["console_scripts"].split("\n")
    assert [line.partition(" = ")[0] for line in scripts if line] == ["keras-ddnn"]
