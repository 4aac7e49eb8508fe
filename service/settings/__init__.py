"""The service's settings: read once, when an app is made, and frozen from then on.

reading.py    reads the settings from mappings; all mistakes in one error
settings.py   every setting: its name, default, unit and meaning
limits.py     the limits of one caller, as SERVICE_LIMITS names them
declaring.py  declares one setting as a field; reads numbers
values.py     reads what is given for a setting, numbers aside

A setting comes from `Jobs(config=…)`, the environment or `app.config`, of which the later ones win.
Celery's own settings, SERVICE_CELERY__<name>, are only gathered here: `jobs/celery` reads them.
Each setting has a row in `docs/settings.md`.
"""

from service.settings.reading import PREFIX, read_settings
from service.settings.settings import Settings

__all__ = ["PREFIX", "Settings", "read_settings"]
