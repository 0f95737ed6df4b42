"""Prints each event of topics once: consume.py TOPIC..."""

import json
import os
import sys

from confluent_kafka import Consumer, KafkaException


def event_id(message):
    """The id is in a header, else the value's member id."""
    headers = dict(message.headers() or [])
    in_header = headers.get("ce_id") or headers.get("event_id")
    return in_header.decode() if in_header else json.loads(message.value())["id"]


consumer = Consumer({
    "bootstrap.servers": os.environ.get("BROKERS", "localhost:9094"),
    "group.id": os.environ.get("GROUP", "fhir-cdc-example"),
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
})
consumer.subscribe(sys.argv[1:])

# The ids of the events that were printed.
seen_file = open(os.environ.get("SEEN", "seen.txt"), "a+")
seen_file.seek(0)
seen = set(seen_file.read().split())

try:
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        id = event_id(message)
        if id not in seen:
            print(message.topic(), id, message.value().decode(), sep="\t", flush=True)
            seen.add(id)
            print(id, file=seen_file, flush=True)
        consumer.commit(message)
except KeyboardInterrupt:
    pass
finally:
    consumer.close()
