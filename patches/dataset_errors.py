"""FocalClick's data set loop says what goes wrong instead of spinning for ever.

`ISDataset.__getitem__` of ClickSEG draws samples in an endless loop inside a bare `except:`. One
missing file, one library that changed a signature, or a Ctrl-C at the wrong moment, and the
training hangs with both cores busy and nothing on the screen. The method is compiled again from
the checkout's own source with two changes to its syntax tree: the handler catches `Exception`
only and reports to the code below first, and every turn of the loop is counted.
"""

import ast
import functools
import inspect
import logging
import textwrap
import threading
from types import FunctionType, ModuleType

from fdrn_adapter.patches.framework import CLICKSEG, CannotApply, Patch
from fdrn_adapter.patches.shadow import require

logger = logging.getLogger(__name__)

MAX_FAILURES = 20  # exceptions in a row for one sample; a random crop may well miss an object
MAX_TURNS = 1000  # draws for one sample; min_object_area may be larger than every object

_local = threading.local()


class DatasetError(RuntimeError):
    """No sample could be drawn; carries the errors of the attempts."""


def begin_sample() -> None:
    """Forget the failures of the previous sample."""
    _local.errors, _local.turns = [], 0


def count_turn() -> None:
    """Called at every turn of the stock loop."""
    _local.turns += 1
    if _local.turns > MAX_TURNS:
        errors = describe(_local.errors) if _local.errors else "none raised an error"
        raise DatasetError(
            f"None of {MAX_TURNS} drawn samples was accepted ({errors}). The stock loop wants an "
            "object that is larger than min_object_area and covers less than 85% of the crop: "
            "lower min_object_area, or look at the masks."
        )


def report_failure(error: Exception) -> None:
    """Called where the stock loop swallows an exception.

    Raises:
        DatasetError: too many samples in a row failed, or the error is ours.
    """
    if isinstance(error, DatasetError):
        raise error
    if not any(same_place(error, earlier) for earlier in _local.errors):
        logger.warning("a sample failed, trying another one", exc_info=error)
    _local.errors.append(error)
    if len(_local.errors) >= MAX_FAILURES:
        raise DatasetError(
            f"{MAX_FAILURES} samples in a row failed: {describe(_local.errors)}"
        ) from error


def same_place(a: BaseException, b: BaseException) -> bool:
    """Whether two exceptions are of one type and come from one line."""

    def origin(error):
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        return type(error), last and (last.tb_frame.f_code, last.tb_lineno)

    return origin(a) == origin(b)


def describe(errors: list[Exception]) -> str:
    """The distinct messages with their numbers, most frequent first."""
    texts = [f"{type(e).__name__}: {e}" for e in errors]
    counts = {text: texts.count(text) for text in dict.fromkeys(texts)}
    ordered = sorted(counts, key=counts.get, reverse=True)
    return "; ".join(f"{counts[text]} x {text}" for text in ordered[:5])


def rewritten(stock: FunctionType) -> FunctionType:
    """The stock method with a handler that reports.

    Raises:
        CannotApply: the method is not an endless loop around one bare `except`.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(stock)))
    except (OSError, TypeError, SyntaxError) as error:
        raise CannotApply(f"no source of {stock.__qualname__}: {error}") from error
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.While)]
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.Try)]
    handlers = [h for block in blocks for h in block.handlers]
    if len(loops) != 1 or len(handlers) != 1 or handlers[0].type is not None:
        raise CannotApply(
            f"{stock.__qualname__} has {len(loops)} while loops and {len(handlers)} except "
            "clauses, expected one loop around one bare except"
        )
    handler = handlers[0]
    handler.type = ast.Name("Exception", ast.Load())
    handler.name = "_fdrn_error"
    handler.body.insert(0, ast.parse("_fdrn_report_failure(_fdrn_error)").body[0])
    loops[0].body.insert(0, ast.parse("_fdrn_count_turn()").body[0])
    ast.fix_missing_locations(tree)
    ast.increment_lineno(tree, stock.__code__.co_firstlineno - 1)  # true lines in tracebacks
    names = {"_fdrn_report_failure": report_failure, "_fdrn_count_turn": count_turn}
    stock.__globals__.update(names)
    scope: dict = {}
    exec(compile(tree, stock.__code__.co_filename, "exec"), stock.__globals__, scope)
    return scope[stock.__name__]


class DatasetErrors(Patch):
    name = "dataset_errors"
    targets = ("isegm.data.base",)
    code_bases = (CLICKSEG,)
    reason = "the data set swallows every exception, Ctrl-C included, and then loops for ever"
    since = "always"

    def apply(self, module: ModuleType) -> str | None:
        dataset = require(module, "ISDataset")
        stock = require(module, "ISDataset", "__getitem__")
        if not swallows_everything(stock):
            return "this code base does not swallow exceptions"
        method = rewritten(stock)

        @functools.wraps(stock)
        def __getitem__(self, index):
            begin_sample()
            return method(self, index)

        dataset.__getitem__ = __getitem__
        return f"reports every kind of failure, gives up after {MAX_FAILURES} in a row"


def swallows_everything(function: FunctionType) -> bool:
    """Whether the function has a bare `except` at all (RITM's has none)."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError) as error:
        raise CannotApply(f"no source of {function.__qualname__}: {error}") from error
    handlers = [n for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler)]
    return any(handler.type is None for handler in handlers)


PATCHES = (DatasetErrors(),)
