"""The errors of this package: each names what is wrong and what to do about it."""


class AnalysisError(Exception):
    """Base of every error that this package raises on purpose."""


class ModelError(AnalysisError):
    """A model cannot be found, fetched, verified or loaded."""


class ArchitectureError(ModelError):
    """A model's parts would be misread, so it is refused and never scored wrongly."""


class WeightsError(ModelError):
    """A weight is NaN or infinite."""


class NamesError(AnalysisError):
    """A list of names or pairs cannot be used."""


class PromptError(AnalysisError):
    """A template, or a name inside it, cannot be made into a prompt."""


class ParameterError(AnalysisError, ValueError):
    """A parameter is of the wrong type or outside its range."""


class ClassesError(AnalysisError):
    """Head classes do not belong to the model whose scores they are drawn on."""


class ExportError(AnalysisError):
    """A figure cannot be written."""


def first_line(error: BaseException) -> str:
    """What a library's error says, short enough to stand inside one of ours."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".:")[:300]
