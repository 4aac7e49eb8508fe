"""The service while nobody listens to what it says of its jobs, to compare with."""

from service import create_app, get_celery
from service.signals import job_changed, worker_reported

app = get_celery(create_app())
for signal in (job_changed, worker_reported):
    for receiver in list(signal.receivers_for(app.quart_app)):
        signal.disconnect(receiver, app.quart_app)
