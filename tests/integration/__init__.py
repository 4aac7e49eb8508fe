"""Tests on a real Valkey, by the rooms of service/; test_support.py is on the helpers' own."""
