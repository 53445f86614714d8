"""Close the logs that FuxiCTR opens."""

import logging


def close_logs() -> None:
    """Close the handlers of FuxiCTR's log, whose file and captured stream do not outlive the test."""
    for handler in logging.root.handlers[:]:
        if not type(handler).__module__.startswith("_pytest"):
            logging.root.removeHandler(handler)
            handler.close()
    logging.root.setLevel(logging.WARNING)
