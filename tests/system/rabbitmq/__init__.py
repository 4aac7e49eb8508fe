"""Jobs over RabbitMQ."""
