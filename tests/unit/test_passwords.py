"""How passwords are kept. Other tests hash quickly (tests/conftest.py), so that this one loads the module anew.

Seen to fail: one pass instead of the library's three.
"""

import importlib.util

from argon2 import PasswordHasher

from app.accounts import passwords


def test_a_hash_has_the_librarys_own_parameters():
    spec = importlib.util.find_spec(passwords.__name__)
    product = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(product)
    kept = product.hash_password("a long private sentence")
    assert not PasswordHasher().check_needs_rehash(kept)
