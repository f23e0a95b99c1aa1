"""Which test files decide whether a change of a module is found."""

TESTS = {
    "paw_mlx/files.py": "tests/test_files.py tests/test_sweeping.py tests/test_boundaries.py",
    "paw_mlx/output.py": "tests/test_output.py tests/test_boundaries.py",
    "convert/receipt.py": "tests/convert/test_receipt.py tests/test_boundaries.py",
    "paw_mlx/rows/run.py": (
        "tests/rows/test_run.py tests/rows/test_map_errors.py tests/rows/test_several.py"
    ),
    "paw_mlx/evaluation/report.py": "tests/test_evaluation.py tests/test_boundaries.py",
    "paw_mlx/evaluation/decisions.py": "tests/test_evaluation.py",
    "paw_mlx/evaluation/metrics.py": "tests/test_gate.py",
    "paw_mlx/evaluation/comparison.py": "tests/test_comparison.py",
    "paw_mlx/evaluation/gate.py": "tests/test_gate.py",
    "paw_mlx/evaluation/shift.py": "tests/test_shift.py tests/test_boundaries.py",
    "paw_mlx/interpreter/engine/draft.py": "tests/interpreter/test_draft.py",
    "paw_mlx/interpreter/engine/scoring.py": "tests/interpreter/test_scoring.py",
    "paw_mlx/interpreter/engine/calibration.py": "tests/interpreter/test_calibration.py",
    "paw_mlx/store/__init__.py": "tests/hub/test_store.py",
    "paw_mlx/interpreter/engine/prefixes.py": "tests/interpreter/test_prefixes.py",
    "paw_mlx/interpreter/engine/constraint.py": "tests/interpreter/test_constraint.py",
    "paw_mlx/interpreter/adapters/bank.py": "tests/interpreter/test_bank.py",
    "paw_mlx/interpreter/adapters/slots.py": "tests/interpreter/test_bank.py",
    "paw_mlx/rows/flow.py": "tests/rows/test_flow.py",
    "paw_mlx/interpreter/engine/kv.py": "tests/interpreter/test_kv.py",
    "paw_mlx/interpreter/engine/batch.py": (
        "tests/interpreter/test_batch.py tests/interpreter/test_constraint.py"
        " tests/interpreter/test_labels.py tests/interpreter/test_engine.py"
        " -k 'llama and not (two_hundred or memory or callback or clos or cancelled or between"
        " or thousands or compiled or temperature or priors)'"
    ),
    "paw_mlx/interpreter/engine/labels.py": (
        "tests/interpreter/test_labels.py -k 'llama and not (thousands or compiled or beside)'"
    ),
    "paw_mlx/interpreter/engine/grammar.py": (
        "tests/interpreter/test_grammar.py"
        " -k 'not (qwen3 or gpt2 or stay_as_they_were or let_be or compiled)'"
    ),
    "paw_mlx/rows/source.py": (
        "tests/rows/test_run.py tests/rows/test_tables.py tests/rows/test_packed_files.py"
    ),
    "paw_mlx/rows/packing.py": "tests/rows/test_packed_files.py",
    "paw_mlx/rows/records.py": "tests/rows/test_tables.py tests/rows/test_run.py",
    "paw_mlx/rows/csv.py": (
        "tests/rows/test_tables.py tests/rows/test_run.py tests/rows/test_map_formats.py"
    ),
    "paw_mlx/rows/jsonl.py": (
        "tests/rows/test_map_errors.py tests/rows/test_run.py tests/test_cases.py"
        " tests/rows/test_typed_rows.py"
    ),
    "paw_mlx/rows/sqlite/writer.py": (
        "tests/rows/test_sqlite.py tests/rows/test_sqlite_resume.py"
        " -k 'not (meanwhile or kill or processes)'"
    ),
}
