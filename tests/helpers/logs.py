"""End the logs that FuxiCTR opens."""

import logging


def close_logs():
    """End FuxiCTR's log, to a file of the test's folder and to its captured output, which ends with the test."""
    for handler in logging.root.handlers[:]:
        if not type(handler).__module__.startswith("_pytest"):
            logging.root.removeHandler(handler)
            handler.close()
    logging.root.setLevel(logging.WARNING)
