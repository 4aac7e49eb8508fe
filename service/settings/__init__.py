"""The service's settings: read once, when an app is made, and frozen from then on.

settings.py   every setting: its name, default, unit and meaning; all mistakes in one error
limits.py     the limits of one caller, as SERVICE_LIMITS names them
declaring.py  declares one setting as a field; reads numbers
values.py     reads what is given for a setting, numbers aside

A setting comes from `Jobs(config=…)`, the environment or `app.config`, of which the later ones win.
Celery's own settings, SERVICE_CELERY__<name>, are only gathered here: `jobs/celery` reads them.
Each setting has a row in `docs/settings.md`.
"""

from service.settings.settings import PREFIX, Settings, read_settings

__all__ = ["PREFIX", "Settings", "read_settings"]
