"""The main job on real images that come with scikit-learn: buffer, distil one image a class with FTD, evaluate.

Writes `runs/demo/`: the set, its log, a picture grid and a page. The same call again only evaluates again.
"""

from dd.cli import main

OUT = "runs/demo"
STEPS = (
    ["distill", "digits", "ftd", "--ipc", "1", "--out", OUT],
    ["evaluate", OUT, "digits", "--baselines", "random", "random_tuned", "class_mean"],
)

if __name__ == "__main__":
    raise SystemExit(next((code for code in map(main, STEPS) if code), 0))
