"""Every setting of the product, found by class, for the tests that compare them with documents."""

import importlib

from pydantic_settings import BaseSettings

from tests.architecture.tree import product_files, relative


def settings_classes() -> list[type[BaseSettings]]:
    """Return every settings class of the product, from the files named settings.py."""
    modules = [relative(path).removesuffix(".py").replace("/", ".") for path in product_files()]
    found = [
        value
        for module in modules
        if module.endswith(".settings")
        for value in vars(importlib.import_module(module)).values()
        if isinstance(value, type) and issubclass(value, BaseSettings) and value.__module__ == module
    ]
    return sorted(found, key=lambda settings: settings.__name__)


def environment_names(settings: type[BaseSettings]) -> set[str]:
    """Return the environment variables a settings class reads."""
    prefix = settings.model_config["env_prefix"]
    return {f"{prefix}{field}".upper() for field in settings.model_fields}


def every_environment_name() -> set[str]:
    """Return every environment variable the product reads through its settings."""
    return set().union(*(environment_names(settings) for settings in settings_classes()))
