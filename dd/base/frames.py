"""Records as a data frame of pandas, which is optional."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import nan
from typing import Any

from dd.errors import not_installed


def data_frame(records: Sequence[Mapping[str, Any]], columns: Sequence[str], texts: Collection[str]) -> Any:
    """A `pandas.DataFrame` of records, a row each, with these columns also where there is no record.

    Args:
        records: by column.
        columns: in their order.
        texts: those that are no numbers; in all others `None` is NaN.

    Raises:
        MissingError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise not_installed("A data frame", "pandas", error) from error
    rows = [[nan if r[n] is None and n not in texts else r[n] for n in columns] for r in records]
    return pandas.DataFrame(rows, columns=list(columns))
