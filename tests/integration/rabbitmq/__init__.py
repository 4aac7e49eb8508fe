"""What the web side does with a RabbitMQ server."""
