"""The main jobs on data that come with scikit-learn, without a download or a GPU.

Buffer, distil one image a class of the digits with FTD, evaluate: writes `runs/demo/`, the set, its log, a picture grid
and a page. Then Mirage on the digits as graphs of pixels, in a minute: `runs/demo-graphs/`. The same call again only
evaluates again.
"""

from dd.cli.main import main

OUT, GRAPHS = "runs/demo", "runs/demo-graphs"
STEPS = (
    ["distill", "digits", "ftd", "--ipc", "1", "--out", OUT],
    ["evaluate", OUT, "digits", "--baselines", "random", "random_tuned", "class_mean"],
    ["distill", "digits-graphs", "mirage", "--patterns", "single", "--budget-bytes", "8192", "--out", GRAPHS],
    ["evaluate", GRAPHS, "digits-graphs", "--repeats", "3", "--baselines", "random", "naive_bayes", "node_count"],
)

if __name__ == "__main__":
    raise SystemExit(next((code for code in map(main, STEPS) if code), 0))
