"""The platform's side of gardien: accepts the batches of gateways, stores each once, answers.

A platform installs it and reads its tables and views in SQL (docs/receiver.md). It imports nothing
of the agent: the two agree on the published contract alone (docs/platform.md).

    batch.py      opens a batch and checks it; pure
    store.py      one batch in one transaction, and the receipt; sqlite.py and postgres.py
    views.sql     owed and delivered slots, consumption, rights, retractions
    mqtt.py, https.py, files.py    accept batches, send objects
    conf.py, certificates.py       the configuration file; a CA for gateways
    run.py        one process for each worker, started again when it ends
    conform.py    acts as a gateway, to test anybody's platform
"""
