"""Chooses the codec of an annotation, and refuses one whose values no message can carry."""

from types import TracebackType
from typing import Any, Never, NoReturn, get_args

from service.jobs.codecs.base import ANY, Codec, UncarriableError, is_one_of
from service.jobs.codecs.models import ModelCodec, is_known_to_pydantic
from service.jobs.codecs.msgspec_codec import MsgspecCodec
from service.jobs.codecs.unions import with_stand_ins


def codec_for(annotation: Any) -> Codec:
    """The codec of an annotation.

    Raises UncarriableError, and NameError for a name in a class that is not there yet.
    """
    if is_one_of(annotation, (Never, NoReturn)) or _is_of_workers(annotation):
        return ANY
    if not is_known_to_pydantic(annotation):
        return _by_msgspec(annotation)
    try:
        return ModelCodec(annotation)
    except UncarriableError:
        try:
            return _by_msgspec(annotation)  # pydantic knows no Structs
        except UncarriableError:
            pass
        raise


def _by_msgspec(annotation: Any) -> Codec:
    known = with_stand_ins(annotation)
    return ANY if known is Any else MsgspecCodec(known)


def _is_of_workers(annotation: Any) -> bool:
    """Whether values are Celery's own or errors: a worker gives these to errbacks."""
    if isinstance(annotation, type):
        of_celery = annotation.__module__.partition(".")[0] == "celery"
        return of_celery or issubclass(annotation, BaseException | TracebackType)
    return any(_is_of_workers(part) for part in get_args(annotation))
