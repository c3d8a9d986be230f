"""The only packaging. `dd` is the import name, `dd-distillation` the distribution (PyPI's `dd` is another package)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
readme = here / "README.md"

# PyPI shows the text without the checkout around it.
URL = "https://pypi.org/project/dd-distillation/"
text = readme.read_text(encoding="utf-8") if readme.exists() else ""
text = re.sub(r"\]\((?![a-z]+:)", f"]({URL}", text)

setup(
    name="dd-distillation",
    version="0.2.0",
    description="Dataset distillation: trajectory matching and friends, with one evaluation loop",
    long_description=text,
    long_description_content_type="text/markdown",
    license="MIT",
    url=URL,
    project_urls={
        "Documentation": f"{URL}docs/index.md",
        "Changes": f"{URL}CHANGELOG.md",
        "Source": URL,
    },
    author="the dd maintainers",
    keywords="dataset distillation, dataset condensation, coreset, soft labels, graph classification, pytorch",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=[*find_packages(include=["dd", "dd.*"]), "dd._cards", "dd._recipes"],
    package_dir={"dd._cards": "datasets", "dd._recipes": "expert_trajectories"},
    package_data={
        "dd": ["py.typed", "methods/_cards/*.toml", "pages/html/*.j2", "inner/fast/*.cpp"],
        "dd._cards": ["*.toml"],
        "dd._recipes": ["*.toml"],
    },
    install_requires=[
        "torch>=2.9",
        "torchvision>=0.24",
        "kornia>=0.8",
        "numpy>=1.26",
        "pillow>=10.1",
        "scipy>=1.11",
        "torch-geometric>=2.6",
        "tqdm>=4.66.1",
        "safetensors>=0.4.5",
        "filelock>=3.24.3",  # earlier ones do not free the lock of a dead process
        "scikit-learn>=1.4",
        "tyro>=0.9.1",
        "matplotlib>=3.8",
        "jinja2>=3.1",
    ],
    extras_require={
        "mol": ["rdkit>=2024.3"],
        "hub": ["datasets>=3", "huggingface-hub>=0.25"],
        "track": ["tensorboard>=2.15"],
        "timm": ["timm>=1.0"],
        "scale": ["distributed>=2024.5", "ray>=2.9"],
        "dev": [
            "ruff==0.17.6",
            "mypy==2.4.1",
            "pytest==9.2.0",
            "pytest-xdist>=3.8",
            "mlxtend>=0.23",
            "efficient-apriori>=2.0",
        ],
    },
    entry_points={"console_scripts": ["ddistill = dd.cli.main:main"]},
)
