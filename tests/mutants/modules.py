"""Which test files decide whether a change of a module is found."""

TESTS = {
    "paw_mlx/files.py": "tests/test_files.py tests/test_boundaries.py",
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
}
