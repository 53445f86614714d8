"""The former home of ``fuxictr_me.config.keys``; to be removed once nothing imports it."""

from fuxictr_me.config.keys import HOST_KEYS, OF_ANY_MODEL, known_keys, needed_keys, unread_keys

__all__ = ["HOST_KEYS", "OF_ANY_MODEL", "known_keys", "needed_keys", "unread_keys"]
