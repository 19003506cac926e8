"""Reads Parquet files with pyarrow and with Polars, and compares every value with what DuckDB read.

readers.py JOBS: JOBS is a JSON document {"columns": [[name, shape]...], "files": [[parquet, expected]...]}, where expected
holds a JSON object per row with the texts of DuckDB, and a shape is a lake type, {"list": shape} or {"struct": [[name, shape]...]}.
"""
import decimal
import json
import math
import struct
import sys

import polars
import pyarrow
import pyarrow.parquet

decimal.getcontext().prec = 60


def number(lake, value):
    """One form for a value of a type without parts, from the text of DuckDB or what a reader gives."""
    if lake in ("varchar", "json"):
        return value.decode() if isinstance(value, bytes) else value
    if lake in ("blob", "uuid"):
        return value.hex() if isinstance(value, bytes) else value
    if lake == "boolean":
        return str(value).lower()
    if lake in ("float32", "float64"):
        value = float(value)
        if math.isnan(value):
            return "nan"
        return struct.pack(">f" if lake == "float32" else ">d", value).hex()
    if lake.startswith("decimal"):
        # Polars gives the integer of units, as Parquet has it.
        if isinstance(value, int):
            return value
        scale = int(lake.rstrip(")").split(",")[1])
        return int(decimal.Decimal(value).scaleb(scale))
    infinity = 2**31 - 1 if lake == "date" else 2**63 - 1
    return {"infinity": infinity, "-infinity": -infinity}.get(value) or int(value)


def one_form(shape, value):
    if value is None:
        return None
    if isinstance(shape, str):
        return number(shape, value)
    if "list" in shape:
        return [one_form(shape["list"], part) for part in value]
    return {name: one_form(part, value[name]) for name, part in shape["struct"]}


def of_arrow(array):
    """The values of an Arrow array, dates and times as their numbers: Python's own end at the year 9999."""
    kind = array.type
    if isinstance(kind, pyarrow.BaseExtensionType):
        return of_arrow(array.storage)
    valid = array.is_valid().to_pylist()
    if pyarrow.types.is_list(kind):
        parts, ends = of_arrow(array.values), array.offsets.to_pylist()
        return [parts[ends[i] : ends[i + 1]] if there else None for i, there in enumerate(valid)]
    if pyarrow.types.is_struct(kind):
        fields = {kind.field(i).name: of_arrow(array.field(i)) for i in range(kind.num_fields)}
        return [{name: field[i] for name, field in fields.items()} if there else None for i, there in enumerate(valid)]
    if pyarrow.types.is_date32(kind):
        return array.view(pyarrow.int32()).to_pylist()
    if pyarrow.types.is_time64(kind) or pyarrow.types.is_timestamp(kind):
        return array.view(pyarrow.int64()).to_pylist()
    return array.to_pylist()


def by_pyarrow(path):
    table = pyarrow.parquet.read_table(path)
    return lambda name: of_arrow(pyarrow.concat_arrays(table[name].chunks))


def by_polars(path):
    frame = polars.read_parquet(path)

    def column(name):
        return frame[name].to_physical().to_list()

    return column


def without_midnight(shape, value):
    """Polars has no 24:00:00, which it reads as null."""
    if value is None or isinstance(shape, str):
        return None if shape == "time" and value == 86_400_000_000 else value
    if "list" in shape:
        return [without_midnight(shape["list"], part) for part in value]
    return {name: without_midnight(part, value[name]) for name, part in shape["struct"]}


def in_microseconds(shape, value):
    """Polars counts a time in nanoseconds."""
    if value is None or isinstance(shape, str):
        return value // 1000 if shape == "time" and value is not None else value
    if "list" in shape:
        return [in_microseconds(shape["list"], part) for part in value]
    return {name: in_microseconds(part, value[name]) for name, part in shape["struct"]}


def main():
    with open(sys.argv[1]) as source:
        jobs = json.load(source)
    cells, problems = {"pyarrow": 0, "polars": 0}, []
    for path, expected_path in jobs["files"]:
        with open(expected_path, encoding="utf-8") as source:
            expected = [json.loads(line) for line in source if line.strip()]
        for reader, read in [("pyarrow", by_pyarrow), ("polars", by_polars)]:
            column = read(path)
            for name, shape in jobs["columns"]:
                wanted = [one_form(shape, row[name]) for row in expected]
                raw = column(name)
                if reader == "polars":
                    wanted = [without_midnight(shape, value) for value in wanted]
                    raw = [in_microseconds(shape, value) for value in raw]
                found = [one_form(shape, value) for value in raw]
                cells[reader] += len(found)
                if found != wanted:
                    pairs = [(a, b) for a, b in zip(wanted, found) if a != b][:3]
                    problems.append(f"{reader} {name}: {len(wanted)} values, {len(found)} found: {str(pairs)[:300]}")
    print(json.dumps(cells))
    if problems:
        sys.exit("\n".join(problems[:40]))


main()
