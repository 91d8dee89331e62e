"""Which modules are tried, and which tests are theirs."""

from collections.abc import Mapping
from types import MappingProxyType

_LAWS = ("tests/srr_core/laws/test_quantizer_laws.py", "tests/srr_core/laws/test_grid_laws.py")
_LATTICE = ("tests/srr_core/quantizers/test_quip_sharp.py", "tests/srr_core/quantizers/test_lattice.py")
_STORE = (
    "tests/service/jobs/test_store_contract.py",
    "tests/service/jobs/test_store_lifecycle.py",
    "tests/service/jobs/test_fences.py",
    "tests/service/jobs/test_same_work.py",
    "tests/service/jobs/test_sql_transactions.py",
    "tests/service/jobs/test_unreadable.py",
    "tests/service/jobs/test_workers.py",
    "tests/service/jobs/test_night.py",
    "tests/attacks/test_quota_race.py",
)

TARGETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "srr_core/srr.py": ("tests/srr_core/test_srr.py",),
        "srr_core/quantizers/grid.py": ("tests/srr_core/quantizers/test_integer.py", *_LAWS),
        "srr_core/quantizers/integer.py": ("tests/srr_core/quantizers/test_integer.py", *_LAWS),
        "srr_core/quantizers/mxint.py": ("tests/srr_core/quantizers/test_mxint.py", *_LAWS),
        "srr_core/quantizers/normal_float.py": ("tests/srr_core/quantizers/test_normal_float.py", *_LAWS),
        "srr_core/quantizers/gptq.py": ("tests/srr_core/quantizers/test_gptq.py", *_LAWS),
        "srr_core/quantizers/feedback.py": ("tests/srr_core/quantizers/test_gptq.py", *_LATTICE),
        "srr_core/quantizers/e8p.py": _LATTICE,
        "srr_core/quantizers/e8_roots.py": _LATTICE,
        "srr_core/quantizers/incoherence.py": _LATTICE,
        "srr_core/quantizers/lattice.py": _LATTICE,
        "srr_core/quantizers/ldlq.py": _LATTICE,
        "srr_core/quantizers/quip_sharp.py": _LATTICE,
        "srr_core/calibration/statistics.py": ("tests/srr_core/calibration/test_statistics.py",),
        "srr_core/formats/packing.py": ("tests/srr_core/laws/test_packing_laws.py",),
        "srr_core/pipeline/work_folder.py": (
            "tests/srr_core/pipeline/test_work_folder.py",
            "tests/srr_core/pipeline/test_crash_points.py",
        ),
        "service/jobs/sql_store.py": _STORE,
        "service/jobs/sql_changes.py": _STORE,
        "service/jobs/sql_statements.py": _STORE,
        "service/jobs/reaper.py": ("tests/service/jobs/test_store_lifecycle.py", "tests/service/jobs/test_outbox.py"),
        "service/jobs/outbox.py": ("tests/service/jobs/test_outbox.py",),
        "worker/publisher.py": ("tests/worker/test_publisher.py", "tests/worker/test_hub_contract.py"),
    }
)
"""Module -> its tests. The quicker and the likelier to notice stand first, for the first failure ends a trial."""
