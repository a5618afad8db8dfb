"""Build step of setuptools: in a wheel, `local`, the scripts and confs/ are inside `desed_recipe`.

In site-packages `local` would collide with packages of that name, and scripts and configurations
have no place of their own. An editable installation uses the checkout as it is. Not installed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools.command.build_py import build_py

HOME = "desed_recipe"
MOVED = ("local", "confs")
# Files beside modules: package -> patterns.
DATA = {"confs": ["*.yaml", "tasks/*.yaml"], "local.predict.pages": ["assets/*"]}


class BuildPy(build_py):
    """Copies modules and configurations into the folder that becomes the wheel."""

    def finalize_options(self) -> None:
        """Say where packages go, and where they come from."""
        super().finalize_options()
        if self.editable_mode:
            return
        self.packages = [
            f"{HOME}.{name}" if name.split(".")[0] in MOVED else name
            for name in (*self.packages, "confs")
        ]
        self.package_dir = {f"{HOME}.{name}": name for name in MOVED}
        moved = {f"{HOME}.{package}": patterns for package, patterns in DATA.items()}
        self.package_data = {**self.package_data, **moved}

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """(package, module, file) of each module: the scripts too, but not this one."""
        found = super().find_package_modules(package, package_dir)
        if package != HOME or self.editable_mode:
            return found
        scripts = [(HOME, path.stem, path.name) for path in sorted(Path().glob("*.py"))]
        return [*(module for module in found if module[1] != Path(__file__).stem), *scripts]

    def run(self) -> None:
        """Build without what an earlier build left, which would become part of the wheel."""
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
