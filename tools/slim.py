"""Takes out of an image's packages what the gateway never reads, as the Dockerfile asks: ``slim.py SITE_PACKAGES``.

litellm comes with a proxy server, its pages and its API's description; Django with its admin in ninety languages;
botocore with the description of every service of AWS. A file is never changed in place: a test gives us hard links.
"""

from __future__ import annotations

import ast
import compileall
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: Whole packages: what installs packages, and what downloads from a hub. litellm would fetch some tokenizers there
#: while a client waits; without the hub it counts with those that it brings.
PACKAGES = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "wheel", "hf_xet", "huggingface_hub", "fsspec")
#: Folders below the site-packages: Django's maps, and the pages of DRF's own, which JSON alone leaves unused.
FOLDERS = ("django/contrib/gis", "rest_framework/static", "litellm_cli", "jsonschema/benchmarks")
#: Sources and descriptions for compilers, type checkers and translators.
ENDINGS = (".c", ".cpp", ".h", ".pyx", ".pxd", ".pyi", ".po", ".md", ".rst")
#: The services of AWS that litellm calls or signs in at. Each has a folder in botocore's data, and some in boto3's.
AWS_SERVICES = re.compile(r"bedrock.*|sagemaker-runtime|sts|sso|sso-oidc|signin|s3|secretsmanager|kms|polly")


def main(arguments: list[str]) -> int:
    (packages,) = map(Path, arguments)
    before = size_mb(packages)
    for name in PACKAGES:
        for path in (packages / name, *packages.glob(f"{name}-*.dist-info")):
            shutil.rmtree(path, ignore_errors=True)
    (packages / "distutils-precedence.pth").unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(packages / name, ignore_errors=True)
    lists = packages.glob("*.dist-info/sboms")  # what libraries were built of, for scanners
    for path in [*packages.glob("*/**/tests"), *lists, *foreign_languages(packages), *foreign_services(packages)]:
        shutil.rmtree(path, ignore_errors=True)
    for path in [*packages.rglob("*")]:
        if path.is_file() and (path.name.endswith(ENDINGS) and ".dist-info" not in str(path)):
            path.unlink()
    slim_proxy(packages)
    for path in [*packages.rglob("*.so*")]:
        if re.search(r"\.so(\.[0-9]+)*$", path.name):
            strip(path)
    compileall.compile_dir(packages, quiet=2, workers=0)
    for path in [*packages.rglob("*.pyc")]:
        if not path.parent.with_name(path.name.split(".")[0] + ".py").exists():
            path.unlink()  # of a module that is gone
    print(f"{packages}: {before} MB before, {size_mb(packages)} MB now")
    return 0


def size_mb(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) // 10**6


def foreign_languages(packages: Path) -> Iterator[Path]:
    """LANGUAGE_CODE is English, and USE_I18N is off."""
    for locale in packages.rglob("locale"):
        yield from (path for path in locale.iterdir() if path.is_dir() and not path.name.startswith(("en", "__")))


def foreign_services(packages: Path) -> Iterator[Path]:
    for path in (*packages.glob("botocore/data/*"), *packages.glob("boto3/data/*")):
        if path.is_dir() and AWS_SERVICES.fullmatch(path.name) is None:
            yield path


def slim_proxy(packages: Path) -> None:
    """litellm's server. A module of it that needs a package which the image does not have could never be imported."""
    proxy = packages / "litellm" / "proxy"
    for path in [*proxy.rglob("*")]:
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            path.unlink()
    lacking = {name for name in ("fastapi", "starlette", "prisma", "mcp") if not (packages / name).exists()}
    needs = re.compile(rf"^(?:from|import) (?:{'|'.join(sorted(lacking))})\b", re.MULTILINE)
    for path in [*proxy.rglob("*.py")]:
        if lacking and needs.search(path.read_text(encoding="utf-8")):
            path.unlink()
    for path in unreachable(packages, "litellm", "litellm.proxy"):
        path.unlink()


def unreachable(packages: Path, package: str, part: str) -> list[Path]:
    """The modules of a part that no module outside it leads to, at whatever depth and wherever in a function.

    An import counts, and so does a text that begins with the package's name, which is how modules are loaded lazily."""
    modules = {}
    for path in packages.joinpath(*package.split(".")).rglob("*.py"):
        names = path.relative_to(packages).with_suffix("").parts
        modules[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    found = {name for name in modules if name != part and not name.startswith(part + ".")}
    word = part.rpartition(".")[2]  # without it a module leads to no module of the part, and need not be parsed
    waiting = [name for name in found if word in modules[name].read_text(encoding="utf-8")]
    while waiting:
        name = waiting.pop()
        for named in names_in(modules[name], name, package):
            steps = named.split(".")
            for module in (".".join(steps[:count]) for count in range(1, len(steps) + 1)):
                if module in modules and module not in found:
                    found.add(module)
                    waiting.append(module)
    return [path for name, path in modules.items() if name not in found]


def names_in(path: Path, module: str, package: str) -> Iterator[str]:
    """All that may be the name of a module of the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            base = above[: len(above) + 1 - node.level] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(f"{package}."):
            yield node.value.replace(":", ".")


def strip(path: Path) -> None:
    """Takes debugging symbols out of a library, where binutils is installed."""
    program = shutil.which("strip")
    if path.is_symlink() or program is None:
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stripped:  # never in place: see above
        done = subprocess.run(
            [program, "--strip-unneeded", "-o", stripped.name, path], capture_output=True, check=False
        )
    if done.returncode == 0:
        shutil.copymode(path, stripped.name)
        Path(stripped.name).replace(path)
    else:
        Path(stripped.name).unlink(missing_ok=True)  # strip itself removes what it could not write


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
