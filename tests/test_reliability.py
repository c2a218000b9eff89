"""The table of faults comes from tests: each row names its own, and there is one by that name."""

import itertools
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_fault_of_the_table_has_a_test():
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8").partition("\n## ")[0]
    heads, _, *rows = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    assert heads.endswith("| test |")
    named = [re.findall(r"`(test_\w+)`", row.rsplit("| ", 1)[1]) for row in rows]
    assert len(named) > 20 and all(named)
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for name in itertools.chain(*named):
        assert f"\ndef {name}(" in tests, name
