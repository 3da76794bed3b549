"""The edge of every verb: settings read once, logging on, and one place that turns failures into exit statuses."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.errors import FatalError

if TYPE_CHECKING:
    from worker.settings import LoadedSettings, Settings

FAILED, USAGE, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 130


@dataclass
class Edge:
    """What the root command keeps for its verb."""

    config: Path | None = None
    loaded: LoadedSettings | None = None


def loaded() -> LoadedSettings:
    """The settings of the running verb and where each came from."""
    edge = click.get_current_context().find_root().obj
    return edge.loaded


def settings() -> Settings:
    """The settings of the running verb."""
    return loaded().settings


def with_edge(command: click.Command) -> click.Command:
    """The verb (and the verbs below a group) with `--config`, and with its settings read before it runs. A copy."""
    edged = copy.copy(command)
    edged.params = [*command.params, config_option()]
    if isinstance(edged, click.Group):
        edged.commands = {name: with_edge(below) for name, below in edged.commands.items()}
    elif command.callback is not None:
        edged.callback = _edged(command.callback, native=command.name == "worker")
    return edged


def config_option() -> click.Option:
    def remember(context: click.Context, _option: click.Parameter, value: Path | None) -> None:
        if value is not None:
            context.find_root().obj.config = value

    return click.Option(
        ["--config"],
        type=click.Path(dir_okay=False, path_type=Path),
        expose_value=False,
        callback=remember,
        help="TOML file with settings; the environment wins over it.",
    )


def _edged(callback: Callable[..., Any], *, native: bool) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        from worker import logs  # imported here so that `--help` needs neither pydantic nor structlog
        from worker.settings import load

        edge = click.get_current_context().find_root().obj
        edge.loaded = load(edge.config, os.environ)
        log = edge.loaded.settings.log
        with (
            logs.configured(log.level, log.format, wrap_native=native),
            _told(json=native and not _console(log.format)),
        ):
            try:
                status = callback(*args, **kwargs)
                _flush()
            except BrokenPipeError as error:
                raise _PipeClosedError from error  # click would take it for a failure
            except OSError as error:
                if of_standard_output(error):
                    raise _output_lost(error) from error
                raise
            return status

    return run


class _PipeClosedError(Exception):
    """Who read standard output has seen enough."""


def open_streams() -> None:
    """Closed standard streams become empty ones, before another file gets their numbers."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def of_standard_output(error: OSError) -> bool:
    """Whether it is standard output that failed, by where the error was raised; a broken pipe counts without asking."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    written = at is not None and at.tb_frame.f_code in (click.echo.__code__, _flush.__code__)
    return written or isinstance(error, BrokenPipeError)


def _flush() -> None:
    sys.stdout.flush()


def _output_lost(error: OSError) -> FatalError:
    _write_into_nothing()
    return FatalError(f"standard output: {error.strerror}", exit_code=UNAVAILABLE)


def _write_into_nothing() -> None:
    """Python flushes standard output once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console(form: str) -> bool:
    return form == "console" or (form == "auto" and sys.stderr.isatty())


@contextmanager
def _told(*, json: bool) -> Iterator[None]:
    """What ends a worker with JSON logs is a log line like any other; elsewhere `run` tells it as text."""
    try:
        yield
    except FatalError as error:
        if not json:
            raise
        import structlog

        structlog.get_logger("adscore").error(str(error), exit_status=error.exit_code)
        raise click.exceptions.Exit(error.exit_code) from None
    except (click.ClickException, click.Abort, click.exceptions.Exit, _PipeClosedError):
        raise
    except Exception as error:
        if not json:
            raise
        import structlog

        # The class and the stack; whose text may be told, `logs` decides.
        structlog.get_logger("adscore").critical("internal error", exc_info=error, exit_status=FAILED)
        raise click.exceptions.Exit(FAILED) from None


def run(cli: click.Group, arguments: list[str]) -> int:
    """Run the program and return its exit status. Nothing that a user or a sender can do shows a traceback."""
    try:
        status = cli.main(arguments, prog_name="adscore", standalone_mode=False, obj=Edge())
        _flush()
    except FatalError as error:
        return _fail(str(error), error.exit_code)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show(sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except _PipeClosedError:
        _write_into_nothing()
        return 0
    except SystemExit:  # click ends so at a pipe that was closed before the help was read, and nobody else does
        _write_into_nothing()
        return 0
    except Exception as error:  # noqa: BLE001  the last place: a defect becomes one line that names its place
        if isinstance(error, OSError) and of_standard_output(error):
            return _fail(str(_output_lost(error)), UNAVAILABLE)
        from worker import logs

        told = logs.described(error)
        place = told["stack"][-1] if told["stack"] else "?"
        return _fail(f"internal error: {told['error_type']} {told.get('error', '')} at {place}", FAILED)
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int) -> int:
    click.echo(f"adscore: {message}", err=True)
    return status
