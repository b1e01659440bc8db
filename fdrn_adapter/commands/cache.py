"""`fdrn cache`: compiled graphs that are kept on disk."""

import argparse
import time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn cache`."""
    parser.description = (
        "List the compiled graphs that engines keep, or delete them. They are made again when they "
        "are needed. FDRN_CACHE names another folder, or is \"off\"."
    )
    parser.add_argument("--clear", action="store_true", help="delete them")


def main(args: argparse.Namespace) -> int:
    """List or delete; returns the exit code."""
    from fdrn_adapter.engines import compile_cache

    where = compile_cache.folder()
    if where is None:
        print(f"{compile_cache.VARIABLE}=off: nothing is kept")
        return 0
    kept = compile_cache.files()
    if args.clear:
        print(f"{where}: {len(kept)} graphs deleted, {compile_cache.clear() / 2**20:.1f} MB")
        return 0
    for file in kept:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.used))
        print(f"{file.size / 2**20:8.1f} MB  last used {used}  {file.path.name}")
    total, limit = sum(file.size for file in kept), compile_cache.MAX_BYTES
    print(f"{where}: {len(kept)} graphs, {total / 2**20:.1f} MB of at most {limit / 2**20:.0f}")
    return 0
