"""What a patch is, and the set of patches that serves one code base.

A patch names the stock modules it is for as if they were in the package `isegm`; the patch set
translates that to the package at hand (`ritm_annotation` is RITM under another name). A patch
never guesses: where its target has another shape it raises `CannotApply` with what it missed,
the stock module stays as it was, and `fdrn doctor` shows the reason.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType

logger = logging.getLogger(__name__)

RITM = "RITM"
CLICKSEG = "ClickSEG"
RITM_ANNOTATION = "ritm_annotation"
FORK = "isegm fork"
EVERYWHERE = (RITM, CLICKSEG, RITM_ANNOTATION)

NEEDED = "needed"
NOT_NEEDED = "already fixed"
APPLIED = "applied"
CANNOT_APPLY = "cannot apply"
NOT_HERE = "not in this code base"


class CannotApply(Exception):
    """The target of a patch is not what the patch was written for; says what differs."""


class Patch:
    """One incompatibility or extension point.

    Subclasses set the class attributes and override what they need of `needed`, `around`,
    `replace` and `apply`.

    Attributes:
        name: short name in `fdrn doctor`.
        targets: stock modules by their name in the package `isegm`; "isegm.*" stands for
            every module of the code base.
        code_bases: where the problem was seen; forks are tried as well.
        reason: what goes wrong without the patch.
        since: which version of what brought it.
    """

    name: str = ""
    targets: tuple[str, ...] = ()
    code_bases: tuple[str, ...] = EVERYWHERE
    reason: str = ""
    since: str = ""

    def needed(self) -> tuple[bool, str]:
        """Whether the installed libraries call for the patch, and how that was found out."""
        return True, self.reason

    def around(self, name: str) -> AbstractContextManager:
        """Context in which the body of module `name` runs, for bodies that would crash."""
        return contextlib.nullcontext()

    def replace(self, name: str) -> Callable[[ModuleType], None] | None:
        """A function that fills the module instead of its body, or None to run the body."""
        return None

    def apply(self, module: ModuleType) -> str | None:
        """Patch the loaded module; return a detail worth reporting.

        Raises:
            CannotApply: the module does not have the shape the patch was written for.
        """
        return None


@dataclass(frozen=True)
class PatchStatus:
    """State of one patch in one process; NEEDED means that no target was imported so far.

    Attributes:
        state: NEEDED, NOT_NEEDED, APPLIED, CANNOT_APPLY or NOT_HERE.
        detail: why, for the table of `fdrn doctor`.
        targets: what happened to each module, (state, detail).
    """

    name: str
    state: str
    detail: str
    patch: Patch
    targets: dict[str, tuple[str, str]]


class PatchSet:
    """The patches of one code base, with a record of what happened to each target.

    Args:
        package: name of the stock package, "isegm" or "ritm_annotation".
        kind: RITM, CLICKSEG, RITM_ANNOTATION or FORK.
        patches: the patches to consider.
        exists: tells whether the code base has the module of that name.
    """

    def __init__(
        self,
        package: str,
        kind: str,
        patches: Iterable[Patch],
        exists: Callable[[str], bool],
    ):
        self.package = package
        self.kind = kind
        self.patches = [p for p in patches if kind == FORK or kind in p.code_bases]
        self._exists = exists
        self._needs: dict[str, tuple[bool, str]] = {}
        self._record: dict[str, dict[str, tuple[str, str]]] = {p.name: {} for p in self.patches}
        self._lock = threading.Lock()

    def need(self, patch: Patch) -> tuple[bool, str]:
        """What `patch.needed()` says; asked once, and not before somebody wants to know.

        Some patches import a library to find out, which a script without it need not wait for.
        """
        if patch.name not in self._needs:
            self._needs[patch.name] = patch.needed()
        return self._needs[patch.name]

    def local_name(self, target: str) -> str:
        """Name of a target in this code base: isegm.model.ops -> ritm_annotation.model.ops."""
        head, _, tail = target.partition(".")
        return f"{self.package}.{tail}" if head == "isegm" else target

    def patches_of(self, module_name: str) -> list[Patch]:
        """Needed patches that are for the module, in catalogue order."""
        return [
            patch
            for patch in self.patches
            if self._is_target(patch, module_name) and self.need(patch)[0]
        ]

    def _is_target(self, patch: Patch, module_name: str) -> bool:
        return "isegm.*" in patch.targets or any(
            self.local_name(target) == module_name for target in patch.targets
        )

    def execute(self, module: ModuleType, run_body: Callable[[ModuleType], None]) -> None:
        """Run the body of a stock module with its patches in place, then patch the result."""
        name = module.__name__
        patches = self.patches_of(name)
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch.around(name))
                run_body = patch.replace(name) or run_body
            run_body(module)
        for patch in patches:
            self.apply(patch, module)

    def apply(self, patch: Patch, module: ModuleType) -> None:
        """Apply one patch to one loaded module and keep the outcome."""
        try:
            detail = patch.apply(module)
            outcome = (APPLIED, detail or "")
        except Exception as error:
            # A patch that fails in a way it did not foresee must not break the user's import.
            text = str(error) if isinstance(error, CannotApply) else repr(error)
            outcome = (CANNOT_APPLY, text)
            logger.warning("patch %s cannot apply to %s: %s", patch.name, module.__name__, text)
        with self._lock:
            self._record[patch.name][module.__name__] = outcome

    def apply_to_loaded(self) -> None:
        """Patch the modules of the package that were imported before the hook was there."""
        for name, module in list(sys.modules.items()):
            if module is None or name.partition(".")[0] != self.package:
                continue
            for patch in self.patches_of(name):
                if name not in self._record[patch.name]:
                    self.apply(patch, module)

    def statuses(self) -> list[PatchStatus]:
        """State of every patch that concerns this code base."""
        return [self._status(patch) for patch in self.patches]

    def _status(self, patch: Patch) -> PatchStatus:
        needed, why = self.need(patch)
        if not needed:
            return PatchStatus(patch.name, NOT_NEEDED, why, patch, {})
        with self._lock:
            record = dict(self._record[patch.name])
        missing = [] if "isegm.*" in patch.targets else self._missing(patch)
        if missing and len(missing) == len(patch.targets) and not record:
            detail = f"no module {' or '.join(missing)}"
            # Where the patch was written for this very code base, an absent target is a change
            # of shape that the user should hear about.
            state = CANNOT_APPLY if self.kind in patch.code_bases else NOT_HERE
            return PatchStatus(patch.name, state, detail, patch, record)
        failures = [f"{n}: {d}" for n, (s, d) in record.items() if s == CANNOT_APPLY]
        if failures:
            return PatchStatus(patch.name, CANNOT_APPLY, "; ".join(failures), patch, record)
        details = sorted({d for s, d in record.values() if s == APPLIED and d})
        if any(s == APPLIED for s, _ in record.values()):
            return PatchStatus(patch.name, APPLIED, "; ".join(details) or why, patch, record)
        return PatchStatus(patch.name, NEEDED, why, patch, record)

    def _missing(self, patch: Patch) -> list[str]:
        names = [self.local_name(target) for target in patch.targets]
        return [name for name in names if not self._exists(name)]
